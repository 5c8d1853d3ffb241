"""Token exchange (RFC 8693): who may become whom, with whose word, for how long."""

from __future__ import annotations

import time
from dataclasses import replace
from urllib.parse import urlencode

import pytest
from browsing import code, redeem
from foreign import CLUSTER, OTHER, PERSON, RUNNER, STRANGER, Cluster, projected, tampered
from running_provider import FORM, Reply, Running, basic, running, send

pytestmark = pytest.mark.timeout(60)

GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
JWT = "urn:ietf:params:oauth:token-type:jwt"


@pytest.fixture(scope="module")
def cluster():
    return Cluster()


@pytest.fixture(scope="module")
def provider(cluster):
    with running("external", trusted=[cluster.trusted()]) as it:
        yield it


def of_alice(provider: Running, scope: str = "all offline") -> str:
    """An access token of somebody who signed in."""
    return str(provider.refresh(provider.issuer.sign_in("alice"), scope=scope).json()["access_token"])


def exchange(provider: Running, subject: str | None, client_id: str = "flyte-agent", **more: str | None) -> Reply:
    fields = {"grant_type": GRANT, "subject_token": subject, "subject_token_type": ACCESS_TOKEN} | more
    return provider.ask(
        {name: value for name, value in fields.items() if value is not None},
        basic(client_id, provider.secret(client_id)),
    )


def acting(provider: Running, token: str, **more: str | None) -> Reply:
    """An exchange in which the agent shows a token of its own too."""
    own = str(provider.own_token("flyte-agent").json()["access_token"])
    return exchange(provider, token, actor_token=own, actor_token_type=ACCESS_TOKEN, **more)


def error(reply: Reply) -> tuple[int, str]:
    return reply.status, reply.json()["error"]


def test_a_token_of_somebody_becomes_one_for_the_agent(provider: Running):
    reply = exchange(provider, of_alice(provider))

    answer = reply.json()
    assert reply.headers["cache-control"] == "no-store"
    assert answer.keys() == {"access_token", "token_type", "expires_in", "scope", "issued_token_type"}
    assert answer["issued_token_type"] == ACCESS_TOKEN
    claims = provider.read(answer["access_token"]).claims
    assert (claims["sub"], claims["client_id"], claims["scp"]) == ("alice", "flyte-agent", ["all", "offline"])
    assert claims["aud"] == provider.issuer.audience
    assert "act" not in claims


def test_an_actor_is_named_and_those_before_it_inside(provider: Running):
    here = provider.issuer.issuer
    once = acting(provider, of_alice(provider)).json()["access_token"]
    pod = {"actor_token": projected(here), "actor_token_type": JWT}
    twice = exchange(provider, once, "batch", **pod).json()["access_token"]

    assert provider.read(once).claims["act"] == {"iss": here, "sub": "flyte-agent"}
    assert provider.read(twice).claims["sub"] == "alice"
    assert provider.read(twice).claims["act"] == {
        "iss": CLUSTER,
        "sub": RUNNER,
        "act": {"iss": here, "sub": "flyte-agent"},
    }


def test_who_acted_is_not_forgotten_without_an_actor(provider: Running):
    once = acting(provider, of_alice(provider)).json()["access_token"]

    assert provider.read(exchange(provider, once, "batch").json()["access_token"]).claims["act"]["sub"] == "flyte-agent"


def test_not_too_many_act_for_one_another(provider: Running):
    token, replies = of_alice(provider), []
    for _ in range(6):
        replies.append(acting(provider, token))
        token = replies[-1].json().get("access_token", token)

    assert [reply.status for reply in replies] == [200] * 5 + [400]
    assert error(replies[-1]) == (400, "invalid_request")


def test_a_jwt_of_a_trusted_issuer_can_be_exchanged(provider: Running):
    here = provider.issuer.issuer
    person = exchange(provider, projected(here, PERSON), subject_token_type=JWT).json()
    pod = exchange(provider, projected(here), subject_token_type=JWT, requested_token_type=JWT).json()

    assert provider.read(person["access_token"]).claims["sub"] == "bob"
    assert person["scope"] == "all"
    assert provider.read(pod["access_token"]).claims["sub"] == "batch"
    assert pod["issued_token_type"] == JWT


def test_what_comes_of_an_exchange_ends_with_what_it_came_from(cluster):
    now = [float(int(time.time()))]
    with running("external", now=lambda: now[0], trusted=[cluster.trusted()]) as it:
        subject = of_alice(it)
        ends = it.read(subject).claims["exp"]
        now[0] += 200
        later = exchange(it, subject).json()
        pod = projected(it.issuer.issuer, exp=now[0] + 20)
        actor = exchange(it, subject, actor_token=pod, actor_token_type=JWT).json()
        foreign = exchange(it, projected(it.issuer.issuer, exp=now[0] + 30), subject_token_type=JWT).json()
        assert it.read(later["access_token"]).claims["exp"] == ends
        assert (later["expires_in"], actor["expires_in"], foreign["expires_in"]) == (100, 20, 30)
        now[0] += 100
        assert error(exchange(it, subject)) == (400, "invalid_request")
        assert error(exchange(it, later["access_token"])) == (400, "invalid_request")


@pytest.mark.parametrize(
    ("had", "asked", "expected"),
    [
        ("all offline", "all", "all"),
        ("all offline", None, "all offline"),
        ("all", "all offline", "invalid_scope"),
        ("all", "offline", "invalid_scope"),
        ("all offline", "admin", "invalid_scope"),
        ("all", None, "all"),
    ],
)
def test_scopes_are_never_widened(provider: Running, had, asked, expected):
    answer = exchange(provider, of_alice(provider, had), scope=asked).json()

    assert answer.get("scope", answer.get("error")) == expected


def test_scopes_that_the_client_may_not_have_are_left_behind(provider: Running):
    signed_in = redeem(provider, code(provider, scope="openid all")).json()["access_token"]

    assert exchange(provider, signed_in).json()["scope"] == "all"
    assert error(exchange(provider, signed_in, scope="openid")) == (400, "invalid_scope")


def test_the_audience_must_be_one_that_is_served(provider: Running):
    token, flyte = of_alice(provider), provider.issuer.audience
    for name in ("audience", "resource"):
        assert exchange(provider, token, **{name: flyte}).status == 200
        assert error(exchange(provider, token, **{name: "https://elsewhere.example"})) == (400, "invalid_target")


def test_an_audience_may_be_there_more_than_once(provider: Running):
    fields = [
        ("grant_type", GRANT), ("subject_token", of_alice(provider)), ("subject_token_type", ACCESS_TOKEN),
        ("audience", provider.issuer.audience), ("audience", provider.issuer.audience),
    ]  # fmt: skip
    headers = {"Content-Type": FORM, **basic("batch", provider.secret("batch"))}

    assert send("POST", provider.issuer.token_endpoint, urlencode(fields), headers).status == 200
    fields.append(("audience", "https://elsewhere.example"))
    assert error(send("POST", provider.issuer.token_endpoint, urlencode(fields), headers)) == (400, "invalid_target")
    fields.append(("subject_token", "x"))
    assert error(send("POST", provider.issuer.token_endpoint, urlencode(fields), headers)) == (400, "invalid_request")


BAD = {
    "none": {"subject_token": None},
    "neither": {"subject_token": None, "subject_token_type": None},
    "no type": {"subject_token_type": None},
    "another type": {"subject_token_type": "urn:ietf:params:oauth:token-type:refresh_token"},
    "saml": {"subject_token_type": "urn:ietf:params:oauth:token-type:saml2"},
    "garbage": {"subject_token": "x"},
    "not ASCII": {"subject_token": "é.é.é"},
    "huge": {"subject_token": "a" * 50000},
    "refresh token wanted": {"requested_token_type": "urn:ietf:params:oauth:token-type:refresh_token"},
    "actor without type": {"actor_token": "x"},
    "type without actor": {"actor_token_type": ACCESS_TOKEN},
    "garbage as actor": {"actor_token": "x", "actor_token_type": ACCESS_TOKEN},
}


@pytest.mark.parametrize("case", BAD)
def test_a_token_that_cannot_be_used_makes_the_request_invalid(provider: Running, case):
    assert error(exchange(provider, of_alice(provider), **BAD[case])) == (400, "invalid_request")


def test_a_changed_token_is_refused_in_both_places(provider: Running):
    token = of_alice(provider)
    changed = tampered(token, sub="bob")

    assert error(exchange(provider, changed)) == (400, "invalid_request")
    assert error(exchange(provider, token, actor_token=changed, actor_token_type=ACCESS_TOKEN)) == (
        400,
        "invalid_request",
    )


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda here: projected(here, STRANGER), JWT),
        (lambda here: projected(here, key=OTHER), JWT),
        (lambda here: projected("https://elsewhere.example"), JWT),
        (projected, ACCESS_TOKEN),
        (lambda here: projected(here, iss="https://another.example"), JWT),
    ],
)
def test_a_foreign_token_that_cannot_be_used_is_refused(provider: Running, make, kind):
    assert error(exchange(provider, make(provider.issuer.issuer), subject_token_type=kind)) == (400, "invalid_request")


def test_may_act_says_who_may_and_leaving_the_actor_out_does_not_help(provider: Running):
    here = provider.issuer.issuer
    for_agent = projected(here, PERSON, may_act={"sub": "flyte-agent"})
    for_pod = projected(here, PERSON, may_act={"iss": CLUSTER, "sub": RUNNER})
    odd = projected(here, PERSON, may_act="flyte-agent")

    assert acting(provider, for_agent, subject_token_type=JWT).status == 200
    assert exchange(provider, for_agent, subject_token_type=JWT).status == 200, "the client itself is the one named"
    assert error(exchange(provider, for_agent, "batch", subject_token_type=JWT)) == (400, "invalid_request")
    assert error(acting(provider, for_pod, subject_token_type=JWT)) == (400, "invalid_request")
    assert error(exchange(provider, odd, subject_token_type=JWT)) == (400, "invalid_request")
    pod = {"actor_token": projected(here), "actor_token_type": JWT}
    assert exchange(provider, for_pod, "batch", subject_token_type=JWT, **pod).status == 200


def test_who_signed_out_cannot_be_acted_for(provider: Running):
    signed_in = redeem(provider, code(provider)).json()
    exchanged = exchange(provider, signed_in["access_token"]).json()["access_token"]
    provider.ask_at("revocation_endpoint", {"token": signed_in["refresh_token"], "client_id": "flytectl"})

    assert error(exchange(provider, signed_in["access_token"])) == (400, "invalid_request")
    assert error(exchange(provider, exchanged)) == (400, "invalid_request")


def test_only_a_client_that_shows_who_it_is_and_may_exchanges(provider: Running):
    fields = {"grant_type": GRANT, "subject_token": of_alice(provider), "subject_token_type": ACCESS_TOKEN}
    clients = provider.issuer.clients
    clients["plain"] = replace(clients["batch"], id="plain", grant_types=frozenset({"client_credentials"}))

    assert error(provider.ask(fields)) == (401, "invalid_client")
    assert error(provider.ask(fields | {"client_id": "flytectl"})) == (401, "invalid_client")
    assert error(provider.ask(fields, basic("batch", "wrong"))) == (401, "invalid_client")
    assert error(exchange(provider, fields["subject_token"], "plain")) == (400, "unauthorized_client")


def test_an_exchange_is_counted_for_whom_it_was_made(cluster):
    with running("external") as it:
        exchange(it, of_alice(it))
        exchange(it, "x")
        counted = it.counts.snapshot()

    assert counted["mints"] == {"flytectl": 1, "flyte-agent": 1}
    assert counted["exchanges"] == {"flyte-agent": 1}
    assert counted["refused_mints"] == {"flyte-agent": 1}


def test_the_faults_spoil_an_exchange_too(provider: Running):
    provider.faults.put({"no_expires_in": 1, "same_token": 1})
    try:
        first = exchange(provider, of_alice(provider)).json()
    finally:
        provider.faults.put({"no_expires_in": 0, "same_token": 0})

    assert "expires_in" not in first
    assert provider.read(first["access_token"]).claims["sub"] == "alice"


def test_no_token_of_an_exchange_reaches_a_log(provider: Running, caplog):
    caplog.set_level("DEBUG")
    subject = of_alice(provider)
    texts = [subject, acting(provider, subject).json()["access_token"], tampered(subject, sub="bob")]
    exchange(provider, texts[-1])

    assert "/token" in caplog.text
    for text in texts:
        assert text not in caplog.text
        assert text.rpartition(".")[2] not in caplog.text
