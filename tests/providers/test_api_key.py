"""Keys of every format, and everything that is none."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flytekitplugins.authagent import config, default_order
from flytekitplugins.authagent.errors import ConfigError
from flytekitplugins.authagent.providers import Wanted, plainly
from flytekitplugins.authagent.providers.api_key import ApiKey, parse, provider
from flytekitplugins.authagent.specs import ApiKeySpec


def key(text: str, *, padded: bool = True, urlsafe: bool = False) -> str:
    encoded = (base64.urlsafe_b64encode if urlsafe else base64.b64encode)(text.encode()).decode()
    return encoded if padded else encoded.rstrip("=")


@pytest.mark.parametrize(
    ("text", "endpoint", "client", "org"),
    [
        ("acme.example.com:cid:csec:acme", "acme.example.com", ("cid", "csec"), "acme"),
        ("acme.example.com:cid:csec:None", "acme.example.com", ("cid", "csec"), None),
        ("acme.example.com:cid:csec:", "acme.example.com", ("cid", "csec"), None),
        ("acme.example.com:8089:cid:csec:acme", "acme.example.com:8089", ("cid", "csec"), "acme"),
        ("acme.example.com:cid:cs:ec:acme", "acme.example.com", ("cid", "cs:ec"), "acme"),
        ("acme.example.com:443:cid:c:s:e:c:acme", "acme.example.com:443", ("cid", "c:s:e:c"), "acme"),
        ("dns:///acme.example.com:cid:csec:acme", "dns:///acme.example.com", ("cid", "csec"), "acme"),
        ("https://acme.example.com:8089:cid:csec:acme", "https://acme.example.com:8089", ("cid", "csec"), "acme"),
        ("localhost:70000:cid:csec:acme", "localhost", ("70000", "cid:csec"), "acme"),
        ('{"client_id": "cid", "client_secret": "cs:ec"}', None, ("cid", "cs:ec"), None),
        ('{"client_id": "c", "client_secret": "csec", "endpoint": "e:1", "org": "o"}', "e:1", ("c", "csec"), "o"),
    ],
)
@pytest.mark.parametrize("how", [{}, {"padded": False}, {"urlsafe": True}])
def test_a_key_that_is_one(
    text: str, endpoint: str | None, client: tuple[str, str], org: str | None, how: dict[str, bool]
) -> None:
    found = parse(key(text, **how), of="FLYTE_API_KEY")
    assert (found.endpoint, found.org) == (endpoint, org)
    assert (found.client_id, found.client_secret.reveal()) == client
    assert client[1] not in repr(found)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("pl4nted!", "not base64"),
        (key("pl4nted"), "1 parts"),
        (key("host:pl4nted:x"), "3 parts"),
        (key("host::pl4nted:o"), "is empty"),
        (key("host:pl4nted::o"), "is empty"),
        (key("ho st:c:pl4nted:o"), "no endpoint"),
        (key(":c:pl4nted:o"), "no endpoint"),
        (key("{pl4nted"), "JSON cannot be read"),
        (key(json.dumps({"client_id": "pl4nted"})), "is missing"),
        (key(json.dumps({"client_id": 1, "client_secret": "pl4nted"})), "is missing"),
        (base64.b64encode(b"\xff\xfe").decode(), "not base64 of text"),
    ],
)
def test_what_is_none_is_an_error_that_names_its_place_and_not_its_content(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        parse(text, of="EAGER_API_KEY")
    assert str(caught.value).startswith("EAGER_API_KEY")
    assert "pl4nted" not in str(caught.value)
    assert caught.value.__cause__ is None


CONFIGURED = "admin: {endpoint: flyte.example.com, scopes: [of-the-file], audience: aud-of-the-file}\n"


@pytest.mark.parametrize(
    ("environ", "file", "wanted", "scopes", "audience"),
    [
        ({}, "", None, (), None),
        ({"FLYTE_CREDENTIALS_SCOPES": "one,two"}, "", None, ("one", "two"), None),
        ({"FLYTE_CREDENTIALS_OAUTH_SCOPES": "one"}, "", None, ("one",), None),
        ({"FLYTE_CREDENTIALS_AUDIENCE": "aud"}, "", None, (), "aud"),
        ({}, CONFIGURED, None, ("of-the-file",), "aud-of-the-file"),
        ({}, CONFIGURED, "flyte.example.com", ("of-the-file",), "aud-of-the-file"),
        ({}, CONFIGURED, "other.example.com", (), None),
        ({"FLYTE_CREDENTIALS_SCOPES": "one"}, CONFIGURED, None, ("one",), "aud-of-the-file"),
    ],
)
def test_what_the_tokens_of_a_key_are_for_is_configured_as_for_other_clients(  # noqa: PLR0917 - a row of the table
    tmp_path: Path,
    environ: dict[str, str],
    file: str,
    wanted: str | None,
    scopes: tuple[str, ...],
    audience: str | None,
) -> None:
    if file:
        (tmp_path / ".flyte").mkdir()
        (tmp_path / ".flyte" / "config.yaml").write_text(file)
    environ = environ | {"HOME": str(tmp_path), "FLYTE_API_KEY": key('{"client_id": "cid", "client_secret": "csec"}')}
    spec = default_order.spec("api_key", config.load(environ), environ, wanted=wanted)
    assert isinstance(spec, ApiKeySpec)
    found = provider(spec, environ, plainly("flyte.example.com"), plainly, in_pod=False)
    configured = found.key()
    assert configured is not None
    target = found.client(configured).target(Wanted())
    assert (target.scopes, target.audience) == (scopes, audience)


@given(st.text() | st.text().map(key))
def test_any_text_is_a_key_or_one_error(text: str) -> None:
    try:
        assert isinstance(parse(text, of="X"), ApiKey)
    except ConfigError as error:
        assert error.hint
