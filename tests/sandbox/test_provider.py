"""Every answer of the sandbox's token endpoint, and of the documents beside it."""

from __future__ import annotations

import base64
import threading
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlencode

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet
from running_provider import FORM, Running, basic, running, send

pytestmark = pytest.mark.timeout(30)

CLIENTS = ("flyte-agent", "batch", "ci", "night:ly +job")


@pytest.fixture(scope="module", params=["internal", "external"])
def provider(request):
    with running(request.param) as it:
        yield it


@pytest.fixture(scope="module")
def internal():
    with running("internal") as it:
        yield it


@pytest.fixture(scope="module")
def external():
    with running("external") as it:
        yield it


@pytest.mark.parametrize("client_id", CLIENTS)
def test_a_client_gets_a_token_of_its_own(provider: Running, client_id):
    reply = provider.own_token(client_id, scope="all")

    answer = reply.json()
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["pragma"] == "no-cache"
    assert answer.keys() == {"access_token", "token_type", "expires_in", "scope"}
    assert answer["token_type"].lower() == "bearer"
    assert answer["expires_in"] in (299, 300)
    assert answer["scope"] == "all"


@pytest.mark.parametrize("client_id", CLIENTS)
def test_a_client_may_put_its_secret_into_the_body(provider: Running, client_id):
    form = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": provider.secret(client_id)}

    assert provider.ask(form).status == 200


def test_flyteadmin_leaves_out_who_a_client_is(internal: Running):
    token = internal.read(internal.own_token(scope="all").json()["access_token"])

    claims = token.claims
    assert token.header["alg"] == "RS256"
    assert claims.keys() == {"aud", "client_id", "exp", "iat", "jti", "scp"}
    assert claims["aud"] == [internal.issuer.issuer]
    assert claims["client_id"] == ""
    assert claims["scp"] == ["all"]
    assert claims["exp"] - claims["iat"] == 300


def test_flyteadmin_mints_for_no_scope_at_all(internal: Running):
    answer = internal.own_token().json()

    assert answer["scope"] == ""
    assert internal.read(answer["access_token"]).claims["scp"] == []


def test_an_identity_provider_says_who_a_client_is(external: Running):
    answer = external.own_token().json()

    claims = external.read(answer["access_token"]).claims
    assert answer["scope"] == "all"
    assert claims["iss"] == external.issuer.issuer
    assert claims["sub"] == claims["client_id"] == "batch"
    assert claims["aud"] == external.issuer.audience != external.issuer.issuer
    assert claims["scp"] == ["all"]
    assert claims["nbf"] == claims["iat"] == claims["exp"] - 300


def test_a_token_of_a_user_says_so(provider: Running):
    answer = provider.refresh(provider.issuer.sign_in("alice")).json()

    claims = provider.read(answer["access_token"]).claims
    assert answer["scope"] == "all offline"
    assert claims["sub"] == "alice"
    assert claims["client_id"] == "flytectl"
    assert claims["iss"] == provider.issuer.issuer
    assert claims["scp"] == ["all", "offline"]


def test_the_issuer_knows_whom_it_minted_for_though_the_token_does_not_say(internal: Running):
    claims = internal.read(internal.own_token("ci").json()["access_token"]).claims

    assert internal.issuer.client_of(claims["jti"]) == "ci"
    assert internal.issuer.client_of("unheard of") is None


def test_each_token_has_a_jti_of_its_own(provider: Running):
    tokens = [provider.read(provider.own_token().json()["access_token"]).claims["jti"] for _ in range(3)]

    assert len(set(tokens)) == 3


def test_what_is_asked_is_what_is_granted(provider: Running):
    answer = provider.own_token(scope="offline").json()

    assert answer["scope"] == "offline"
    assert provider.read(answer["access_token"]).claims["scp"] == ["offline"]


@pytest.mark.parametrize("scope", ["admin", "all admin", "ALL", '"', "alloffline"])
def test_a_scope_that_the_client_may_not_have_is_refused(provider: Running, scope):
    reply = provider.own_token(scope=scope)

    assert (reply.status, reply.json()["error"]) == (400, "invalid_scope")
    assert reply.headers["cache-control"] == "no-store"


NOBODY = {
    "nothing": lambda secret: ({}, {}),
    "wrong secret": lambda secret: ({}, basic("batch", "wrong")),
    "no secret": lambda secret: ({}, basic("batch", "")),
    "unknown": lambda secret: ({}, basic("nobody", secret)),
    "another's secret": lambda secret: ({}, basic("ci", secret)),
    "half a header": lambda secret: ({}, {"Authorization": "Basic"}),
    "no base64": lambda secret: ({}, {"Authorization": "Basic %%%"}),
    "no colon": lambda secret: ({}, {"Authorization": "Basic YmF0Y2g="}),
    "not text": lambda secret: ({}, {"Authorization": "Basic /////w=="}),
    "another scheme": lambda secret: ({}, {"Authorization": "Bearer abc"}),
    "wrong in body": lambda secret: ({"client_id": "batch", "client_secret": "wrong"}, {}),
    "unknown in body": lambda secret: ({"client_id": "nobody", "client_secret": secret}, {}),
    "public": lambda secret: ({"client_id": "flytectl"}, {}),
    "public with a secret": lambda secret: ({"client_id": "flytectl", "client_secret": "x"}, {}),
    "confidential without": lambda secret: ({"client_id": "batch"}, {}),
}
"""Name -> form fields and headers of a client that does not show who it is; `secret` is that of `batch`."""


@pytest.mark.parametrize("case", NOBODY)
def test_a_client_that_does_not_show_who_it_is_hears_one_answer(provider: Running, case):
    fields, headers = NOBODY[case](provider.secret("batch"))

    reply = provider.ask({"grant_type": "client_credentials", **fields}, headers)

    assert reply.status == 401
    assert reply.headers["www-authenticate"] == 'Basic realm="authagent sandbox", charset="UTF-8"'
    assert reply.json() == {
        "error": "invalid_client",
        "error_description": "The client did not show who it is",
    }


def test_a_raw_secret_with_odd_characters_is_refused_as_other_providers_do(provider: Running):
    raw = base64.b64encode(f"ci:{provider.secret('ci')}".encode()).decode()
    reply = provider.ask({"grant_type": "client_credentials"}, {"Authorization": f"Basic {raw}"})

    assert reply.status == 401


def test_a_client_shows_who_it_is_in_one_way_only(provider: Running):
    form = {"grant_type": "client_credentials", "client_id": "batch", "client_secret": provider.secret("batch")}

    reply = provider.ask(form, basic("batch", provider.secret("batch")))

    assert (reply.status, reply.json()["error"]) == (400, "invalid_request")


@pytest.mark.parametrize("grant_type", ["password", "implicit", "§", "client_credentials "])
def test_a_grant_that_is_not_offered_is_refused(provider: Running, grant_type):
    reply = provider.ask({"grant_type": grant_type}, basic("batch", provider.secret("batch")))

    assert (reply.status, reply.json()) == (400, {"error": "unsupported_grant_type"})


@pytest.mark.parametrize("name", ["token-exchange", "jwt-bearer", "device_code"])
def test_flyteadmin_knows_none_of_the_later_grants(internal: Running, name):
    reply = internal.ask(
        {"grant_type": f"urn:ietf:params:oauth:grant-type:{name}"}, basic("batch", internal.secret("batch"))
    )

    assert (reply.status, reply.json()) == (400, {"error": "unsupported_grant_type"})


def test_a_client_without_the_grant_is_told_so(provider: Running):
    clients = provider.issuer.clients
    known = clients["batch"]
    clients["batch"] = type(known)(known.id, known.secret, frozenset())
    try:
        reply = provider.own_token("batch")
    finally:
        clients["batch"] = known

    assert (reply.status, reply.json()["error"]) == (400, "unauthorized_client")


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ("", FORM),
        ("grant_type=", FORM),
        ("scope=all", FORM),
        ("grant_type=client_credentials&grant_type=client_credentials", FORM),
        ("grant_type=client_credentials&scope=all&scope=all", FORM),
        ("grant_type=%ff", FORM),
        ("grant_type=client_credentials&" + "&".join(f"f{n}=1" for n in range(64)), FORM),
        (b"\xff\xfe", FORM),
        ("grant_type=client_credentials", "application/json"),
        ("grant_type=client_credentials", ""),
    ],
    ids=["empty", "no value", "no grant", "twice", "scope twice", "not UTF-8", "many", "bytes", "json", "no type"],
)
def test_a_malformed_request_is_invalid(provider: Running, body, content_type):
    headers = {"Content-Type": content_type, **basic("batch", provider.secret("batch"))}

    reply = send("POST", provider.issuer.token_endpoint, body, headers)

    assert (reply.status, reply.json()["error"]) == (400, "invalid_request")


def test_a_parameter_without_a_value_counts_as_left_out(provider: Running):
    assert provider.own_token(scope="", audience="").status == 200


def test_a_parameter_that_nobody_knows_is_ignored(provider: Running):
    assert provider.own_token(nonsense="1").status == 200


def test_flyteadmin_takes_no_audience(internal: Running):
    reply = internal.own_token(audience=internal.issuer.audience)

    assert (reply.status, reply.json()["error"]) == (400, "invalid_request")


@pytest.mark.parametrize("name", ["audience", "resource"])
def test_an_identity_provider_takes_the_audience_that_it_serves(external: Running, name):
    reply = external.own_token(**{name: external.issuer.audience})

    assert external.read(reply.json()["access_token"]).claims["aud"] == external.issuer.audience


@pytest.mark.parametrize("name", ["audience", "resource"])
def test_an_identity_provider_refuses_another_audience(external: Running, name):
    reply = external.own_token(**{name: "https://elsewhere.example"})

    assert (reply.status, reply.json()["error"]) == (400, "invalid_target")


def test_nobody_learns_of_audiences_before_showing_who_they_are(provider: Running):
    form = {"grant_type": "client_credentials", "audience": "https://elsewhere.example"}

    assert provider.ask(form, basic("batch", "wrong")).status == 401


def test_the_old_refresh_token_of_flyteadmin_stays_good(internal: Running):
    old = internal.issuer.sign_in("alice")

    first, second = internal.refresh(old), internal.refresh(old)

    assert first.status == second.status == 200
    assert len({old, first.json()["refresh_token"], second.json()["refresh_token"]}) == 3


@pytest.mark.parametrize(("posture", "refreshed_at"), [("internal", 1000), ("external", 1900)])
def test_flyteadmin_keeps_the_iat_of_the_login_when_it_refreshes(posture, refreshed_at):
    clock = [1000.0]
    with running(posture, lifetime=300, now=lambda: clock[0]) as provider:
        login = provider.issuer.sign_in("alice")
        for clock[0] in (1000.0, 1300.0, 1900.0):
            token = provider.refresh(login).json()
            login = token["refresh_token"]

        claims = provider.read(token["access_token"]).claims

    assert (claims["iat"], claims["exp"]) == (refreshed_at, 2200)


def test_a_refresh_token_of_an_identity_provider_is_good_for_once(external: Running):
    old = external.issuer.sign_in("alice")
    new = external.refresh(old).json()["refresh_token"]

    again = external.refresh(old)

    assert (again.status, again.json()["error"]) == (400, "invalid_grant")
    assert external.refresh(new).status == 400, "what came of a token that was used twice is revoked (RFC 9700 4.14.2)"


def test_one_sign_in_does_not_suffer_for_another(external: Running):
    stolen, other = external.issuer.sign_in("alice"), external.issuer.sign_in("alice")
    external.refresh(stolen)
    external.refresh(stolen)

    assert external.refresh(other).status == 200


def test_of_many_who_use_one_refresh_token_at_once_one_wins(external: Running):
    token, barrier = external.issuer.sign_in("bob"), threading.Barrier(8)

    def use(_: int) -> int:
        barrier.wait(5)
        return external.refresh(token).status

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(use, range(8))) == [200] + [400] * 7


def test_of_two_who_found_one_refresh_token_good_the_slower_is_refused():
    """Between looking at the token and spending it, the provider asks the time: there each waits for the other."""
    asked, barrier = threading.local(), threading.Barrier(2)

    def now() -> float:
        asked.times = getattr(asked, "times", 0) + 1
        if asked.times == 2:
            barrier.wait(10)
        return 1_000_000.0

    with running("external", now=now) as provider, ThreadPoolExecutor(2) as pool:
        token = provider.issuer.sign_in("bob")
        replies = list(pool.map(lambda _: provider.refresh(token), range(2)))

    assert sorted(reply.status for reply in replies) == [200, 400]


def test_a_confidential_client_does_not_refresh_without_its_secret(provider: Running):
    token = provider.issuer.sign_in("alice", client_id="batch")

    assert provider.refresh(token, client_id="batch").status == 401
    assert provider.refresh(token, client_id="batch", client_secret=provider.secret("batch")).status == 200


@pytest.mark.parametrize(
    ("posture", "status", "error"), [("internal", 500, "server_error"), ("external", 400, "invalid_grant")]
)
def test_a_dead_refresh_token_is_answered_as_each_server_does(posture, status, error):
    now = [1_000_000.0]
    with running(posture, refresh_lifetime=60, now=lambda: now[0]) as provider:
        token = provider.issuer.sign_in("alice")
        now[0] += 61
        expired, garbage = provider.refresh(token), provider.refresh("garbage")

    assert (expired.status, expired.json()["error"]) == (status, error)
    assert garbage.json() == expired.json()
    assert expired.headers["cache-control"] == "no-store"


def test_a_refresh_token_is_of_no_use_to_another_client(provider: Running):
    form = {"grant_type": "refresh_token", "refresh_token": provider.issuer.sign_in("alice")}

    reply = provider.ask(form, basic("batch", provider.secret("batch")))

    assert (reply.status, reply.json()["error"]) == (400, "invalid_grant")


def test_a_refresh_may_ask_for_less_and_never_for_more(provider: Running):
    less = provider.refresh(provider.issuer.sign_in("alice"), scope="all")
    more = provider.refresh(provider.issuer.sign_in("alice"), scope="all admin")

    assert less.json()["scope"] == "all"
    assert (more.status, more.json()["error"]) == (400, "invalid_scope")


def test_a_refusal_does_not_spend_the_refresh_token(external: Running):
    token = external.issuer.sign_in("alice")
    external.refresh(token, scope="admin")

    assert external.refresh(token).status == 200


def test_a_refresh_without_a_token_is_invalid(provider: Running):
    reply = provider.ask({"grant_type": "refresh_token", "client_id": "flytectl"})

    assert (reply.status, reply.json()["error"]) == (400, "invalid_request")


def test_nobody_signs_in_as_a_stranger(provider: Running):
    with pytest.raises(KeyError):
        provider.issuer.sign_in("nobody")


@pytest.mark.parametrize("lifetime", [1, 3, 60])
def test_expires_in_never_promises_more_than_the_token_holds(lifetime):
    now = [1_000_000.25]
    with running("internal", lifetime=lifetime, now=lambda: now[0]) as provider:
        answer = provider.own_token().json()
        claims = provider.read(answer["access_token"]).claims

    assert claims["exp"] - claims["iat"] == lifetime
    assert answer["expires_in"] == max(1, lifetime - 1)


def test_the_keys_are_public_and_verify(provider: Running):
    published = send("GET", provider.issuer.jwks_uri).json()

    assert [set(key) for key in published["keys"]] == [{"kty", "n", "e", "kid", "use", "alg"}]
    token = jwt.decode(provider.own_token().json()["access_token"], KeySet.import_key_set(published))
    assert token.header["kid"] == published["keys"][0]["kid"]


@pytest.mark.parametrize("name", ["openid-configuration", "oauth-authorization-server"])
def test_the_documents_say_what_works_and_nothing_else(provider: Running, name):
    document = send("GET", f"{provider.issuer.issuer}/.well-known/{name}").json()

    assert document["issuer"] == provider.issuer.issuer
    assert document["token_endpoint"] == provider.issuer.token_endpoint
    assert document["jwks_uri"] == provider.issuer.jwks_uri
    assert document["authorization_endpoint"] == provider.issuer.authorization_endpoint
    assert document["code_challenge_methods_supported"] == ["S256"]
    endpoints = {key: url for key, url in document.items() if key.endswith("_endpoint")}
    assert len(endpoints) == {"internal": 2, "external": 6}[provider.posture]
    for key, url in endpoints.items():
        assert send("OPTIONS", url).status == 405, key
    for grant in document["grant_types_supported"]:
        error = provider.ask({"grant_type": grant}).json().get("error")
        assert error != "unsupported_grant_type"
    assert len(document["grant_types_supported"]) == {"internal": 3, "external": 6}[provider.posture]


def test_flyteadmin_advertises_basic_only_though_it_takes_both(internal: Running, external: Running):
    def methods(provider: Running) -> list[str]:
        where = f"{provider.issuer.issuer}/.well-known/oauth-authorization-server"
        return send("GET", where).json()["token_endpoint_auth_methods_supported"]

    assert methods(internal) == ["client_secret_basic", "none"]
    assert methods(external) == [
        "client_secret_basic", "client_secret_post", "client_secret_jwt", "private_key_jwt", "none",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("GET", "token", "POST"), ("PUT", "token", "POST"), ("POST", "jwks", "GET"), ("DELETE", "jwks", "GET")],
)
def test_another_method_is_told_the_right_one(provider: Running, method, path, allowed):
    url = {"token": provider.issuer.token_endpoint, "jwks": provider.issuer.jwks_uri}[path]

    reply = send(method, url)

    assert (reply.status, reply.headers["allow"]) == (405, allowed)


def test_another_path_is_not_there(provider: Running):
    assert send("GET", f"{provider.issuer.issuer}/login").status == 404


def test_what_the_query_says_is_not_read(provider: Running):
    query = urlencode({"client_id": "batch", "client_secret": provider.secret("batch")})
    url = f"{provider.issuer.token_endpoint}?{query}"

    assert send("POST", url, "grant_type=client_credentials", {"Content-Type": FORM}).status == 401


def test_every_answer_is_counted_for_its_client():
    with running("external") as provider:
        provider.own_token("batch")
        provider.own_token("batch")
        provider.own_token("ci", scope="admin")
        provider.ask({"grant_type": "client_credentials"}, basic("batch", "wrong"))
        provider.ask({"grant_type": "client_credentials"}, basic("a stranger", "wrong"))
        provider.ask({})
        provider.refresh(provider.issuer.sign_in("bob"))
        send("GET", provider.issuer.jwks_uri)
        send("GET", f"{provider.issuer.issuer}/.well-known/openid-configuration")
        counted = provider.counts.snapshot()

    assert counted["mints"] == {"batch": 2, "flytectl": 1}
    assert counted["refused_mints"] == {"ci": 1, "batch": 1, "anonymous": 2}
    assert counted["discoveries"] == {"jwks": 1, "openid-configuration": 1}
