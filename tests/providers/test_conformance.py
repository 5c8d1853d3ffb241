"""What holds for every provider: three answers, and no secret in anything that it shows."""

from __future__ import annotations

import base64
import copy
import json
import logging
import pickle
import socket
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import running_agent
import running_provider
from scripted_server import ScriptedServer
from session_servers import FileKeyring, ended
from tokens import jwt

from flytekitplugins.authagent import kind, providers
from flytekitplugins.authagent.credential import Credential
from flytekitplugins.authagent.errors import AuthAgentError, ConfigError, Denied, ProviderError
from flytekitplugins.authagent.keyring_items import KeyringItems
from flytekitplugins.authagent.oauth.token_exchange import ACCESS_TOKEN
from flytekitplugins.authagent.passthrough import auth_metadata
from flytekitplugins.authagent.providers import Provider, Wanted
from flytekitplugins.authagent.providers.agent import AgentProvider
from flytekitplugins.authagent.providers.env import EnvProvider
from flytekitplugins.authagent.providers.file import FileProvider
from flytekitplugins.authagent.providers.oauth_client import OAuthClient
from flytekitplugins.authagent.providers.passthrough import PassthroughProvider
from flytekitplugins.authagent.providers.person import PersonProvider
from flytekitplugins.authagent.sandbox.control_plane import ControlPlane
from flytekitplugins.authagent.sandbox.posture import Posture
from flytekitplugins.authagent.session_store import SessionStore
from flytekitplugins.authagent.specs import (
    ApiKeySpec,
    ClientCredentialsSpec,
    CommandSpec,
    DeviceSpec,
    KeyringSpec,
    PkceSpec,
    ProviderSpec,
    TokenExchangeSpec,
)
from flytekitplugins.authagent.terminal import Terminal


@dataclass
class Case:
    """One provider in its three states."""

    working: Provider
    absent: Provider | None
    broken: Provider
    secret: str
    """What it knows and must not show, beside the token."""


@contextmanager
def env(directory: Path) -> Iterator[Case]:
    token = jwt(exp=time.time() + 100, sub="batch", scp=["all"])
    environ = {"A_TOKEN": token, "A_BROKEN_TOKEN": "two words pl4nted"}
    yield Case(
        EnvProvider("A_TOKEN", environ),
        EnvProvider("A_MISSING_TOKEN", {}),
        EnvProvider("A_BROKEN_TOKEN", environ),
        "pl4nted",
    )


@contextmanager
def file(directory: Path) -> Iterator[Case]:
    good, bad = directory / "good", directory / "bad"
    good.write_text(jwt(exp=time.time() + 100, sub="batch", scp=["all"]))
    bad.write_text('{"access_token": "pl4nted", "unknown": 1}')
    for path in (good, bad):
        path.chmod(0o600)
    yield Case(FileProvider(good), FileProvider(None), FileProvider(bad), "pl4nted")


@contextmanager
def agent(directory: Path) -> Iterator[Case]:
    with running_provider.running() as provider, running_agent.running(provider) as it:
        closed = directory / "closed.sock"
        with socket.socket(socket.AF_UNIX) as nobody:
            nobody.bind(str(closed))
        yield Case(
            AgentProvider(it.socket),
            AgentProvider(directory / "none.sock"),
            AgentProvider(closed),
            provider.secret("flyte-agent"),
        )


def made(spec: ProviderSpec, environ: dict[str, str] | None = None) -> Provider:
    return providers.build(spec, environ or {}, in_pod=False)


@contextmanager
def client_credentials(directory: Path) -> Iterator[Case]:
    with running_provider.running() as provider:
        secret, wrong = private(directory / "secret", provider.secret("batch")), private(directory / "wrong", "pl4nted")
        spec = ClientCredentialsSpec(
            issuer=provider.issuer.issuer, client_id="batch", client_secret_file=secret, scopes=("all",)
        )
        yield Case(
            made(spec),
            None,  # it is there only where it is configured
            made(spec.model_copy(update={"client_secret_file": wrong})),
            "pl4nted",
        )


@contextmanager
def control_plane(provider: running_provider.Running, directory: Path) -> Iterator[ControlPlane]:
    flyte = ControlPlane(
        issuer=provider.issuer,
        counts=provider.counts,
        faults=provider.faults,
        posture=Posture(),
        directory=directory / "flyte",
        task_environment={},
    )
    flyte.start()
    yield flyte
    flyte.stop()


@contextmanager
def api_key(directory: Path) -> Iterator[Case]:
    with running_provider.running() as provider, control_plane(provider, directory) as flyte:
        secret = provider.secret("batch")
        key = base64.b64encode(f"http://{flyte.endpoint}:batch:{secret}:org".encode()).decode()
        wrong = base64.b64encode(f"http://{flyte.endpoint}:batch:pl4nted:org".encode()).decode()
        spec = ApiKeySpec(scopes=("all",))
        yield Case(
            made(spec, {"FLYTE_API_KEY": key}),
            made(spec),
            made(spec, {"EAGER_API_KEY": wrong}),
            secret,
        )


@contextmanager
def command(directory: Path) -> Iterator[Case]:
    token = private(directory / "token", jwt(exp=time.time() + 100, sub="batch", scp=["all"]))
    yield Case(
        made(CommandSpec(command=("cat", str(token)))),
        None,
        made(CommandSpec(command=("sh", "-c", "echo pl4nted; echo pl4nted >&2; exit 3"))),
        "pl4nted",
    )


@contextmanager
def token_exchange(directory: Path) -> Iterator[Case]:
    """An exchange at a server that says what it is told to: the real ones have a suite of their own."""
    token = jwt(iat=time.time(), exp=time.time() + 100, sub="alice", scp=["all"])
    subject = private(directory / "subject", "pl4nted-subject-token")
    body = json.dumps({"access_token": token, "issued_token_type": ACCESS_TOKEN, "token_type": "Bearer"}).encode()
    refusal = b'{"error": "invalid_request", "error_description": "pl4nted-subject-token is no good"}'
    with scripted(b"200 OK", body) as good, scripted(b"400 Bad Request", refusal) as bad:
        options = {"client_id": "batch", "subject_token_file": subject, "scopes": ("all",)}
        yield Case(
            made(TokenExchangeSpec(token_endpoint=good, **options)),
            None,
            made(TokenExchangeSpec(token_endpoint=bad, **options)),
            "pl4nted-subject-token",
        )


@contextmanager
def passthrough(directory: Path) -> Iterator[Case]:
    token = jwt(exp=time.time() + 100, sub="batch", scp=["all"])

    class Broken(PassthroughProvider):
        def fetch(self, wanted: Wanted, *, min_lifetime: float | None = None) -> Credential:
            with auth_metadata(("cookie", "pl4nted")):
                return super().fetch(wanted)

    class Working(PassthroughProvider):
        def fetch(self, wanted: Wanted, *, min_lifetime: float | None = None) -> Credential:
            with auth_metadata(("cookie", "pl4nted"), ("flyte-authorization", f"Bearer {token}")):
                return super().fetch(wanted)

    yield Case(Working(), None, Broken(), "pl4nted")


@contextmanager
def person(directory: Path, kind: str) -> Iterator[Case]:
    """A login that has just ended, and must be renewed; one whose provider does not answer."""
    nobody = Terminal(say=lambda line: None, open=lambda url: False, ask=lambda: None, is_there=False)
    with running_provider.running("external") as provider:

        def provided(endpoint: str, token_endpoint: str) -> PersonProvider:
            spec = SPECS[kind](
                issuer=endpoint, token_endpoint=token_endpoint, client_id="flytectl", scopes=("all",), timeout=2
            )
            store = SessionStore(KeyringItems(FileKeyring(directory / "keyring")), {"HOME": str(directory)})
            client = OAuthClient(spec, kind)
            return PersonProvider(spec, client, store, nobody)

        working = provided(provider.issuer.issuer, provider.issuer.token_endpoint)
        broken = provided("https://idp.example.com", "http://127.0.0.1:9/token")
        first = provider.issuer.sign_in("alice")
        working.store.save(working.key(Wanted()), ended(first))
        broken.store.save(broken.key(Wanted()), ended("pl4nted"))
        yield Case(working, provided("https://other.example.com", "http://127.0.0.1:9/token"), broken, first)


SPECS: dict[str, Any] = {"keyring": KeyringSpec, "pkce": PkceSpec, "device": DeviceSpec}


def private(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


@contextmanager
def scripted(status: bytes, body: bytes) -> Iterator[str]:
    head = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = ScriptedServer(listening, head % (status, len(body)) + body)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/token"
        server.close()


CASES: dict[str, Callable[[Path], object]] = {
    "agent": agent,
    "file": file,
    "env": env,
    "client_credentials": client_credentials,
    "api_key": api_key,
    "command": command,
    "token_exchange": token_exchange,
    "passthrough": passthrough,
    **{kind: partial(person, kind=kind) for kind in SPECS},
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    with tempfile.TemporaryDirectory(prefix="aa-") as directory, CASES[request.param](Path(directory)) as made:  # type: ignore[attr-defined]
        yield made


def fetch(provider: Provider, **wanted: object) -> Credential | None:
    return provider.fetch(Wanted(**wanted))  # type: ignore[arg-type]


def test_every_kind_is_held_to_this() -> None:
    assert set(CASES) == set(kind.KINDS)


def test_a_credential_where_it_is_configured(case: Case) -> None:
    found = fetch(case.working)
    assert found is not None
    assert found.provider == case.working.kind
    assert found.expires_at is not None
    assert 0 < found.expires_at - time.time() < 3700


def test_none_where_it_is_not(case: Case) -> None:
    if case.absent is not None:
        assert fetch(case.absent) is None
        assert case.absent.absent
        assert case.absent.remedy


def test_an_error_of_ours_where_it_is_broken_that_shows_nothing(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(AuthAgentError) as caught:
        fetch(case.broken)
    assert isinstance(caught.value, ConfigError | ProviderError | Denied)
    shown = "".join(traceback.format_exception(caught.value)) + caplog.text + repr(case.broken)
    for line in traceback.extract_tb(caught.value.__traceback__):
        shown += str(line.locals or "")
    assert case.secret not in shown


def test_nothing_secret_in_its_repr_its_logs_or_a_pickle(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    found = fetch(case.working)
    assert found is not None
    shown = repr(case.working) + repr(found) + caplog.text
    assert found.token.reveal() not in shown
    assert case.secret not in shown
    with pytest.raises(TypeError):
        pickle.dumps(found)
    with pytest.raises(TypeError):
        copy.deepcopy(found)


def test_what_it_cannot_honour_it_refuses(case: Case) -> None:
    for wanted in ({"audience": "https://elsewhere"}, {"subject": "alice"}, {"scopes": ("admin",)}):
        with pytest.raises(Denied):
            fetch(case.working, **wanted)


def test_it_can_be_asked_from_many_threads_at_once(case: Case) -> None:
    answers: list[object] = []

    def ask() -> None:
        try:
            answers.append(fetch(case.working))
        except Exception as wrong:
            answers.append(wrong)

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert all(isinstance(answer, Credential) for answer in answers), answers
    assert len(answers) == 16
