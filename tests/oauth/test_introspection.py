"""What an issuer is asked about a token, and which of its answers vouch for it (RFC 7662)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flytekitplugins.authagent.credential import Secret
from flytekitplugins.authagent.errors import ProviderError, ProviderUnavailable
from flytekitplugins.authagent.oauth import discovery, introspection
from flytekitplugins.authagent.oauth.client_authentication import METHODS, Proof
from flytekitplugins.authagent.oauth.message import Response

URL = "https://idp/introspect"


def answered(content: Any, status: int = 200) -> Response:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return Response(URL, status, {}, body)


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_the_request_shows_the_token_and_who_asks(method: str) -> None:
    sent = introspection.request(URL, METHODS[method]("hub", Proof(Secret("s3cr3t"))), Secret("t0k3n"))
    form = dict(sent.form)
    assert (sent.url, form["token"], form["token_type_hint"]) == (URL, "t0k3n", "access_token")
    assert ("client_secret" in form) == (method == "client_secret_post")
    assert dict(sent.headers).get("Authorization", "").startswith("Basic ") == (method == "client_secret_basic")
    assert "t0k3n" not in repr(sent)
    assert "s3cr3t" not in repr(sent)


def test_an_active_token_has_claims() -> None:
    claims = {"active": True, "sub": "alice", "aud": ["hub"]}
    assert introspection.read(answered(claims)) == claims


@pytest.mark.parametrize("active", [False, None, 1, "true", "True", [True], {}])
def test_only_true_is_active(active: object) -> None:
    assert introspection.read(answered({"active": active, "sub": "alice"})) is None
    assert introspection.read(answered({"sub": "alice"})) is None


@pytest.mark.parametrize(
    ("response", "kind", "says"),
    [
        (answered({"error": "invalid_client"}, 401), ProviderError, "answered 401 .*check the client"),
        (answered({}, 403), ProviderError, "answered 403"),
        (answered({"error": "unsupported_token_type"}, 400), ProviderError, "answered 400"),
        (answered({"active": True}, 302), ProviderError, "answered 302"),
        (answered({"active": True}, 429), ProviderUnavailable, "answered 429"),
        (answered({"active": True}, 503), ProviderUnavailable, "answered 503"),
        (answered(b"<html>"), ProviderError, "an HTML page"),
        (answered(b""), ProviderError, "nothing"),
        (answered([True]), ProviderError, "JSON was expected"),
    ],
)
def test_an_answer_that_says_nothing_of_the_token(response: Response, kind: type[Exception], says: str) -> None:
    with pytest.raises(kind, match=says) as refused:
        introspection.read(response)
    assert type(refused.value) is kind


@given(st.integers(100, 599), st.binary(max_size=200))
def test_any_answer_is_claims_or_nothing_or_one_of_our_errors(status: int, body: bytes) -> None:
    try:
        found = introspection.read(answered(body, status))
    except ProviderError:
        return
    assert found is None or found["active"] is True


def test_discovery_names_the_endpoint_and_the_keys() -> None:
    document = {
        "issuer": "https://idp",
        "token_endpoint": "https://idp/token",
        "introspection_endpoint": URL,
        "jwks_uri": "https://idp/jwks",
    }
    found = discovery.read("https://idp", answered(document))
    assert (found.need("introspection_endpoint"), found.need("jwks_uri")) == (URL, "https://idp/jwks")
    with pytest.raises(ProviderError, match="names no jwks_uri"):
        discovery.from_document(document | {"jwks_uri": ["https://idp/jwks"]}).need("jwks_uri")
