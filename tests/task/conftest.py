"""One Flyte for all tests of a file that need one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from flyte_place import Place, running


@pytest.fixture(scope="module")
def shared_place() -> Iterator[Place]:
    """A Flyte that the tests of one file share."""
    with (
        tempfile.TemporaryDirectory(prefix="aa-", ignore_cleanup_errors=True) as directory,
        running(Path(directory)) as place,
    ):
        yield place


@pytest.fixture
def place(shared_place: Place) -> Place:
    """The shared Flyte with zero counts, no faults, and a token file as at its start."""
    shared_place.faults.put(dict.fromkeys(shared_place.faults.snapshot(), 0))
    shared_place.write_token(shared_place.mint())
    shared_place.counts.reset()
    return shared_place
