"""What holds for every provider: three answers, and no secret in anything that it shows."""

from __future__ import annotations

import copy
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
from pathlib import Path

import pytest
import running_agent
import running_provider
from tokens import jwt

from flytekitplugins.authagent import kind
from flytekitplugins.authagent.config import ClientCredentialsSpec
from flytekitplugins.authagent.credential import Credential
from flytekitplugins.authagent.errors import AuthAgentError, Denied, ProviderError
from flytekitplugins.authagent.providers import Provider, Wanted
from flytekitplugins.authagent.providers.agent import AgentProvider
from flytekitplugins.authagent.providers.client_credentials import ClientCredentialsProvider
from flytekitplugins.authagent.providers.env import EnvProvider
from flytekitplugins.authagent.providers.file import FileProvider


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


@contextmanager
def client_credentials(directory: Path) -> Iterator[Case]:
    with running_provider.running() as provider:
        secret, wrong = directory / "secret", directory / "wrong"
        secret.write_text(provider.secret("batch"))
        wrong.write_text("pl4nted")
        for path in (secret, wrong):
            path.chmod(0o600)
        spec = ClientCredentialsSpec(
            issuer=provider.issuer.issuer, client_id="batch", client_secret_file=secret, scopes=("all",)
        )
        yield Case(
            ClientCredentialsProvider(spec),
            None,  # it is there only where it is configured
            ClientCredentialsProvider(spec.model_copy(update={"client_secret_file": wrong})),
            "pl4nted",
        )


CASES: dict[str, Callable[[Path], object]] = {
    "agent": agent,
    "file": file,
    "env": env,
    "client_credentials": client_credentials,
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
    assert isinstance(caught.value, ProviderError | Denied)
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
