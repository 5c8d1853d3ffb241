"""A browser at oidc-provider's pages; at Keycloak's it is in test_keycloak.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import raw_oauth
from browser import Browser, browser
from identity_provider import FLYTE, IdentityProvider
from oidc_provider import DEVICE_CODE
from webdriver import WebDriverError

pytestmark = pytest.mark.peer

REDIRECT = "http://127.0.0.1:53593/callback"


@pytest.fixture
def window(tmp_path: Path) -> Iterator[Browser]:
    """A browser that knows nobody."""
    with browser(tmp_path) as opened:
        yield opened


def test_a_login_gives_a_code_that_gives_a_token(oidc_provider: IdentityProvider, window: Browser) -> None:
    client = oidc_provider.clients["app"]
    request = raw_oauth.code_request(oidc_provider, client, redirect=REDIRECT, scope="openid all")

    returned = window.approve(request.url, oidc_provider.users["alice"], redirect=REDIRECT)
    answer = request.redeem(oidc_provider, returned)

    claims = raw_oauth.claims(oidc_provider, answer.json()["access_token"])
    assert (claims["sub"], claims["scp"], claims["aud"]) == ("alice", ["all"], FLYTE)


@pytest.mark.parametrize(("deny", "error"), [(False, None), (True, "access_denied")])
def test_a_device_is_approved_or_denied(
    oidc_provider: IdentityProvider, window: Browser, deny: bool, error: str | None
) -> None:
    client = oidc_provider.clients["device"]
    form = {"client_id": client.id, "scope": "all"}
    device = raw_oauth.post(oidc_provider.device_authorization_endpoint, form).json()

    window.approve(device["verification_uri_complete"], oidc_provider.users["alice"], deny=deny)
    answer = raw_oauth.token(oidc_provider, client, grant_type=DEVICE_CODE, device_code=device["device_code"])

    assert answer.json().get("error") == error


def test_a_failure_leaves_a_picture(oidc_provider: IdentityProvider, window: Browser, tmp_path: Path) -> None:
    request = raw_oauth.code_request(oidc_provider, oidc_provider.clients["app"], redirect=REDIRECT, scope="all")

    with pytest.raises(TimeoutError):
        window.approve(request.url, oidc_provider.users["alice"], redirect=REDIRECT, seconds=0)

    assert (tmp_path / "failed.png").read_bytes().startswith(b"\x89PNG")


def test_only_loopback_is_reached(window: Browser) -> None:
    with pytest.raises(WebDriverError, match="ERR_NAME_NOT_RESOLVED"):
        window.driver.go("http://flyte.example.com/")
