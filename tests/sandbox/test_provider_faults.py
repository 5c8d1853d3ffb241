"""Each fault of the token endpoint: what the client sees, what is counted, and that it is over when it is over."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from urllib.parse import urlencode, urlsplit

import pytest
from running_provider import FORM, Running, basic, running

pytestmark = pytest.mark.timeout(30)


@pytest.fixture(params=["internal", "external"])
def provider(request):
    with running(request.param) as it:
        yield it


def counted(provider: Running) -> tuple[int, int]:
    """Tokens that `batch` got, and answers that it did not get one by."""
    snapshot = provider.counts.snapshot()
    return snapshot["mints"].get("batch", 0), snapshot["refused_mints"].get("batch", 0)


def test_a_status_in_the_place_of_a_token(provider: Running):
    provider.faults.put({"token_status": {"value": 503, "count": 2}})

    replies = [provider.own_token() for _ in range(3)]

    assert [reply.status for reply in replies] == [503, 503, 200]
    assert replies[0].json() == {"error": "temporarily_unavailable"}
    assert counted(provider) == (1, 2)


@pytest.mark.parametrize(("status", "seen"), [(429, 429), (403, 403), (302, 302), (204, 503), (7, 503), (-3, 503)])
def test_any_number_gives_a_status_that_http_has(provider: Running, status, seen):
    provider.faults.put({"token_status": status})

    assert provider.own_token().status == seen


def test_a_page_in_the_place_of_json(provider: Running):
    provider.faults.put({"token_html": 1})

    page, answer = provider.own_token(), provider.own_token()

    assert page.status == 200
    assert page.headers["content-type"].startswith("text/html")
    assert page.body.startswith(b"<!doctype html>")
    assert answer.json()["access_token"]
    assert counted(provider) == (1, 1)


def test_a_late_answer_is_a_good_one(provider: Running):
    provider.faults.put({"token_delay_ms": {"value": 400, "count": 1}})

    began = time.monotonic()
    late = provider.own_token()
    took = time.monotonic() - began

    assert late.status == 200
    assert took >= 0.4
    assert provider.faults.snapshot() == {}
    assert counted(provider) == (1, 0)


def test_a_request_that_hangs_is_counted_while_it_hangs_and_others_are_answered(provider: Running):
    provider.faults.put({"token_hang": 1})
    hanging = hang(provider)
    try:
        wait_until(lambda: counted(provider) == (0, 1))
        assert provider.own_token().status == 200
        hanging.settimeout(0.3)
        with pytest.raises(TimeoutError):
            hanging.recv(1)
    finally:
        hanging.close()


def test_a_request_that_hangs_ends_with_the_provider():
    with running() as provider:
        provider.faults.put({"token_hang": -1})
        hanging = hang(provider)
        wait_until(lambda: counted(provider) == (0, 1))
    with hanging:
        assert hanging.recv(1) == b""


def test_a_client_that_leaves_takes_its_hanging_request_along(provider: Running):
    provider.faults.put({"token_hang": 1})
    before = threading.active_count()
    hanging = hang(provider)
    wait_until(lambda: counted(provider) == (0, 1))
    assert threading.active_count() > before

    hanging.close()

    wait_until(lambda: threading.active_count() <= before)


def test_a_hang_has_an_end(provider: Running, monkeypatch):
    monkeypatch.setattr("flytekitplugins.authagent.sandbox.provider.HANG_SECONDS", 0.3)
    provider.faults.put({"token_hang": 1})

    with pytest.raises(http.client.RemoteDisconnected):
        provider.own_token()


def test_the_same_token_again(provider: Running):
    first = provider.own_token(scope="all").json()
    provider.faults.put({"same_token": 2})

    again = [provider.own_token(scope="all").json() for _ in range(3)]

    assert again[0] == again[1] == first
    assert again[2]["access_token"] != first["access_token"]
    assert counted(provider) == (4, 0)


def test_the_same_token_is_that_of_the_same_client_and_scope(provider: Running):
    provider.own_token(scope="all")
    provider.faults.put({"same_token": 1})

    others = [provider.own_token("ci", scope="all"), provider.own_token(scope="offline")]
    left = provider.faults.snapshot()

    assert {provider.read(reply.json()["access_token"]).claims["jti"] for reply in others}
    assert left["same_token"]["count"] == 1, "an answer that was not spoiled does not use the fault up"


def test_an_answer_without_expires_in(provider: Running):
    provider.faults.put({"no_expires_in": 1})

    without, with_it = provider.own_token().json(), provider.own_token().json()

    assert "expires_in" not in without
    assert without["access_token"]
    assert with_it["expires_in"] > 0


@pytest.mark.parametrize("skew", [3600, -3600])
def test_a_clock_that_is_wrong(skew):
    now = 1_000_000.0
    with running("external", now=lambda: now) as provider:
        provider.faults.put({"clock_skew_s": skew})
        answer = provider.own_token().json()
        claims = provider.read(answer["access_token"]).claims

    assert claims["iat"] == claims["nbf"] == now + skew
    assert claims["exp"] == now + skew + 300
    assert answer["expires_in"] == 300


def test_faults_add_up(provider: Running):
    provider.faults.put({"no_expires_in": 1, "token_delay_ms": {"value": 10, "count": 1}, "token_status": {"count": 1}})

    assert provider.own_token().status == 503
    assert provider.faults.snapshot().keys() == {"no_expires_in"}
    assert "expires_in" not in provider.own_token().json()


def test_a_users_refresh_is_spoiled_like_any_other_request(provider: Running):
    provider.faults.put({"token_status": {"value": 500, "count": 1}})

    assert provider.refresh(provider.issuer.sign_in("alice")).status == 500


def test_the_sandboxs_own_sessions_are_spared(provider: Running):
    faults = {
        "token_status": 500,
        "token_html": -1,
        "token_hang": -1,
        "no_expires_in": -1,
        "clock_skew_s": 99,
        "same_token": -1,
    }
    provider.faults.put(faults)
    token, before = provider.issuer.sign_in("alice", spared=True), provider.faults.snapshot()

    first = provider.refresh(token)
    second = provider.refresh(first.json()["refresh_token"])

    assert first.status == second.status == 200
    assert second.json()["expires_in"] > 0
    assert first.json()["access_token"] != second.json()["access_token"]
    assert provider.faults.snapshot() == before


def hang(provider: Running) -> socket.socket:
    """A token request of `batch` that somebody waits for."""
    where = urlsplit(provider.issuer.token_endpoint)
    body = urlencode({"grant_type": "client_credentials"})
    headers = {"Host": where.netloc, "Content-Type": FORM, "Content-Length": str(len(body))}
    headers |= basic("batch", provider.secret("batch"))
    lines = [f"POST {where.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", body]
    connection = socket.create_connection((where.hostname, where.port), timeout=10)
    connection.sendall("\r\n".join(lines).encode())
    return connection


def wait_until(true) -> None:
    """Fails after ten seconds."""
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)
