"""A whole sandbox: provider, control plane and agent, cold and with zero counts."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from flytekitplugins.authagent.sandbox import environment
from flytekitplugins.authagent.sandbox.posture import Posture
from flytekitplugins.authagent.sandbox.sandbox import Sandbox


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A sandbox of the test's own."""
    with tempfile.TemporaryDirectory(prefix="aa-", ignore_cleanup_errors=True) as directory:
        running = Sandbox(Path(directory), Posture())
        try:
            running.start()
            yield running
        finally:
            running.stop()


@pytest.fixture
def client(sandbox: Sandbox, tmp_path: Path) -> dict[str, str]:
    """The environment of a process that uses the sandbox's agent."""
    return environment.of_command(
        {"PATH": "/usr/bin:/bin"},
        home=tmp_path,
        endpoint=sandbox.control_plane.endpoint,
        agent_socket=sandbox.agent.socket,
    )
