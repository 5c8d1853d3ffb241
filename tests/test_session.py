"""A login as it is written down, and the key that it is found by."""

from __future__ import annotations

import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flytekitplugins.authagent.credential import Credential, Secret
from flytekitplugins.authagent.errors import ProviderError
from flytekitplugins.authagent.session import Session, SessionKey, from_json

SESSION = Session(
    Credential(
        Secret("acc3ss"), 2000.5, 1000.0, "flyte-authorization", "flyte.example.com", ("all", "offline"), Secret("1d")
    ),
    Secret("r3fresh"),
    9000.0,
    "https://idp",
    "https://idp/token",
    "https://idp/revoke",
    "https://idp/userinfo",
    "flytectl",
    "aud",
)


def test_what_was_written_is_read_again() -> None:
    assert from_json(SESSION.to_json().reveal()) == SESSION
    bare = Session(Credential(Secret("a")))
    assert from_json(bare.to_json().reveal()) == bare


def test_it_shows_nothing_and_is_not_pickled() -> None:
    for secret in ("acc3ss", "r3fresh", "1d"):
        assert secret not in repr(SESSION)
        assert secret not in repr(SESSION.to_json())
    with pytest.raises(TypeError):
        pickle.dumps(SESSION)


NAMES = st.sampled_from(["version", "access_token", "refresh_token", "expires_at", "scopes", "issuer"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda children: st.dictionaries(NAMES, children)
)


@given(st.text() | JSON.map(json.dumps))
def test_any_text_is_a_session_or_one_error_that_does_not_quote_it(text: str) -> None:
    try:
        from_json(text)
    except ProviderError as error:
        assert "cannot be read" in str(error)
        assert error.__cause__ is None


@pytest.mark.parametrize(
    "changed",
    [
        {"version": 2},
        {"access_token": ""},
        {"access_token": "two words"},
        {"refresh_token": 5},
        {"expires_at": "soon"},
        {"scopes": "all"},
    ],
)
def test_what_is_not_right_is_refused(changed: dict[str, object]) -> None:
    written = json.loads(SESSION.to_json().reveal()) | changed
    with pytest.raises(ProviderError):
        from_json(json.dumps(written))


def test_spellings_of_one_flyte_and_orders_of_scopes_are_one_key() -> None:
    keys = {
        str(SessionKey(e, "c", "", s))
        for e in ("dns:///Flyte.example.com", "flyte.example.com:443", "https://flyte.example.com/")
        for s in (("a", "b"), ("b", "a"), ("a", "b", "a"))
    }
    assert len(keys) == 1


def test_everything_that_differs_is_another_key() -> None:
    keys = [
        SessionKey("flyte.example.com"),
        SessionKey("flyte.example.com:444"),
        SessionKey("flyte.example.com", "c"),
        SessionKey("flyte.example.com", "", "c"),
        SessionKey("flyte.example.com", "", "", ("c",)),
        SessionKey("flyte.example.com", "", "", ("c", "d")),
        SessionKey("flyte.example.com", "c d"),
        SessionKey("https://idp.example.com/realms/a"),
        SessionKey("https://idp.example.com/realms/b"),
    ]
    assert len({str(key) for key in keys}) == len(keys)
