"""
flytekit's own client, taught to tell the agent of what it launches: see docs/decisions/0021-flytekits-own-client.md.

It is what stock `@eager`, `pyflyte` in a task and `FlyteRemote(Config.auto())` launch by.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from flytekit.clients.friendly import SynchronousFlyteClient

from flytekitplugins.authagent.context import from_environment
from flytekitplugins.authagent.launching_client import telling

if TYPE_CHECKING:
    from flytekitplugins.authagent.providers.agent import AgentProvider

MODE = "authagent"
"""The `auth_mode` of the clients that are authenticated by us."""

_agents: MutableMapping[SynchronousFlyteClient, AgentProvider | None] = WeakKeyDictionary()
_taught = False


def teach(environ: Mapping[str, str]) -> None:
    """
    In a task, let it tell of its launches where it is authenticated by us, and do what it did elsewhere.

    It is taught once for the process.
    """
    global _taught  # noqa: PLW0603 - so is the class
    if _taught or from_environment(environ).execution_id is None:
        return
    _taught = True
    for name in ("create_execution", "relaunch_execution", "recover_execution"):
        setattr(SynchronousFlyteClient, name, telling(getattr(SynchronousFlyteClient, name), _agent_of))


def _agent_of(client: SynchronousFlyteClient) -> AgentProvider | None:
    """The agent that serves `client` and this execution; `None` for others' clients, and ours, which tell too."""
    from flytekitplugins.authagent import flyte

    platform = client._cfg
    if isinstance(platform, flyte.Platform) or str(platform.auth_mode).lower() != MODE:
        return None
    if client not in _agents:
        _agents[client] = flyte.resolved_for(platform, os.environ).agent
    return _agents[client]
