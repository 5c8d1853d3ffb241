"""What tests of the hub share: a PostgreSQL, which is started once."""

from __future__ import annotations

from collections.abc import Iterator

import postgres as servers
import pytest
from hub_fixtures import hub, shared_hub, shared_world, world  # noqa: F401 - fixtures of all files here


@pytest.fixture(scope="session")
def postgres() -> Iterator[servers.Postgres]:
    """A server; `new_database()` is empty. Who stops it starts it again."""
    with servers.running() as server:
        yield server
