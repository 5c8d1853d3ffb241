"""flytekit's own authenticators at the same provider, as a control: where they work, and where they do not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flytekit.clients.auth.authenticator import ClientCredentialsAuthenticator, DeviceCodeAuthenticator
from flytekits_own import Store, browser_login, without_a_keyring
from identity_provider import IdentityProvider
from pytest_mock import MockerFixture

from flytekitplugins.authagent.credential import Secret, claims

pytestmark = [pytest.mark.peer, pytest.mark.timeout(120)]


@pytest.fixture(autouse=True)
def no_keyring() -> Iterator[None]:
    with without_a_keyring():
        yield


def test_its_client_credentials_break_on_an_odd_client_id(oidc_provider: IdentityProvider) -> None:
    client = oidc_provider.clients["basic"]
    its = ClientCredentialsAuthenticator("flyte", client.id, client.secret, Store(oidc_provider, "basic"))
    with pytest.raises(Exception, match=r"401|400|invalid_client"):
        its.refresh_credentials()  # it encodes the secret, and not the id


def test_its_browser_login_works(oidc_provider: IdentityProvider, mocker: MockerFixture) -> None:
    assert claims(Secret(browser_login(oidc_provider, mocker)))["sub"] == "alice"


def test_its_device_login_breaks_where_the_interval_is_left_out(oidc_provider: IdentityProvider) -> None:
    its = DeviceCodeAuthenticator("flyte", Store(oidc_provider, "device"))
    with pytest.raises(KeyError, match="interval"):
        its.refresh_credentials()
