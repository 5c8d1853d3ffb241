"""Clients that want to break the agent, or keep it from others. It stays up, bounded, and silent about secrets."""

from __future__ import annotations

import contextlib
import re
import secrets
import socket
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from running_agent import FORM, Agent, read_all, reply, request

TOKEN = request("POST", "/token", b"grant_type=client_credentials", {"Content-Type": FORM})


def statuses(raw: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", raw)]


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64), 400),
        (b"GET\r\n\r\n", 400),
        (b"GET / SPDY/9\r\n\r\n", 400),
        (b"POST /token HTTP/1.1\r\nContent-Length: -5\r\n\r\n", 400),
        (b"POST /token HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcde", 400),
        (b"POST /token HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: 1\r\n" % n for n in range(100)) + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 200_000 + b"\r\n\r\n", 431),
        (request("POST", "/token", b"a" * 70_000, {"Content-Type": FORM}), 413),
        (b"POST /token HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n", 400),
        (b"CONNECT agent:80 HTTP/1.1\r\nHost: agent\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", 400),
    ],
    ids=[
        "tls", "no path", "other protocol", "negative length", "two lengths", "length and chunks", "long path",
        "many headers", "long header", "large body", "huge length", "connect", "upgrade",
    ],
)  # fmt: skip
def test_what_is_no_request_is_refused_once_and_the_connection_ends(agent: Agent, raw: bytes, status: int) -> None:
    assert statuses(agent.say(raw)) == [status]
    assert agent.get("/livez").status == 200


def test_a_body_in_chunks_is_read_and_bounded(agent: Agent) -> None:
    head = f"POST /token HTTP/1.1\r\nHost: a\r\nContent-Type: {FORM}\r\nConnection: close\r\n".encode()
    head += b"Transfer-Encoding: chunked\r\n\r\n"
    body = b"grant_type=client_credentials"
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    assert reply(agent.say(head + chunks)).status == 200

    endless = b"ffff\r\n" + b"a" * 0xFFFF + b"\r\n"
    assert statuses(agent.say(head + endless * 3)) in ([413], [431])


def test_requests_sent_together_are_answered_in_their_order(agent: Agent) -> None:
    agent.ask()
    livez, nothing = request("GET", "/livez"), request("GET", "/nothing")
    keep = [raw.replace(b"Connection: close\r\n", b"") for raw in (livez, TOKEN, nothing)]

    assert statuses(agent.say(b"".join(keep) + livez)) == [200, 200, 404, 200]


def test_a_request_that_comes_while_another_waits_for_a_mint_ends_both(cold_agent: Agent) -> None:
    cold_agent.provider.faults.put({"token_delay_ms": {"value": 500, "count": 1}})
    keep = TOKEN.replace(b"Connection: close\r\n", b"")

    assert statuses(cold_agent.say(keep + TOKEN)) == [400]
    assert cold_agent.ask().status == 200


def test_several_requests_on_one_connection_one_after_the_other(agent: Agent) -> None:
    keep = TOKEN.replace(b"Connection: close\r\n", b"")
    with agent.connect() as connection:
        for _ in range(3):
            connection.sendall(keep)
            assert statuses(connection.recv(65536)) == [200]


def test_bytes_that_come_one_at_a_time(agent: Agent) -> None:
    with agent.connect() as connection:
        for byte in TOKEN:
            connection.sendall(bytes([byte]))
        assert reply(read_all(connection)).status == 200


def test_a_client_that_closes_its_sending_side_gets_its_answer(agent: Agent) -> None:
    with agent.connect() as connection:
        connection.sendall(TOKEN)
        connection.shutdown(socket.SHUT_WR)
        assert reply(read_all(connection)).status == 200


def test_a_client_that_leaves_while_its_token_is_minted_costs_nobody_anything(cold_agent: Agent) -> None:
    cold_agent.provider.faults.put({"token_delay_ms": {"value": 800, "count": 1}})
    for _ in range(20):
        with cold_agent.connect() as connection:
            connection.sendall(TOKEN)
    assert cold_agent.ask().status == 200
    assert cold_agent.mints == 1


def test_a_client_that_never_ends_its_request_is_ended_and_others_are_served(agent: Agent) -> None:
    started = time.monotonic()
    with agent.connect() as slow, agent.connect() as silent:
        slow.sendall(TOKEN[:20])
        assert agent.ask().status == 200
        assert statuses(read_all(slow)) == [408]
        assert read_all(silent) == b""
    assert time.monotonic() - started < 20


def test_one_user_cannot_take_all_connections_and_gives_them_back(agent: Agent) -> None:
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(agent.connect()) for _ in range(512)]
        with agent.connect() as one_too_many:
            assert statuses(read_all(one_too_many)) == [503]
    assert len(held) == 512
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if statuses(agent.say(request("GET", "/livez"))) == [200]:
            break
        time.sleep(0.1)
    assert agent.ask().status == 200


def test_descriptors_and_memory_do_not_grow(agent: Agent) -> None:
    def open_files() -> int:
        return len(list(Path(f"/proc/{agent.process.pid}/fd").iterdir()))

    agent.ask()
    before = open_files()
    for _ in range(300):
        agent.ask({"task": secrets.token_hex(8)})
        agent.say(b"nonsense\r\n\r\n")
    time.sleep(0.2)
    assert open_files() <= before + 2


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=st.binary(min_size=1, max_size=300), after=st.sampled_from([b"", TOKEN[:40], b"POST /token HTTP/1.1\r\n"]))
def test_any_bytes_are_answered_with_an_error_or_nothing(agent: Agent, raw: bytes, after: bytes) -> None:
    with agent.connect() as connection:
        with contextlib.suppress(BrokenPipeError):
            connection.sendall(after + raw)
            connection.shutdown(socket.SHUT_WR)
        answer = read_all(connection)
    assert not answer or statuses(answer)[0] >= 400


def test_nothing_secret_is_in_the_log_the_audit_file_or_the_process_table(agent: Agent) -> None:
    token = agent.ask().json()["access_token"]
    agent.ask({"client_id": "x", "client_secret": "pl4nted"})
    process = f"/proc/{agent.process.pid}"
    seen = agent.log.read_bytes() + agent.audit.read_bytes()
    seen += b"".join(Path(f"{process}/{name}").read_bytes() for name in ("cmdline", "environ"))

    assert b"ours" in seen, "the audit file names the rule, so this looks in the right place"
    for secret in (token, token.split(".")[2], agent.provider.secret("flyte-agent"), "pl4nted"):
        assert secret.encode() not in seen
