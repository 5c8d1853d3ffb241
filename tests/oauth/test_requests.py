"""What we send to token endpoints, and how the endpoints are found."""

from __future__ import annotations

import base64
from urllib.parse import unquote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flytekitplugins.authagent.credential import Secret
from flytekitplugins.authagent.errors import ProviderError
from flytekitplugins.authagent.oauth import client_credentials, discovery, jwt_bearer, refresh, token_exchange
from flytekitplugins.authagent.oauth.client_authentication import METHODS, Proof
from flytekitplugins.authagent.oauth.discovery import Metadata
from flytekitplugins.authagent.oauth.message import Response
from flytekitplugins.authagent.oauth.target import Target
from flytekitplugins.authagent.oauth.token_exchange import Shown


@given(st.text(min_size=1), st.text(min_size=1))
def test_basic_can_be_undone_whatever_is_in_it(client_id: str, secret: str) -> None:
    (form, ((name, value),)) = METHODS["client_secret_basic"](client_id, Proof(Secret(secret)))
    pair = base64.b64decode(value.removeprefix("Basic ")).decode("ascii")
    assert (form, name) == ((), "Authorization")
    assert [unquote_plus(half) for half in pair.split(":")] == [client_id, secret]


def test_the_request_of_client_credentials() -> None:
    post = METHODS["client_secret_post"]("me", Proof(Secret("s3cr3t")))
    request = client_credentials.request("https://idp/token", post, Target(("a", "b"), "x"))
    assert dict(request.form) == {
        "grant_type": "client_credentials",
        "client_id": "me",
        "client_secret": "s3cr3t",
        "scope": "a b",
        "audience": "x",
    }
    assert "s3cr3t" not in repr(request)
    plain = client_credentials.request("https://idp/token", ((), ()), Target())
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
        discovery.read("https://idp", Response("https://idp/.well-known", 200, {}, document))


def test_a_slash_at_the_end_of_an_issuer_means_nothing() -> None:
    document = b'{"issuer": "https://idp/", "token_endpoint": "https://idp/token"}'
    found = discovery.read("https://idp", Response("u", 200, {}, document))
    assert found.token_endpoint == "https://idp/token"


def test_what_is_set_locally_goes_before_what_the_server_says_field_by_field() -> None:
    said = Metadata(
        "https://idp", "https://idp/token", "https://idp/authorize", revocation_endpoint="https://idp/revoke"
    )
    local = Metadata(token_endpoint="https://mine/token")
    assert said.overridden_by(local) == Metadata(
        "https://idp", "https://mine/token", "https://idp/authorize", revocation_endpoint="https://idp/revoke"
    )


def test_an_endpoint_that_is_needed_and_not_there_is_named() -> None:
    with pytest.raises(ProviderError, match="https://idp names no device_authorization_endpoint"):
        Metadata("https://idp").need("device_authorization_endpoint")


def test_the_requests_of_the_other_grants() -> None:
    nobody = METHODS["none"]("me", Proof())
    refreshed = refresh.request("https://idp/token", nobody, Secret("r"), Target())
    assert dict(refreshed.form) == {"grant_type": "refresh_token", "refresh_token": "r", "client_id": "me"}

    exchanged = token_exchange.request(
        "https://idp/token",
        nobody,
        Shown(Secret("s"), token_exchange.JWT),
        Target(("all",), "flyte", "https://flyte"),
        actor=Shown(Secret("a")),
    )
    assert dict(exchanged.form) == {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token": "s",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "actor_token": "a",
        "actor_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "client_id": "me",
        "scope": "all",
        "audience": "flyte",
        "resource": "https://flyte",
    }

    federated = METHODS["federated"](None, Proof(Secret("projected")))
    granted = jwt_bearer.request("https://idp/token", federated, Secret("x"), Target(("all",)), on_behalf_of=True)
    assert dict(granted.form) == {
        "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
        "assertion": "x",
        "requested_token_use": "on_behalf_of",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": "projected",
        "scope": "all",
    }
    for request in (refreshed, exchanged, granted):
        assert "Secret" not in repr(request)
        assert "projected" not in repr(request)
