"""A credential: what may be one, when it ends, and that it never shows itself."""

from __future__ import annotations

import copy
import pickle
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokens import jwt

from flytekitplugins.authagent.credential import MAX_TOKEN, Credential, Secret, claims, from_token, moment, token
from flytekitplugins.authagent.errors import ProviderError


def test_a_secret_shows_itself_only_by_name() -> None:
    secret = Secret("s3cr3t")
    credential = Credential(secret, expires_at=5.0)

    for shown in (repr(secret), str(secret), f"{secret}", repr(credential), repr([credential]), str([secret])):
        assert "s3cr3t" not in shown
    assert secret.reveal() == "s3cr3t"
    assert secret == Secret("s3cr3t") != Secret("other")


@pytest.mark.parametrize("serialize", [pickle.dumps, copy.deepcopy])
def test_a_secret_is_never_pickled(serialize: object) -> None:
    with pytest.raises(TypeError, match="never pickled"):
        serialize([Credential(Secret("s3cr3t"))])  # type: ignore[operator]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "two words",
        '"quoted"',
        "line\nbreak",
        "Bearer abc",
        "tab\t",
        "ünïcode",
        "a,b",
        "x" * (MAX_TOKEN + 1),
        "nul\0",
    ],
)
def test_what_a_header_cannot_carry_is_no_token_and_is_not_quoted(text: str) -> None:
    with pytest.raises(ProviderError) as caught:
        token(text, of="the file")
    assert "the file" in str(caught.value)
    assert not text or text not in "".join(traceback.format_exception(caught.value, chain=False)[-1:])


@given(st.text())
def test_any_text_is_a_token_that_fits_a_header_or_an_error(text: str) -> None:
    try:
        accepted = token(text, of="it").reveal()
    except ProviderError:
        return
    assert accepted == text
    assert accepted.isascii()
    assert not set(accepted) & set(' \r\n\t",;:\\')


@given(st.text(alphabet=st.characters(codec="ascii"), max_size=200) | st.binary(max_size=100).map(repr))
def test_any_token_has_claims_or_none(text: str) -> None:
    assert isinstance(claims(Secret(text)), dict)


def test_times_are_read_from_a_jwt_and_only_if_they_are_times() -> None:
    found = from_token(Secret(jwt(exp=2000, iat=1000)), provider="file")
    assert (found.lifetime, found.expires_at, found.remaining(1500)) == (None, 2000, 500)
    assert from_token(Secret("opaque"), provider="file").remaining(0) == float("inf")
    for wrong in (True, "2000", -1, 1e12, float("nan"), None, [1]):
        assert moment(wrong) is None
