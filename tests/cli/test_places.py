"""Nothing is configured: what a person reads first, in each place in which a command may run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import real_terminal
from flyte_on_a_laptop import laptop
from real_terminal import AUTHAGENT

ALL = ("stdin", "stdout", "stderr")
NO_FLYTE = {"FLYTE_PLATFORM_URL": ""}
LONGEST = 300
"""Characters of a message and its hint together."""


@pytest.fixture(scope="module")
def flyte(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Flyte that wants tokens."""
    with laptop(tmp_path_factory.mktemp("flyte")) as place:
        yield place.flyte.endpoint


@pytest.fixture
def home(tmp_path: Path, flyte: str) -> dict[str, str]:
    """What every place has in its environment."""
    return {
        "HOME": str(tmp_path),
        "XDG_RUNTIME_DIR": str(tmp_path),
        "PYTHON_KEYRING_BACKEND": "session_servers.HomeKeyring",
        "FLYTE_PLATFORM_URL": flyte,
        "FLYTE_PLATFORM_INSECURE": "true",
    }


PLACES = {
    "a terminal, and no Flyte": (
        ALL,
        NO_FLYTE,
        "set FLYTE_PLATFORM_URL to the address of your Flyte, then run `authagent l",
    ),
    "a terminal": (ALL, {}, "hint: run `authagent login`;"),
    "a pipe at a terminal": (("stdin", "stderr"), {}, "hint: run `authagent login`;"),
    "a terminal without input": (("stdout", "stderr"), {}, "hint: run `authagent login`;"),
    "a terminal, and errors elsewhere": (("stdin", "stdout"), {}, ""),
    "no terminal": ((), {}, f"run `authagent login` in a terminal first, as the same user (uid {os.geteuid()})"),
    "a pod": ((), {"FLYTE_INTERNAL_EXECUTION_ID": "x"}, "ask the operator of this Flyte to mount the auth ag"),
    "a pod at a terminal": (ALL, {"FLYTE_INTERNAL_EXECUTION_ID": "x"}, "ask the operator of this Flyte to mount the a"),
    "a pod of another kind": ((), {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "set AUTHAGENT_SOCKET to the socket of an"),
    "GitHub's, GitLab's": ((), {"CI": "true"}, "set AUTHAGENT_TOKEN_FILE; or set FLYTE_CREDENTIALS_CLIENT_ID and FLYT"),
    "a build server with a terminal": (ALL, {"CI": "1"}, "set AUTHAGENT_TOKEN_FILE; or set FLYTE_CREDENTIAL"),
    "Azure's": ((), {"TF_BUILD": "True"}, "set AUTHAGENT_TOKEN_FILE; or set FLYTE_CREDENTIALS_CLIENT_ID and FLYTE_CRE"),
    "a laptop that says it is none": (ALL, {"CI": "false"}, "hint: run `authagent login`;"),
}


@pytest.mark.parametrize("place", PLACES)
def test_one_sentence_and_the_one_remedy_of_the_place(tmp_path: Path, home: dict[str, str], place: str) -> None:
    terminal, environ, remedy = PLACES[place]
    errors = tmp_path / "errors"  # where standard error is no terminal
    command = AUTHAGENT if "stderr" in terminal else ("sh", "-c", f'"$@" 2>{errors}', "sh", *AUTHAGENT)
    done = real_terminal.run([*command, "whoami"], home | environ, terminal=terminal)
    said = done.shown if "stderr" in terminal else errors.read_text()

    assert (done.status, done.printed) == (3, ""), said
    assert remedy in said
    assert "`authagent doctor` shows everything that was tried" in said
    assert len(said) <= LONGEST
    lines = said.splitlines()
    assert len(lines) == len(set(lines)) == 2, said
    assert not terminal or "no terminal" not in said


@pytest.mark.parametrize("terminal", [ALL, ("stdin", "stdout"), ("stdin",), ()], ids=str)
def test_doctor_shows_everything_that_was_tried_and_nothing_twice(
    home: dict[str, str], terminal: tuple[str, ...]
) -> None:
    done = real_terminal.run([*AUTHAGENT, "doctor"], home, terminal=terminal)
    said = done.shown if "stdout" in terminal else done.printed

    for provider in ("agent", "file", "env", "api_key", "client_credentials", "keyring", "pkce"):
        assert f"tried       {provider}: " in said
    lines = said.splitlines()
    assert len(lines) == len(set(lines)), said
    assert "run `authagent doctor`" not in said
    assert "`authagent doctor` shows" not in said
    assert not terminal or "there is no terminal" not in said


def test_programs_find_every_attempt_in_json(home: dict[str, str]) -> None:
    done = real_terminal.run([*AUTHAGENT, "status", "--json"], home, terminal=())
    attempts = json.loads(done.printed)["attempts"]

    assert [attempt["provider"] for attempt in attempts][:3] == ["agent", "file", "env"]
    assert all(attempt["reason"] and attempt["remedy"] for attempt in attempts)


@pytest.mark.parametrize(
    ("terminal", "says"),
    [((), "there is no terminal"), (("stdin", "stdout"), "standard error is not a terminal")],
    ids=str,
)
def test_a_login_that_nobody_would_see_says_why(
    tmp_path: Path, home: dict[str, str], terminal: tuple[str, ...], says: str
) -> None:
    command = ["sh", "-c", '"$@" 2>"$HOME/errors"', "sh", *AUTHAGENT, "login"]
    done = real_terminal.run(command, home, terminal=terminal)

    assert done.status == 2
    assert says in (tmp_path / "errors").read_text()
