"""What the tests of hubs share: a world for each file, with zero counts for each test, and a hub in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import running_hub
from running_hub import Hub, World


@pytest.fixture(scope="module")
def shared_world() -> Iterator[World]:
    with running_hub.world() as made:
        yield made


@pytest.fixture
def world(shared_world: World) -> World:
    provider, admin = shared_world.provider, shared_world.admin
    provider.faults.put(dict.fromkeys(provider.faults.snapshot(), 0))
    provider.counts.reset()
    admin.failing, admin.slow = None, 0.0
    admin.calls.clear()
    shared_world.api.faults.clear()
    return shared_world


@pytest.fixture(scope="module")
def shared_hub(shared_world: World) -> Iterator[Hub]:
    with running_hub.running(shared_world) as made:
        yield made


@pytest.fixture
def hub(shared_hub: Hub, world: World) -> Hub:
    """One that other tests of the file use, too."""
    return shared_hub
