"""Two users of one machine: the kernel says who asks, and who answers."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import running_agent
from running_agent import rule
from running_provider import Running
from second_user import SecondUser

from flytekitplugins.authagent.agent.daemon import lock_up
from flytekitplugins.authagent.errors import ProviderError
from flytekitplugins.authagent.providers import Wanted
from flytekitplugins.authagent.providers.agent import AgentProvider

pytestmark = pytest.mark.peer

ASK = """
import sys
from pathlib import Path
from flytekitplugins.authagent.errors import AuthAgentError
from flytekitplugins.authagent.providers import Wanted
from flytekitplugins.authagent.providers.agent import AgentProvider
try:
    credential = AgentProvider(Path({socket!r})).fetch(Wanted())
    print(credential.token.reveal())
except AuthAgentError as failed:
    print(type(failed).__name__, failed)
"""

SERVE = """
import os, socket
listening = socket.socket(socket.AF_UNIX)
listening.bind({socket!r})
os.chmod({socket!r}, 0o666)
listening.listen()
listening.settimeout(20)
connection, _ = listening.accept()
connection.settimeout(20)
print("heard", len(connection.recv(65536)))
"""


@pytest.fixture
def second() -> SecondUser:
    return SecondUser()


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """One that others may enter, for sockets that the second user shall reach."""
    with tempfile.TemporaryDirectory(prefix="aa-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_a_rule_for_another_user_is_for_that_user(second: SecondUser, provider: Running, open_directory: Path) -> None:
    socket = str(open_directory / "agent.sock")
    rules = [rule("theirs", uid=second.uid)]
    with running_agent.running(provider, socket=socket, mode=0o666, rules=rules) as agent:
        token = second.run(ASK.format(socket=socket)).strip()

        # A server that is neither ours nor root's is refused by the client before anything is asked.
        if os.geteuid() == 0:
            assert provider.read(token).claims["exp"]
            assert agent.records()[-1]["uid"] == second.uid
        else:
            assert "no reason to trust" in token
            token = second.run(
                ASK.replace("Path({socket!r})", "Path({socket!r}), {uid}").format(socket=socket, uid=os.geteuid())
            )
            assert provider.read(token.strip()).claims["exp"]
            assert agent.records()[-1]["uid"] == second.uid
        assert agent.mints == 1
        ours = agent.ask()
        assert (ours.status, ours.json()["error"]) == (401, "invalid_client")
        assert agent.get("/identity").status == 401
        assert agent.mints == 1


def test_whom_no_rule_knows_is_told_nothing(second: SecondUser, provider: Running, open_directory: Path) -> None:
    socket = str(open_directory / "agent.sock")
    with running_agent.running(provider, socket=socket, mode=0o666) as agent:
        curl = (
            "import socket\nc = socket.socket(socket.AF_UNIX)\nc.connect({0!r})\nc.sendall({1!r})\nprint(c.recv(9999))"
        )
        for path, status in (("/identity", "401"), ("/metrics", "403"), ("/livez", "200")):
            said = second.run(curl.format(socket, running_agent.request("GET", path)))
            assert said.startswith(f"b'HTTP/1.1 {status}"), said
        body = b"grant_type=client_credentials"
        asked = running_agent.request("POST", "/token", body, {"Content-Type": running_agent.FORM})
        said = second.run(curl.format(socket, asked))
        assert said.startswith("b'HTTP/1.1 401"), said
        assert "invalid_client" in said
        assert agent.mints == 0
        assert [(r["uid"], r["outcome"]) for r in agent.records()] == [(second.uid, "invalid_client")]


def test_a_socket_of_our_own_is_not_for_others(second: SecondUser, provider: Running, open_directory: Path) -> None:
    socket = str(open_directory / "agent.sock")
    with running_agent.running(provider, socket=socket) as agent:
        said = second.run(ASK.format(socket=socket))

        assert said.startswith("ConfigError")
        assert f"is not for uid {second.uid}" in said
        assert (agent.mints, agent.audit.read_text()) == (0, "")


def test_a_client_does_not_ask_a_server_of_another_user(second: SecondUser, open_directory: Path) -> None:
    open_directory.chmod(0o1777)
    path = open_directory / "trap.sock"
    said: list[str] = []
    serving = threading.Thread(target=lambda: said.append(second.run(SERVE.format(socket=str(path)))))
    serving.start()
    while not path.exists():
        assert serving.is_alive(), said
    with pytest.raises(ProviderError, match=f"is served by uid {second.uid}"):
        AgentProvider(path, wait=5.0).fetch(Wanted())
    serving.join(30)
    assert said == ["heard 0\n"], "not one byte of what we want was told"


LOCKED = """
import ctypes
import os
from flytekitplugins.authagent.agent.daemon import lock_up

def look():
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            with open(f"/proc/{os.getppid()}/environ", "rb") as file:
                file.read(1)
            said = b"seen"
        except PermissionError:
            said = b"closed"
        os.write(writing, said)
        os._exit(0)
    os.waitpid(child, 0)
    return os.read(reading, 20).decode()

ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: who changes its user loses it
before = look()
lock_up()
print(os.getuid(), before, look())
"""


def test_what_is_locked_up_is_closed_to_other_processes_of_its_own_user(second: SecondUser) -> None:
    """The memory, like the environment, is behind the check that a debugger has to pass (ptrace(2))."""
    assert lock_up  # imported here, for what runs as the other user may not be able to read our files
    assert second.run(LOCKED).split() == [str(second.uid), "seen", "closed"]
