"""Socket activation: systemd listens, and the agent takes over without a moment in which nobody does."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import running_agent
import yaml
from peers import need
from running_provider import Running

HAND_OVER = """
import os, socket, sys
listening = socket.fromfd(int(sys.argv[1]), socket.AF_UNIX, socket.SOCK_STREAM)
os.dup2(listening.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS=sys.argv[2], LISTEN_PID=str(os.getpid()))
os.execv(sys.executable, [sys.executable, "-m", "flytekitplugins.authagent", "serve", "--config", sys.argv[3]])
"""


def written(directory: Path, provider: Running) -> tuple[Path, Path]:
    """The configuration and its socket, in a directory of ours that is there already, as with systemd."""
    configuration = running_agent.configuration(directory, provider)
    file = directory / "agent.yaml"
    file.write_text(yaml.safe_dump(configuration))
    file.chmod(0o600)
    path = Path(configuration["socket"])
    path.parent.mkdir(mode=0o700)
    return file, path


def started(listening: socket.socket, file: Path, count: int = 1) -> subprocess.Popen[str]:
    number = listening.fileno()
    command = [sys.executable, "-c", HAND_OVER, str(number), str(count), str(file)]
    return subprocess.Popen(command, pass_fds=[number], stderr=subprocess.PIPE, text=True)


def ask(path: Path) -> int:
    body = b"grant_type=client_credentials"
    raw = running_agent.request("POST", "/token", body, {"Content-Type": running_agent.FORM})
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        connection.connect(str(path))
        connection.sendall(raw)
        return running_agent.reply(running_agent.read_all(connection)).status


@pytest.fixture
def directory() -> Path:
    import tempfile

    with tempfile.TemporaryDirectory(prefix="aa-") as name:
        yield Path(name)


def test_who_connected_before_it_was_there_is_answered_and_the_path_stays(provider: Running, directory: Path) -> None:
    file, path = written(directory, provider)
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as early:
        listening.bind(str(path))
        listening.listen(8)
        early.settimeout(30)
        early.connect(str(path))
        early.sendall(running_agent.request("GET", "/livez"))
        process = started(listening, file)
        try:
            assert running_agent.reply(running_agent.read_all(early)).status == 200
            assert ask(path) == 200
            process.terminate()
            assert process.wait(timeout=10) == 0
            assert path.is_socket()  # it is systemd's
            again = started(listening, file)
            assert ask(path) == 200
            again.terminate()
            assert again.wait(timeout=10) == 0
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("elsewhere", "count", "says"),
    [(True, 1, "the configuration says"), (False, 2, "handed over 2 sockets")],
    ids=["another path", "two sockets"],
)
def test_what_does_not_fit_the_configuration_is_refused(
    provider: Running, directory: Path, elsewhere: bool, count: int, says: str
) -> None:
    file, path = written(directory, provider)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path) + ("2" if elsewhere else ""))
        listening.listen(8)
        process = started(listening, file, count)
        _, said = process.communicate(timeout=30)
    assert (process.returncode, says in said) == (2, True), said


def test_variables_that_are_meant_for_somebody_else_are_not_ours(provider: Running) -> None:
    with running_agent.running(provider, environ={"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}) as agent:
        assert agent.ask().status == 200


@pytest.mark.peer
def test_systemds_own_activator_starts_it_at_the_first_connection(provider: Running, directory: Path) -> None:
    activate = shutil.which("systemd-socket-activate")
    need("systemd-socket-activate (Debian: systemd)", activate)
    file, path = written(directory, provider)
    command = [str(activate), f"--listen={path}", sys.executable, "-m", "flytekitplugins.authagent", "serve"]
    kept = [f"--setenv={name}" for name in ("PATH", "PYTHONPATH", "HOME") if name in os.environ]
    process = subprocess.Popen([*command[:2], *kept, *command[2:], "--config", str(file)], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while not path.is_socket():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert ask(path) == 200
    finally:
        process.terminate()
        process.wait(timeout=10)
