"""Which Flyte, and how flytekit is to talk to it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from flytekit.configuration import Config, PlatformConfig, get_config_file

from flytekitplugins.authagent import config as client_config
from flytekitplugins.authagent import discovery, flyte_config
from flytekitplugins.authagent import endpoint as endpoints
from flytekitplugins.authagent.asked import Asked
from flytekitplugins.authagent.config import Settings
from flytekitplugins.authagent.context import from_environment
from flytekitplugins.authagent.discovery import FlyteServer
from flytekitplugins.authagent.errors import ConfigError
from flytekitplugins.authagent.resolve import Resolution, resolve

NO_ENDPOINT = "no Flyte endpoint is configured"
ENDPOINT_HINT = "set FLYTE_PLATFORM_URL, or AuthAgent(endpoint=...), or `flyte:` in the agent's configuration"


@dataclass(frozen=True)
class Platform(PlatformConfig):  # type: ignore[misc] # flytekit has no types
    """flytekit's platform configuration, which carries what was resolved to the authenticator."""

    resolution: Resolution | None = field(default=None, repr=False, compare=False)


def configured_endpoint() -> str | None:
    """
    The endpoint of the environment or of the Flyte configuration file; never flytekit's own default.

    Raises `ConfigError` for what is configured and cannot be used, and for a file in the working directory.
    """
    found = get_config_file(None)  # flytekit keeps the first that it found, wherever this process stands by now
    if found is not None and Path(found._location).name == flyte_config.WORKING_DIRECTORY_FILE:
        flyte_config.refuse_working_directory(os.environ, Path(found._location).parent)
    return flyte_config.load(os.environ).admin.endpoint


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
    if not resolution.sends_nothing:
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
    configured = configured_endpoint()
    if platform.endpoint == PlatformConfig.endpoint and not _is(configured, platform.endpoint):
        raise ConfigError(NO_ENDPOINT, hint=ENDPOINT_HINT)
    settings = client_config.load(environ)
    asked = Asked(
        context=from_environment(environ),
        endpoint=platform.endpoint,
        insecure=platform.insecure,
        audience=platform.audience,
        scopes=tuple(platform.scopes or ()),
    )
    resolution = resolve(asked, settings, environ)
    if not resolution.sends_nothing:
        check_plaintext(platform, settings)
    return replace(resolution, insecure=platform.insecure)


def _is(configured: str | None, endpoint: str) -> bool:
    return configured is not None and endpoints.parse(configured).same_as(endpoints.parse(endpoint))


def discovered_header(platform: PlatformConfig) -> str:
    """
    The metadata key that the server wants tokens under, asked once for each server and process.

    A server without authentication does not offer the question and gets `authorization`. Raises as
    `discovery.FlyteServer.call`.
    """
    client = discovery.public_client(server(platform))
    return (client.header if client else "") or "authorization"


def server(platform: PlatformConfig) -> FlyteServer:
    """The Flyte of `platform`, and how it is reached."""
    return FlyteServer(
        endpoints.parse(platform.endpoint),
        insecure=platform.insecure,
        ca_file=Path(os.path.abspath(platform.ca_cert_file_path)) if platform.ca_cert_file_path else None,  # noqa: PTH100 - links stay
        skip_verify=platform.insecure_skip_verify,
        proxy_command=tuple(platform.proxy_command or ()),
    )
