"""Signing in on another screen (RFC 8628): what the device hears, and what the person sees."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import pytest
from browsing import Browser, form, tags
from flytekit.clients.auth.token_client import get_device_code, poll_token_endpoint
from running_provider import Reply, Running, basic, running, send

pytestmark = pytest.mark.timeout(60)

GRANT = "urn:ietf:params:oauth:grant-type:device_code"
SCRIPT = "\"'><script>alert(1)</script>"


class Clock:
    """Seconds since the epoch, as a test says."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def clock():
    return Clock()


@pytest.fixture(scope="module")
def provider(clock):
    with running("external", now=clock) as it:
        yield it


def start(provider: Running, **more: str) -> dict[str, object]:
    """What a device is told."""
    reply = provider.ask_at("device_authorization_endpoint", {"client_id": "flytectl", **more})
    assert reply.status == 200, reply.body
    return reply.json()


def poll(provider: Running, device: dict[str, object], client_id: str = "flytectl", **more: str) -> Reply:
    return provider.ask(
        {"grant_type": GRANT, "device_code": str(device["device_code"]), "client_id": client_id, **more}
    )


def error(reply: Reply) -> tuple[int, str]:
    return reply.status, reply.json()["error"]


def decide(device: dict[str, object], user: str = "alice", decision: str = "allow") -> Reply:
    return Browser().decide(str(device["verification_uri_complete"]), user, decision)


def test_a_device_gets_a_code_to_show(provider: Running):
    reply = provider.ask_at("device_authorization_endpoint", {"client_id": "flytectl", "scope": "all"})

    device = reply.json()
    assert reply.headers["cache-control"] == "no-store"
    assert device.keys() == {
        "device_code", "user_code", "verification_uri", "verification_uri_complete", "expires_in", "interval",
    }  # fmt: skip
    assert device["verification_uri"] == f"{provider.issuer.issuer}/device"
    assert device["verification_uri_complete"] == f"{device['verification_uri']}?user_code={device['user_code']}"
    assert (device["expires_in"], device["interval"]) == (600, 5)
    assert len(device["user_code"]) == 9


@pytest.mark.parametrize("user", ["alice", "bob"])
def test_somebody_agrees_and_the_device_gets_a_token_once(provider: Running, clock, user):
    device = start(provider, scope="all offline")
    assert error(poll(provider, device)) == (400, "authorization_pending")
    clock.now += 5

    page = decide(device, user)

    assert page.status == 200
    assert b"may act for you now" in page.body
    token = poll(provider, device).json()
    claims = provider.read(token["access_token"]).claims
    assert (claims["sub"], claims["client_id"], claims["scp"]) == (user, "flytectl", ["all", "offline"])
    assert provider.refresh(token["refresh_token"]).status == 200
    assert error(poll(provider, device)) == (400, "invalid_grant")


def test_openid_brings_an_id_token_and_no_offline_no_refresh_token(provider: Running):
    device = start(provider, scope="openid all")
    decide(device, "bob")

    token = poll(provider, device).json()

    assert provider.read(token["id_token"]).claims["email"] == "bob@sandbox.example"
    assert "refresh_token" not in token


def test_no_is_an_answer(provider: Running):
    device = start(provider)
    assert b"told no" in decide(device, decision="deny").body

    assert error(poll(provider, device)) == (400, "access_denied")
    assert error(poll(provider, device)) == (400, "invalid_grant")


def test_a_device_that_asks_too_often_must_wait_longer(provider: Running, clock):
    device = start(provider)
    assert error(poll(provider, device)) == (400, "authorization_pending")
    assert error(poll(provider, device)) == (400, "slow_down")
    clock.now += 9.9
    assert error(poll(provider, device)) == (400, "slow_down")
    clock.now += 15
    assert error(poll(provider, device)) == (400, "authorization_pending")
    decide(device)
    assert poll(provider, device).status == 200, "an answer is not held back"


def test_a_code_that_nobody_typed_in_expires(provider: Running, clock):
    device = start(provider)
    page = Browser()
    url = str(device["verification_uri_complete"])
    fields = form(page.get(url)) | {"user": "alice", "decision": "allow"}
    clock.now += 600

    assert error(poll(provider, device)) == (400, "expired_token")
    assert page.post(url, fields).status == 400
    assert Browser().get(url).status == 400


def test_the_interval_can_be_chosen_and_left_out():
    with running("external", device_interval=1) as provider:
        assert start(provider)["interval"] == 1
        provider.faults.put({"no_interval": 1})
        assert "interval" not in start(provider)
        assert start(provider)["interval"] == 1


@pytest.mark.parametrize(
    ("typed", "status"),
    [
        (lambda code: code, 200),
        (lambda code: code.lower(), 200),
        (lambda code: f" {code.replace('-', ' ')} ", 200),
        (lambda code: code.replace("-", ""), 200),
        (lambda code: code[:-1], 400),
        (lambda code: code + "B", 400),
        (lambda code: "BBBB-BBBB", 400),
        (lambda code: SCRIPT, 400),
        (lambda code: "é", 400),
    ],
)
def test_a_person_may_type_the_code_as_it_comes(provider: Running, typed, status):
    device = start(provider)
    page = Browser().get(f"{device['verification_uri']}?user_code={quote(typed(str(device['user_code'])))}")

    assert page.status == status
    assert b"alert" not in page.body
    assert (str(device["user_code"]).encode() in page.body) == (status == 200)


def test_the_page_asks_for_the_code_first_and_shows_it_for_comparison(provider: Running):
    device = start(provider, scope="all offline")
    empty = Browser().get(str(device["verification_uri"]))
    page = Browser().get(str(device["verification_uri_complete"]))

    assert (empty.status, page.status) == (200, 200)
    assert b'name="user_code"' in empty.body
    assert b"flytectl</bdi> asks to act for you" in page.body
    assert b"all offline" in page.body
    for one in (empty, page):
        assert one.headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in one.headers["content-security-policy"]
        assert "script" not in tags(one)


def test_a_form_of_another_site_changes_nothing(provider: Running):
    device = start(provider)
    url = str(device["verification_uri_complete"])
    yes, victim = {"user": "alice", "decision": "allow"}, Browser()
    theirs = form(Browser().get(url))
    victim.get(url)

    assert victim.post(url, yes).status == 400
    assert victim.post(url, theirs | yes).status == 400
    assert victim.post(url, form(victim.get(url)) | yes, Origin="http://evil.example").status == 400
    assert victim.post(str(device["verification_uri"]), yes | {"user_code": str(device["user_code"])}).status == 400
    assert error(poll(provider, device)) == (400, "authorization_pending")


def test_what_was_decided_stays_decided(provider: Running):
    device = start(provider)
    browser, url = Browser(), str(device["verification_uri_complete"])
    fields = form(browser.get(url)) | {"user": "alice", "decision": "deny"}

    assert browser.post(url, fields).status == 200
    assert browser.post(url, fields | {"decision": "allow"}).status == 400
    assert error(poll(provider, device)) == (400, "access_denied")


def test_of_many_polls_at_once_one_gets_the_token(provider: Running):
    device, barrier = start(provider), threading.Barrier(8)
    decide(device)

    def ask(_: int) -> int:
        barrier.wait(5)
        return poll(provider, device).status

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(ask, range(8))) == [200] + [400] * 7


def test_a_code_is_of_no_use_to_another_client(provider: Running):
    clients = provider.issuer.clients
    clients["other"] = type(clients["flytectl"])("other", None, frozenset({GRANT}))
    device = start(provider)
    decide(device)

    assert error(poll(provider, device, "other")) == (400, "invalid_grant")
    assert poll(provider, device).status == 200


@pytest.mark.parametrize(
    ("fields", "headers", "expected"),
    [
        ({}, {}, (401, "invalid_client")),
        ({"client_id": "nobody"}, {}, (401, "invalid_client")),
        ({"client_id": "batch"}, {}, (401, "invalid_client")),
        ({}, "batch", (400, "unauthorized_client")),
        ({"client_id": "flytectl", "scope": "admin"}, {}, (400, "invalid_scope")),
        ({"client_id": "flytectl", "audience": "https://elsewhere.example"}, {}, (400, "invalid_target")),
    ],
)
def test_who_may_not_ask_for_a_code_is_told_so(provider: Running, fields, headers, expected):
    headers = basic(headers, provider.secret(headers)) if headers else {}

    assert error(provider.ask_at("device_authorization_endpoint", fields, headers)) == expected


@pytest.mark.parametrize("device_code", ["x", "é", "a" * 5000])
def test_garbage_is_no_code(provider: Running, device_code):
    assert error(poll(provider, {"device_code": device_code})) == (400, "invalid_grant")


def test_no_code_is_a_bad_request(provider: Running):
    assert error(provider.ask({"grant_type": GRANT, "client_id": "flytectl"})) == (400, "invalid_request")


def test_flyteadmin_knows_no_devices():
    with running("internal") as provider:
        for path in ("/device", "/device_authorization", "/oauth2/device_authorization"):
            assert send("POST", provider.issuer.issuer + path).status == 404


def test_the_oldest_device_makes_room(provider: Running):
    first = start(provider)
    for _ in range(1_000):
        provider.issuer.device_codes.issue("flytectl", "", interval=5, now=provider.issuer.now())

    assert error(poll(provider, first)) == (400, "invalid_grant")


def test_flytekit_signs_in_as_a_device():
    with running("external", device_interval=1) as provider:
        document = provider.issuer.metadata()
        device = get_device_code(document["device_authorization_endpoint"], "flytectl", scope=["all", "offline"])
        Browser().decide(f"{device.verification_uri}?user_code={device.user_code}", "bob")
        access, refresh, expires_in = poll_token_endpoint(device, provider.issuer.token_endpoint, "flytectl")

        assert provider.read(access).claims["sub"] == "bob"
        assert refresh
        assert 0 < expires_in <= 300


def test_what_happened_is_counted():
    with running("external") as provider:
        device, denied = start(provider), start(provider)
        poll(provider, device)
        decide(device)
        decide(denied, decision="deny")
        poll(provider, device)
        poll(provider, denied)
        counted = provider.counts.snapshot()

    assert (counted["device"], counted["polls"]) == ({"flytectl": 2}, {"flytectl": 3})
    assert (counted["sign_ins"], counted["denials"]) == ({"flytectl": 1}, {"flytectl": 1})
    assert (counted["mints"], counted["refused_mints"]) == ({"flytectl": 1}, {"flytectl": 2})


def test_no_code_reaches_a_log(caplog):
    caplog.set_level("DEBUG")
    with running("external") as provider:
        device = start(provider, scope="all offline")
        decide(device)
        kept = provider.issuer.device_codes.find(str(device["device_code"]))
        shown = repr(kept)
        token = poll(provider, device).json()
        shown += caplog.text

    assert kept
    for secret in (device["device_code"], device["user_code"], token["refresh_token"], token["access_token"]):
        assert str(secret) not in shown
