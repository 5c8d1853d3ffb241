"""What `authagent login` keeps, and the agent of the same user mints from: `kind: keyring`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import running_agent
from flyte_on_a_laptop import TESTS, Laptop, laptop
from running_agent import Agent
from test_person_commands import login

pytestmark = pytest.mark.timeout(150)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laptop]:
    home = tmp_path_factory.mktemp("home")
    home.chmod(0o700)
    with laptop(home) as it:
        it.configure()
        login(it, "--no-browser", "--store", "file")
        yield it


@contextmanager
def agent_of(place: Laptop, upstream: dict[str, Any], flyte: dict[str, Any] | None) -> Iterator[Agent]:
    """An agent of the same user, in front of the same provider."""
    environ = {
        **os.environ,
        "HOME": str(place.home),
        "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path]),
        "PYTHON_KEYRING_BACKEND": "session_servers.HomeKeyring",
    }
    scopes = upstream.get("scopes", ["all"])
    rules = [running_agent.rule("r", give={"upstream": "flyte", "scopes": scopes})]
    changed = {"flyte": flyte} if flyte else {}
    with running_agent.running(
        place.provider, environ=environ, upstreams={"flyte": {"kind": "keyring", **upstream}}, rules=rules, **changed
    ) as agent:
        yield agent


MATCHES = [
    {},
    {"scopes": ["all"]},
    {"client_id": "flytectl"},
    {"issuer": "{issuer}"},
    {"issuer": "{issuer}", "client_id": "flytectl", "scopes": ["all"]},
]
OTHERS = [
    {"client_id": "another"},
    {"issuer": "http://127.0.0.1:9"},
    {"issuer": "{issuer}", "client_id": "another"},
    {"issuer": "{issuer}", "audience": "https://another.example.com"},
    {"scopes": ["all", "admin"]},
    {"scopes": ["offline"]},  # the login has `all`, too
    {"token_endpoint": "http://127.0.0.1:9/token", "client_id": "flytectl"},
]


def filled(upstream: dict[str, Any], place: Laptop) -> dict[str, Any]:
    issuer = place.provider.issuer.issuer
    return {name: issuer if value == "{issuer}" else value for name, value in upstream.items()}


def flyte_of(place: Laptop) -> dict[str, Any]:
    return {"endpoint": place.flyte.endpoint, "insecure": True}


@pytest.mark.parametrize("upstream", MATCHES, ids=str)
def test_the_agent_finds_the_login_of_its_flyte(place: Laptop, upstream: dict[str, Any]) -> None:
    before = place.provider.counts.snapshot()["mints"]
    with agent_of(place, filled(upstream, place), flyte_of(place)) as agent:
        answer = agent.ask()
        assert answer.status == 200, agent.audit.read_text()
        assert answer.json()["access_token"] == place.run("token").stdout.strip()
    assert place.provider.counts.snapshot()["mints"] == before


@pytest.mark.parametrize("upstream", OTHERS, ids=str)
def test_a_login_of_another_client_issuer_audience_or_with_other_scopes_is_not_taken(
    place: Laptop, upstream: dict[str, Any]
) -> None:
    before = place.provider.counts.snapshot()["mints"]
    with agent_of(place, filled(upstream, place), flyte_of(place)) as agent:
        assert agent.ask().status != 200
    assert place.provider.counts.snapshot()["mints"] == before


def test_a_login_of_another_flyte_is_not_taken(place: Laptop) -> None:
    issuer = place.provider.issuer.issuer
    for flyte in (None, {"endpoint": "127.0.0.1:9", "insecure": True}):
        with agent_of(place, {"issuer": issuer, "client_id": "flytectl"}, flyte) as agent:
            assert agent.ask().status != 200


def test_what_the_agent_renews_is_the_laptops_too(place: Laptop) -> None:
    """The provider rotates refresh tokens: spending one twice would end the login for both."""
    before = place.run("token").stdout
    mints = sum(place.provider.counts.snapshot()["mints"].values())
    with agent_of(place, {"scopes": ["all"]}, flyte_of(place)) as agent:
        assert agent.ask({"min_lifetime": "86399"}).status == 400  # it renews, and no token lives as long
        renewed = agent.ask().json()["access_token"]
        assert place.run("token").stdout.strip() == renewed != before.strip()
        assert sum(place.provider.counts.snapshot()["mints"].values()) == mints + 1
    assert Path(place.home, ".flyte", "authagent", "logins").is_dir()
