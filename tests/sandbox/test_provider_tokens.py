"""What becomes of tokens afterwards: revocation (RFC 7009), introspection (RFC 7662), UserInfo."""

from __future__ import annotations

import pytest
from browsing import code, redeem
from foreign import tampered
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from running_provider import FORM, Reply, Running, basic, running, send

pytestmark = pytest.mark.timeout(60)

MANY = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

ENDPOINTS = ("revocation_endpoint", "introspection_endpoint")


@pytest.fixture(scope="module")
def provider():
    with running("external") as it:
        yield it


def signed_in(provider: Running, user: str = "alice", scope: str = "openid all offline") -> dict[str, str]:
    return dict(redeem(provider, code(provider, user, scope=scope)).json())


def revoke(provider: Running, token: str, **more: str) -> Reply:
    return provider.ask_at("revocation_endpoint", {"token": token, "client_id": "flytectl", **more})


def introspect(provider: Running, token: str, client_id: str = "ci", **more: str) -> Reply:
    headers = basic(client_id, provider.secret(client_id))
    return provider.ask_at("introspection_endpoint", {"token": token, **more}, headers)


def userinfo(provider: Running, authorization: str | None, method: str = "GET") -> Reply:
    headers = {} if authorization is None else {"Authorization": authorization}
    return send(method, provider.issuer.metadata()["userinfo_endpoint"], headers=headers)


def error(reply: Reply) -> tuple[int, str]:
    return reply.status, reply.json()["error"]


def test_a_refresh_token_that_is_revoked_takes_its_family_along(provider: Running):
    token, other = signed_in(provider), signed_in(provider)
    newer = provider.refresh(token["refresh_token"]).json()

    reply = revoke(provider, newer["refresh_token"])

    assert (reply.status, reply.json()) == (200, {})
    assert error(provider.refresh(newer["refresh_token"])) == (400, "invalid_grant")
    for access in (token["access_token"], newer["access_token"]):
        assert introspect(provider, access).json() == {"active": False}
        assert userinfo(provider, f"Bearer {access}").status == 401
    assert provider.refresh(other["refresh_token"]).status == 200


def test_an_access_token_is_revoked_alone(provider: Running):
    token = signed_in(provider)

    assert revoke(provider, token["access_token"]).status == 200

    assert introspect(provider, token["access_token"]).json() == {"active": False}
    assert provider.refresh(token["refresh_token"]).status == 200


def test_a_client_revokes_its_own_token_with_its_secret(provider: Running):
    token = provider.own_token("batch").json()["access_token"]
    done = provider.ask_at("revocation_endpoint", {"token": token}, basic("batch", provider.secret("batch")))

    assert done.status == 200
    assert introspect(provider, token).json() == {"active": False}


@pytest.mark.parametrize("hint", ["access_token", "refresh_token", "nonsense", "é"])
def test_a_hint_changes_nothing(provider: Running, hint):
    token = signed_in(provider)

    assert revoke(provider, token["refresh_token"], token_type_hint=hint).status == 200
    assert provider.refresh(token["refresh_token"]).status == 400


@pytest.mark.parametrize("token", ["x", "é", "a.b.c", "a" * 50000])
def test_a_token_that_nobody_knows_is_revoked_already(provider: Running, token):
    assert revoke(provider, token).status == 200
    assert introspect(provider, token).json() == {"active": False}


def test_a_token_is_revoked_twice_without_complaint(provider: Running):
    token = signed_in(provider)["refresh_token"]

    assert [revoke(provider, token).status for _ in range(2)] == [200, 200]


def test_nobody_revokes_what_is_anothers(provider: Running):
    token = signed_in(provider)
    for text in (token["refresh_token"], token["access_token"]):
        stolen = provider.ask_at("revocation_endpoint", {"token": text}, basic("batch", provider.secret("batch")))
        assert error(stolen) == (400, "invalid_grant")
    assert provider.refresh(token["refresh_token"]).status == 200


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_who_does_not_show_who_they_are_hears_one_answer(provider: Running, endpoint):
    token = provider.own_token("batch").json()["access_token"]
    for fields, headers in (
        ({}, {}),
        ({}, basic("batch", "wrong")),
        ({"client_id": "nobody"}, {}),
        ({"client_id": "batch"}, {}),
    ):
        reply = provider.ask_at(endpoint, {"token": token, **fields}, headers)
        assert error(reply) == (401, "invalid_client")
        assert reply.headers["www-authenticate"].startswith("Basic realm=")
    assert introspect(provider, token).json()["active"] is True


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize(
    ("body", "content_type"),
    [("", FORM), ("token=", FORM), ("token=a&token=b", FORM), ("token=%ff", FORM), ("token=a", "application/json")],
)
def test_a_malformed_request_is_invalid(provider: Running, endpoint, body, content_type):
    headers = {"Content-Type": content_type, **basic("batch", provider.secret("batch"))}

    assert error(send("POST", provider.issuer.metadata()[endpoint], body, headers)) == (400, "invalid_request")


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_only_a_form_is_taken(provider: Running, endpoint):
    url = provider.issuer.metadata()[endpoint]

    assert send("GET", f"{url}?token=x").status == 405
    assert provider.ask_at(endpoint, {"token": "a" * 70000}).status == 413


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@MANY
@given(
    form=st.dictionaries(
        st.sampled_from(["token", "client_id", "token_type_hint"]) | st.text(max_size=9),
        st.text(max_size=30),
        max_size=5,
    )
)
def test_any_form_gets_an_answer(provider: Running, endpoint, form):
    reply = provider.ask_at(endpoint, form, basic("batch", provider.secret("batch")))

    assert reply.status in (200, 400)
    assert reply.headers["cache-control"] == "no-store"


def test_an_access_token_says_what_it_is(provider: Running):
    token = signed_in(provider, "bob")["access_token"]

    said = introspect(provider, token).json()

    claims = provider.read(token).claims
    assert said == {
        "active": True,
        "token_type": "Bearer",
        "client_id": "flytectl",
        "scope": "all offline openid",
        "username": "bob",
        **{name: claims[name] for name in ("iss", "sub", "aud", "exp", "iat", "nbf", "jti")},
    }


def test_a_token_of_a_client_has_no_user(provider: Running):
    said = introspect(provider, provider.own_token("batch").json()["access_token"]).json()

    assert (said["sub"], said["client_id"]) == ("batch", "batch")
    assert "username" not in said


def test_a_refresh_token_says_what_it_is_until_it_is_used(provider: Running):
    token = signed_in(provider)["refresh_token"]

    said = introspect(provider, token).json()
    assert said.keys() == {"active", "client_id", "scope", "sub", "username", "exp"}
    assert (said["active"], said["sub"], said["client_id"]) == (True, "alice", "flytectl")
    provider.refresh(token)
    assert introspect(provider, token).json() == {"active": False}


def test_looking_at_a_used_refresh_token_does_not_use_it_again(provider: Running):
    token = signed_in(provider)["refresh_token"]
    newer = provider.refresh(token).json()["refresh_token"]
    introspect(provider, token)

    assert provider.refresh(newer).status == 200


def test_a_public_client_learns_nothing_of_tokens(provider: Running):
    token = signed_in(provider)["access_token"]

    assert error(provider.ask_at("introspection_endpoint", {"token": token, "client_id": "flytectl"})) == (
        401,
        "invalid_client",
    )


def test_time_ends_tokens_here_too():
    now = [1_000_000.0]
    with running("external", refresh_lifetime=400, now=lambda: now[0]) as it:
        token = signed_in(it)
        assert introspect(it, token["access_token"]).json()["active"]
        now[0] += 300
        assert introspect(it, token["access_token"]).json() == {"active": False}
        assert introspect(it, token["refresh_token"]).json()["active"]
        assert userinfo(it, f"Bearer {token['access_token']}").status == 401
        now[0] += 100
        assert introspect(it, token["refresh_token"]).json() == {"active": False}


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_userinfo_says_who_the_user_is(provider: Running, method, scheme):
    token = signed_in(provider, "bob")["access_token"]

    reply = userinfo(provider, f"{scheme} {token}", method)

    assert reply.status == 200
    assert reply.json() == {"sub": "bob", "name": "Bob", "email": "bob@sandbox.example"}
    assert reply.headers["cache-control"] == "no-store"


def test_userinfo_needs_openid_and_a_user(provider: Running):
    for token in (signed_in(provider, scope="all")["access_token"], provider.own_token().json()["access_token"]):
        reply = userinfo(provider, f"Bearer {token}")
        assert (reply.status, reply.json()) == (403, {"error": "insufficient_scope"})
        assert 'error="insufficient_scope"' in reply.headers["www-authenticate"]


@pytest.mark.parametrize("authorization", [None, "", "Basic YTpi", "Bearer"])
def test_userinfo_without_a_token_names_no_error(provider: Running, authorization):
    reply = userinfo(provider, authorization)

    assert reply.status == 401
    assert reply.headers["www-authenticate"].startswith('Bearer realm="authagent sandbox"')
    assert ("error" in reply.headers["www-authenticate"]) == (authorization == "Bearer")


def test_userinfo_with_a_token_that_is_not_good_says_so(provider: Running):
    token = signed_in(provider)["access_token"]
    for bad in ("x", tampered(token, sub="bob"), token[:-3], "a.b.c"):
        reply = userinfo(provider, f"Bearer {bad}")
        assert (reply.status, reply.json()) == (401, {"error": "invalid_token"})


def test_flyteadmin_has_none_of_these():
    with running("internal") as internal:
        for path in ("/revoke", "/introspect", "/userinfo", "/oauth2/revoke"):
            assert send("POST", internal.issuer.issuer + path, "token=x", {"Content-Type": FORM}).status == 404


def test_what_happened_is_counted():
    with running("external") as it:
        token = signed_in(it)
        introspect(it, token["access_token"])
        userinfo(it, f"Bearer {token['access_token']}")
        userinfo(it, None)
        newer = it.refresh(token["refresh_token"]).json()
        revoke(it, newer["refresh_token"])
        revoke(it, "unknown")
        it.ask_at("revocation_endpoint", {"token": "x"})
        counted = it.counts.snapshot()

    assert (counted["refreshes"], counted["revocations"]) == ({"flytectl": 1}, {"flytectl": 1})
    assert (counted["introspections"], counted["userinfo"]) == ({"ci": 1}, {"flytectl": 1})
    assert counted["refused_requests"] == {"anonymous": 2}
    assert counted["mints"] == {"flytectl": 2}


def test_no_token_reaches_a_log(provider: Running, caplog):
    caplog.set_level("DEBUG")
    token = signed_in(provider)
    introspect(provider, token["refresh_token"])
    introspect(provider, token["access_token"])
    userinfo(provider, f"Bearer {token['access_token']}")
    revoke(provider, token["access_token"])
    revoke(provider, token["refresh_token"])

    assert "/introspect" in caplog.text
    for name in ("access_token", "refresh_token", "id_token"):
        assert token[name] not in caplog.text
        assert token[name].rpartition(".")[2] not in caplog.text
