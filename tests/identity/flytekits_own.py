"""flytekit's own authenticators, as they would be made for a Flyte that trusts a provider."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import keyring
import requests
from flytekit.clients.auth.authenticator import ClientConfig, ClientConfigStore, PKCEAuthenticator
from identity_provider import IdentityProvider
from keyring.backends import null
from login_pages import Visitor
from pytest_mock import MockerFixture

REDIRECT = "http://127.0.0.1:53593/callback"


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


@contextmanager
def without_a_keyring() -> Iterator[None]:
    before = keyring.get_keyring()
    keyring.set_keyring(null.Keyring())
    yield
    keyring.set_keyring(before)


def browser_login(idp: IdentityProvider, mocker: MockerFixture) -> str:
    """The access token of a login at the provider's pages."""

    def opened(url: str) -> bool:
        def visit() -> None:
            requests.get(Visitor(idp.users["alice"]).approve(url, redirect=REDIRECT), timeout=20)

        threading.Thread(target=visit, daemon=True).start()
        return True

    mocker.patch("webbrowser.open_new_tab", opened)
    its = PKCEAuthenticator("flyte", Store(idp, "app"))
    its.refresh_credentials()
    return str(its.get_credentials().access_token)
