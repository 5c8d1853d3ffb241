"""Building the `FlyteRemote` of a task, with the clients that the tasks of a process share."""

from __future__ import annotations

import os
import threading
from typing import Any

import fsspec
from flytekit.clients.friendly import SynchronousFlyteClient
from flytekit.configuration import Config, TaskConfig
from flytekit.core.context_manager import ExecutionParameters
from flytekit.remote import FlyteRemote

from flytekitplugins.authagent import config as client_config
from flytekitplugins.authagent import flyte
from flytekitplugins.authagent.asked import Asked
from flytekitplugins.authagent.config import Settings
from flytekitplugins.authagent.context import Context, RunAs
from flytekitplugins.authagent.errors import ConfigError
from flytekitplugins.authagent.launching_client import LaunchingClient
from flytekitplugins.authagent.passthrough_client import PassthroughClient
from flytekitplugins.authagent.resolve import Resolution, resolve
from flytekitplugins.authagent.task import AuthAgent, TokenRequest

SCHEME = "flyte"
"""The fsspec protocol that every `FlyteRemote` takes over for the whole process when it is made."""


class TaskRemote(FlyteRemote):  # type: ignore[misc] # flytekit has no types
    """A `FlyteRemote` whose client, and with it the connection, is shared with the other tasks of the process."""

    def __init__(self, config: Config, **options: Any) -> None:
        self.displaced = fsspec.registry.get(SCHEME)
        super().__init__(config, **options)
        self.placed = fsspec.registry.get(SCHEME)

    @property
    def client(self) -> SynchronousFlyteClient:
        """flytekit's client, connected on first use, and anew in a forked process."""
        return _shared_client(self.config.platform)


class _NoRemote(fsspec.AbstractFileSystem):  # type: ignore[misc] # fsspec has no types
    """What `flyte://` is when no remote is left: fsspec has no way to take a protocol back."""

    protocol = SCHEME
    cachable = False

    def __init__(self, *_: Any, **__: Any) -> None:
        raise ConfigError("flyte:// belongs to a FlyteRemote, and there is none here", hint="make one first")


def build(config: AuthAgent, context: Context, parameters: ExecutionParameters | None) -> FlyteRemote:
    """
    An authenticated remote for a task, its credential already obtained.

    Where nothing of ours is configured, that is what Flyte's own configuration asks for, by our means. Raises an
    `AuthAgentError`.
    """
    settings = client_config.load(os.environ)
    resolution = _resolve(config, context, settings)
    found = Config.auto().with_params(platform=flyte.platform(resolution, settings))
    return TaskRemote(found, **_defaults(config, context), **_uploads(settings, parameters))


def resolved(config: AuthAgent, context: Context) -> Resolution:
    """The source that serves the task, with a credential in it. Raises an `AuthAgentError`."""
    return _resolve(config, context, client_config.load(os.environ))


def token(config: AuthAgent, context: Context, request: TokenRequest) -> str:
    """A fresh token for `request`, from the provider that serves the task. Raises an `AuthAgentError`."""
    run_as = context.run_as
    if request.client:
        run_as = RunAs(oauth2_client=request.client)
    asked = Asked(
        context=Context(context.project, context.domain, context.execution, context.task, run_as),
        provider=config.provider,
        audience=request.audience,
        scopes=tuple(request.scopes),
    )
    resolution = resolve(asked, client_config.load(os.environ), os.environ)
    return resolution.source.get().token.reveal()


def forget(remote: FlyteRemote) -> None:
    """Give `flyte://` back to whom it belonged before `remote` was made, unless somebody has it by now."""
    if isinstance(remote, TaskRemote) and fsspec.registry.get(SCHEME) is remote.placed:
        fsspec.register_implementation(SCHEME, remote.displaced or _NoRemote, clobber=True)


def _resolve(config: AuthAgent, context: Context, settings: Settings) -> Resolution:
    asked = Asked(
        context=context,
        provider=config.provider,
        endpoint=config.endpoint,
        configured=flyte.configured_endpoint(),
        audience=config.audience,
        scopes=tuple(config.scopes or ()),
    )
    return resolve(asked, settings, os.environ)


def _defaults(config: AuthAgent, context: Context) -> dict[str, str | None]:
    """The execution's project and domain; outside one, those of Flyte's configuration."""
    users = TaskConfig.auto()
    return {
        "default_project": config.project or context.project or users.project,
        "default_domain": config.domain or context.domain or users.domain,
    }


def _uploads(settings: Settings, parameters: ExecutionParameters | None) -> dict[str, str]:
    """In a pod files go where the task's outputs go; elsewhere flytekit's default asks Flyte for signed URLs."""
    if settings.in_pod and parameters is not None and parameters.raw_output_prefix:
        return {"data_upload_location": parameters.raw_output_prefix}
    return {}


_Clients = dict[tuple[str, bool, int], SynchronousFlyteClient]
_clients: _Clients = {}
_clients_lock = threading.Lock()
_parents_clients: list[_Clients] = []


def _shared_client(platform: flyte.Platform) -> SynchronousFlyteClient:
    passes = platform.resolution is not None and platform.resolution.provider == "passthrough"
    # Headers that are passed through come with each call, so one client serves all.
    source = 0 if passes else id(platform.resolution.source if platform.resolution else None)
    key = (platform.endpoint, platform.insecure, source)
    with _clients_lock:
        if key not in _clients:
            _clients[key] = _client(platform, passes)
        return _clients[key]


def _client(platform: flyte.Platform, passes: bool) -> SynchronousFlyteClient:
    if passes:
        return PassthroughClient(platform)
    # Who shares a source is served by the same agent, in the same execution.
    agent = platform.resolution.agent if platform.resolution else None
    return LaunchingClient(platform, agent) if agent else SynchronousFlyteClient(platform)


def _after_fork() -> None:
    """gRPC connections do not survive a fork. The parent's are kept: closing them here would wait for its threads."""
    global _clients, _clients_lock
    _parents_clients.append(_clients)
    _clients, _clients_lock = {}, threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
