"""`authagent login` where the keyring is missing, broken or stuck, and logins in a file."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import secret_service
from flyte_on_a_laptop import Laptop, laptop
from test_person_commands import login, sign_in

pytestmark = pytest.mark.timeout(150)

KEYRINGS = {
    "none": "keyring.backends.fail.Keyring",
    "one that keeps nothing": "keyring.backends.null.Keyring",
    "one that refuses": "session_servers.RefusingKeyring",
    "one that forgets": "session_servers.ForgetfulKeyring",
    "one that is not installed": "no_such_module.Keyring",
}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Laptop]:
    tmp_path.chmod(0o700)
    with laptop(tmp_path) as it:
        it.configure()
        yield it


@pytest.mark.parametrize("keyring", KEYRINGS)
@pytest.mark.parametrize("insists", [(), ("--store", "keyring")], ids=["", "insists"])
def test_a_keyring_that_keeps_nothing_is_known_before_the_browser_opens(
    place: Laptop, keyring: str, insists: tuple[str, ...]
) -> None:
    with place.typing("login", *insists, PYTHON_KEYRING_BACKEND=KEYRINGS[keyring]) as terminal:
        assert terminal.end() == (2, "")
    assert "the keyring cannot keep a login" in terminal.shown
    assert "`authagent login --store file`" in terminal.shown
    assert "not encrypted" in terminal.shown
    assert "http" not in terminal.shown
    assert not (place.home / ".flyte" / "authagent" / "logins").exists()


def test_a_login_in_a_file_serves_every_program_until_it_is_ended(place: Laptop) -> None:
    place.environ["PYTHON_KEYRING_BACKEND"] = KEYRINGS["none"]
    out = login(place, "--no-browser", "--store", "file")
    assert "not encrypted" in out
    assert str(place.home / ".flyte" / "authagent" / "logins") in out

    token = place.run("token")
    assert (token.returncode, token.stderr) == (0, "")
    assert place.provider.read(token.stdout.strip()).claims["sub"] == "alice"
    assert json.loads(place.run("whoami", "--json").stdout)["subject"] == "alice"
    status = place.run("status")
    assert (status.returncode, status.stderr) == (0, "")
    assert "not encrypted" in status.stdout
    assert json.loads(place.run("status", "--json").stdout)["kept_in"] == "file"
    findings = json.loads(place.run("doctor", "--json").stdout)
    assert any(finding["check"] == "login" and "not encrypted" in finding["what"] for finding in findings)
    assert not any(finding["level"] == "bad" for finding in findings)

    login(place, "--no-browser")  # goes where the last one is
    assert json.loads(place.run("status", "--json").stdout)["kept_in"] == "file"

    out = place.run("logout")
    assert (out.returncode, "Logged out" in out.stderr) == (0, True)
    assert "keyring" not in out.stderr
    assert list((place.home / ".flyte" / "authagent" / "logins").iterdir()) == []
    assert place.run("token").returncode == 3


def test_a_login_moves_from_a_file_to_the_keyring(place: Laptop) -> None:
    login(place, "--no-browser", "--store", "file")
    out = login(place, "--no-browser", "--store", "keyring")
    assert "the keyring" in out
    assert list((place.home / ".flyte" / "authagent" / "logins").iterdir()) == []
    assert json.loads(place.run("status", "--json").stdout)["kept_in"] == "keyring"
    assert place.run("token").returncode == 0


def test_eight_commands_renew_a_login_in_a_file_once(place: Laptop) -> None:
    login(place, "--no-browser", "--store", "file")
    [file] = (place.home / ".flyte" / "authagent" / "logins").iterdir()
    kept = json.loads(file.read_text())
    file.write_text(json.dumps(kept | {"expires_at": time.time() - 1}))
    before = sum(place.provider.counts.snapshot()["mints"].values())
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda _: place.run("token"), range(8)))
    assert {command.returncode for command in done} == {0}, [command.stderr for command in done]
    assert len({command.stdout for command in done}) == 1
    assert sum(place.provider.counts.snapshot()["mints"].values()) == before + 1
    assert json.loads(file.read_text())["refresh_token"] != kept["refresh_token"]


@pytest.mark.parametrize("keyring", ["none", "one that is not installed"])
def test_logout_without_a_login_and_without_a_keyring_promises_nothing(place: Laptop, keyring: str) -> None:
    place.environ["PYTHON_KEYRING_BACKEND"] = KEYRINGS[keyring]
    done = place.run("logout")
    assert (done.returncode, "there is no login to end" in done.stderr) == (3, True), done.stderr
    done = place.run("logout", "--forget")
    assert (done.returncode, "No login is in a file." in done.stderr) == (0, True), done.stderr
    assert "Forgotten" not in done.stderr
    assert "this process" not in done.stderr


@pytest.mark.parametrize("command", ["token", "whoami", "status", "logout"])
def test_a_file_that_others_can_read_stops_every_command(place: Laptop, command: str) -> None:
    login(place, "--no-browser", "--store", "file")
    [file] = (place.home / ".flyte" / "authagent" / "logins").iterdir()
    file.chmod(0o644)
    done = place.run(command)
    assert done.returncode == 2, done
    assert f"chmod 600 {file}" in done.stdout + done.stderr
    assert place.run("logout", "--forget").returncode == 0
    assert not file.exists()


@pytest.mark.parametrize("arguments", [("token",), ("whoami",), ("status",), ("doctor",), ("logout",)])
def test_a_keyring_that_hangs_is_named_and_does_not_eat_all_patience(place: Laptop, arguments: tuple[str, ...]) -> None:
    place.environ["PYTHON_KEYRING_BACKEND"] = "session_servers.StuckKeyring"
    started = time.monotonic()
    done = place.run(*arguments)
    said = done.stdout + done.stderr
    assert "session_servers.StuckKeyring did not answer within 4 s" in said
    assert said.count("did not answer within 4 s") <= (1 if arguments != ("doctor",) else 3)
    assert time.monotonic() - started < 30  # once 4 s, where a call after the other would be two minutes
    assert done.returncode == 3


@pytest.mark.parametrize("arguments", [("token",), ("whoami",), ("status",)])
def test_a_keyring_that_hangs_costs_nothing_where_it_is_not_needed(place: Laptop, arguments: tuple[str, ...]) -> None:
    place.environ["PYTHON_KEYRING_BACKEND"] = "session_servers.StuckKeyring"
    token = place.home / "token"
    token.write_text(place.provider.own_token("batch", scope="all").json()["access_token"])
    token.chmod(0o600)
    done = place.run(*arguments, AUTHAGENT_TOKEN_FILE=str(token))
    assert done.returncode == 0, done.stderr
    assert "did not answer" not in done.stdout + done.stderr


def test_a_program_whose_login_cannot_be_kept_says_so_before_the_browser(place: Laptop) -> None:
    with place.typing("token", PYTHON_KEYRING_BACKEND=KEYRINGS["none"]) as terminal:
        page = sign_in(terminal)
        status, out = terminal.end()
    assert (status, "You are logged in" in page, out.count("\n")) == (0, True, 1)
    said, _, _ = terminal.shown.partition("http")
    assert "this login ends with this program" in said
    assert "authagent login --store file" in said


@pytest.mark.peer
def test_a_secret_service_that_hangs_on_the_bus(place: Laptop, tmp_path: Path) -> None:
    with secret_service.silent(tmp_path / "bus") as environ:
        place.environ.update(
            environ, HOME=str(place.home), PYTHON_KEYRING_BACKEND="keyring.backends.SecretService.Keyring"
        )
        done = place.run("status")
        assert "did not answer within 4 s" in done.stdout
        findings = {finding["check"]: finding for finding in json.loads(place.run("doctor", "--json").stdout)}
        assert "keyring.backends.SecretService.Keyring did not answer" in findings["keyring"]["what"]
        login(place, "--no-browser", "--store", "file")
        assert place.run("token").returncode == 0
