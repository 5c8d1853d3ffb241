"""Reading what token endpoints answer."""

from __future__ import annotations

import json
import traceback
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokens import jwt

from flytekitplugins.authagent.credential import Credential
from flytekitplugins.authagent.errors import AuthAgentError, Denied, ProviderError, ProviderUnavailable
from flytekitplugins.authagent.oauth.message import Request, Response
from flytekitplugins.authagent.oauth.token_response import read

URL = "https://idp.example.com/token"
SENT = Request(
    URL, (("grant_type", "client_credentials"), ("client_secret", "pl4nted")), (("Authorization", "Basic cGw="),)
)
NOW = 1_000_000.0


def answer(content: Any, status: int = 200) -> Credential:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return read(Response(URL, status, {}, body), SENT, now=NOW, provider="test")


def test_a_token_with_its_end() -> None:
    found = answer({"access_token": "abc", "token_type": "bearer", "expires_in": 60, "scope": "a b"})
    assert (found.token.reveal(), found.expires_at, found.scopes) == ("abc", NOW + 60, ("a", "b"))


@pytest.mark.parametrize(
    ("content", "ends"),
    [
        ({"expires_in": "60"}, 60),
        ({"expires_in": 60.5}, 60.5),
        ({}, None),
        ({"access_token": jwt(iat=5, exp=65)}, 60),
        ({"access_token": jwt(iat=5, exp=65), "expires_in": 3600}, 60),
        ({"access_token": jwt(iat=5, exp=3605), "expires_in": 60}, 60),
        ({"access_token": jwt(exp=NOW + 7)}, 7),
    ],
)
def test_the_shortest_span_is_believed(content: dict[str, Any], ends: float | None) -> None:
    found = answer({"access_token": "abc"} | content)
    assert found.expires_at == (None if ends is None else NOW + ends)


@pytest.mark.parametrize("expires_in", [0, -1, "soon", True, [], 1e12, {}])
def test_an_end_that_is_none_is_an_error_and_never_for_ever(expires_in: object) -> None:
    with pytest.raises(ProviderError, match="expires_in"):
        answer({"access_token": "abc", "expires_in": expires_in})


@pytest.mark.parametrize(
    ("status", "content", "error", "says"),
    [
        (400, {"error": "invalid_scope"}, Denied, "invalid_scope"),
        (401, {"error": "invalid_client", "error_description": "no such client"}, Denied, "invalid_client"),
        (400, {"error": "unsupported_grant_type"}, ProviderError, "unsupported_grant_type"),
        (400, {"error": "slow_down"}, ProviderUnavailable, "slow_down"),
        (429, b"", ProviderUnavailable, "429"),
        (503, b"<html>busy</html>", ProviderUnavailable, "503"),
        (500, {"error": "server_error"}, ProviderUnavailable, "server_error"),
        (302, b"", ProviderError, "a redirect"),
        (200, b"<!doctype html><p>sign in", ProviderError, "an HTML page"),
        (200, b"", ProviderError, "nothing"),
        (200, b"[1]", ProviderError, "something else"),
        (200, {"token": "abc"}, ProviderError, "without an access_token"),
        (200, {"access_token": "abc", "token_type": "DPoP"}, ProviderError, "another type than Bearer"),
        (200, {"access_token": "a b"}, ProviderError, "RFC 6750"),
        (404, b"not found", ProviderError, "404"),
    ],
)
def test_everything_else_is_one_error_of_ours(status: int, content: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says) as caught:
        answer(content, status)
    assert type(caught.value) is error
    assert URL in str(caught.value)


@pytest.mark.parametrize("words", ["bad secret pl4nted", "header was Basic cGw=", "cGw= is wrong"])
def test_a_server_that_quotes_our_secret_is_not_quoted(words: str) -> None:
    with pytest.raises(Denied) as caught:
        answer({"error": "invalid_client", "error_description": words}, 401)
    shown = "".join(traceback.format_exception(caught.value))
    assert "pl4nted" not in str(caught.value)
    assert "cGw=" not in str(caught.value)
    assert "invalid_client" in shown


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.integers(100, 599),
    st.binary(max_size=100)
    | st.dictionaries(
        st.sampled_from(["access_token", "token_type", "expires_in", "scope", "error", "error_description"]),
        json_values,
    ).map(lambda d: json.dumps(d).encode()),
)
def test_any_answer_is_a_credential_or_an_error_of_ours(status: int, body: bytes) -> None:
    try:
        found = answer(body, status)
    except AuthAgentError:
        return
    assert found.token.reveal()
