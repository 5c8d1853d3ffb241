"""The device authorization grant, as far as it needs no network."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flytekitplugins.authagent.errors import AuthAgentError, Denied, ProviderError, ProviderUnavailable
from flytekitplugins.authagent.oauth import device
from flytekitplugins.authagent.oauth.client_authentication import METHODS, Proof
from flytekitplugins.authagent.oauth.device import DeviceCode
from flytekitplugins.authagent.oauth.message import Request, Response
from flytekitplugins.authagent.oauth.target import Target
from flytekitplugins.authagent.oauth.token_response import Granted

URL = "https://idp/device"
SENT = device.request(URL, METHODS["none"]("flytectl", Proof()), Target(("all", "offline")))
MINIMAL = {
    "device_code": "d3v1ce",
    "user_code": "ABCD-EFGH",
    "verification_uri": "https://idp/activate",
    "expires_in": 60,
}


def read(content: Any, status: int = 200) -> DeviceCode:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return device.read(Response(URL, status, {}, body), SENT, now=1000.0)


def judge(content: Any, status: int = 400) -> Granted | float:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return device.judge(Response(URL, status, {}, body), Request(URL), 5.0, now=1000.0, provider="device")


def test_what_is_asked() -> None:
    assert dict(SENT.form) == {"client_id": "flytectl", "scope": "all offline"}


def test_what_is_optional_has_a_default() -> None:
    code = read(MINIMAL)
    assert (code.interval, code.expires_at, code.verification_uri_complete) == (5.0, 1060.0, None)
    assert "d3v1ce" not in repr(code)


def test_what_is_there_is_used_and_bounded() -> None:
    more = {"interval": 2, "expires_in": 1e8, "verification_uri_complete": "https://idp/activate?user_code=ABCD-EFGH"}
    code = read(MINIMAL | more)
    assert (code.interval, code.expires_at) == (2.0, 1000.0 + 3600)
    assert code.verification_uri_complete == more["verification_uri_complete"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"device_code": ""},
        {"device_code": 5},
        {"user_code": "\x1b[2J"},
        {"verification_uri": "javascript:alert(1)"},
        {"verification_uri": "https://idp/\x1b[31m"},
        {"verification_uri_complete": "file:///etc/passwd"},
        {"interval": -1},
        {"interval": "soon"},
        {"expires_in": 0},
        {"expires_in": True},
    ],
)
def test_an_answer_that_cannot_be_used_is_an_error(wrong: dict[str, Any]) -> None:
    with pytest.raises(ProviderError):
        read(MINIMAL | wrong)


@pytest.mark.parametrize(
    ("status", "content", "wait"),
    [
        (400, {"error": "authorization_pending"}, 5.0),
        (400, {"error": "slow_down"}, 10.0),
        (429, {}, 10.0),
        (503, b"<html>", 10.0),
    ],
)
def test_when_to_ask_again(status: int, content: Any, wait: float) -> None:
    assert judge(content, status) == wait


@pytest.mark.parametrize(
    "code", ["access_denied", "authorization_declined", "expired_token", "invalid_grant", "invalid_client"]
)
def test_a_no_is_final(code: str) -> None:
    with pytest.raises(Denied):
        judge({"error": code})


def test_what_was_granted_has_a_refresh_token_and_an_id_token() -> None:
    answer = {
        "access_token": "abc",
        "token_type": "Bearer",
        "expires_in": 60,
        "refresh_token": "rt",
        "id_token": "a.b.c",
    }
    granted = judge(answer | {"refresh_expires_in": 600}, 200)
    assert isinstance(granted, Granted)
    assert granted.refresh_token is not None
    assert granted.refresh_token.reveal() == "rt"
    assert granted.refresh_expires_at == 1600.0
    assert granted.credential.id_token is not None
    assert "rt" not in repr(granted.refresh_token)


LEAVES = st.none() | st.booleans() | st.floats() | st.sampled_from(["device_code", "error", "slow_down", "x"])
NAMES = st.sampled_from([*MINIMAL, "error", "interval", "access_token"])
JSON = st.recursive(LEAVES, lambda children: st.dictionaries(NAMES, children)).map(lambda v: json.dumps(v).encode())


@given(st.integers(100, 599), st.binary(max_size=200) | JSON)
def test_any_answer_is_one_of_the_three_or_one_error_of_ours(status: int, body: bytes) -> None:
    for use in (read, judge):
        try:
            assert isinstance(use(body, status), DeviceCode | Granted | float)
        except AuthAgentError as error:
            assert isinstance(error, Denied | ProviderError | ProviderUnavailable)
            assert URL in str(error) or isinstance(error, Denied)
