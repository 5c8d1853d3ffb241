"""What the sandbox's HTTP servers do with whatever else arrives: an HTTP answer or a closed connection, in time."""

from __future__ import annotations

import json
import socket
import threading
import time
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from running_provider import FORM, Running, basic, running, send

from flytekitplugins.authagent.sandbox import loopback
from flytekitplugins.authagent.sandbox.exchange import Answer, Call
from flytekitplugins.authagent.sandbox.loopback import LoopbackServer

pytestmark = pytest.mark.timeout(60)

MANY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module", params=["internal", "external"])
def provider(request):
    with running(request.param) as it:
        yield it


@pytest.fixture
def server():
    """Answers with what it was asked."""
    it = LoopbackServer("echo", lambda call: Answer(200, call.path.encode() + b" " + call.body))
    it.start()
    yield it
    it.stop()


def port(url: str) -> int:
    return int(url.rpartition(":")[2])


def raw(url: str, sent: bytes, *, half_close: bool = True) -> bytes:
    """All that comes back for `sent`, until the server closes; a timeout is a failure."""
    with socket.create_connection(("127.0.0.1", port(url)), timeout=10) as connection:
        try:
            connection.sendall(sent)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it was closed while we were still talking
        received = b""
        try:
            while piece := connection.recv(65536):
                received += piece
        except ConnectionResetError:
            pass
        return received


def status(reply: bytes) -> int | None:
    return int(reply.split(b" ", 2)[1]) if reply.startswith(b"HTTP/1.") else None


FIELDS = st.dictionaries(
    st.sampled_from(["grant_type", "scope", "client_id", "client_secret", "refresh_token", "audience", "resource"])
    | st.text(max_size=10),
    st.sampled_from(["client_credentials", "refresh_token", "all", "batch", "flytectl", "urn:x"])
    | st.text(max_size=40),
    max_size=8,
)
AUTHORIZATION = (
    st.none()
    | st.sampled_from(["Basic ", "Basic Og==", "basic", "Bearer x", "Negotiate"])
    | st.from_regex(r"[Bb]asic [A-Za-z0-9+/=]{0,40}", fullmatch=True)
)


@MANY
@given(form=FIELDS, authorization=AUTHORIZATION)
def test_any_form_gets_an_answer_of_rfc_6749(provider: Running, form, authorization):
    reply = provider.ask(form, {"Authorization": authorization} if authorization else {})

    answer = reply.json()
    assert reply.headers["cache-control"] == "no-store"
    if reply.status == 200:
        assert answer["access_token"]
    elif reply.status == 500:
        assert (provider.posture, answer["error"], form["grant_type"]) == ("internal", "server_error", "refresh_token")
    else:
        assert reply.status in (400, 401)
        assert isinstance(answer["error"], str)
    assert reply.status != 401 or "www-authenticate" in reply.headers


@MANY
@given(body=st.binary(max_size=300), content_type=st.sampled_from([FORM, FORM + "; charset=utf-8", "text/plain", ""]))
def test_any_body_gets_an_answer_of_rfc_6749(provider: Running, body, content_type):
    headers = {"Content-Type": content_type, **basic("batch", provider.secret("batch"))}

    reply = send("POST", provider.issuer.token_endpoint, body, headers)

    assert reply.status in (200, 400, 401)
    assert json.loads(reply.body)


@MANY
@given(
    sent=st.binary(max_size=400)
    | st.from_regex(rb"(GET|POST|X) /[ -~]{0,30} HTTP/1\.[01]\r\n([ -~]{0,40}\r\n){0,5}\r\n")
)
def test_any_bytes_get_http_or_a_closed_connection(provider: Running, sent):
    reply = raw(provider.issuer.issuer, sent)

    assert reply == b"" or reply.startswith(b"HTTP/1.1 ")
    assert b" 500 " not in reply.split(b"\r\n", 1)[0]


def test_others_are_answered_while_somebody_says_nothing(provider: Running):
    idle = [socket.create_connection(("127.0.0.1", port(provider.issuer.issuer)), timeout=5) for _ in range(30)]
    try:
        assert provider.own_token().status == 200
    finally:
        for connection in idle:
            connection.close()


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("POST /a HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 65537\r\n", 413),
        ("POST /a HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999999999999999\r\n", 400),
        ("POST /a HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n", 400),
        ("POST /a HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n", 400),
        ("POST /a HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n", 411),
        ("GET /a HTTP/1.1\r\n", 421),
        ("GET /a HTTP/1.1\r\nHost: evil.example\r\n", 421),
        ("GET /a HTTP/1.1\r\nHost: 127.0.0.1.evil.example\r\n", 421),
        ("GET /a HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n", 421),
        ("GET /a HTTP/1.1\r\nHost: [\r\n", 421),
        ("GET /" + "a" * 70000 + " HTTP/1.1\r\nHost: 127.0.0.1\r\n", 414),
        ("GET /a HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + "a" * 70000 + "\r\n", 431),
        ("GET /a HTTP/1.1\r\nHost: 127.0.0.1\r\n" + "X: 1\r\n" * 200, 431),
        ("GET /a HTTP/9.9\r\nHost: 127.0.0.1\r\n", 505),
        ("BREW /a HTTP/1.1\r\nHost: 127.0.0.1\r\n", 501),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_request_that_cannot_be_taken_is_refused_and_the_connection_closed(server, head, expected):
    reply = raw(server.url, head.encode() + b"\r\n" + b"x=1", half_close=False)

    assert status(reply) == expected
    assert reply.count(b"HTTP/1.1 ") == 1, "what followed was not taken for a request of its own"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]", "127.0.0.1:1", "localhost:65535"])
def test_a_request_for_loopback_is_taken(server, host):
    reply = raw(server.url, f"GET /a HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())

    assert status(reply) == 200


def test_a_refusal_repeats_nothing_of_the_request(server):
    for sent in (
        b"GET s3cr3t\r\n\r\n",
        b"GET /s3cr3t HTTP/s3cr3t\r\n\r\n",
        b"S3CR3T /s3cr3t HTTP/1.1\r\nHost: s3cr3t\r\n\r\n",
    ):
        assert b"s3cr3t" not in raw(server.url, sent).lower()


def test_requests_sent_ahead_are_answered_in_order(server):
    one = "POST /{} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\n{}\r\nhi"
    sent = one.format("a", "") + one.format("b", "Connection: close\r\n")

    reply = raw(server.url, sent.encode(), half_close=False)

    assert reply.index(b"/a hi") < reply.index(b"/b hi")


def test_head_and_body_come_in_one_piece(server):
    """Two small segments would cost 40 ms of delayed acknowledgement on each request of a kept connection."""
    with socket.create_connection(("127.0.0.1", port(server.url)), timeout=10) as connection:
        for _ in range(20):
            connection.sendall(b"POST /a HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\n\r\nhi")
            assert connection.recv(65536).endswith(b"/a hi")


def test_the_answer_to_head_has_no_body(server):
    reply = raw(server.url, b"HEAD /a HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")

    assert status(reply) == 200
    assert reply.endswith(b"\r\n\r\n")


def test_whoever_takes_too_long_is_hung_up_on(server, monkeypatch):
    monkeypatch.setattr(loopback, "REQUEST_SECONDS", 0.5)  # what is measured is that it ends, not when
    with socket.create_connection(("127.0.0.1", port(server.url)), timeout=10) as connection:
        ended = time.monotonic() + 10
        closed = False
        while not closed and time.monotonic() < ended:
            try:
                connection.sendall(b"G")  # never idle, and never a whole line
                connection.settimeout(0.05)
                closed = connection.recv(1) == b""
            except TimeoutError:
                continue
            except OSError:
                closed = True

    assert closed


def test_a_body_that_never_comes_does_not_hold_the_connection(server, monkeypatch):
    monkeypatch.setattr(loopback, "REQUEST_SECONDS", 0.5)
    sent = b"POST /a HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 10\r\n\r\nabc"

    assert raw(server.url, sent, half_close=False) == b""


def test_there_is_a_limit_to_connections_and_room_again_after_it(monkeypatch):
    monkeypatch.setattr(loopback, "MAX_CONNECTIONS", 5)
    server = LoopbackServer("small", lambda call: Answer(200, b"here"))
    server.start()
    try:
        held = [socket.create_connection(("127.0.0.1", port(server.url)), timeout=5) for _ in range(5)]
        refused = socket.create_connection(("127.0.0.1", port(server.url)), timeout=5)
        assert refused.recv(1) == b""
        for connection in held:
            connection.close()
        request = b"GET /a HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        deadline = time.monotonic() + 10
        while status(raw(server.url, request)) != 200:
            assert time.monotonic() < deadline
    finally:
        refused.close()
        server.stop()


def test_a_fault_of_ours_is_answered_and_logged_without_the_request(caplog):
    def broken(call: Call) -> Answer:
        raise ValueError(call.body.decode())

    server = LoopbackServer("broken", broken)
    server.start()
    try:
        reply = send("POST", f"{server.url}/x?s3cr3t", "s3cr3t", {"Content-Type": FORM})
    finally:
        server.stop()

    assert (reply.status, reply.json()) == (500, {"error": "server_error"})
    assert "ValueError" in caplog.text
    assert "s3cr3t" not in caplog.text


def test_an_answer_that_waits_knows_that_its_client_left():
    left = threading.Event()

    def wait(call: Call) -> None:
        if call.left(20):
            left.set()

    server = LoopbackServer("slow", wait)
    server.start()
    try:
        with socket.create_connection(("127.0.0.1", port(server.url)), timeout=5) as connection:
            connection.sendall(b"GET /a HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert not left.wait(0.5)
        assert left.wait(10)
    finally:
        server.stop()


def test_it_is_on_loopback_only(server):
    assert server.url.startswith("http://127.0.0.1:")
    with socket.socket() as probe:  # another address of this very machine
        probe.settimeout(5)
        assert probe.connect_ex(("127.0.0.2", port(server.url))) != 0


def test_no_secret_of_the_provider_reaches_a_log(caplog):
    caplog.set_level("DEBUG")
    with running("external") as provider:
        seen = []
        for client_id in provider.issuer.clients:
            if client_id != "flytectl":
                seen += [provider.secret(client_id), provider.own_token(client_id).json()["access_token"]]
        refresh = provider.issuer.sign_in("alice")
        kept = provider.issuer.refresh_tokens.find(refresh, now=0)
        assert kept
        answer = provider.refresh(refresh).json()
        seen += [refresh, answer["access_token"], answer["refresh_token"]]
        provider.refresh(refresh)
        provider.ask({"grant_type": "client_credentials"}, basic("batch", provider.secret("ci")))
        query = urlencode({"client_secret": provider.secret("batch")})
        send("POST", f"{provider.issuer.token_endpoint}?{query}", "x", {"Content-Type": FORM})
        shown = repr(kept) + caplog.text + repr(provider.issuer.clients)

    assert "Issue token" in caplog.text, "authlib logs what it issues: if it stops, this test looks in the wrong place"
    for secret in seen:
        assert secret not in shown
        assert secret.split(".")[-1] not in shown
