"""JWTs in the place of a secret (RFC 7523): clients that sign their own, and workloads of a trusted issuer."""

from __future__ import annotations

import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import ClientSecretJWT, PrivateKeyJWT
from foreign import (
    CLUSTER,
    EC,
    OTHER,
    PERSON,
    RSA,
    RUNNER,
    STRANGER,
    Cluster,
    projected,
    signed,
    signed_with_bytes,
    tampered,
    unsigned,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc.jwk import ECKey, KeySet, OctKey, RSAKey
from running_provider import Reply, Running, basic, running

from flytekitplugins.authagent.sandbox import client_assertion

pytestmark = pytest.mark.timeout(60)

MANY = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"

PAIR = ECKey.generate_key("P-256", {"kid": "ours"})
RSA_PAIR = RSAKey.generate_key(2048)


@pytest.fixture(scope="module")
def cluster():
    return Cluster()


@pytest.fixture(scope="module")
def provider(cluster):
    with running("external", trusted=[cluster.trusted()]) as it:
        clients = it.issuer.clients
        public = [type(key).import_key(key.as_dict(private=False)) for key in (PAIR, RSA_PAIR)]
        clients["signer"] = replace(clients["batch"], id="signer", secret=None, keys=KeySet(public))
        yield it


def own(provider: Running, client_id: str, key: object, *, without: tuple[str, ...] = (), **claims: object) -> str:
    """A client's own assertion, changed by `claims`."""
    whole = {"iss": client_id, "sub": client_id, "aud": provider.issuer.issuer, "jti": uuid.uuid4().hex} | claims
    return signed(whole, key, without=without)


def show(provider: Running, assertion: str, **more: str) -> Reply:
    """A token by client credentials for who shows `assertion`."""
    form = {"grant_type": "client_credentials", "client_assertion_type": TYPE, "client_assertion": assertion}
    return provider.ask(form | more)


def secret_of(provider: Running, client_id: str) -> OctKey:
    return OctKey.import_key(provider.secret(client_id))


def error(reply: Reply) -> tuple[int, str]:
    return reply.status, reply.json()["error"]


NOBODY = (401, "invalid_client")


@pytest.mark.parametrize("key", [PAIR, RSA_PAIR], ids=["ES256", "RS256 without kid"])
@pytest.mark.parametrize("to", ["issuer", "token_endpoint"])
def test_a_client_with_a_key_pair_signs_for_itself(provider: Running, key, to):
    reply = show(provider, own(provider, "signer", key, aud=getattr(provider.issuer, to)))

    assert provider.read(reply.json()["access_token"]).claims["sub"] == "signer"


def test_a_client_with_a_secret_signs_with_it(provider: Running):
    for audience in (provider.issuer.issuer, [provider.issuer.token_endpoint, "https://elsewhere.example"]):
        reply = show(provider, own(provider, "ci", secret_of(provider, "ci"), aud=audience), client_id="ci")
        assert provider.read(reply.json()["access_token"]).claims["sub"] == "ci"


def test_authlib_shows_who_it_is_both_ways(provider: Running):
    url = provider.issuer.token_endpoint
    with OAuth2Session(
        "batch", secret_of(provider, "batch"), token_endpoint_auth_method="client_secret_jwt"
    ) as session:
        session.register_client_auth_method(ClientSecretJWT(url))
        assert session.fetch_token(url, grant_type="client_credentials")["access_token"]
    with OAuth2Session("signer", PAIR, token_endpoint_auth_method="private_key_jwt") as session:
        session.register_client_auth_method(PrivateKeyJWT(url, alg="ES256", headers={"kid": "ours"}))
        assert session.fetch_token(url, grant_type="client_credentials")["access_token"]


NOW = int(time.time())

BAD = {
    "for another": {"aud": "https://elsewhere.example"},
    "for nobody": {"aud": []},
    "aud of no text": {"aud": 7},
    "expired": {"exp": NOW - 1},
    "far away": {"exp": NOW + 7200},
    "for ever": {"exp": 1e400},
    "no time": {"exp": "soon"},
    "true": {"exp": True},
    "not yet": {"nbf": NOW + 600},
    "about another": {"sub": "batch"},
    "of another": {"iss": "batch"},
    "of nobody": {"iss": "nobody", "sub": "nobody"},
    "of a public client": {"iss": "flytectl", "sub": "flytectl"},
    "list as iss": {"iss": ["signer"]},
    "list as sub": {"sub": ["signer"]},
    "empty jti": {"jti": ""},
    "jti of no text": {"jti": 1},
    "long jti": {"jti": "x" * 300},
}


@pytest.mark.parametrize("case", BAD)
def test_an_assertion_that_is_not_right_in_everything_shows_nothing(provider: Running, case):
    reply = show(provider, own(provider, "signer", PAIR, **BAD[case]))

    assert error(reply) == NOBODY
    assert reply.json()["error_description"] == "The client did not show who it is"


@pytest.mark.parametrize("name", ["iss", "sub", "aud", "exp", "jti"])
def test_an_assertion_without_one_of_its_claims_shows_nothing(provider: Running, name):
    assert error(show(provider, own(provider, "signer", PAIR, without=(name,)))) == NOBODY


def test_an_assertion_counts_once(provider: Running):
    assertion = own(provider, "signer", PAIR, jti="once")

    assert show(provider, assertion).status == 200
    assert error(show(provider, assertion)) == NOBODY
    assert error(show(provider, own(provider, "signer", PAIR, jti="once"))) == NOBODY
    assert show(provider, own(provider, "ci", secret_of(provider, "ci"), jti="once")).status == 200


def test_of_many_who_show_one_assertion_at_once_one_is_believed(provider: Running):
    assertion, barrier = own(provider, "signer", PAIR), threading.Barrier(8)

    def use(_: int) -> int:
        barrier.wait(5)
        return show(provider, assertion).status

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(use, range(8))) == [200] + [401] * 7


def test_where_no_more_can_be_remembered_nobody_is_believed(cluster, monkeypatch):
    monkeypatch.setattr(client_assertion, "MAX_SEEN", 2)
    now = [float(int(time.time()))]
    with running("external", now=lambda: now[0]) as it:
        key = secret_of(it, "batch")
        replies = [show(it, own(it, "batch", key)).status for _ in range(3)]
        now[0] += 61
        later = show(it, own(it, "batch", key, exp=now[0] + 60)).status

    assert replies == [200, 200, 401]
    assert later == 200


def test_another_key_or_a_changed_claim_shows_nothing(provider: Running):
    good = own(provider, "signer", PAIR)
    stranger = ECKey.generate_key("P-256", {"kid": "ours"})
    claims = {"iss": "signer", "sub": "signer", "aud": provider.issuer.issuer, "jti": "x", "exp": NOW + 60}
    for bad in (
        tampered(good, jti="another"),
        own(provider, "signer", stranger),
        unsigned(claims),
        good[:-4],
        good.rpartition(".")[0] + ".",
        own(provider, "ci", secret_of(provider, "batch")),
    ):
        assert error(show(provider, bad)) == NOBODY


def test_a_public_key_is_no_secret(provider: Running):
    """What anybody can read must not sign, as it would if HS256 were taken where a key pair is registered."""
    claims = {"iss": "signer", "sub": "signer", "aud": provider.issuer.issuer, "exp": NOW + 60}
    for n, public in enumerate((PAIR.as_pem(private=False), RSA_PAIR.as_pem(private=False))):
        assertion = signed_with_bytes(claims | {"jti": f"public {n}"}, public, "ours")
        assert error(show(provider, assertion)) == NOBODY


@pytest.mark.parametrize("text", ["", "x", "a.b.c", "...", "é.é.é", "e30.e30.e30", "a" * 60000, "[]"])
def test_garbage_shows_nothing(provider: Running, text):
    assert show(provider, text).status == 401


@pytest.mark.parametrize(
    "fields",
    [
        {"client_assertion_type": TYPE},
        {"client_assertion_type": "urn:x", "client_assertion": "x"},
        {"client_assertion": "x"},
        {"client_assertion": "x", "client_assertion_type": TYPE, "client_id": "flytectl"},
    ],
)
def test_half_an_assertion_shows_nothing_not_even_a_public_client(provider: Running, fields):
    reply = provider.refresh(provider.issuer.sign_in("alice"), **fields)

    assert error(reply) == NOBODY


def test_a_client_shows_who_it_is_in_one_way_only(provider: Running):
    assertion = own(provider, "signer", PAIR)
    form = {"grant_type": "client_credentials", "client_assertion_type": TYPE, "client_assertion": assertion}

    assert error(provider.ask(form, basic("ci", provider.secret("ci")))) == (400, "invalid_request")
    assert error(provider.ask(form | {"client_id": "ci", "client_secret": provider.secret("ci")})) == (
        400,
        "invalid_request",
    )
    assert error(show(provider, own(provider, "signer", PAIR), client_id="ci")) == NOBODY


@MANY
@given(
    claims=st.dictionaries(
        st.sampled_from(["iss", "sub", "aud", "exp", "nbf", "jti"]),
        st.none() | st.text() | st.integers() | st.lists(st.text()),
    )
)
def test_any_claims_get_an_answer(provider: Running, claims):
    assert show(provider, own(provider, "signer", PAIR, **claims)).status in (200, 401)
    assert show(provider, projected(provider.issuer.issuer, **claims)).status in (200, 401)


def test_a_pods_projected_token_stands_for_the_client_that_it_is_mapped_to(provider: Running):
    pod = projected([provider.issuer.issuer])

    for _ in range(2):  # it is good until the kubelet replaces it
        reply = show(provider, pod)
        assert provider.read(reply.json()["access_token"]).claims["sub"] == "batch"
    assert show(provider, projected(provider.issuer.issuer, key=RSA), client_id="batch").status == 200


def test_a_projected_token_of_anybody_else_shows_nothing(provider: Running):
    here = provider.issuer.issuer
    for pod in (
        projected(here, STRANGER),
        projected(here, PERSON),  # a user is no client
        projected("https://kubernetes.example"),
        projected(provider.issuer.token_endpoint),
        projected(None),
        projected(here, key=OTHER),
        projected(here, iss="https://another.example"),
        projected(here, exp=NOW - 1),
        projected(here, nbf=NOW + 600),
        tampered(projected(here, STRANGER), sub=RUNNER),
        unsigned({"iss": CLUSTER, "sub": RUNNER, "aud": here, "exp": NOW + 60}),
    ):
        assert error(show(provider, pod)) == NOBODY
    assert error(show(provider, projected(here), client_id="ci")) == NOBODY


def test_while_the_clusters_keys_cannot_be_had_somebody_may_come_again(provider: Running, cluster):
    cluster.reachable = False
    try:
        first = show(provider, projected(provider.issuer.issuer))
        second = grant(provider, projected(provider.issuer.issuer))
    finally:
        cluster.reachable = True

    assert error(first) == error(second) == (503, "temporarily_unavailable")


def test_flyteadmin_takes_no_assertions():
    with running("internal") as internal:
        assert error(show(internal, own(internal, "batch", secret_of(internal, "batch")))) == NOBODY


def grant(provider: Running, assertion: str, headers: dict[str, str] | None = None, **more: str) -> Reply:
    """A token by the grant of RFC 7523 section 2.1."""
    return provider.ask({"grant_type": GRANT, "assertion": assertion, **more}, headers)


@pytest.mark.parametrize("to", ["issuer", "token_endpoint"])
def test_a_jwt_is_a_grant_for_the_client_that_it_is_about(provider: Running, to):
    reply = grant(provider, projected(getattr(provider.issuer, to)), scope="all")

    assert reply.json().keys() == {"access_token", "token_type", "expires_in", "scope"}
    claims = provider.read(reply.json()["access_token"]).claims
    assert (claims["sub"], claims["client_id"], claims["scp"]) == ("batch", "batch", ["all"])


def test_a_jwt_about_a_user_needs_a_client_beside_it(provider: Running):
    person = projected(provider.issuer.issuer, PERSON)
    claims = provider.read(grant(provider, person, basic("ci", provider.secret("ci"))).json()["access_token"]).claims

    assert (claims["sub"], claims["client_id"]) == ("bob", "ci")
    assert error(grant(provider, person)) == NOBODY
    assert error(grant(provider, person, client_id="flytectl")) == NOBODY
    assert error(grant(provider, person, basic("ci", "wrong"))) == NOBODY


@pytest.mark.parametrize(
    "make",
    [
        lambda here: projected(here, STRANGER),
        lambda here: projected("https://elsewhere.example"),
        lambda here: projected(here, key=OTHER),
        lambda here: projected(here, exp=NOW - 1),
        lambda here: projected(here, iss="https://another.example"),
        lambda here: tampered(projected(here, STRANGER), sub=RUNNER),
        lambda here: unsigned({"iss": CLUSTER, "sub": RUNNER, "aud": here, "exp": NOW + 60}),
        lambda here: projected(here, iss=["x"]),
        lambda here: "garbage",
        lambda here: "é",
    ],
)
def test_a_jwt_that_cannot_be_used_is_no_grant(provider: Running, make):
    assert error(grant(provider, make(provider.issuer.issuer))) == (400, "invalid_grant")


def test_a_grant_is_held_to_the_same_rules_as_others(provider: Running):
    pod = projected(provider.issuer.issuer)

    assert error(grant(provider, pod, scope="admin")) == (400, "invalid_scope")
    assert error(grant(provider, pod, audience="https://elsewhere.example")) == (400, "invalid_target")
    assert error(grant(provider, pod, client_id="ci")) == (400, "invalid_request")
    assert error(provider.ask({"grant_type": GRANT})) == (400, "invalid_request")


def test_what_happened_is_counted(cluster):
    with running("external", trusted=[cluster.trusted()]) as it:
        grant(it, projected(it.issuer.issuer))
        show(it, projected(it.issuer.issuer))
        grant(it, "x")
        counted = it.counts.snapshot()

    assert counted["mints"] == {"batch": 2}
    assert counted["assertions"] == {"batch": 1}
    assert counted["refused_mints"] == {"anonymous": 1}


def test_no_assertion_reaches_a_log(provider: Running, caplog):
    caplog.set_level("DEBUG")
    texts = [
        own(provider, "signer", PAIR),
        projected(provider.issuer.issuer),
        projected(provider.issuer.issuer, STRANGER),
    ]
    for text in texts:
        show(provider, text)
        grant(provider, text)

    shown = caplog.text + repr(provider.issuer.clients) + repr(provider.issuer.trusted)
    assert "/token" in caplog.text
    for text in texts:
        assert text not in shown
        assert text.rpartition(".")[2] not in shown
    assert EC.as_dict(private=True)["d"] not in shown
