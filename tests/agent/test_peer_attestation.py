"""Who connected is who asks, whatever happens to the connection afterwards: with real processes, and a second user."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import running_agent
from peers import need
from running_agent import FORM, Agent, request, rule
from running_provider import Running
from second_user import SecondUser

RAW = request("POST", "/token", b"grant_type=client_credentials", {"Content-Type": FORM})

PRELUDE = f"""
import os, socket, sys, time
def connected(path):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(20)
    s.connect(path)
    return s
def asked(s):
    s.sendall({RAW!r})
    said = b""
    while piece := s.recv(65536):
        said += piece
    return int(said.split(b" ", 2)[1])
path = sys.argv[1]
"""


@pytest.fixture
def open_agent(provider: Running) -> Iterator[Agent]:
    """One whose socket somebody has opened to everybody."""
    with running_agent.running(provider) as agent:
        agent.directory.chmod(0o755)
        agent.socket.parent.chmod(0o755)
        agent.socket.chmod(0o666)
        yield agent


def python(agent: Agent, program: str, *arguments: str, **more: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PRELUDE + program, str(agent.socket), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)


def said(process: subprocess.Popen[str]) -> list[str]:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out.split()


def test_a_child_that_inherits_the_connection_asks_as_its_parent(agent: Agent) -> None:
    process = python(
        agent,
        """
s = connected(path)
if os.fork():
    s.close()
    os.wait()
else:
    print(os.getppid(), asked(s), flush=True)
""",
    )
    parent, status = said(process)
    record = agent.records()[-1]
    assert (status, record["uid"], record["pid"]) == ("200", os.geteuid(), int(parent))


def test_what_is_executed_over_the_connection_asks_as_who_connected(agent: Agent) -> None:
    then = "import socket, sys; s = socket.socket(fileno=int(sys.argv[2])); s.setblocking(True); print(asked(s))"
    process = python(
        agent,
        """
s = connected(path)
os.set_inheritable(s.fileno(), True)
os.execv(sys.executable, [sys.executable, "-c", sys.argv[2], path, str(s.fileno())])
""",
        PRELUDE + then,
    )
    assert said(process) == ["200"]
    assert agent.records()[-1]["pid"] == process.pid


def test_a_grandchild_that_outlives_who_connected_asks_as_them_and_not_for_long(agent: Agent) -> None:
    """The kernel keeps who connected; the bound on a connection is time: 5 s until a request must be whole."""
    process = python(
        agent,
        """
s = connected(path)
parent = os.getpid()
if os.fork():
    os._exit(0)
while os.getppid() == parent:
    time.sleep(0.01)
print(asked(s), flush=True)
""",
    )
    assert said(process) == ["200"]
    record = agent.records()[-1]
    assert (record["uid"], record["pid"]) == (os.geteuid(), process.pid)

    late = python(agent, "s = connected(path)\ntime.sleep(6)\nprint(len(s.recv(1)))")
    assert said(late) == ["0"]


@pytest.mark.peer
def test_a_connection_that_is_passed_to_another_user_stays_that_of_who_made_it(open_agent: Agent) -> None:
    """SCM_RIGHTS, one way and the other: what counts is the socket's maker, not its holder."""
    second = SecondUser()
    with tempfile.TemporaryDirectory(prefix="aa-") as name:
        Path(name).chmod(0o777)
        meeting = f"{name}/meeting"
        give = f"""
import array, os, socket, time
s = socket.socket(socket.AF_UNIX); s.connect({str(open_agent.socket)!r})
to = socket.socket(socket.AF_UNIX)
for _ in range(1000):
    try:
        to.connect({meeting!r}); break
    except OSError:
        time.sleep(0.01)
to.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [s.fileno()]))])
to.recv(1)
print(os.getuid())
"""
        take = python(
            open_agent,
            """
meeting = socket.socket(socket.AF_UNIX)
meeting.bind(sys.argv[2])
os.chmod(sys.argv[2], 0o666)
meeting.listen()
meeting.settimeout(20)
c, _ = meeting.accept()
_, fds, _, _ = socket.recv_fds(c, 1, 1)
s = socket.socket(fileno=fds[0])
s.setblocking(True)
print(os.getuid(), asked(s))
c.close()
""",
            meeting,
        )
        maker = int(second.run(give).split()[0])
        assert said(take) == [str(os.geteuid()), "401"]
    record = open_agent.records()[-1]
    assert (maker, record["uid"], record["outcome"]) == (second.uid, second.uid, "invalid_client")
    assert open_agent.mints == 0


@pytest.mark.peer
def test_who_connects_and_then_becomes_another_user_asks_as_the_first(open_agent: Agent) -> None:
    need("root", os.geteuid() == 0)
    become = "s = connected(path)\nos.setgid(12345)\nos.setuid(12345)\nprint(os.getuid(), asked(s))"
    assert said(python(open_agent, become)) == ["12345", "200"]
    before = "os.setegid(12345)\nos.seteuid(12345)\ns = connected(path)\nos.seteuid(0)\nprint(os.geteuid(), asked(s))"
    assert said(python(open_agent, before)) == ["0", "401"]  # the effective user at connect(2) counts

    assert [record["uid"] for record in open_agent.records()[-2:]] == [0, 12345]
    assert open_agent.mints == 1


@pytest.mark.peer
def test_a_socket_that_is_open_to_everybody_gives_to_nobody_but_whom_a_rule_names(open_agent: Agent) -> None:
    second = SecondUser()
    program = f"""
import socket
statuses = []
for _ in range(20):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect({str(open_agent.socket)!r})
        s.sendall({RAW!r})
        said = b""
        while piece := s.recv(65536):
            said += piece
        statuses.append(said.split(b" ", 2)[1].decode())
print(*statuses)
"""
    assert second.run(program).split() == ["401"] * 20
    assert open_agent.mints == 0
    assert [(r["uid"], r["outcome"]) for r in open_agent.records()] == [(second.uid, "invalid_client")] * 20
    assert open_agent.ask().status == 200


@pytest.mark.peer
def test_another_pid_namespace_has_no_pid_here_and_is_answered_by_its_user(agent: Agent) -> None:
    unshare = shutil.which("unshare")
    allowed = unshare and subprocess.run([unshare, "--pid", "--fork", "true"], check=False).returncode == 0
    need("unshare --pid (root, or user namespaces)", allowed)
    command = [
        str(unshare),
        "--pid",
        "--fork",
        sys.executable,
        "-c",
        PRELUDE + "print(os.getpid(), asked(connected(path)))",
    ]
    done = subprocess.run([*command, str(agent.socket)], capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout.split() == ["1", "200"]
    record = agent.records()[-1]
    assert record["uid"] == os.geteuid()
    assert record["pid"] != 1  # the agent's view of it, for the audit file only


def test_a_rule_for_a_group_goes_by_the_group_that_the_kernel_names(provider: Running) -> None:
    rules = [rule("group", who={"gid": os.getegid()})]
    with running_agent.running(provider, rules=rules) as agent:
        assert agent.ask().status == 200
        if os.geteuid() == 0:
            program = "os.setegid(4242)\nprint(asked(connected(path)))"
            assert said(python(agent, program)) == ["401"]
            assert agent.records()[-1]["gid"] == 4242
