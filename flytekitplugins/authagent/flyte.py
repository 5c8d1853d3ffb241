"""Which Flyte, and how flytekit is to talk to it."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace

import grpc
from flyteidl.service.auth_pb2 import PublicClientAuthConfigRequest
from flyteidl.service.auth_pb2_grpc import AuthMetadataServiceStub
from flytekit.clients.auth_helper import get_channel
from flytekit.configuration import Config, PlatformConfig, get_config_file
from flytekit.configuration.internal import Platform as PlatformEntries

from flytekitplugins.authagent import config as client_config
from flytekitplugins.authagent import endpoint as endpoints
from flytekitplugins.authagent.config import Settings
from flytekitplugins.authagent.context import from_environment
from flytekitplugins.authagent.errors import ConfigError, ProviderUnavailable
from flytekitplugins.authagent.resolve import Asked, Resolution, resolve

DISCOVERY_TIMEOUT = 5.0
"""Seconds for the anonymous call that asks a server which header it wants."""

NO_ENDPOINT = "no Flyte endpoint is configured"
ENDPOINT_HINT = "set FLYTE_PLATFORM_URL, or AuthAgent(endpoint=...), or `flyte:` in the agent's configuration"


@dataclass(frozen=True)
class Platform(PlatformConfig):  # type: ignore[misc] # flytekit has no types
    """flytekit's platform configuration, which carries what was resolved to the authenticator."""

    resolution: Resolution | None = field(default=None, repr=False, compare=False)


def configured_endpoint() -> str | None:
    """The endpoint of the environment or of the Flyte configuration file; never flytekit's own default."""
    found: str | None = PlatformEntries.URL.read(get_config_file(None))
    return found or None


def platform(resolution: Resolution, settings: Settings) -> Platform:
    """
    The configuration of a client that sends the credentials of `resolution`.

    Everything but the endpoint and the authentication is the user's own. A client secret is left out: this
    client does not use it, and flytekit shows it in reprs. Raises `ConfigError` where no endpoint is known, or
    where the credential would travel in plain sight.
    """
    if resolution.endpoint is None:
        raise ConfigError(NO_ENDPOINT, hint=ENDPOINT_HINT)
    users = Config.auto().platform
    insecure = users.insecure if resolution.insecure is None else resolution.insecure
    own = {f.name: getattr(users, f.name) for f in fields(users)} | {
        "endpoint": resolution.endpoint.target,
        "insecure": insecure,
        "auth_mode": "authagent",
        "client_credentials_secret": None,
        "resolution": resolution,
    }
    found = Platform(**own)
    check_plaintext(found, settings)
    return found


def check_plaintext(platform: PlatformConfig, settings: Settings) -> None:
    """Refuse to send a bearer token where the network can read it. Raises `ConfigError`."""
    to = endpoints.parse(platform.endpoint)
    if platform.insecure and not settings.may_send_plaintext(to):
        raise ConfigError(
            f"a token would be sent to {to.target} in plaintext, where anybody on the way can read it",
            hint=f"use TLS (insecure: false), or set AUTHAGENT_ALLOW_PLAINTEXT={to.host}",
        )


def resolved_for(platform: PlatformConfig, environ: Mapping[str, str]) -> Resolution:
    """
    What serves a client that flytekit itself built (`Config.auto()`, stock eager, `pyflyte`) from the environment.

    Raises `ConfigError` for a client that was built without an endpoint: flytekit then means its local sandbox.
    """
    if platform.endpoint == PlatformConfig.endpoint and configured_endpoint() is None:
        raise ConfigError(NO_ENDPOINT, hint=ENDPOINT_HINT)
    settings = client_config.load(environ)
    check_plaintext(platform, settings)
    asked = Asked(
        context=from_environment(environ),
        endpoint=platform.endpoint,
        audience=platform.audience,
        scopes=tuple(platform.scopes or ()),
    )
    return replace(resolve(asked, settings, environ), insecure=platform.insecure)


_headers: dict[tuple[str, bool], str] = {}
_headers_lock = threading.Lock()


def discovered_header(platform: PlatformConfig) -> str:
    """
    The metadata key that the server wants tokens under, asked once for each server and process.

    A server without authentication does not offer the question (UNIMPLEMENTED) and gets `authorization`. Raises
    `ProviderUnavailable` where it does not answer in time.
    """
    server = (platform.endpoint, platform.insecure)
    with _headers_lock:
        if server not in _headers:
            _headers[server] = _ask_for_header(platform)
        return _headers[server]


def _ask_for_header(platform: PlatformConfig) -> str:
    channel = get_channel(platform)
    try:
        stub = AuthMetadataServiceStub(channel)
        answer = stub.GetPublicClientConfig(PublicClientAuthConfigRequest(), timeout=DISCOVERY_TIMEOUT)
    except grpc.RpcError as failed:
        if failed.code() == grpc.StatusCode.UNIMPLEMENTED:
            return "authorization"
        raise ProviderUnavailable(
            f"Flyte at {platform.endpoint} does not say which header it wants: {failed.code().name}",
            hint="is the endpoint right? Setting authorization_header in the binding spares the question",
        ) from None
    finally:
        channel.close()
    return (answer.authorization_metadata_key or "authorization").lower()


def _after_fork() -> None:
    global _headers_lock  # noqa: PLW0603 - a lock that another thread of the parent held would never open
    _headers_lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
