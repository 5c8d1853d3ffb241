"""
Keycloak is what tests need it to be; asked without the package.

Every test that needs Keycloak belongs here: a file is one worker's, so there is one Keycloak.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import raw_oauth
import requests
from browser import browser
from flow_peer import Peer
from flow_suite import FlowSuite
from flytekit.clients.auth.authenticator import ClientCredentialsAuthenticator
from flytekits_own import Store, browser_login, without_a_keyring
from identity_provider import FLYTE, IdentityProvider, User
from kubernetes_issuer import KubernetesIssuer
from login_pages import Visitor
from oidc_provider import DEVICE_CODE, EXCHANGE, JWT_BEARER
from pytest_mock import MockerFixture

pytestmark = [pytest.mark.peer, pytest.mark.timeout(240)]

ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
REDIRECT = "http://127.0.0.1:53593/callback"


@pytest.mark.parametrize("name", ["basic", "post", "secret_jwt", "key_jwt"])
def test_client_credentials_with_each_authentication(keycloak: IdentityProvider, name: str) -> None:
    client = keycloak.clients[name]

    answer = raw_oauth.token(keycloak, client, grant_type="client_credentials", scope="all")

    assert answer.status_code == 200, answer.text
    claims = raw_oauth.claims(keycloak, answer.json()["access_token"])
    assert (claims["scp"], claims["azp"]) == (["all"], client.id)
    assert sorted(claims["aud"]) == ["exchange", FLYTE]
    assert claims["exp"] - claims["iat"] == 300
    assert answer.json()["expires_in"] in (299, 300)  # it may be told a second later


def test_a_pods_token_authenticates_its_client(keycloak: IdentityProvider, kubernetes: KubernetesIssuer) -> None:
    form = {"grant_type": "client_credentials", "client_assertion_type": raw_oauth.JWT_ASSERTION}

    def ask(token: str) -> requests.Response:
        return raw_oauth.post(keycloak.token_endpoint, form | {"client_assertion": token})

    good = ask(kubernetes.token(keycloak.issuer))
    refused = [
        ask(kubernetes.token(keycloak.token_endpoint)),
        ask(kubernetes.token(keycloak.issuer, service_account="stranger")),
        ask(kubernetes.token(keycloak.issuer, iss="https://stranger.example.com")),
        ask(kubernetes.token(keycloak.issuer, exp=1)),
    ]

    assert raw_oauth.claims(keycloak, good.json()["access_token"])["azp"] == "workload"
    assert {answer.json()["error"] for answer in refused} == {"invalid_client"}


def test_a_pods_token_is_a_grant(keycloak: IdentityProvider, kubernetes: KubernetesIssuer) -> None:
    token = kubernetes.token(keycloak.issuer)

    answer = raw_oauth.token(keycloak, keycloak.clients["grant"], grant_type=JWT_BEARER, assertion=token)

    assert answer.status_code == 200, answer.text
    assert raw_oauth.claims(keycloak, answer.json()["access_token"])["preferred_username"] == "alice"


def test_an_exchange_keeps_the_subject(keycloak: IdentityProvider) -> None:
    subject = raw_oauth.token(keycloak, keycloak.clients["post"], grant_type="client_credentials").json()
    form = {"subject_token": subject["access_token"], "subject_token_type": ACCESS_TOKEN}

    answer = raw_oauth.token(keycloak, keycloak.clients["exchange"], grant_type=EXCHANGE, **form)

    before, after = (raw_oauth.claims(keycloak, said["access_token"]) for said in (subject, answer.json()))
    assert (after["sub"], after["azp"], answer.json()["issued_token_type"]) == (before["sub"], "exchange", ACCESS_TOKEN)


def test_a_login_over_http_gives_a_token_that_refreshes_once(keycloak: IdentityProvider) -> None:
    visitor, client = Visitor(keycloak.users["alice"]), keycloak.clients["app"]
    request = raw_oauth.code_request(keycloak, client, redirect=REDIRECT, scope="openid all")

    answer = request.redeem(keycloak, visitor.approve(request.url, redirect=REDIRECT))
    assert answer.status_code == 200, answer.text
    old = {"grant_type": "refresh_token", "refresh_token": answer.json()["refresh_token"]}
    refreshed = raw_oauth.token(keycloak, client, **old)
    bearer = {"Authorization": f"Bearer {refreshed.json()['access_token']}"}
    named = requests.get(keycloak.userinfo_endpoint, headers=bearer, timeout=10)
    again = raw_oauth.token(keycloak, client, **old)

    assert raw_oauth.claims(keycloak, refreshed.json()["access_token"])["scp"] == ["all"]
    assert named.json()["preferred_username"] == "alice"
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")


def test_an_offline_login_has_a_refresh_token_without_an_end(keycloak: IdentityProvider) -> None:
    visitor, client = Visitor(keycloak.users["alice"]), keycloak.clients["app"]
    request = raw_oauth.code_request(keycloak, client, redirect=REDIRECT, scope="openid offline_access")

    answer = request.redeem(keycloak, visitor.approve(request.url, redirect=REDIRECT)).json()

    assert (answer["refresh_expires_in"], "offline_access" in answer["scope"]) == (0, True)


def test_a_wrong_password_does_not_log_in(keycloak: IdentityProvider) -> None:
    visitor = Visitor(User("alice", "guessed"))
    request = raw_oauth.code_request(keycloak, keycloak.clients["app"], redirect=REDIRECT, scope="openid")

    with pytest.raises(PermissionError):
        visitor.approve(request.url, redirect=REDIRECT)


@pytest.mark.parametrize(("deny", "error"), [(False, None), (True, "access_denied")])
def test_a_device_is_approved_or_denied_over_http(keycloak: IdentityProvider, deny: bool, error: str | None) -> None:
    client = keycloak.clients["device"]
    device = raw_oauth.post(keycloak.device_authorization_endpoint, {"client_id": client.id, "scope": "all"}).json()

    Visitor(keycloak.users["alice"]).approve(device["verification_uri_complete"], deny=deny)
    answer = raw_oauth.token(keycloak, client, grant_type=DEVICE_CODE, device_code=device["device_code"])

    assert answer.json().get("error") == error
    assert ("refresh_token" in answer.json()) is not deny


def test_revoked_tokens_are_not_active(keycloak: IdentityProvider) -> None:
    client = keycloak.clients["exchange"]
    fields, headers = raw_oauth.authentication(keycloak, client)
    token = raw_oauth.token(keycloak, client, grant_type="client_credentials").json()["access_token"]

    before = raw_oauth.post(keycloak.introspection_endpoint, fields | {"token": token}, headers).json()
    raw_oauth.post(keycloak.revocation_endpoint, fields | {"token": token}, headers).raise_for_status()
    after = raw_oauth.post(keycloak.introspection_endpoint, fields | {"token": token}, headers).json()

    assert (before["active"], after) == (True, {"active": False})


def test_a_browser_logs_in(keycloak: IdentityProvider, tmp_path: Path) -> None:
    client = keycloak.clients["app"]
    request = raw_oauth.code_request(keycloak, client, redirect=REDIRECT, scope="openid all")

    with browser(tmp_path) as window:
        returned = window.approve(request.url, keycloak.users["alice"], redirect=REDIRECT)
    answer = request.redeem(keycloak, returned)

    assert raw_oauth.claims(keycloak, answer.json()["access_token"])["preferred_username"] == "alice"


@pytest.mark.parametrize(("deny", "error"), [(False, None), (True, "access_denied")])
def test_a_browser_approves_or_denies_a_device(
    keycloak: IdentityProvider, tmp_path: Path, deny: bool, error: str | None
) -> None:
    client = keycloak.clients["device"]
    device = raw_oauth.post(keycloak.device_authorization_endpoint, {"client_id": client.id, "scope": "all"}).json()

    with browser(tmp_path) as window:
        window.approve(device["verification_uri_complete"], keycloak.users["alice"], deny=deny)
    answer = raw_oauth.token(keycloak, client, grant_type=DEVICE_CODE, device_code=device["device_code"])

    assert answer.json().get("error") == error


def test_a_browser_with_a_wrong_password_is_told(keycloak: IdentityProvider, tmp_path: Path) -> None:
    request = raw_oauth.code_request(keycloak, keycloak.clients["app"], redirect=REDIRECT, scope="openid")

    with browser(tmp_path) as window, pytest.raises(PermissionError):
        window.approve(request.url, User("alice", "guessed"), redirect=REDIRECT)

    assert (tmp_path / "failed.png").stat().st_size > 1000


def test_flytekits_own_browser_login_works_too(keycloak: IdentityProvider, mocker: MockerFixture) -> None:
    with without_a_keyring():
        token = browser_login(keycloak, mocker)
    assert raw_oauth.claims(keycloak, token)["preferred_username"] == "alice"


def test_flytekits_own_client_credentials_break_on_an_odd_client_id(keycloak: IdentityProvider) -> None:
    client = keycloak.clients["basic"]
    its = ClientCredentialsAuthenticator("flyte", client.id, client.secret, Store(keycloak, "basic"))
    with pytest.raises(Exception, match=r"401|400|unauthorized_client|invalid_client"):
        its.refresh_credentials()


NOT_OFFERED = {
    "actor": "takes an `actor_token` and ignores it: 200, and no `act`",
}


@pytest.fixture(scope="module")
def peer(
    keycloak: IdentityProvider, kubernetes: KubernetesIssuer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Peer]:
    alice = keycloak.users["alice"]
    yield Peer(
        name="Keycloak",
        issuer=keycloak.issuer,
        audience=FLYTE,
        clients=keycloak.clients,
        approve=lambda url, redirect: Visitor(alice).approve(url, redirect=redirect),
        projected=kubernetes.token,
        directory=tmp_path_factory.mktemp("flows"),
        not_offered=NOT_OFFERED,
    )


class TestKeycloakFlows(FlowSuite):
    """See `flow_suite`."""
