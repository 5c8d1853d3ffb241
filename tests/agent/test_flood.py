"""Many at once, some of them hostile: everybody else is answered, and nothing is left behind."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import running_agent
from running_agent import FORM, Agent, read_all, reply, request, rule
from running_provider import Running
from second_user import SecondUser

pytestmark = pytest.mark.timeout(150)

RAW = request("POST", "/token", b"grant_type=client_credentials", {"Content-Type": FORM})


def descriptors(agent: Agent) -> int:
    return len(list(Path(f"/proc/{agent.process.pid}/fd").iterdir()))


def memory(agent: Agent) -> int:
    """KiB."""
    status = Path(f"/proc/{agent.process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


def until(holds: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_burst_of_256_connections_gets_256_answers(agent: Agent) -> None:
    with contextlib.ExitStack() as stack:
        burst = [stack.enter_context(agent.connect()) for _ in range(256)]
        for connection in burst:
            connection.sendall(RAW)
        answers = [reply(read_all(connection)).status for connection in burst]
    assert answers == [200] * 256
    assert agent.mints <= 1


def test_idle_connections_in_the_thousands_are_bounded_and_closed(agent: Agent) -> None:
    before = descriptors(agent)
    refused = 0
    with contextlib.ExitStack() as stack:
        for _ in range(2000):
            connection = stack.enter_context(agent.connect())
            connection.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                refused += bool(connection.recv(1))
        assert descriptors(agent) <= before + 512 + 64 + 8  # those of one user, and those on their way
        until(lambda: descriptors(agent) <= before + 2)  # 5 s for a first byte
        assert agent.ask().status == 200
    assert descriptors(agent) <= before + 2


def test_slow_senders_do_not_slow_others_and_are_ended(agent: Agent) -> None:
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(agent.connect()) for _ in range(100)]
        began = time.monotonic()
        sent = 0
        while time.monotonic() - began < 6.5 and sent < len(RAW):
            for connection in slow:
                with contextlib.suppress(OSError):
                    connection.sendall(RAW[sent : sent + 1])
            sent += 1
            assert agent.ask().status == 200
            time.sleep(0.2)
        ends = {read_all(connection)[:12] for connection in slow}
    assert ends <= {b"HTTP/1.1 408", b""}


def test_who_never_reads_its_answers_is_ended(agent: Agent) -> None:
    before = descriptors(agent)
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            connection = stack.enter_context(agent.connect())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            connection.setblocking(False)
            kept = RAW.replace(b"Connection: close\r\n", b"")
            with contextlib.suppress(OSError):
                for _ in range(2000):
                    connection.send(kept)
        assert agent.ask().status == 200
        until(lambda: descriptors(agent) <= before + 2)


def test_a_storm_of_nonsense_is_answered_once_each_and_forgotten(agent: Agent) -> None:
    nonsense = [
        b"\x16\x03\x01\x02\x00\x01",
        b"GET\r\n\r\n",
        b"POST /token HTTP/9.9\r\n\r\n",
        b"POST /token HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /token HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /token HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"A" * 20000,
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
        b"\x00" * 100,
    ]
    before = descriptors(agent)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(agent.say, nonsense * 50))
    assert {answer[:10] for answer in answers} <= {b"HTTP/1.1 4", b""}
    assert all(answer.count(b"HTTP/1.1 4") <= 1 for answer in answers)
    assert agent.ask().status == 200
    until(lambda: descriptors(agent) <= before + 2)


def test_twenty_thousand_requests_leave_the_memory_where_it_was(agent: Agent) -> None:
    def some(number: int) -> None:
        kept = RAW.replace(b"Connection: close\r\n", b"").replace(b"Length: 29", b"Length: %d")
        with agent.connect() as connection:
            for one in range(number):
                body = b"grant_type=client_credentials&task=t%d" % (one % 5000)
                connection.sendall(kept.partition(b"%d")[0] + b"%d\r\n\r\n" % len(body) + body)
                assert connection.recv(65536).startswith(b"HTTP/1.1 200")

    some(6000)
    before, open_before = memory(agent), descriptors(agent)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(some, [5000] * 4))

    assert memory(agent) - before < 16 * 1024
    assert descriptors(agent) <= open_before + 5
    assert agent.mints <= 1


@pytest.mark.peer
def test_a_flood_from_one_user_does_not_starve_another(provider: Running) -> None:
    second = SecondUser()
    with running_agent.running(provider, rules=[rule("one"), rule("other", uid=second.uid)], mode=0o666) as agent:
        agent.directory.chmod(0o755)
        agent.socket.parent.chmod(0o755)
        agent.ask()
        stop, flooded = threading.Event(), [0] * 6
        idle = [socket.socket(socket.AF_UNIX) for _ in range(600)]

        def flood(number: int) -> None:
            while not stop.is_set():
                with contextlib.suppress(OSError):
                    agent.say(RAW)
                    flooded[number] += 1

        for connection in idle:  # more than one user may have
            connection.setblocking(False)
            with contextlib.suppress(OSError):
                connection.connect(str(agent.socket))
        threads = [threading.Thread(target=flood, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        program = f"""
import socket, time
statuses = []
for _ in range(50):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(20)
        while s.connect_ex({str(agent.socket)!r}):
            time.sleep(0.01)
        s.sendall({RAW!r})
        said = b""
        while piece := s.recv(65536):
            said += piece
        statuses.append(said.split(b" ", 2)[1].decode())
print(*statuses)
"""
        try:
            statuses = second.run(program).split()
        finally:
            stop.set()
            for thread in threads:
                thread.join(20)
            for connection in idle:
                connection.close()
        assert statuses == ["200"] * 50
        assert sum(flooded) > 50
        assert agent.mints == 1
