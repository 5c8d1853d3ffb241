"""What we send to token endpoints, and how the endpoints are found."""

from __future__ import annotations

import base64
from urllib.parse import unquote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flytekitplugins.authagent.credential import Secret
from flytekitplugins.authagent.errors import ProviderError
from flytekitplugins.authagent.oauth import client_credentials, discovery
from flytekitplugins.authagent.oauth.client_authentication import METHODS
from flytekitplugins.authagent.oauth.message import Response


@given(st.text(min_size=1), st.text(min_size=1))
def test_basic_can_be_undone_whatever_is_in_it(client_id: str, secret: str) -> None:
    (form, ((name, value),)) = METHODS["client_secret_basic"](client_id, Secret(secret))
    pair = base64.b64decode(value.removeprefix("Basic ")).decode("ascii")
    assert (form, name) == ((), "Authorization")
    assert [unquote_plus(half) for half in pair.split(":")] == [client_id, secret]


def test_the_request_of_client_credentials() -> None:
    post = METHODS["client_secret_post"]("me", Secret("s3cr3t"))
    request = client_credentials.request("https://idp/token", post, scopes=("a", "b"), audience="x")
    assert dict(request.form) == {
        "grant_type": "client_credentials",
        "client_id": "me",
        "client_secret": "s3cr3t",
        "scope": "a b",
        "audience": "x",
    }
    assert "s3cr3t" not in repr(request)
    plain = client_credentials.request("https://idp/token", ((), ()))
    assert plain.form == (("grant_type", "client_credentials"),)


@pytest.mark.parametrize(
    ("issuer", "urls"),
    [
        (
            "https://idp.example.com",
            [
                "https://idp.example.com/.well-known/openid-configuration",
                "https://idp.example.com/.well-known/oauth-authorization-server",
            ],
        ),
        (
            "https://idp.example.com/realms/a/",
            [
                "https://idp.example.com/realms/a/.well-known/openid-configuration",
                "https://idp.example.com/.well-known/oauth-authorization-server/realms/a",
            ],
        ),
    ],
)
def test_where_the_documents_are(issuer: str, urls: list[str]) -> None:
    assert [r.url for r in discovery.requests(issuer)] == urls


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (b'{"issuer": "https://evil", "token_endpoint": "https://evil/token"}', "another issuer"),
        (b'{"token_endpoint": "https://evil/token"}', "another issuer"),
        (b'{"issuer": "https://idp"}', "no token endpoint"),
        (b'{"issuer": "https://idp", "token_endpoint": 5}', "no token endpoint"),
        (b"<html>", "HTML page"),
    ],
)
def test_a_document_that_cannot_be_used(document: bytes, says: str) -> None:
    with pytest.raises(ProviderError, match=says):
        discovery.token_endpoint("https://idp", Response("https://idp/.well-known", 200, {}, document))


def test_a_slash_at_the_end_of_an_issuer_means_nothing() -> None:
    document = b'{"issuer": "https://idp/", "token_endpoint": "https://idp/token"}'
    assert discovery.token_endpoint("https://idp", Response("u", 200, {}, document)) == "https://idp/token"
