"""The providers that are tried where no binding decides (contract section 3), each as the environment configures it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from flytekitplugins.authagent import credential as credentials
from flytekitplugins.authagent import environment, flyte_config
from flytekitplugins.authagent.config import Settings
from flytekitplugins.authagent.credential import Credential
from flytekitplugins.authagent.errors import ConfigError
from flytekitplugins.authagent.flyte_config import FlyteConfig
from flytekitplugins.authagent.providers import Wanted
from flytekitplugins.authagent.specs import (
    AgentSpec,
    ApiKeySpec,
    ClientCredentialsSpec,
    ClientSpec,
    CommandSpec,
    DeviceSpec,
    EnvSpec,
    FileSpec,
    KeyringSpec,
    PassthroughSpec,
    PkceSpec,
    ProviderSpec,
)

EVERYWHERE = ("agent", "file", "env", "api_key", "client_credentials")
OUTSIDE_A_POD = ("keyring", "flyte")
"""`flyte` is what Flyte's own configuration says, under the name of its kind."""

AUTH_TYPES: dict[str, type[ClientSpec] | type[CommandSpec] | type[PassthroughSpec]] = {
    "standard": PkceSpec,
    "pkce": PkceSpec,
    "deviceflow": DeviceSpec,
    "basic": ClientCredentialsSpec,
    "client_credentials": ClientCredentialsSpec,
    "clientsecret": ClientCredentialsSpec,
    "external_process": CommandSpec,
    "externalcommand": CommandSpec,
    "passthrough": PassthroughSpec,
}
"""flytekit's spellings of `authType`, flytectl's and Flyte 2's, in lower case."""


@dataclass(frozen=True)
class Unconfigured:
    """A provider that is not configured, and what would configure it."""

    kind: str
    absent: str
    remedy: str

    def fetch(self, wanted: Wanted, *, min_lifetime: float | None = None) -> None:
        """There is nothing to ask."""


@dataclass(frozen=True)
class SwitchedOff:
    """What `FLYTE_PLATFORM_AUTH=0` asks for: no credential at all."""

    kind: str = "none"
    absent: str = ""
    remedy: str = ""

    def fetch(self, wanted: Wanted, *, min_lifetime: float | None = None) -> Credential:
        """Nothing is sent."""
        return credentials.anonymous(provider=self.kind)


def names(settings: Settings) -> tuple[str, ...]:
    """The names to try, in order."""
    return EVERYWHERE if settings.in_pod else EVERYWHERE + OUTSIDE_A_POD


def is_switched_off(environ: Mapping[str, str]) -> bool:
    """Whether `FLYTE_PLATFORM_AUTH` says that nobody wants a token. Raises `ConfigError` for a bad value."""
    return not environment.boolean(environ, "FLYTE_PLATFORM_AUTH", default=True)


def spec(
    name: str, settings: Settings, environ: Mapping[str, str], *, wanted: str | None = None
) -> ProviderSpec | Unconfigured:
    """
    The provider called `name`, as the environment and Flyte's configuration describe it.

    `wanted` is the Flyte that it is for. What is configured for another one does not count: its secrets and tokens
    go to the Flyte that it names.

    Raises `ConfigError` for what they say that cannot be used.
    """
    plain: dict[str, Callable[[], ProviderSpec | Unconfigured]] = {
        "agent": lambda: AgentSpec(socket=settings.socket, token_file=settings.pod_token),
        "env": EnvSpec,
        "file": lambda: FileSpec(path=settings.token_file) if settings.token_file else _no_file(),
        "api_key": ApiKeySpec,
        "passthrough": PassthroughSpec,
    }
    by_flyte: dict[str, Callable[[FlyteConfig], ProviderSpec | Unconfigured]] = {
        "client_credentials": lambda config: (
            _made(ClientCredentialsSpec, config) if config.has_secret else _no_client()
        ),
        "keyring": lambda config: _made(KeyringSpec, config),
        "pkce": lambda config: _made(PkceSpec, config),
        "device": lambda config: _made(DeviceSpec, config),
        "command": _command,
        "flyte": of_flyte,
    }
    if name in plain:
        return plain[name]()
    if name in by_flyte:
        config = flyte_config.load(environ)
        return by_flyte[name](config) if config.is_for(wanted) else _of_another(name, config, wanted)
    return Unconfigured(name, "no binding configures it", f"write a binding with kind: {name}")


def _of_another(name: str, config: FlyteConfig, wanted: str | None) -> ProviderSpec | Unconfigured:
    """A login at a Flyte that is not the configured one is still a login; nothing else is known of it."""
    plain: dict[str, ProviderSpec] = {"keyring": KeyringSpec(), "pkce": PkceSpec(), "device": DeviceSpec()}
    return plain.get(name) or Unconfigured(
        name if name != "flyte" else "Flyte's configuration",
        f"what is configured is for {config.admin.endpoint}, not for {wanted}",
        "write a binding with the endpoint of this one, or `authagent login --endpoint`",
    )


def of_flyte(config: FlyteConfig) -> ProviderSpec | Unconfigured:
    """What Flyte's own configuration asks for; as flytekit has it, a client secret goes before `authType`."""
    if config.admin.endpoint is None:
        return Unconfigured(
            "flyte", "Flyte's configuration names no endpoint", "write ~/.flyte/config.yaml, or set FLYTE_PLATFORM_URL"
        )
    wanted = (config.admin.authType or "pkce").lower()
    if wanted == "authagent":
        wanted = "pkce"
    kind = ClientCredentialsSpec if config.has_secret else AUTH_TYPES.get(wanted)
    if kind is None:
        raise ConfigError(
            f"{config.said.get('authType')} asks for the authType {config.admin.authType!r}, which there is not",
            hint="one of ClientSecret, Pkce, DeviceFlow, ExternalCommand",
        )
    if issubclass(kind, CommandSpec):
        return _command(config)
    return _made(kind, config) if issubclass(kind, ClientSpec) else PassthroughSpec()


def _made(kind: type[Any], config: FlyteConfig) -> ProviderSpec:
    """A spec of `kind` with what the configuration says of a client."""
    admin = config.admin
    options: dict[str, Any] = {
        "client_id": admin.clientId,
        "audience": admin.audience,
        "audience_from_flyte": admin.useAudienceFromAdmin,
        "scopes": admin.scopes,
        "ca_file": absolute(admin.caCertFilePath),
        "insecure_skip_verify": admin.insecureSkipVerify,
        "proxy": admin.httpProxyURL,
    }
    if issubclass(kind, ClientCredentialsSpec):
        options["client_secret_file"] = absolute(admin.clientSecretLocation)
        options["client_secret_env"] = admin.clientSecretEnvVar
    try:
        made: ProviderSpec = kind(**options)
    except ValidationError as wrong:
        first = wrong.errors(include_input=False)[0]
        raise ConfigError(
            f"Flyte's configuration ({config.source or 'the environment'}) does not describe"
            f" {kind.model_fields['kind'].default}: {first['msg'].removeprefix('Value error, ')}",
            hint="check clientId, clientSecretLocation, scopes and httpProxyURL",
        ) from None
    return made


def _client_credentials(config: FlyteConfig) -> ProviderSpec | Unconfigured:
    return _made(ClientCredentialsSpec, config) if config.has_secret else _no_client()


def _command(config: FlyteConfig) -> CommandSpec | Unconfigured:
    if not config.admin.command:
        return Unconfigured("command", "no command is configured", "set `command` in ~/.flyte/config.yaml")
    return CommandSpec(command=config.admin.command)


def absolute(path: str | None) -> Path | None:
    """`path` from where this process stands."""
    return Path(os.path.abspath(path)) if path else None  # noqa: PTH100 - resolve() would follow links


def _no_file() -> Unconfigured:
    return Unconfigured(
        "file", "AUTHAGENT_TOKEN_FILE is not set", "set AUTHAGENT_TOKEN_FILE to a file that holds an access token"
    )


def _no_client() -> Unconfigured:
    return Unconfigured(
        "client_credentials",
        "no client secret is configured",
        "set FLYTE_CREDENTIALS_CLIENT_ID and FLYTE_CREDENTIALS_CLIENT_SECRET_LOCATION",
    )
