"""
Flyte's own configuration, as its documentation has it: `~/.flyte/config.yaml`, and `FLYTE_*` in the environment.

flytekit reads a part of it. Here is all of it, for the providers that stand in for flytekit's.
"""

from __future__ import annotations

import configparser
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from flytekitplugins.authagent import endpoint, environment, trust, yaml_file
from flytekitplugins.authagent.errors import ConfigError
from flytekitplugins.authagent.specs import ProxyUrl, Scopes

MAX_REDIRECTED = 64 * 1024
"""Bytes of a file that a `_FROM_FILE` variable names."""


def _words(value: Any) -> Any:
    return tuple(w for w in value.replace(",", " ").split() if w) if isinstance(value, str) else value


def _argv(value: Any) -> Any:
    """A list; or text as flytekit has it in the environment, its words between commas or blanks."""
    if isinstance(value, str):
        return tuple(value.split(",")) if "," in value else tuple(shlex.split(value))
    return value


def _file(value: str) -> str:
    """An absolute path: a relative one would be another file in every working directory."""
    try:
        path = Path(value).expanduser()
    except RuntimeError:
        raise ValueError("begins with ~, and the home directory is not known") from None
    if not path.is_absolute():
        raise ValueError("must be an absolute path")
    return str(path)


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
    tokenUrl: str | None = None
    audience: str | None = None
    useAudienceFromAdmin: bool = False
    authorizationHeader: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.\-]+$")] | None = None
    insecureSkipVerify: bool = False
    caCertFilePath: FilePath | None = None
    httpProxyURL: ProxyUrl | None = Field(default=None, repr=False)  # it may hold a password
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

WORKING_DIRECTORY_FILE = "flytekit.config"
"""What flytekit reads in the working directory, before the files of the user."""

SECRET = "FLYTE_CREDENTIALS_CLIENT_SECRET"  # noqa: S105 - the name of a variable
_SECRETS = ("clientSecretLocation", "clientSecretEnvVar")
_BOOLEANS = ("insecure", "insecureSkipVerify")


@dataclass(frozen=True)
class FlyteConfig:
    """
    What the environment and the file say together, the environment first. `source` is the file, if there is one.

    `said` tells for each key that is set where it comes from. `authentication` is false where `FLYTE_PLATFORM_AUTH`
    switches it off. `by_authagent`: flytekit's own clients are told to use this package. That says nothing of how we
    authenticate, so `admin.authType` is what the file asks for beneath it.
    """

    admin: Admin = field(default_factory=Admin)
    source: str | None = None
    said: Mapping[str, str] = field(default_factory=dict)
    authentication: bool = True
    by_authagent: bool = False

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

    Raises `ConfigError` naming the variable, or the file, the line and the key, for what cannot be used, and for a file
    that flytekit would find in the working directory.
    """
    return _load(environ, *_read_file(environ))


def check_variables(environ: Mapping[str, str]) -> None:
    """
    Refuse what the variables of Flyte's configuration name and nobody can use, whoever needs it.

    A file in its usual place is left to those who need it. Raises `ConfigError` as `load`.
    """
    named = _named_file(environ)
    refuse_working_directory(environ)
    _load(environ, *((str(named[1]), _read_named(*named)) if named else (None, Admin())))


def refuse_working_directory(environ: Mapping[str, str], directory: Path = Path()) -> None:
    """
    Refuse the configuration that flytekit would read where this process stands: it may have come with a repository.

    It names commands that are run and Flytes that are sent tokens. Raises `ConfigError`.
    """
    file = directory / WORKING_DIRECTORY_FILE
    if _named_file(environ) is None and file.exists():
        found = file.absolute()
        raise ConfigError(
            f"flytekit would read its configuration from {found}, for this process runs in that directory",
            hint=f"run in another directory; or, if that file is yours, set FLYTECTL_CONFIG={found}",
        )


def _load(environ: Mapping[str, str], source: str | None, file: Admin) -> FlyteConfig:
    values = file.model_dump(exclude_unset=True)
    said = dict.fromkeys(values, source or "")
    for key, names in VARIABLES.items():
        found = ((name, value) for name in names if (value := _variable(environ, name)) is not None)
        for name, value in islice(found, 1):
            values[key] = environment.boolean({name: value}, name) if key in _BOOLEANS else value
            said[key] = name
    if environ.get(SECRET) and not any(said.get(key, "").startswith("FLYTE_") for key in _SECRETS):
        values["clientSecretEnvVar"], said["clientSecretEnvVar"] = SECRET, SECRET
    _environment_first(values, said)
    by_authagent = _is_authagent(values.get("authType"))
    if by_authagent:
        values.pop("authType"), said.pop("authType")
        if file.authType and not _is_authagent(file.authType):
            values["authType"], said["authType"] = file.authType, source or ""
    try:
        admin = Admin.model_validate(values)
    except ValidationError as wrong:
        raise _unusable(wrong, said) from None
    _check_named(admin, said, environ)
    return FlyteConfig(
        admin,
        source,
        said,
        authentication=environment.boolean(environ, "FLYTE_PLATFORM_AUTH", default=True),
        by_authagent=by_authagent,
    )


def _is_authagent(auth_type: object) -> bool:
    return isinstance(auth_type, str) and auth_type.lower() == "authagent"


def _unusable(wrong: ValidationError, said: Mapping[str, str]) -> ConfigError:
    error = wrong.errors(include_input=False, include_url=False)[0]
    key = str(error["loc"][0])
    problem = error["msg"].removeprefix("Value error, ")
    return ConfigError(f"{_where(key, said)} cannot be used: {problem[:1].lower()}{problem[1:]}")


def _check_named(admin: Admin, said: Mapping[str, str], environ: Mapping[str, str]) -> None:
    """Look at what the variables name, now: whoever does not need it must not be served by something else instead."""
    if admin.endpoint is not None:
        endpoint.parse_named(admin.endpoint, _where("endpoint", said))
        if wrong := endpoint.contradiction(admin.endpoint, admin.insecure):
            where = " and ".join(dict.fromkeys(said[key] for key in ("endpoint", "insecure")))
            raise ConfigError(f"{where}: {wrong}", hint="leave one of the two out, or correct it")
    for key, secret in (("caCertFilePath", False), ("clientSecretLocation", not environment.in_pod(environ))):
        path, name = getattr(admin, key), said.get(key, "")
        if path and name.startswith("FLYTE_"):
            trust.read_named(Path(path), name, secret=secret, limit=yaml_file.MAX_FILE)
    variable, name = admin.clientSecretEnvVar, said.get("clientSecretEnvVar", "")
    if variable and name.startswith("FLYTE_") and not environ.get(variable):
        raise ConfigError(f"{name} names {variable}, which is not set")


def _where(key: str, said: Mapping[str, str]) -> str:
    """`key` as the person wrote it: the variable, or the key in its file."""
    return said[key] if said[key].startswith("FLYTE_") else f"{said[key]}: {key}"


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
        if not environ.get(pointer):
            raise ConfigError(f"{name}_FROM_ENV_VAR names {pointer}, which is not set")
        return environ[pointer]
    if path := environ.get(f"{name}_FROM_FILE"):
        pointer = f"{name}_FROM_FILE"
        if not Path(path).is_absolute():
            raise ConfigError(f"{pointer} cannot be {path!r}: it must be an absolute path")
        try:
            return trust.read_named(Path(path), pointer, secret=False, limit=MAX_REDIRECTED).decode().strip()
        except UnicodeDecodeError:
            raise ConfigError(f"{pointer} names {path}, which is not a file of text") from None
    return None


def _named_file(environ: Mapping[str, str]) -> tuple[str, Path] | None:
    """The variable that names the file, and the file. What `pyflyte --config` was told may be relative."""
    if override := environ.get("_FLYTECTL_CONFIG_PYFLYTE_OVERRIDE"):
        return "_FLYTECTL_CONFIG_PYFLYTE_OVERRIDE (pyflyte --config)", Path(override).absolute()
    if not (named := environ.get("FLYTECTL_CONFIG")):
        return None
    if not Path(named).is_absolute():
        raise ConfigError(f"FLYTECTL_CONFIG cannot be {named!r}: it must be an absolute path")
    return "FLYTECTL_CONFIG", Path(named)


def _read_named(variable: str, path: Path) -> Admin:
    content = trust.read_named(path, variable, secret=False, limit=yaml_file.MAX_FILE)
    return _parsed(path, content, name=f"{variable}: {path}")


def _read_file(environ: Mapping[str, str]) -> tuple[str | None, Admin]:
    """The file that a variable names, else the first in its usual place."""
    if named := _named_file(environ):
        return str(named[1]), _read_named(*named)
    refuse_working_directory(environ)
    directory = environment.home(environ) / ".flyte"
    for path in (directory / "config", directory / "config.yaml"):
        try:
            return str(path), _parsed(path, trust.read(path, secret=False, limit=yaml_file.MAX_FILE), name=str(path))
        except (FileNotFoundError, NotADirectoryError):
            continue
    return None, Admin()


def _parsed(path: Path, content: bytes, *, name: str) -> Admin:
    if path.name.endswith(("yaml", "yml")):  # as flytekit has it
        return yaml_file.parse(content, File, name=name).admin
    parser = configparser.ConfigParser()
    try:
        parser.read_string(content.decode())
    except (configparser.Error, ValueError) as broken:
        raise ConfigError(f"{name} is not a Flyte configuration file: {type(broken).__name__}") from None
    values: dict[str, Any] = {}
    for key, names in VARIABLES.items():
        section, _, option = names[0].removeprefix("FLYTE_").lower().partition("_")
        if parser.has_option(section, option):
            place, text = f"{name}: {option} in [{section}]", parser.get(section, option, raw=True)
            values[key] = environment.boolean({place: text}, place) if key in _BOOLEANS else text
    try:
        return Admin.model_validate(values)
    except ValidationError as wrong:
        raise _unusable(wrong, dict.fromkeys(values, name)) from None
