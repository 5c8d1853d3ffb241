"""The providers that are tried where no binding decides (contract section 3), each as the environment configures it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from flytekitplugins.authagent import credential as credentials
from flytekitplugins.authagent import discovery, environment, flyte_config
from flytekitplugins.authagent.config import Settings
from flytekitplugins.authagent.credential import Credential
from flytekitplugins.authagent.discovery import FlyteServer
from flytekitplugins.authagent.errors import AuthAgentError, ConfigError
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

logger = logging.getLogger(__name__)

EVERYWHERE = ("agent", "file", "env", "api_key", "client_credentials")
OUTSIDE_A_POD = ("flyte", "keyring", "login")
"""`flyte` is the `authType` that Flyte's configuration names. Without one a login that is there is used, or made."""

IN_A_POD = ("none",)
"""No credential, where Flyte has no authentication. Outside a pod a login finds that out."""

TITLES = {
    "flyte": "the authType of Flyte's configuration",
    "login": "a login with a browser",
    "none": "no credential, if Flyte has no authentication",
}
"""What people read for a name that is not a provider's."""

PATIENCE = 5.0
"""Seconds in which Flyte must say whether it has authentication. One that is there answers in milliseconds."""

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


@dataclass(frozen=True)
class WithoutAuthentication:
    """
    No credential, where the Flyte at `server` says itself that it has no authentication.

    It never has a token, so Flyte may be asked in plaintext: there is nothing to take, nor to send elsewhere.
    """

    server: FlyteServer | None
    kind: str = "none"
    remedy: str = "configure one of the other providers"

    @property
    def absent(self) -> str:
        """See `Provider`."""
        if self.server is None:
            return "no Flyte is configured that could be asked whether it has authentication"
        return f"Flyte at {self.server.endpoint.target} wants a credential, or does not say"

    def fetch(self, wanted: Wanted, *, min_lifetime: float | None = None) -> Credential | None:
        """
        Nothing to send; `None` where Flyte wants tokens, or cannot be asked.

        A failure means nothing but that: only an answer of Flyte's opens anything.
        """
        if self.server is None:
            return None
        try:
            client = discovery.public_client(replace(self.server, timeout=PATIENCE), doubt_none=True)
        except AuthAgentError as failed:
            logger.info("%s", failed)
            return None
        return credentials.anonymous(provider=self.kind) if client is None else None


def names(settings: Settings) -> tuple[str, ...]:
    """The names to try, in order."""
    return EVERYWHERE + (IN_A_POD if settings.in_pod else OUTSIDE_A_POD)


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
        "api_key": lambda: _api_key(flyte_config.load(environ), wanted),
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
        "login": _login,
    }
    if name in plain:
        return plain[name]()
    if name in by_flyte:
        config = flyte_config.load(environ)
        return by_flyte[name](config) if config.is_for(wanted) else _of_another(name, config, wanted)
    return Unconfigured(name, "no binding configures it", f"write a binding with kind: {name}")


def _api_key(config: FlyteConfig, wanted: str | None) -> ApiKeySpec:
    """A key says who the client is; what its tokens are for is configured as for any other client."""
    if not config.is_for(wanted):
        return ApiKeySpec()
    admin = config.admin
    return ApiKeySpec(scopes=admin.scopes, audience=admin.audience, audience_from_flyte=admin.useAudienceFromAdmin)


def _of_another(name: str, config: FlyteConfig, wanted: str | None) -> ProviderSpec | Unconfigured:
    """A login at a Flyte that is not the configured one is still a login; nothing else is known of it."""
    plain: dict[str, ProviderSpec] = {"keyring": KeyringSpec(), "pkce": PkceSpec(), "device": DeviceSpec()}
    return plain.get(name) or Unconfigured(
        {"flyte": "Flyte's configuration", "login": "pkce"}.get(name, name),
        f"what is configured is for {config.admin.endpoint}, not for {wanted}",
        "write a binding with the endpoint of this one, or `authagent login --endpoint`",
    )


def of_flyte(config: FlyteConfig) -> ProviderSpec | Unconfigured:
    """
    What Flyte's own configuration names; as flytekit has it, a client secret goes before `authType`.

    Raises `ConfigError` for an `authType` that there is not, or that lacks what it needs.
    """
    if config.admin.endpoint is None:
        return _no_flyte("flyte")
    if not config.has_secret and config.admin.authType is None:
        return Unconfigured(
            "flyte", "Flyte's configuration names no authType", "set `authType` in ~/.flyte/config.yaml"
        )
    kind = ClientCredentialsSpec if config.has_secret else AUTH_TYPES.get((config.admin.authType or "").lower())
    if kind is None:
        raise ConfigError(
            f"{config.said.get('authType')} asks for the authType {config.admin.authType!r}, which there is not",
            hint="one of ClientSecret, Pkce, DeviceFlow, ExternalCommand",
        )
    if issubclass(kind, CommandSpec):
        found = _command(config)
        if isinstance(found, Unconfigured):
            raise ConfigError(
                f"{config.said.get('authType')} asks for the authType {config.admin.authType!r}, and no command is set",
                hint=found.remedy,
            )
        return found
    return _made(kind, config) if issubclass(kind, ClientSpec) else PassthroughSpec()


def _login(config: FlyteConfig) -> ProviderSpec | Unconfigured:
    """The login of a person who is served by nothing else, where Flyte's configuration names no other way."""
    if config.admin.endpoint is None:
        return _no_flyte("pkce")
    if isinstance(of_flyte(config), Unconfigured):
        return _made(PkceSpec, config)
    return Unconfigured("pkce", f"the authType of {config.said.get('authType')} is tried in its place", "")


def _no_flyte(name: str) -> Unconfigured:
    return Unconfigured(
        name, "Flyte's configuration names no endpoint", "write ~/.flyte/config.yaml, or set FLYTE_PLATFORM_URL"
    )


def _made(kind: type[Any], config: FlyteConfig) -> ProviderSpec:
    """A spec of `kind` with what the configuration says of a client."""
    admin = config.admin
    options: dict[str, Any] = {
        "client_id": admin.clientId,
        "audience": admin.audience,
        "audience_from_flyte": admin.useAudienceFromAdmin,
        "scopes": admin.scopes,
        "ca_file": admin.caCertFilePath,
        "insecure_skip_verify": admin.insecureSkipVerify,
        "proxy": admin.httpProxyURL,
    }
    if issubclass(kind, ClientCredentialsSpec):
        options["client_secret_file"] = admin.clientSecretLocation
        options["client_secret_env"] = admin.clientSecretEnvVar
        options["token_endpoint"] = admin.tokenUrl
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


def _command(config: FlyteConfig) -> CommandSpec | Unconfigured:
    if not config.admin.command:
        return Unconfigured("command", "no command is configured", "set `command` in ~/.flyte/config.yaml")
    return CommandSpec(command=config.admin.command)


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
