"""The authorization code grant with PKCE, as far as it needs no network."""

from __future__ import annotations

import base64
import hashlib
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flytekitplugins.authagent.credential import Secret
from flytekitplugins.authagent.errors import AuthAgentError, Denied, ProviderError
from flytekitplugins.authagent.oauth import authorization_code
from flytekitplugins.authagent.oauth.authorization_code import Started
from flytekitplugins.authagent.oauth.client_authentication import METHODS, Proof
from flytekitplugins.authagent.oauth.target import Target

REDIRECT = "http://127.0.0.1:53593/callback"


def start(endpoint: str = "https://idp/authorize", *, must_answer: bool = False) -> Started:
    target = Target(("all", "offline"), "aud")
    return authorization_code.start(
        endpoint, "flytectl", REDIRECT, target, issuer="https://idp", issuer_must_answer=must_answer
    )


def answered(started: Started, **query: str) -> dict[str, str]:
    return {"state": started.state.reveal(), **query}


def test_where_the_browser_is_sent() -> None:
    started = start("https://idp/authorize?tenant=a")
    query = {name: values[0] for name, values in parse_qs(urlsplit(started.url).query).items()}
    challenge = hashlib.sha256(started.verifier.reveal().encode()).digest()
    assert query == {
        "tenant": "a",
        "response_type": "code",
        "client_id": "flytectl",
        "redirect_uri": REDIRECT,
        "state": started.state.reveal(),
        "code_challenge": base64.urlsafe_b64encode(challenge).rstrip(b"=").decode(),
        "code_challenge_method": "S256",
        "scope": "all offline",
        "audience": "aud",
    }
    assert len(started.verifier.reveal()) >= 43
    assert started.verifier.reveal() not in started.url


def test_every_login_has_a_state_and_a_verifier_of_its_own() -> None:
    logins = [start() for _ in range(50)]
    assert len({login.state.reveal() for login in logins}) == 50
    assert len({login.verifier.reveal() for login in logins}) == 50
    assert logins[0].state.reveal() not in repr(logins[0])


def test_an_answer_is_ours_by_its_state() -> None:
    started = start()
    assert authorization_code.is_answer(answered(started, code="c"), started)
    assert not authorization_code.is_answer({"code": "c", "state": start().state.reveal()}, started)
    assert not authorization_code.is_answer({"code": "c"}, started)
    assert not authorization_code.is_answer({"code": "c", "state": "\u00e9"}, started)


def test_the_code_is_redeemed_with_the_verifier_at_the_same_redirect_address() -> None:
    started = start()
    code = authorization_code.code(answered(started, code="c0de", iss="https://idp"), started)
    sent = authorization_code.request("https://idp/token", METHODS["none"]("flytectl", Proof()), code, started)
    assert dict(sent.form) == {
        "grant_type": "authorization_code",
        "code": "c0de",
        "redirect_uri": REDIRECT,
        "code_verifier": started.verifier.reveal(),
        "client_id": "flytectl",
    }


def test_an_answer_of_another_issuer_is_refused() -> None:
    started = start()
    with pytest.raises(ProviderError, match="another issuer"):
        authorization_code.code(answered(started, code="c", iss="https://evil"), started)
    with pytest.raises(ProviderError, match="RFC 9207"):
        authorization_code.code(answered(start(must_answer=True), code="c"), start(must_answer=True))


def test_a_declined_login_says_so_and_a_failed_one_says_why() -> None:
    started = start()
    with pytest.raises(Denied, match="declined"):
        authorization_code.code(answered(started, error="access_denied"), started)
    with pytest.raises(Denied, match="invalid_scope"):
        authorization_code.code(answered(started, error="invalid_scope", error_description="pl4nted"), started)


@given(st.dictionaries(st.sampled_from(["code", "error", "iss", "state", "x"]), st.text(max_size=40)))
def test_any_answer_is_a_code_or_one_error_of_ours(query: dict[str, str]) -> None:
    try:
        assert isinstance(authorization_code.code(query, start()), Secret)
    except AuthAgentError as error:
        assert error.args[0].isprintable()
