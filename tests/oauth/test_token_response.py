"""Reading what token endpoints answer."""

from __future__ import annotations

import json
import traceback
from email.utils import formatdate
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


def answer(content: Any, status: int = 200, *, date: float | None = None, now: float = NOW) -> Credential:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    headers = {} if date is None else {"date": formatdate(date, usegmt=True)}
    return read(Response(URL, status, headers, body), SENT, now=now, provider="test")


def test_a_token_with_its_end() -> None:
    found = answer({"access_token": "abc", "token_type": "bearer", "expires_in": 60, "scope": "a b"})
    assert (found.token.reveal(), found.expires_at, found.scopes) == ("abc", NOW + 60, ("a", "b"))


@pytest.mark.parametrize(
    ("content", "ends"),
    [
        ({"expires_in": "60"}, 60),
        ({"expires_in": 60.5}, 60.5),
        ({}, None),
    ],
)
def test_expires_in(content: dict[str, Any], ends: float | None) -> None:
    found = answer({"access_token": "abc"} | content)
    assert found.expires_at == (None if ends is None else NOW + ends)
    assert found.lifetime == ends


HOUR, DAYS = 3600, 3 * 24 * 3600


# All but `our` are seconds by the issuer's clock, which stands at 0 when it gives the token; `our` is how far our clock
# is ahead of it. `good` is for how many seconds the token is to be used, `lives` what `max_lifetime` is compared with.
@pytest.mark.parametrize(
    ("iat", "exp", "expires_in", "date", "our", "good", "lives"),
    [
        # our clock is right
        (0, HOUR, HOUR, 0, 0, HOUR, HOUR),
        (0, HOUR, None, 0, 0, HOUR, HOUR),
        (0, HOUR, None, None, 0, HOUR, HOUR),
        (None, HOUR, None, None, 0, HOUR, HOUR),
        (0, HOUR, 60, 0, 0, 60, HOUR),  # the two disagree: the shorter is used, and Flyte looks at `exp`
        (0, 60, HOUR, 0, 0, 60, 60),
        (None, None, HOUR, 0, 0, HOUR, HOUR),
        (1, HOUR + 1, None, 0, 0, HOUR, HOUR),  # the server's `Date` is a second old
        # a refresh that keeps the `iat` of the login
        (-DAYS, HOUR, HOUR, 0, 0, HOUR, HOUR),
        (-DAYS, HOUR, None, 0, 0, HOUR, HOUR),
        (-DAYS, HOUR, None, None, 0, HOUR, HOUR),
        (-DAYS, HOUR, 60, None, 0, 60, HOUR),
        (-10, 60, HOUR, 0, 0, 60, 60),
        # our clock is ahead
        (0, HOUR, HOUR, 0, 2 * HOUR, HOUR, HOUR),
        (0, HOUR, None, 0, 2 * HOUR, HOUR, HOUR),
        (-DAYS, HOUR, None, 0, 2 * HOUR, HOUR, HOUR),
        (None, HOUR, None, 0, 2 * HOUR, HOUR, HOUR),
        (0, HOUR, None, None, 2 * HOUR, HOUR, HOUR),
        (0, HOUR, None, None, 60, HOUR - 60, HOUR - 60),
        (-DAYS, HOUR, HOUR, 0, 60, HOUR, HOUR),
        # our clock is behind
        (0, HOUR, HOUR, 0, -2 * HOUR, HOUR, HOUR),
        (-DAYS, HOUR, None, 0, -2 * HOUR, HOUR, HOUR),
        (None, HOUR, None, 0, -2 * HOUR, HOUR, HOUR),
        (0, HOUR, None, None, -2 * HOUR, HOUR, HOUR),
        (0, HOUR, 60, None, -2 * HOUR, 60, HOUR),
        (
            -DAYS,
            HOUR,
            HOUR,
            None,
            -2 * HOUR,
            HOUR,
            3 * HOUR,
        ),  # nothing tells the issuer's time
        # an `iat` in the future
        (HOUR, 2 * HOUR, None, 0, 0, 2 * HOUR, 2 * HOUR),
        (HOUR, 2 * HOUR, 2 * HOUR, 0, -60, 2 * HOUR, 2 * HOUR),
        # a token that has ended when it comes
        (-DAYS, -60, None, 0, 0, -60, 0),
        (-DAYS, -60, HOUR, 0, 0, -60, 0),
        # the clock that made the token is behind that of `Date`, and ours
        (-2 * HOUR, -HOUR, HOUR, 0, 0, HOUR, HOUR),
        # a proxy with another clock answers: the token has not ended
        (0, HOUR, None, DAYS, 0, HOUR, HOUR),
    ],
)
def test_how_long_a_token_is_good(  # noqa: PLR0917 - a row of the table
    iat: float | None,
    exp: float | None,
    expires_in: float | None,
    date: float | None,
    our: float,
    good: float,
    lives: float,
) -> None:
    claims = {name: NOW + at for name, at in (("iat", iat), ("exp", exp)) if at is not None}
    content = {"access_token": jwt(**claims) if claims else "opaque", "expires_in": expires_in}
    found = answer(content, date=None if date is None else NOW + date, now=NOW + our)
    assert found.remaining(NOW + our) == good
    assert found.lifetime == lives


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
