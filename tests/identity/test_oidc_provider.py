"""npm's oidc-provider is what tests need it to be; asked without the package."""

from __future__ import annotations

import pytest
import raw_oauth
import requests
from identity_provider import FLYTE, IdentityProvider
from kubernetes_issuer import KubernetesIssuer
from login_pages import Visitor
from oidc_provider import DEVICE_CODE, EXCHANGE, JWT_BEARER, OPAQUE

pytestmark = pytest.mark.peer

ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
JWT = "urn:ietf:params:oauth:token-type:jwt"


@pytest.mark.parametrize("name", ["basic", "post", "secret_jwt", "key_jwt"])
def test_client_credentials_with_each_authentication(oidc_provider: IdentityProvider, name: str) -> None:
    client = oidc_provider.clients[name]

    answer = raw_oauth.token(oidc_provider, client, grant_type="client_credentials", scope="all")

    assert answer.status_code == 200, answer.text
    claims = raw_oauth.claims(oidc_provider, answer.json()["access_token"])
    assert (claims["scp"], claims["aud"], claims["sub"]) == (["all"], FLYTE, client.id)
    assert claims["exp"] - claims["iat"] == 300
    assert answer.json()["expires_in"] in (299, 300)  # it may be told a second later


def test_opaque_tokens_are_introspected_and_revoked(oidc_provider: IdentityProvider) -> None:
    client = oidc_provider.clients["post"]
    answer = raw_oauth.token(oidc_provider, client, grant_type="client_credentials", scope="all", resource=OPAQUE)
    fields, headers = raw_oauth.authentication(oidc_provider, client)
    shown = fields | {"token": answer.json()["access_token"]}

    before = raw_oauth.post(oidc_provider.introspection_endpoint, shown, headers).json()
    revoked = raw_oauth.post(oidc_provider.revocation_endpoint, shown, headers)
    after = raw_oauth.post(oidc_provider.introspection_endpoint, shown, headers).json()

    assert (before["active"], before["aud"], revoked.status_code, after) == (True, OPAQUE, 200, {"active": False})


def test_an_unknown_resource_is_an_invalid_target(oidc_provider: IdentityProvider) -> None:
    client = oidc_provider.clients["post"]
    elsewhere = "https://elsewhere.example.com"

    answer = raw_oauth.token(oidc_provider, client, grant_type="client_credentials", resource=elsewhere)

    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_target")


def test_an_exchange_keeps_the_subject_and_names_the_actors(
    oidc_provider: IdentityProvider, kubernetes: KubernetesIssuer
) -> None:
    first, second = oidc_provider.clients["post"], oidc_provider.clients["key_jwt"]
    subject = raw_oauth.token(oidc_provider, first, grant_type="client_credentials").json()["access_token"]
    form = {"grant_type": EXCHANGE, "subject_token_type": ACCESS_TOKEN, "resource": FLYTE}

    once = raw_oauth.token(oidc_provider, second, subject_token=subject, **form).json()
    actor = {"actor_token": kubernetes.token(oidc_provider.issuer), "actor_token_type": JWT}
    twice = raw_oauth.token(oidc_provider, second, subject_token=once["access_token"], **form, **actor).json()

    assert once["issued_token_type"] == ACCESS_TOKEN
    claims = raw_oauth.claims(oidc_provider, twice["access_token"])
    assert claims["sub"] == first.id
    assert claims["act"] == {
        "sub": "system:serviceaccount:flyte:agent",
        "iss": kubernetes.url,
        "act": {"sub": second.id, "iss": oidc_provider.issuer},
    }


def test_an_exchange_of_garbage_is_an_invalid_request(oidc_provider: IdentityProvider) -> None:
    client = oidc_provider.clients["post"]

    answer = raw_oauth.token(
        oidc_provider, client, grant_type=EXCHANGE, subject_token="garbage", subject_token_type=JWT
    )

    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


def test_a_pods_token_is_a_grant_if_it_is_meant_for_the_provider(
    oidc_provider: IdentityProvider, kubernetes: KubernetesIssuer
) -> None:
    client = oidc_provider.clients["post"]

    good = raw_oauth.token(
        oidc_provider, client, grant_type=JWT_BEARER, assertion=kubernetes.token(oidc_provider.issuer)
    )
    other = raw_oauth.token(oidc_provider, client, grant_type=JWT_BEARER, assertion=kubernetes.token("https://other"))
    stranger = kubernetes.token(oidc_provider.issuer, iss="https://stranger.example.com")
    strange = raw_oauth.token(oidc_provider, client, grant_type=JWT_BEARER, assertion=stranger)

    assert raw_oauth.claims(oidc_provider, good.json()["access_token"])["sub"] == "system:serviceaccount:flyte:agent"
    assert [(bad.status_code, bad.json()["error"]) for bad in (other, strange)] == [(400, "invalid_grant")] * 2


def test_a_device_is_not_told_an_interval(oidc_provider: IdentityProvider) -> None:
    form = {"client_id": oidc_provider.clients["device"].id, "scope": "all"}

    answer = raw_oauth.post(oidc_provider.device_authorization_endpoint, form).json()

    assert "interval" not in answer
    assert answer["verification_uri_complete"].startswith(oidc_provider.issuer)


def test_a_login_over_http_gives_a_token_that_refreshes_once(oidc_provider: IdentityProvider) -> None:
    visitor, client = Visitor(oidc_provider.users["alice"]), oidc_provider.clients["app"]
    redirect = "http://127.0.0.1:53593/callback"
    request = raw_oauth.code_request(oidc_provider, client, redirect=redirect, scope="openid all")

    answer = request.redeem(oidc_provider, visitor.approve(request.url, redirect=redirect))
    assert answer.status_code == 200, answer.text
    old = {"grant_type": "refresh_token", "refresh_token": answer.json()["refresh_token"]}
    refreshed = raw_oauth.token(oidc_provider, client, **old)
    again = raw_oauth.token(oidc_provider, client, **old)

    claims = raw_oauth.claims(oidc_provider, refreshed.json()["access_token"])
    assert (claims["sub"], claims["scp"], claims["aud"]) == ("alice", ["all"], FLYTE)
    assert refreshed.json()["refresh_token"] != old["refresh_token"]
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")


def test_userinfo_is_for_the_profile_client(oidc_provider: IdentityProvider) -> None:
    visitor, client = Visitor(oidc_provider.users["alice"]), oidc_provider.clients["profile"]
    redirect = "http://127.0.0.1:53593/callback"
    request = raw_oauth.code_request(oidc_provider, client, redirect=redirect, scope="openid profile")

    answer = request.redeem(oidc_provider, visitor.approve(request.url, redirect=redirect)).json()
    bearer = {"Authorization": f"Bearer {answer['access_token']}"}
    said = requests.get(oidc_provider.userinfo_endpoint, headers=bearer, timeout=10)

    assert said.json() == {"sub": "alice", "name": "alice", "preferred_username": "alice"}


@pytest.mark.parametrize(("deny", "error"), [(False, None), (True, "access_denied")])
def test_a_device_is_approved_or_denied_over_http(
    oidc_provider: IdentityProvider, deny: bool, error: str | None
) -> None:
    client = oidc_provider.clients["device"]
    form = {"client_id": client.id, "scope": "all"}
    device = raw_oauth.post(oidc_provider.device_authorization_endpoint, form).json()
    poll = {"grant_type": DEVICE_CODE, "device_code": device["device_code"]}

    before = raw_oauth.token(oidc_provider, client, **poll)
    Visitor(oidc_provider.users["alice"]).approve(device["verification_uri_complete"], deny=deny)
    after = raw_oauth.token(oidc_provider, client, **poll)

    assert (before.status_code, before.json()["error"]) == (400, "authorization_pending")
    assert after.json().get("error") == error
    assert ("refresh_token" in after.json()) is not deny
