"""One Flyte for all tests of a file that need one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from flyte_place import Place, running

from flytekitplugins.authagent.source import process_wide


@pytest.fixture(scope="module")
def shared_place() -> Iterator[Place]:
    """A Flyte that the tests of one file share."""
    with tempfile.TemporaryDirectory(prefix="aa-", ignore_cleanup_errors=True) as directory:
        with running(Path(directory)) as place:
            yield place


@pytest.fixture
def place(shared_place: Place) -> Place:
    """The shared Flyte with zero counts, no faults, and a token file as at its start."""
    shared_place.faults.put({name: 0 for name in shared_place.faults.snapshot()})
    shared_place.write_token(shared_place.mint())
    shared_place.counts.reset()
    return shared_place


@pytest.fixture(autouse=True)
def own_environment(tmp_path: Path) -> Iterator[None]:
    """Nothing of the machine's environment reaches a test, and nothing of a test's the next one."""
    saved = dict(os.environ)
    for name in saved:
        if name.startswith(("FLYTE", "AUTHAGENT", "_F", "XDG_RUNTIME")):
            del os.environ[name]
    os.environ["HOME"] = str(tmp_path)
    process_wide.clear()
    yield
    os.environ.clear()
    os.environ.update(saved)
