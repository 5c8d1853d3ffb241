"""`authType: ExternalCommand` with a program that talks to the person: at a terminal, and where there is none."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import real_terminal
from flyte_on_a_laptop import Laptop, laptop
from real_terminal import AUTHAGENT

pytestmark = pytest.mark.timeout(120)

ALL = ("stdin", "stdout", "stderr")
ASKS = """#!/bin/sh
echo "open https://idp.example.com/device, and enter AB-CD" >&2
for n in $(seq 600); do [ -e "$HOME/confirmed" ] && break; sleep 0.1; done
cat "$HOME/its-token"
"""
ENDS_AT_ONCE = ASKS.replace("for n", "touch $HOME/confirmed; for n")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Laptop]:
    tmp_path.chmod(0o700)
    with laptop(tmp_path) as it:
        (tmp_path / "its-token").write_text(it.provider.own_token("batch", scope="all").json()["access_token"])
        it.configure(authType="ExternalCommand", command=[str(tmp_path / "asks")])
        yield it


def program(place: Laptop, script: str) -> None:
    file = place.home / "asks"
    file.write_text(script)
    file.chmod(0o700)


def environment(place: Laptop, **more: str) -> dict[str, str]:
    return {"HOME": str(place.home), "PYTHON_KEYRING_BACKEND": "session_servers.HomeKeyring"} | more


def test_at_a_terminal_the_person_sees_what_it_asks_and_has_time_to_answer(place: Laptop) -> None:
    program(place, ASKS)
    with place.typing("token") as terminal:
        terminal.wait_for("enter AB-CD")
        terminal.wait_for(r"Waiting for .*asks, for \d+ s at most")  # after the 10 s that used to be all
        (place.home / "confirmed").touch()
        status, out = terminal.end()
    assert (status, out) == (0, (place.home / "its-token").read_text() + "\n")
    assert out.strip() not in terminal.shown


@pytest.mark.parametrize("terminal", [("stdin", "stderr"), ("stderr",)], ids=str)
def test_wherever_standard_error_is_a_terminal(place: Laptop, terminal: tuple[str, ...]) -> None:
    program(place, ENDS_AT_ONCE)
    done = real_terminal.run([*AUTHAGENT, "token"], environment(place), terminal=terminal)
    assert (done.status, done.printed.count(".")) == (0, 2), done.shown
    assert "enter AB-CD" in done.shown


@pytest.mark.parametrize(
    ("terminal", "more", "status"),
    [((), {}, 0), (("stdin", "stdout"), {}, 0), (ALL, {"FLYTE_INTERNAL_EXECUTION_ID": "x"}, 3)],
    ids=["no terminal", "errors elsewhere", "a pod"],
)
def test_elsewhere_nothing_of_it_is_shown(
    place: Laptop, terminal: tuple[str, ...], more: dict[str, str], status: int
) -> None:
    program(place, ENDS_AT_ONCE)
    command = ["sh", "-c", '"$@" 2>"$HOME/errors"', "sh", *AUTHAGENT, "token"]
    done = real_terminal.run(command, environment(place, **more), terminal=terminal)
    assert done.status == status, (place.home / "errors").read_text()
    assert "AB-CD" not in (place.home / "errors").read_text() + done.shown + done.printed


def test_one_that_fails_has_said_why_and_ctrl_c_ends_it(place: Laptop) -> None:
    program(place, "#!/bin/sh\necho no such account >&2\nexit 3\n")
    done = real_terminal.run([*AUTHAGENT, "token"], environment(place), terminal=ALL)
    assert done.status == 3
    assert "no such account" in done.shown
    assert "see above" in done.shown

    program(place, f"#!/bin/sh\necho $$ > {place.home}/pid\necho asking >&2\nsleep 600\n")
    with place.typing("token") as terminal:
        terminal.wait_for("asking")
        os.kill(terminal.process.pid, 2)
        assert terminal.end()[0] == 130
    pid, deadline = (place.home / "pid").read_text().strip(), time.monotonic() + 20
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]:
        assert time.monotonic() < deadline, "its program goes on without us"
        time.sleep(0.05)
