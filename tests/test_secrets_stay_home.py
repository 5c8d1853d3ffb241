"""Which secret may go where: a hostile Flyte, or somebody on the way to one, must not be able to say."""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping
from pathlib import Path

import pytest
import yaml

from flytekitplugins.authagent import config, endpoint, terminal
from flytekitplugins.authagent.asked import Asked
from flytekitplugins.authagent.credential import Secret
from flytekitplugins.authagent.discovery import FlyteServer
from flytekitplugins.authagent.errors import ConfigError, NoCredential
from flytekitplugins.authagent.oauth.discovery import Metadata, from_document
from flytekitplugins.authagent.oauth.target import Target
from flytekitplugins.authagent.providers import login
from flytekitplugins.authagent.providers.oauth_client import OAuthClient
from flytekitplugins.authagent.resolve import resolve
from flytekitplugins.authagent.specs import ClientCredentialsSpec, PkceSpec
from flytekitplugins.authagent.terminal import Terminal


@pytest.fixture
def environ(tmp_path: Path) -> MutableMapping[str, str]:
    os.environ.update(HOME=str(tmp_path), XDG_RUNTIME_DIR=str(tmp_path))
    os.environ["PYTHON_KEYRING_BACKEND"] = "keyring.backends.null.Keyring"
    return os.environ


def configured(environ: MutableMapping[str, str], **admin: object) -> None:
    file = Path(environ["HOME"], ".flyte", "config.yaml")
    file.parent.mkdir(mode=0o700, exist_ok=True)
    file.write_text(yaml.safe_dump({"admin": {"endpoint": "flyte.example.com", **admin}}))
    file.chmod(0o600)


def secret(environ: MutableMapping[str, str]) -> str:
    file = Path(environ["HOME"], "secret")
    file.write_text("pl4nted")
    file.chmod(0o600)
    return str(file)


@pytest.mark.parametrize(
    "admin",
    [
        {"authType": "ClientSecret", "clientId": "batch", "clientSecretLocation": True},
        {"authType": "ExternalCommand", "command": ["sh", "-c", "touch $HOME/was-run; echo t0ken"]},
        {"authType": "Pkce"},
    ],
    ids=lambda admin: admin["authType"],
)
def test_what_flytes_configuration_has_is_for_the_flyte_that_it_names(
    environ: MutableMapping[str, str], admin: dict[str, object]
) -> None:
    if "clientSecretLocation" in admin:
        admin = admin | {"clientSecretLocation": secret(environ)}
    configured(environ, **admin)
    with pytest.raises(NoCredential) as caught:
        resolve(Asked(endpoint="http://127.0.0.1:9"), config.load(environ), environ)
    reasons = [attempt.reason for attempt in caught.value.attempts]
    assert any("is for flyte.example.com, not for http://127.0.0.1:9" in reason for reason in reasons), reasons
    assert not Path(environ["HOME"], "was-run").exists()


def test_where_secrets_go_is_never_asked_in_plaintext(environ: MutableMapping[str, str]) -> None:
    spec = ClientCredentialsSpec(client_id="batch", client_secret_file=Path(secret(environ)))
    remote = FlyteServer(endpoint.parse("http://flyte.example.com"), insecure=True)
    with pytest.raises(ConfigError, match="in plaintext where secrets are to be sent"):
        OAuthClient(spec, "client_credentials", remote).metadata  # noqa: B018 - the access is what is tested
    for believed in (
        FlyteServer(endpoint.parse("http://127.0.0.1:9"), insecure=True),
        FlyteServer(
            endpoint.parse("http://flyte.example.com"), insecure=True, plaintext=(endpoint.parse("flyte.example.com"),)
        ),
        FlyteServer(endpoint.parse("flyte.example.com")),
    ):
        believed.check_believable()


def test_an_api_key_that_names_a_plaintext_flyte_is_not_shown_to_it(environ: MutableMapping[str, str]) -> None:
    import base64

    environ["FLYTE_API_KEY"] = base64.b64encode(b"http://flyte.example.com:batch:pl4nted:org").decode()
    with pytest.raises(ConfigError, match="in plaintext") as caught:
        resolve(Asked(), config.load(environ), environ)
    assert "pl4nted" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "javascript:alert(1)",
        "http://idp.example.com/a",
        "https://u:p@idp.example.com/a",
        "vnc://x",
    ],
)
def test_a_browser_is_sent_to_the_web_only(url: str) -> None:
    opened: list[str] = []
    spec = PkceSpec(issuer="https://idp.example.com", token_endpoint="https://idp.example.com/token", client_id="c")
    client = OAuthClient(spec, "pkce")
    client._known.append(Metadata("https://idp.example.com", "https://idp.example.com/token", url))
    told = Terminal(lambda line: None, lambda url: bool(opened.append(url)), lambda: None)
    with pytest.raises(ConfigError):
        login.by_browser(client, Target(), told, patience=1)
    assert opened == []


@pytest.mark.parametrize(
    "endpoint_", ["http://evil.example.com/token", "https://user:pw@idp.example.com/token", "ftp://x/"]
)
def test_a_token_endpoint_that_a_document_names_must_be_safe_too(
    environ: MutableMapping[str, str], endpoint_: str
) -> None:
    from flytekitplugins.authagent.http import Door
    from flytekitplugins.authagent.oauth import client_credentials
    from flytekitplugins.authagent.oauth.client_authentication import METHODS, Proof

    found = from_document({"issuer": "https://idp.example.com", "token_endpoint": endpoint_})
    client = METHODS["client_secret_post"]("batch", Proof(Secret("pl4nted")))
    with pytest.raises(ConfigError) as caught:
        Door(timeout=1).send(client_credentials.request(found.need("token_endpoint"), client, Target()))
    assert "pl4nted" not in str(caught.value)
    assert "user:pw" not in str(caught.value)


def test_a_closed_terminal_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with (tmp_path / "closed").open("w") as closed:
        pass
    monkeypatch.setattr(sys, "stdin", closed)
    assert not terminal.here().is_there
    monkeypatch.setattr(sys, "stdin", None)
    assert not terminal.here().is_there
