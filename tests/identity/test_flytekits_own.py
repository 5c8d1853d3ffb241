"""flytekit's own authenticators at the same providers, as a control: where they work, and where they do not."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import requests
from flytekit.clients.auth.authenticator import (
    ClientConfig,
    ClientConfigStore,
    ClientCredentialsAuthenticator,
    DeviceCodeAuthenticator,
    PKCEAuthenticator,
)
from identity_provider import IdentityProvider
from login_pages import Visitor
from pytest_mock import MockerFixture

from flytekitplugins.authagent.credential import Secret, claims

pytestmark = [pytest.mark.peer, pytest.mark.timeout(120)]

REDIRECT = "http://localhost:53593/callback"


class Store(ClientConfigStore):
    """What Flyte would say of a provider."""

    def __init__(self, idp: IdentityProvider, client: str) -> None:
        self._idp, self._client = idp, client

    def get_client_config(self) -> ClientConfig:
        return ClientConfig(
            token_endpoint=self._idp.token_endpoint,
            authorization_endpoint=self._idp.authorization_endpoint,
            redirect_uri=REDIRECT,
            client_id=self._idp.clients[self._client].id,
            device_authorization_endpoint=self._idp.device_authorization_endpoint,
            scopes=["all"],
            header_key="flyte-authorization",
        )


@pytest.fixture(autouse=True)
def no_keyring(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import keyring
    from keyring.backends import null

    before = keyring.get_keyring()
    keyring.set_keyring(null.Keyring())
    yield
    keyring.set_keyring(before)


def test_its_client_credentials_break_on_an_odd_client_id(oidc_provider: IdentityProvider) -> None:
    def fetched(name: str) -> str:
        client = oidc_provider.clients[name]
        its = ClientCredentialsAuthenticator("flyte", client.id, client.secret, Store(oidc_provider, name))
        its.refresh_credentials()
        return str(its.get_credentials().access_token)

    with pytest.raises(Exception, match=r"401|400|invalid_client"):
        fetched("basic")  # it encodes the secret, and not the id


def test_its_browser_login_works(oidc_provider: IdentityProvider, mocker: MockerFixture) -> None:
    alice = oidc_provider.users["alice"]

    def opened(url: str) -> bool:
        def visit() -> None:
            requests.get(Visitor(alice).approve(url, redirect=REDIRECT), timeout=20)

        threading.Thread(target=visit, daemon=True).start()
        return True

    mocker.patch("webbrowser.open_new_tab", opened)
    its = PKCEAuthenticator("flyte", Store(oidc_provider, "app"))
    its.refresh_credentials()
    assert claims(Secret(its.get_credentials().access_token))["sub"] == "alice"


def test_its_device_login_breaks_where_the_interval_is_left_out(oidc_provider: IdentityProvider) -> None:
    its = DeviceCodeAuthenticator("flyte", Store(oidc_provider, "device"))
    with pytest.raises(KeyError, match="interval"):
        its.refresh_credentials()
