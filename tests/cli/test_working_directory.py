"""A directory that somebody else filled, such as a cloned repository: nothing in it is run, read or sent anywhere."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.timeout(120)


@dataclass(frozen=True)
class Place:
    """Commands run in `work`. Whatever is planted there leaves a line in `ran`."""

    home: Path
    work: Path
    ran: Path

    def run(self, *command: str, **environ: str) -> subprocess.CompletedProcess[str]:
        own = {"HOME": str(self.home), "PATH": os.environ["PATH"]}
        own["PYTHON_KEYRING_BACKEND"] = "keyring.backends.null.Keyring"
        return subprocess.run(
            command,
            cwd=self.work,
            env=own | environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    def authagent(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", "flytekitplugins.authagent", *arguments, **environ)

    def plant(self, name: str, text: str, mode: int = 0o755) -> Path:
        file = self.work / name
        file.write_text(text)
        file.chmod(mode)
        return file

    def plant_program(self, name: str) -> Path:
        return self.plant(name, f"#!/bin/sh\necho {name} >> {self.ran}\necho planted-token\n")

    def configure(self, **admin: object) -> Path:
        """`~/.flyte/config.yaml`, the user's own."""
        file = self.home / ".flyte" / "config.yaml"
        file.parent.mkdir(mode=0o700, exist_ok=True)
        file.write_text(yaml.safe_dump({"admin": {"endpoint": "127.0.0.1:9", "insecure": True, **admin}}))
        file.chmod(0o600)
        return file

    def what_ran(self) -> list[str]:
        return self.ran.read_text().split() if self.ran.exists() else []


@pytest.fixture
def place(tmp_path: Path) -> Place:
    for name in ("home", "work"):
        (tmp_path / name).mkdir(mode=0o700)
    return Place(tmp_path / "home", tmp_path / "work", tmp_path / "ran")


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """Where a planted file says that Flyte is. Nobody may come."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.01)
        yield server


TASK = """
import flytekitplugins.authagent as authagent
authagent.remote.default().list_projects()
"""
STOCK = """
from flytekit.configuration import Config
from flytekit.remote import FlyteRemote
FlyteRemote(Config.auto(), "p", "d").client.list_projects_paginated()
"""

COMMANDS: dict[str, tuple[str, ...]] = {
    **{name: ("-m", "flytekitplugins.authagent", name) for name in ("token", "status", "doctor", "whoami", "logout")},
    "login": ("-m", "flytekitplugins.authagent", "login", "--no-browser"),
    "a task's remote": ("-c", TASK),
    "flytekit's own client": ("-c", STOCK),
}


@pytest.mark.parametrize("credential", [{}, {"AUTHAGENT_TOKEN": "t0ken"}], ids=["without a token", "with a token"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_configuration_that_was_planted_is_named_and_nothing_of_it_is_used(
    place: Place, listening: socket.socket, command: str, credential: dict[str, str]
) -> None:
    program = place.plant_program("planted.sh")
    text = f"""
[platform]
url = 127.0.0.1:{listening.getsockname()[1]}
insecure = true
[credentials]
auth_mode = external_process
command = {program}
proxy_command = {program}
"""
    planted = place.plant("flytekit.config", text, mode=0o644)
    mode = {"FLYTE_CREDENTIALS_AUTH_MODE": "authagent"} if command == "flytekit's own client" else {}

    done = place.run(sys.executable, *COMMANDS[command], **credential, **mode)

    assert done.returncode == (2 if COMMANDS[command][0] == "-m" else 1), done.stdout + done.stderr
    said = "".join((done.stdout + done.stderr).split())  # flytekit's tracebacks break lines
    assert f"FLYTECTL_CONFIG={planted}" in said
    assert place.what_ran() == []
    with pytest.raises(TimeoutError):
        listening.accept()


def test_it_may_be_used_once_it_is_named(place: Place) -> None:
    program = place.plant_program("mine.sh")
    text = f"[platform]\nurl = 127.0.0.1:9\n[credentials]\nauth_mode = ExternalCommand\ncommand = {program}\n"
    mine = place.plant("flytekit.config", text, mode=0o600)
    done = place.authagent("token", FLYTECTL_CONFIG=str(mine))
    assert (done.returncode, done.stdout) == (0, "planted-token\n"), done.stderr
    assert place.what_ran() == ["mine.sh"]


@pytest.mark.parametrize("path", [".:{path}", ":{path}", "{path}:", "relative:{path}"])
def test_a_command_is_never_found_in_the_working_directory(place: Place, path: str) -> None:
    place.plant_program("get-token")
    (place.work / "relative").mkdir()
    (place.work / "relative" / "get-token").symlink_to(place.work / "get-token")
    place.configure(authType="ExternalCommand", command=["get-token"])
    done = place.authagent("token", PATH=path.format(path=os.environ["PATH"]))
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert "get-token cannot be run" in done.stderr
    assert place.what_ran() == []


@pytest.mark.parametrize(
    "command", [["./get-token"], ["../work/get-token"], ["sh", "get-token"], ["sh", "./get-token"]]
)
@pytest.mark.parametrize("key", ["command", "proxyCommand"])
def test_nor_by_a_relative_path(place: Place, command: list[str], key: str) -> None:
    place.plant_program("get-token")
    place.configure(authType="ExternalCommand", **{"command": ["echo", "t0ken"], key: command})
    done = place.authagent("whoami")
    assert done.returncode != 0
    assert place.what_ran() == []


@pytest.mark.parametrize(
    ("admin", "key"),
    [
        ({"clientId": "c", "clientSecretLocation": "secret"}, "clientSecretLocation"),
        ({"caCertFilePath": "ca.pem"}, "caCertFilePath"),
    ],
)
def test_a_relative_file_of_the_configuration_is_refused(place: Place, admin: dict[str, object], key: str) -> None:
    place.plant("secret", "planted", 0o600)
    place.plant("ca.pem", "planted", 0o600)
    place.configure(**admin)
    done = place.authagent("status")
    assert done.returncode == 2
    assert key in done.stdout + done.stderr
    assert "must be an absolute path" in done.stdout + done.stderr


@pytest.mark.parametrize("library", ["yaml", "pydantic", "keyring", "json", "argparse", "grpc", "flyteidl"])
def test_a_module_of_the_working_directory_stands_in_for_no_library(place: Place, library: str) -> None:
    place.plant(f"{library}.py", f"open({str(place.ran)!r}, 'a').write('{library}')\n")
    place.configure()
    done = place.authagent("status")
    assert "Traceback" not in done.stderr
    assert place.what_ran() == []


@pytest.mark.parametrize("command", ["status", "doctor", "whoami"])
@pytest.mark.parametrize("place_of_it", ["config.yaml", "authagent.yaml", "a variable", "proxyCommand"])
def test_the_users_own_command_is_announced_before_it_runs(place: Place, command: str, place_of_it: str) -> None:
    program = place.plant_program("mine.sh")
    argv, source, environ = [str(program), "--password=s3cr3t"], "", {}
    if place_of_it == "config.yaml":
        source = str(place.configure(authType="ExternalCommand", command=argv))
    elif place_of_it == "proxyCommand":
        source = str(place.configure(proxyCommand=argv))
        environ["AUTHAGENT_TOKEN"] = "t0ken"
    elif place_of_it == "a variable":
        source = "FLYTE_CREDENTIALS_COMMAND"
        place.configure(authType="ExternalCommand")
        environ["FLYTE_CREDENTIALS_COMMAND"] = ",".join(argv)
    else:
        place.configure()
        file = place.home / ".flyte" / "authagent.yaml"
        file.write_text(yaml.safe_dump({"bindings": [{"provider": {"kind": "command", "command": argv}}]}))
        file.chmod(0o600)
        source = str(file)
    done = place.authagent(command, **environ)
    said = f"authagent: running the external command {program} of {source}\n"
    if place.what_ran():
        assert said in done.stderr
    if place_of_it != "proxyCommand" or command == "doctor":
        assert place.what_ran(), done.stdout + done.stderr
    assert "s3cr3t" not in done.stdout + done.stderr
