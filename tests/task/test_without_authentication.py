"""A task in a pod with nothing configured: no token and no error where Flyte says that it has no authentication."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from flyte_place import Place, phase, running, use

from flytekitplugins.authagent import config, discovery, flyte
from flytekitplugins.authagent.asked import Asked
from flytekitplugins.authagent.endpoint import parse
from flytekitplugins.authagent.errors import ConfigError, NoCredential
from flytekitplugins.authagent.resolve import resolve

pytestmark = pytest.mark.timeout(180)

STOCK = """
from flytekit.configuration import Config
from flytekit.remote import FlyteRemote

remote = FlyteRemote(Config.auto(), default_project="flytesnacks", default_domain="development")
print(len(remote.client.list_projects_paginated(limit=10)[0]))
"""
"""flytekit's own client, which is authenticated by its `auth_mode`."""


def flyte_with(posture: str) -> Iterator[Place]:
    """A Flyte whose tasks, and whose clients, have nothing but its address."""
    with (
        tempfile.TemporaryDirectory(prefix="aa-", ignore_cleanup_errors=True) as directory,
        running(Path(directory), posture=posture) as place,
    ):
        place.register("failing.py", version="1")
        del place.task_environment["AUTHAGENT_TOKEN_FILE"]
        place.counts.reset()
        yield place


@pytest.fixture(scope="module")
def open_flyte() -> Iterator[Place]:
    yield from flyte_with("no-auth")


@pytest.fixture(scope="module")
def half_open_flyte() -> Iterator[Place]:
    """It takes calls without a token for those of nobody, and has an authorization server all the same."""
    yield from flyte_with("disable-for-grpc")


def ended(place: Place) -> object:
    remote = place.remote()
    return place.ended(remote.execute(remote.fetch_task(name="failing.asks", version="1"), inputs={"x": 1}))


def in_a_pod(**environ: str) -> dict[str, str]:
    return {"FLYTE_INTERNAL_EXECUTION_ID": "x", **environ}


def test_a_task_of_a_flyte_without_authentication_calls_it_without_a_token(open_flyte: Place) -> None:
    execution = ended(open_flyte)
    assert phase(execution) == "SUCCEEDED", execution.error
    assert open_flyte.rejected() == 0


def test_so_does_flytekits_own_client(open_flyte: Place) -> None:
    environ = in_a_pod(AUTHAGENT_TOKEN_FILE="")
    done = open_flyte.process(sys.executable, "-c", STOCK, **environ)
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


def test_a_flyte_that_has_authentication_opens_nothing(half_open_flyte: Place) -> None:
    execution = ended(half_open_flyte)
    assert phase(execution) == "FAILED"
    assert execution.error.code == "AUTHAGENT:NO_CREDENTIAL"
    done = half_open_flyte.process(sys.executable, "-c", STOCK, **in_a_pod(AUTHAGENT_TOKEN_FILE=""))
    assert done.returncode != 0
    assert "NoCredential" in done.stderr


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({}, "no Flyte is configured that could be asked"),
        ({"FLYTE_PLATFORM_URL": "127.0.0.1:9", "FLYTE_PLATFORM_INSECURE": "1"}, "wants a credential, or does not say"),
    ],
    ids=["no Flyte", "nobody answers"],
)
def test_what_cannot_be_asked_opens_nothing(tmp_path: Path, environ: dict[str, str], says: str) -> None:
    environ = in_a_pod(HOME=str(tmp_path), **environ)
    with pytest.raises(NoCredential) as caught:
        resolve(Asked(), config.load(environ), environ)
    assert says in caught.value.attempts[-1].reason


def test_no_flyte_is_asked_where_none_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Contract: with nothing configured the error comes within one second."""
    asked: list[object] = []
    monkeypatch.setattr(discovery, "public_client", lambda *what, **more: asked.append(what))
    environ = in_a_pod(HOME=str(tmp_path))
    started = time.monotonic()
    with pytest.raises(NoCredential):
        resolve(Asked(), config.load(environ), environ)
    assert asked == []
    assert time.monotonic() - started < 1


def test_plaintext_is_no_matter_where_there_is_never_a_token(open_flyte: Place, tmp_path: Path) -> None:
    """In a cluster flyteadmin is often reached so. A source that may have a token is refused, as ever."""
    use(in_a_pod(HOME=str(tmp_path), FLYTE_PLATFORM_URL=open_flyte.plane.endpoint, FLYTE_PLATFORM_INSECURE="1"))
    settings = config.load(os.environ)
    found = resolve(Asked(configured=open_flyte.plane.endpoint), settings, os.environ)
    assert (found.provider, found.source.get().is_anonymous) == ("none", True)
    elsewhere = replace(found, endpoint=parse("http://flyteadmin.flyte:81"))
    assert flyte.platform(elsewhere, settings).insecure
    with pytest.raises(ConfigError, match="in plaintext"):
        flyte.platform(replace(elsewhere, provider="agent"), settings)
