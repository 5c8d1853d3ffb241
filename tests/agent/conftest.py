"""A provider and an agent for each file, with zero counts for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import running_agent
import running_provider
from attesting import Place


@pytest.fixture(scope="module")
def shared_provider() -> Iterator[running_provider.Running]:
    with running_provider.running() as provider:
        yield provider


@pytest.fixture
def provider(shared_provider: running_provider.Running) -> running_provider.Running:
    shared_provider.faults.put(dict.fromkeys(shared_provider.faults.snapshot(), 0))
    shared_provider.counts.reset()
    return shared_provider


@pytest.fixture(scope="module")
def shared_agent(shared_provider: running_provider.Running) -> Iterator[running_agent.Agent]:
    with running_agent.running(shared_provider, flyte={"endpoint": "dns:///flyte.example.com"}) as agent:
        yield agent


@pytest.fixture
def agent(shared_agent: running_agent.Agent, provider: running_provider.Running) -> running_agent.Agent:
    """One that may have tokens cached already."""
    return shared_agent


@pytest.fixture
def cold_agent(provider: running_provider.Running) -> Iterator[running_agent.Agent]:
    with running_agent.running(provider) as agent:
        yield agent


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.attestor.close()
    place.api.close()
