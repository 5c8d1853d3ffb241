"""Reading endpoints, comparing them, and telling which cannot leave this machine."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flytekitplugins.authagent.endpoint import parse
from flytekitplugins.authagent.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "target", "insecure"),
    [
        ("flyte.example.com", "flyte.example.com", None),
        ("dns:///flyte.example.com:81", "flyte.example.com:81", None),
        ("http://flyte.example.com:80", "flyte.example.com:80", True),
        ("https://flyte.example.com/", "flyte.example.com", False),
        ("[::1]:8089", "[::1]:8089", None),
        ("unix:/run/flyte.sock", "unix:/run/flyte.sock", True),
    ],
)
def test_spellings(text: str, target: str, insecure: bool | None) -> None:
    found = parse(text)
    assert (found.target, found.insecure) == (target, insecure)


@pytest.mark.parametrize(
    "text", ["", "http://", "host:port", "host:0", "host:99999", "a b", "host/path", "user:pw@host", "h?q", "[::1]x"]
)
def test_what_is_no_endpoint_is_refused_without_repeating_a_password(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a Flyte endpoint") as caught:
        parse(text)
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "loopback"),
    [
        ("localhost:1", True),
        ("127.0.0.1:1", True),
        ("127.9.9.9", True),
        ("[::1]:1", True),
        ("unix:/x", True),
        ("0.0.0.0:1", False),
        ("localhost.example.com", False),
        ("127.0.0.1.example.com", False),
        ("10.0.0.1", False),
    ],
)
def test_loopback(text: str, loopback: bool) -> None:
    assert parse(text).loopback is loopback


def test_which_are_the_same() -> None:
    assert parse("dns:///a.example.com").same_as(parse("https://A.example.com:443"))
    assert parse("localhost:30080").same_as(parse("127.0.0.1:30080"))
    assert not parse("localhost:30080").same_as(parse("localhost:30081"))
    assert not parse("a.example.com").same_as(parse("b.example.com"))
    assert not parse("unix:/a").same_as(parse("unix:/b"))


@given(st.text())
def test_any_text_is_an_endpoint_or_a_config_error(text: str) -> None:
    try:
        found = parse(text)
    except ConfigError:
        return
    assert found.target
