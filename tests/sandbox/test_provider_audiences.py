"""Two applications at one identity provider: tokens for Flyte, and tokens that people show to the hub."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from browsing import VERIFIER, Browser, answer, asking, code, redeem
from flyteidl.admin import version_pb2
from foreign import PERSON, Cluster, projected
from running_control_plane import Stubs
from running_provider import Reply, Running, basic, running

from flytekitplugins.authagent.sandbox.control_plane import ControlPlane
from flytekitplugins.authagent.sandbox.dialect import HUB_AUDIENCE, PUBLIC_URL
from flytekitplugins.authagent.sandbox.posture import POSTURES

pytestmark = pytest.mark.timeout(60)

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
DEVICE = "urn:ietf:params:oauth:grant-type:device_code"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
REFRESH_TOKEN = "urn:ietf:params:oauth:token-type:refresh_token"
JWT = "urn:ietf:params:oauth:token-type:jwt"
CALLBACK = "http://127.0.0.1:8111/consent/callback"
ELSEWHERE = "https://elsewhere.example"


@pytest.fixture(scope="module")
def provider():
    with running("external", trusted=[Cluster().trusted()]) as it:
        yield it


def error(reply: Reply) -> tuple[int, str]:
    return reply.status, reply.json()["error"]


def audience(provider: Running, reply: Reply) -> Any:
    assert reply.status == 200, reply.body
    return provider.read(reply.json()["access_token"]).claims["aud"]


def as_client(provider: Running, client_id: str, form: dict[str, str]) -> Reply:
    return provider.ask(form, basic(client_id, provider.secret(client_id)))


def for_the_hub(provider: Running, user: str = "alice", **more: str) -> str:
    """What somebody shows to the hub."""
    token = provider.issuer.sign_in(user, audience=HUB_AUDIENCE)
    return str(provider.refresh(token, **more).json()["access_token"])


def exchange(provider: Running, subject: str, client_id: str = "hub", **more: str) -> Reply:
    """The token of somebody for a refresh token."""
    form = {"grant_type": EXCHANGE, "subject_token": subject, "subject_token_type": ACCESS_TOKEN}
    return as_client(provider, client_id, form | {"requested_token_type": REFRESH_TOKEN} | more)


def refreshed(provider: Running, token: str, **more: str) -> Reply:
    return as_client(provider, "hub", {"grant_type": "refresh_token", "refresh_token": token} | more)


# Whom a token is for


def own(provider: Running, **more: str) -> Reply:
    return provider.own_token("hub", **more)


def from_a_sign_in(provider: Running, **more: str) -> Reply:
    return provider.refresh(provider.issuer.sign_in("alice"), **more)


def from_a_code(provider: Running, **more: str) -> Reply:
    return redeem(provider, code(provider), **more)


def from_a_token(provider: Running, **more: str) -> Reply:
    return exchange(provider, for_the_hub(provider), requested_token_type=ACCESS_TOKEN, **more)


def from_a_jwt(provider: Running, **more: str) -> Reply:
    jwt = projected(provider.issuer.issuer, PERSON)
    return as_client(provider, "hub", {"grant_type": JWT_BEARER, "assertion": jwt} | more)


def from_a_device(provider: Running, **more: str) -> Reply:
    device = provider.ask_at("device_authorization_endpoint", {"client_id": "flytectl"}).json()
    Browser().decide(device["verification_uri_complete"])
    return provider.ask({"grant_type": DEVICE, "device_code": device["device_code"], "client_id": "flytectl"} | more)


WAYS = [own, from_a_sign_in, from_a_code, from_a_token, from_a_jwt, from_a_device]


@pytest.mark.parametrize("way", WAYS)
def test_a_token_is_for_flyte_unless_another_audience_is_asked_for(provider: Running, way: Callable[..., Reply]):
    assert audience(provider, way(provider)) == PUBLIC_URL
    for name in ("audience", "resource"):
        assert audience(provider, way(provider, **{name: HUB_AUDIENCE})) == HUB_AUDIENCE
        assert audience(provider, way(provider, **{name: PUBLIC_URL})) == PUBLIC_URL


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "asked",
    [{"audience": ELSEWHERE}, {"resource": ELSEWHERE}, {"audience": PUBLIC_URL, "resource": HUB_AUDIENCE}],
    ids=["audience", "resource", "both"],
)
def test_it_is_for_nobody_else_and_not_for_both(provider: Running, way: Callable[..., Reply], asked):
    assert error(way(provider, **asked)) == (400, "invalid_target")


def test_what_the_authorization_request_asked_for_is_what_the_code_gives(provider: Running):
    def asked(**at_the_token_endpoint: str) -> Any:
        text = code(provider, audience=HUB_AUDIENCE)
        return audience(provider, redeem(provider, text, **at_the_token_endpoint))

    assert (asked(), asked(resource=PUBLIC_URL)) == (HUB_AUDIENCE, PUBLIC_URL)


def test_what_the_device_asked_for_is_what_it_gets(provider: Running):
    form = {"client_id": "flytectl", "resource": HUB_AUDIENCE}
    device = provider.ask_at("device_authorization_endpoint", form).json()
    Browser().decide(device["verification_uri_complete"])
    form = {"grant_type": DEVICE, "device_code": device["device_code"], "client_id": "flytectl"}

    assert audience(provider, provider.ask(form)) == HUB_AUDIENCE


def test_a_sign_in_keeps_its_audience_whatever_one_refresh_asks_for(provider: Running):
    token, seen = provider.issuer.sign_in("alice", audience=HUB_AUDIENCE), []
    for asked in ({}, {"audience": PUBLIC_URL}, {}):
        reply = provider.refresh(token, **asked)
        token = reply.json()["refresh_token"]
        seen.append(audience(provider, reply))

    assert seen == [HUB_AUDIENCE, PUBLIC_URL, HUB_AUDIENCE]


def test_flyte_takes_no_token_that_is_for_the_hub(provider: Running, tmp_path: Path):
    plane = ControlPlane(
        issuer=provider.issuer,
        counts=provider.counts,
        faults=provider.faults,
        posture=POSTURES["external"],
        directory=tmp_path,
        task_environment={},
    )
    plane.start()
    try:
        flyte, hub = from_a_sign_in(provider).json()["access_token"], for_the_hub(provider)
        call = Stubs(plane.endpoint).admin.GetVersion
        call(version_pb2.GetVersionRequest(), metadata=[("authorization", f"Bearer {flyte}")])
        with pytest.raises(grpc.RpcError, match="invalid audience") as refused:
            call(version_pb2.GetVersionRequest(), metadata=[("authorization", f"Bearer {hub}")])
        assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
    finally:
        plane.stop()


def test_the_same_token_again_is_one_for_the_same_audience():
    with running("external") as it:
        it.faults.put({"same_token": -1})
        seen = [audience(it, it.own_token("hub", audience=name)) for name in (PUBLIC_URL, HUB_AUDIENCE, PUBLIC_URL)]

    assert seen == [PUBLIC_URL, HUB_AUDIENCE, PUBLIC_URL]


def test_flyteadmins_own_server_still_knows_no_audiences():
    with running("internal") as it:
        assert error(it.own_token("hub", audience=HUB_AUDIENCE)) == (400, "invalid_request")
        assert audience(it, it.own_token("hub", resource=HUB_AUDIENCE)) == [it.issuer.audience]


# The hub as a client


def test_somebody_signs_in_to_the_hub(provider: Running):
    reply = Browser().decide(
        asking(provider, client_id="hub", redirect_uri=CALLBACK, scope="all offline_access openid"), "mallory"
    )
    before = provider.counts.snapshot()["refreshes"].get("hub", 0)
    form = {"grant_type": "authorization_code", "code": answer(reply)["code"]}
    token = as_client(provider, "hub", form | {"redirect_uri": CALLBACK, "code_verifier": VERIFIER}).json()

    claims = provider.read(token["access_token"]).claims
    assert (claims["sub"], claims["client_id"], claims["aud"]) == ("mallory", "hub", PUBLIC_URL)
    assert provider.read(token["id_token"]).claims["aud"] == "hub"
    again = refreshed(provider, token["refresh_token"])
    assert audience(provider, again) == PUBLIC_URL
    assert error(refreshed(provider, token["refresh_token"])) == (400, "invalid_grant")  # used
    assert error(refreshed(provider, again.json()["refresh_token"])) == (
        400,
        "invalid_grant",
    )  # and all that came of it
    assert provider.counts.snapshot()["refreshes"]["hub"] == before + 1


@pytest.mark.parametrize(
    "where",
    [
        "http://127.0.0.1:8111/callback",
        "http://127.0.0.1:8111/consent/callback/",
        "https://127.0.0.1/consent/callback",
        "http://hub.example/consent/callback",
    ],
)
def test_nobody_is_sent_where_the_hub_does_not_wait(provider: Running, where):
    assert Browser().get(asking(provider, client_id="hub", redirect_uri=where)).status == 400


def test_the_hub_may_not_use_a_device(provider: Running):
    secret = basic("hub", provider.secret("hub"))

    assert error(provider.ask_at("device_authorization_endpoint", {}, secret)) == (400, "unauthorized_client")


# A refresh token for a token


def test_what_somebody_shows_to_the_hub_becomes_a_sign_in_of_its_own(provider: Running):
    reply = exchange(provider, for_the_hub(provider), scope="all")

    got = reply.json()
    assert got.keys() == {
        "access_token", "token_type", "expires_in", "scope", "refresh_token", "issued_token_type",
    }  # fmt: skip
    assert (got["issued_token_type"], got["scope"]) == (REFRESH_TOKEN, "all")
    claims = provider.read(got["access_token"]).claims
    assert (claims["sub"], claims["client_id"], claims["aud"]) == ("alice", "hub", PUBLIC_URL)
    again = refreshed(provider, got["refresh_token"])
    assert provider.read(again.json()["access_token"]).claims["sub"] == "alice"
    assert audience(provider, again) == PUBLIC_URL
    assert error(provider.refresh(again.json()["refresh_token"])) == (400, "invalid_grant")  # it is the hub's


def test_it_outlives_the_token_that_was_shown():
    now = [1_000_000.0]
    with running("external", now=lambda: now[0]) as it:
        shown = for_the_hub(it)
        now[0] += 200
        got = exchange(it, shown).json()
        now[0] += 1000
        assert error(exchange(it, shown)) == (400, "invalid_request")
        again = refreshed(it, got["refresh_token"]).json()
        assert (got["expires_in"], again["expires_in"]) == (300, 300)


def test_revoking_it_ends_it_and_not_the_sign_in_of_the_person():
    with running("external") as it:
        first = it.refresh(it.issuer.sign_in("alice", audience=HUB_AUDIENCE)).json()
        one, other = (exchange(it, first["access_token"]).json() for _ in range(2))
        secret = basic("hub", it.secret("hub"))

        reply = it.ask_at("revocation_endpoint", {"token": one["refresh_token"]}, secret)

        assert reply.status == 200
        assert error(refreshed(it, one["refresh_token"])) == (400, "invalid_grant")
        assert error(exchange(it, one["access_token"], requested_token_type=ACCESS_TOKEN)) == (400, "invalid_request")
        assert refreshed(it, other["refresh_token"]).status == 200
        assert it.refresh(first["refresh_token"]).status == 200
        counted = it.counts.snapshot()
        assert counted["revocations"] == {"hub": 1}
        assert counted["exchanges"] == {"hub": 2}
        assert counted["refreshes"] == {"flytectl": 2, "hub": 1}


def test_ending_the_sign_in_of_the_person_does_not_end_it():
    with running("external") as it:
        first = it.refresh(it.issuer.sign_in("alice", audience=HUB_AUDIENCE)).json()
        got = exchange(it, first["access_token"]).json()

        it.ask_at("revocation_endpoint", {"token": first["refresh_token"], "client_id": "flytectl"})

        assert error(exchange(it, first["access_token"])) == (400, "invalid_request")
        assert refreshed(it, got["refresh_token"]).status == 200


def test_nobody_else_can_revoke_it(provider: Running):
    got = exchange(provider, for_the_hub(provider)).json()

    provider.ask_at("revocation_endpoint", {"token": got["refresh_token"], "client_id": "flytectl"})
    provider.ask_at("revocation_endpoint", {"token": got["refresh_token"]}, basic("batch", provider.secret("batch")))

    assert refreshed(provider, got["refresh_token"]).status == 200


def test_who_acts_stands_in_every_token_that_it_brings(provider: Running):
    actor = str(own(provider).json()["access_token"])
    got = exchange(provider, for_the_hub(provider), actor_token=actor, actor_token_type=ACCESS_TOKEN).json()
    first = refreshed(provider, got["refresh_token"]).json()
    second = refreshed(provider, first["refresh_token"], scope="all").json()

    acting = {"iss": provider.issuer.issuer, "sub": "hub"}
    assert [provider.read(one["access_token"]).claims["act"] for one in (got, first, second)] == [acting] * 3


def test_without_an_actor_nobody_is_said_to_act(provider: Running):
    got = exchange(provider, for_the_hub(provider)).json()
    again = refreshed(provider, got["refresh_token"]).json()

    assert not any("act" in provider.read(one["access_token"]).claims for one in (got, again))


def test_no_wider_than_what_was_shown(provider: Running):
    narrow = for_the_hub(provider, scope="offline")

    assert error(exchange(provider, narrow, scope="all")) == (400, "invalid_scope")
    got = exchange(provider, narrow).json()
    assert got["scope"] == "offline"
    assert error(refreshed(provider, got["refresh_token"], scope="all")) == (400, "invalid_scope")


@pytest.mark.parametrize("client_id", ["flyte-agent", "batch", "ci"])
def test_a_client_that_is_no_application_gets_none(provider: Running, client_id):
    assert error(exchange(provider, for_the_hub(provider), client_id)) == (400, "invalid_request")
    assert exchange(provider, for_the_hub(provider), client_id, requested_token_type=ACCESS_TOKEN).status == 200


def test_a_token_that_was_not_made_to_be_shown_to_the_hub_brings_none(provider: Running):
    for_flyte = str(from_a_sign_in(provider).json()["access_token"])
    of_a_service = str(provider.own_token("batch", audience=HUB_AUDIENCE).json()["access_token"])
    of_a_cluster = {"subject_token_type": JWT}

    assert error(exchange(provider, for_flyte)) == (400, "invalid_request")
    assert error(exchange(provider, of_a_service)) == (400, "invalid_request")
    assert error(exchange(provider, projected(provider.issuer.issuer, PERSON), **of_a_cluster)) == (
        400,
        "invalid_request",
    )
    assert exchange(provider, for_flyte, requested_token_type=ACCESS_TOKEN).status == 200
