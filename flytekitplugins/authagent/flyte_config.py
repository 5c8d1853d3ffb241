"""
Flyte's own configuration, as its documentation has it: `~/.flyte/config.yaml`, and `FLYTE_*` in the environment.

flytekit reads a part of it. Here is all of it, for the providers that stand in for flytekit's.
"""

from __future__ import annotations

import configparser
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from flytekitplugins.authagent import endpoint, environment, trust, yaml_file
from flytekitplugins.authagent.errors import ConfigError
from flytekitplugins.authagent.specs import Scopes

MAX_REDIRECTED = 64 * 1024
"""Bytes of a file that a `_FROM_FILE` variable names."""


def _words(value: Any) -> Any:
    return tuple(w for w in value.replace(",", " ").split() if w) if isinstance(value, str) else value


def _argv(value: Any) -> Any:
    """A list; or text as flytekit has it in the environment, its words between commas or blanks."""
    if isinstance(value, str):
        return tuple(value.split(",")) if "," in value else tuple(shlex.split(value))
    return value


def _file(value: Any) -> Any:
    return str(Path(value).expanduser()) if isinstance(value, str) else value


Words = Annotated[Scopes, BeforeValidator(_words)]
Argv = Annotated[tuple[str, ...], BeforeValidator(_argv), Field(strict=False)]
FilePath = Annotated[str, AfterValidator(_file)]


class Admin(BaseModel):
    """
    The section `admin:`. Keys that are not ours are flytectl's, or of a newer Flyte, so they are not looked at.

    A secret never stands here; `clientSecretLocation` and `clientSecretEnvVar` say where it is.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, hide_input_in_errors=True)

    endpoint: str | None = None
    insecure: bool | None = None
    authType: str | None = None
    clientId: str | None = None
    clientSecretLocation: FilePath | None = None
    clientSecretEnvVar: str | None = None
    scopes: Words = ()
    audience: str | None = None
    useAudienceFromAdmin: bool = False
    authorizationHeader: str | None = None
    insecureSkipVerify: bool = False
    caCertFilePath: FilePath | None = None
    httpProxyURL: str | None = Field(default=None, repr=False)  # it may hold a password
    command: Argv = ()
    proxyCommand: Argv = ()


class File(BaseModel):
    """The whole of `config.yaml`, of which `admin:` is ours."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    admin: Admin = Admin()


VARIABLES = {
    "endpoint": ("FLYTE_PLATFORM_URL",),
    "insecure": ("FLYTE_PLATFORM_INSECURE",),
    "insecureSkipVerify": ("FLYTE_PLATFORM_INSECURE_SKIP_VERIFY",),
    "caCertFilePath": ("FLYTE_PLATFORM_CA_CERT_FILE_PATH",),
    "httpProxyURL": ("FLYTE_PLATFORM_HTTP_PROXY_URL",),
    "authType": ("FLYTE_CREDENTIALS_AUTH_MODE",),
    "clientId": ("FLYTE_CREDENTIALS_CLIENT_ID",),
    "clientSecretLocation": ("FLYTE_CREDENTIALS_CLIENT_SECRET_LOCATION", "FLYTE_CREDENTIALS_CLIENT_SECRET_FROM_FILE"),
    "clientSecretEnvVar": (
        "FLYTE_CREDENTIALS_CLIENT_SECRET_ENV_VAR",
        "FLYTE_CREDENTIALS_CLIENT_SECRET_FROM_ENV_VAR",
    ),
    "scopes": ("FLYTE_CREDENTIALS_SCOPES", "FLYTE_CREDENTIALS_OAUTH_SCOPES"),
    "audience": ("FLYTE_CREDENTIALS_AUDIENCE",),
    "authorizationHeader": ("FLYTE_CREDENTIALS_AUTHORIZATION_METADATA_KEY",),
    "command": ("FLYTE_CREDENTIALS_COMMAND",),
    "proxyCommand": ("FLYTE_CREDENTIALS_PROXY_COMMAND",),
}
"""The variable of each key, the first that is set going before the file."""

SECRET = "FLYTE_CREDENTIALS_CLIENT_SECRET"  # noqa: S105 - the name of a variable
_SECRETS = ("clientSecretLocation", "clientSecretEnvVar")
_BOOLEANS = ("insecure", "insecureSkipVerify")


@dataclass(frozen=True)
class FlyteConfig:
    """
    What the environment and the file say together, the environment first. `source` is the file, if there is one.

    `said` tells for each key that is set where it comes from. `authentication` is false where `FLYTE_PLATFORM_AUTH`
    switches it off.
    """

    admin: Admin = field(default_factory=Admin)
    source: str | None = None
    said: Mapping[str, str] = field(default_factory=dict)
    authentication: bool = True

    @property
    def has_secret(self) -> bool:
        """Whether a client secret is configured: flytekit authenticates with it then, whatever `authType` says."""
        return bool(self.admin.clientSecretLocation or self.admin.clientSecretEnvVar)

    def is_for(self, wanted: str | None) -> bool:
        """Whether this is about the Flyte at `wanted`: what is configured for one is not for another."""
        named = self.admin.endpoint
        return not (named and wanted) or endpoint.parse(named).same_as(endpoint.parse(wanted))


def load(environ: Mapping[str, str]) -> FlyteConfig:
    """
    Read what `environ` and the file say.

    Raises `ConfigError` naming the variable, or the file, the line and the key, for what cannot be used.
    """
    source, file = _read_file(environ)
    values = file.model_dump(exclude_unset=True)
    said = dict.fromkeys(values, source or "")
    for key, names in VARIABLES.items():
        for name in names:
            value = _variable(environ, name)
            if value is not None:
                values[key] = environment.boolean({name: value}, name) if key in _BOOLEANS else value
                said[key] = name
                break
    if environ.get(SECRET) and not any(said.get(key, "").startswith("FLYTE_") for key in _SECRETS):
        values["clientSecretEnvVar"], said["clientSecretEnvVar"] = SECRET, SECRET
    _environment_first(values, said)
    try:
        admin = Admin.model_validate(values)
    except ValidationError as wrong:
        keys = [str(error["loc"][0]) for error in wrong.errors(include_input=False)]
        raise ConfigError(f"{', '.join(said.get(k, k) for k in keys)} cannot be used as {', '.join(keys)}") from None
    return FlyteConfig(admin, source, said, environment.boolean(environ, "FLYTE_PLATFORM_AUTH", default=True))


def _environment_first(values: dict[str, Any], said: dict[str, str]) -> None:
    """A secret named by the environment replaces one that the file names in the other way."""
    if all(key in said for key in _SECRETS):
        file, variable = (said[key].startswith("FLYTE_") for key in _SECRETS)
        losing = _SECRETS[0] if variable and not file else _SECRETS[1]
        values.pop(losing), said.pop(losing)


def _variable(environ: Mapping[str, str], name: str) -> str | None:
    """The value of `name`, or of what `name` + `_FROM_ENV_VAR` or `_FROM_FILE` points at."""
    value = environ.get(name)
    if value or name.endswith(("_FROM_FILE", "_FROM_ENV_VAR")):
        return value or None
    if pointer := environ.get(f"{name}_FROM_ENV_VAR"):
        if pointer not in environ:
            raise ConfigError(f"{name}_FROM_ENV_VAR names {pointer}, which is not set")
        return environ[pointer] or None
    if path := environ.get(f"{name}_FROM_FILE"):
        try:
            text = trust.read(Path(os.path.abspath(path)), secret=False, limit=MAX_REDIRECTED).decode()  # noqa: PTH100
        except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError):
            raise ConfigError(f"{name}_FROM_FILE names {path}, which is not a file of text") from None
        return text.strip() or None
    return None


def _read_file(environ: Mapping[str, str]) -> tuple[str | None, Admin]:
    """The first file there is, in flytekit's order."""
    for name in ("_FLYTECTL_CONFIG_PYFLYTE_OVERRIDE", "FLYTECTL_CONFIG"):
        if named := environ.get(name):
            path = Path(named).absolute()
            if path.exists():
                return str(path), _parsed(path)
            break  # flytekit goes on to the usual places then, and so do we
    home = Path(environ.get("HOME") or Path.home())
    for path in (Path("flytekit.config").absolute(), home / ".flyte" / "config", home / ".flyte" / "config.yaml"):
        if path.exists():
            return str(path), _parsed(path)
    return None, Admin()


def _parsed(path: Path) -> Admin:
    if path.suffix in (".yaml", ".yml"):
        return yaml_file.load(path, File).admin
    parser = configparser.ConfigParser()
    try:
        parser.read_string(trust.read(path, secret=False, limit=yaml_file.MAX_FILE).decode())
    except (configparser.Error, ValueError) as broken:
        raise ConfigError(f"{path} is not a Flyte configuration file: {type(broken).__name__}") from None
    values: dict[str, Any] = {}
    for key, names in VARIABLES.items():
        section, _, option = names[0].removeprefix("FLYTE_").lower().partition("_")
        if parser.has_option(section, option):
            text = parser.get(section, option, raw=True)
            values[key] = environment.boolean({option: text}, option) if key in _BOOLEANS else text
    try:
        return Admin.model_validate(values)
    except ValidationError:
        raise ConfigError(f"{path} holds values that cannot be used") from None
