"""Random peers that give back parts of what was sent: no part of a secret is in an error, and none is shown."""

from __future__ import annotations

import base64
import json
import secrets
import traceback
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flytekitplugins.authagent.errors import AuthAgentError, ProviderError
from flytekitplugins.authagent.hub_client import read as read_hub
from flytekitplugins.authagent.oauth import device, echo, introspection, jwks, revocation, token_response, userinfo
from flytekitplugins.authagent.oauth.message import Request, Response

URL = "https://idp.example.com/token"
SECRET, SHOWN = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
PAIR = base64.b64encode(f"batch:{quote(SECRET)}".encode()).decode()
SENT = Request(URL, (("client_id", "batch"), ("subject_token", SHOWN)), (("Authorization", f"Basic {PAIR}"),))

whole = st.sampled_from([SECRET, SHOWN, PAIR, SECRET[::-1], SECRET.upper(), quote(SECRET), SECRET.encode().hex()])
parts = st.tuples(whole, st.integers(0, 40), st.integers(6, 60)).map(lambda t: t[0][t[1] : t[1] + t[2]])
texts = st.tuples(st.sampled_from(["", "invalid ", "AADSTS"]), parts | whole, st.text(max_size=5)).map("".join)
names = st.sampled_from(
    [
        "error",
        "errorCode",
        "error_description",
        "error_uri",
        "access_token",
        "token_type",
        "expires_in",
        "scope",
        "sub",
        "name",
        "email",
        "user_code",
        "device_code",
        "verification_uri",
        "interval",
        "keys",
        "active",
        "refresh_token",
        "authorization_metadata_key",
        "id_token",
    ]
)
values = st.recursive(texts | st.sampled_from(["bearer", 60, URL, None, True]), lambda v: st.lists(v, max_size=2))
READERS = [
    lambda r: token_response.granted(r, SENT, now=0, provider="test"),
    lambda r: device.read(r, SENT, now=0),
    lambda r: device.judge(r, SENT, 5, now=0, provider="test"),
    lambda r: userinfo.read(r, SENT),
    introspection.read,
    jwks.read,
    revocation.check,
    read_hub,
]


def is_clean(shown: str, length: int) -> bool:
    pieces = {s[i : i + length] for s in (SECRET, SHOWN, PAIR) for i in range(len(s) - length + 1)}
    return not any(piece in shown for piece in pieces)


@given(st.sampled_from([200, 201, 302, 400, 401, 403, 429, 500, 503]), st.dictionaries(names, values | texts), values)
def test_no_error_has_six_characters_of_a_secret(status: int, answer: dict[str, Any], header: Any) -> None:
    headers = {"content-type": str(header), "location": str(header), "www-authenticate": str(header)}
    for body in (json.dumps(answer).encode(), str(answer).encode(), f"<html>{answer}".encode()):
        for reader in READERS:
            try:
                reader(Response(URL, status, headers, body))
            except AuthAgentError as error:
                shown = f"{error!r} {error} {error.hint} {''.join(traceback.format_exception(error))}"
                assert is_clean(shown, 6)
                assert error.__cause__ is None


@given(
    st.dictionaries(st.sampled_from(["scope", "authorization_metadata_key", "user_code", "verification_uri"]), texts)
)
def test_what_is_shown_of_an_answer_that_is_used_has_no_piece_of_a_secret(answer: dict[str, str]) -> None:
    token = {"access_token": "abc", "device_code": "d", "user_code": "u", "verification_uri": URL}
    response = Response(URL, 200, {}, json.dumps(token | answer).encode())
    with suppress(AuthAgentError):
        credential = token_response.read(response, SENT, now=0, provider="test")
        assert is_clean(f"{credential.scopes} {credential.header}", echo.PIECE + 4)
    with suppress(AuthAgentError):
        code = device.read(response, SENT, now=0)
        assert is_clean(f"{code.user_code} {code.verification_uri}", echo.PIECE + 4)


def test_what_is_public_may_come_back() -> None:
    sent = Request(URL, (("client_id", "flyte-agent-batch"), ("client_secret", "flyte-agent-batch-secret")))
    echo.check(["flyte-agent-batch", "all", "alice@example.com"], sent, URL)
    with pytest.raises(ProviderError, match="repeats"):
        echo.check(["flyte-agent-batch-secret"], sent, URL)


def test_an_address_that_holds_the_secret_is_not_asked() -> None:
    with pytest.raises(ProviderError) as caught:
        echo.check_address(Request(f"{URL}/{SHOWN}", (("subject_token", SHOWN),)))
    assert is_clean(str(caught.value), 6)
    echo.check_address(Request("https://keycloak.example.com/token", (("client_secret", "keycloak"),)))
