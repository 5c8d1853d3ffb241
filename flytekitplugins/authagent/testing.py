"""
Fixtures for your own tests: `pytest_plugins = ["flytekitplugins.authagent.testing"]` in `conftest.py`.

`fake_remote` is a `FlyteRemote` that sends nothing, `sandbox_remote` a real one of a Flyte on this machine. While a
test has one of them it is `current_context().remote`, `remote.default()`, and what eager tasks launch by.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import create_autospec

from flytekit.clients.friendly import SynchronousFlyteClient
from flytekit.configuration import Config
from flytekit.core.context_manager import FlyteContextManager
from flytekit.core.data_persistence import FileAccessProvider
from flytekit.remote import FlyteRemote

from flytekitplugins.authagent import extras, resolve
from flytekitplugins.authagent import remote as remotes
from flytekitplugins.authagent.credential import Credential, Secret
from flytekitplugins.authagent.errors import ConfigError, ProviderUnavailable
from flytekitplugins.authagent.handle import Handle
from flytekitplugins.authagent.identity import Fact, Identity
from flytekitplugins.authagent.source import Source
from flytekitplugins.authagent.sources import Sources
from flytekitplugins.authagent.task import AuthAgent, TokenRequest

try:
    import pytest
except ModuleNotFoundError as missing:
    if missing.name != "pytest":
        raise
    raise ConfigError(
        "flytekitplugins.authagent.testing needs pytest, which is not installed", hint="pip install pytest"
    ) from None

__all__ = ["Fact", "FakeRemote", "Identity", "fake_remote", "flyte_sandbox", "sandbox_remote"]

START = 60.0
"""Seconds for a sandbox to answer."""

UNTIL_WE_END = "import sys; sys.stdin.buffer.read()"
"""What the sandbox is wrapped around: it ends when our end of its standard input closes, however we end."""


class FakeRemote(FlyteRemote):  # type: ignore[misc] # flytekit has no types
    """
    What `fake_remote` is made like: every attribute of a `FlyteRemote`, and two of its own, which a test sets.

    `identity` is `current_context().identity`; `tokens` gives `current_context().tokens` their texts, by name.
    """

    identity: Identity = Identity()
    tokens: dict[str, str] = {}  # noqa: RUF012 - each fake gets its own; this says only that there is one


@pytest.fixture
def fake_remote() -> Iterator[FakeRemote]:
    """
    A `FlyteRemote` that sends nothing: methods are mocks with the real signatures, and what is not there fails.

    Whatever would ask anybody for a credential meanwhile is a `ConfigError`.
    """
    fake = _fake()
    with _alone() as patched:
        patched.setattr(Handle, "_build_remote", lambda _: fake)
        patched.setattr(Handle, "_find_identity", lambda _: fake.identity)
        patched.setattr(Handle, "_token", lambda _, name, request: _token_of(fake, name, request))
        patched.setattr(Handle, "_credential", lambda _: Credential(Secret("fake"), provider="fake_remote"))
        patched.setattr(Source, "get", _nobody_is_asked)
        patched.setattr(Source, "renew", _nobody_is_asked)
        yield fake


@pytest.fixture(scope="session")
def flyte_sandbox() -> Iterator[dict[str, Any]]:
    """
    A sandbox for all tests of this process: what `authagent sandbox --ready` says of it.

    Raises `ConfigError` where the extra `sandbox` is not installed, `ProviderUnavailable` where it does not start.
    """
    extras.need("sandbox", "sandbox_remote")
    with tempfile.TemporaryDirectory(prefix="aa-", ignore_cleanup_errors=True) as directory:
        ready, log = Path(directory, "ready.json"), Path(directory, "sandbox.log")
        command = [sys.executable, "-m", "flytekitplugins.authagent", "sandbox", "--drain", "0", "--ready", str(ready)]
        with log.open("wb") as said:
            process = subprocess.Popen(  # noqa: S603 - our own program
                [*command, "--", sys.executable, "-c", UNTIL_WE_END],
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=subprocess.STDOUT,
            )
        try:
            _wait_for(ready, process, log)
            yield json.loads(ready.read_text())
        finally:
            _end(process)


@pytest.fixture
def sandbox_remote(flyte_sandbox: dict[str, Any], tmp_path: Path) -> Iterator[FlyteRemote]:
    """
    The real `FlyteRemote` of alice, a user of the sandbox; tasks that run there have credentials of its agent.

    For the time of the test the environment is that of `authagent sandbox -- COMMAND`, so programs that the test
    starts, `pyflyte` for one, use the sandbox too.
    """
    environment = _environment(flyte_sandbox, tmp_path)
    with _alone() as patched:
        for name in os.environ.keys() - environment.keys():
            patched.delenv(name)
        for name, value in environment.items():
            patched.setenv(name, value)
        yield remotes.of_process().remote()


@contextmanager
def _alone() -> Iterator[pytest.MonkeyPatch]:
    """Nothing that this process knows of credentials and remotes gets in here, and nothing of here gets out."""
    with pytest.MonkeyPatch.context() as patched:
        handle = Handle(AuthAgent())
        patched.setattr(remotes, "_process", handle)
        patched.setattr(resolve, "process_wide", Sources(limit=100))
        try:
            yield patched
        finally:
            handle.close()


def _fake() -> FakeRemote:
    fake: FakeRemote = create_autospec(FakeRemote, instance=True, spec_set=True)
    fake.identity, fake.tokens = Identity(), {}
    fake.client = create_autospec(SynchronousFlyteClient, instance=True, spec_set=True)
    fake.file_access = create_autospec(FileAccessProvider, instance=True, spec_set=True)
    fake.config = Config.for_endpoint("flyte.invalid")
    fake.context = FlyteContextManager.current_context()
    fake.default_project, fake.default_domain = "flytesnacks", "development"
    fake.interactive_mode_enabled = False
    return fake


def _token_of(fake: FakeRemote, name: str, _request: TokenRequest) -> str:
    if name not in fake.tokens:
        raise ConfigError(
            f"fake_remote has no token {name!r}", hint=f'set it in the test: fake_remote.tokens["{name}"] = "..."'
        )
    return fake.tokens[name]


def _nobody_is_asked(*_: object, **__: object) -> NoReturn:
    raise ConfigError(
        "something asks for a credential, and this test has fake_remote, with which nobody is asked",
        hint="let it use current_context().remote or remote.default(), or test it with sandbox_remote",
    )


def _environment(sandbox: Mapping[str, Any], home: Path) -> dict[str, str]:
    from flytekitplugins.authagent.sandbox import environment

    configuration = home / "authagent.yaml"
    configuration.touch(mode=0o600)
    configuration.write_text("{}\n")  # so that none of this machine's is looked for
    of_command = environment.of_command(
        os.environ, home=home, endpoint=sandbox["flyte_endpoint"], agent_socket=Path(sandbox["agent_socket"])
    )
    return of_command | {
        "AUTHAGENT_CONFIG": str(configuration),
        "AUTHAGENT_PROVIDER": "file",
        "AUTHAGENT_TOKEN_FILE": sandbox["users"]["alice"]["token_file"],
    }


def _wait_for(ready: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START
    while not ready.exists():
        if process.poll() is not None:
            said = " ".join(log.read_text(errors="replace").split())[-600:]
            kind = ConfigError if process.returncode == ConfigError.exit_code else ProviderUnavailable
            raise kind(f"sandbox_remote: the sandbox did not start: {said or process.returncode}")
        if time.monotonic() > deadline:
            raise ProviderUnavailable(f"sandbox_remote: the sandbox did not answer in {START:g} s")
        time.sleep(0.05)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Close its standard input, which ends it; and end it otherwise where that does not help."""
    if process.stdin is not None:
        process.stdin.close()
    for insist in (process.terminate, process.kill):
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            insist()
    process.wait(timeout=15)
