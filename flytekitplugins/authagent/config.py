"""The client's configuration: `authagent.yaml` and the `AUTHAGENT_*` variables, read in this file only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from flytekitplugins.authagent import endpoint, environment, kind, yaml_file
from flytekitplugins.authagent.errors import ConfigError

DEFAULT_FILES = ("~/.flyte/authagent.yaml", "/etc/flyte/authagent.yaml")
POD_SOCKET = Path("/var/run/authagent/agent.sock")


class Section(BaseModel):
    """A part of a configuration file: unknown keys are errors, types are not guessed, values never shown."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


def _absolute(path: Path) -> Path:
    path = path.expanduser()
    if not path.is_absolute():
        raise ValueError("must be an absolute path")
    return path


def _scope(scope: str) -> str:
    if not re.fullmatch(r"[\x21\x23-\x5b\x5d-\x7e]+", scope):
        raise ValueError("a scope has no spaces, quotes or backslashes (RFC 6749 section 3.3)")
    return scope


def _endpoint(text: str) -> str:
    try:
        endpoint.parse(text)
    except ConfigError as wrong:
        raise ValueError(str(wrong)) from None
    return text


AbsolutePath = Annotated[Path, Field(strict=False), AfterValidator(_absolute)]
Name = Annotated[str, Field(min_length=1)]
Scopes = Annotated[tuple[Annotated[str, AfterValidator(_scope)], ...], Field(strict=False)]
EndpointText = Annotated[str, AfterValidator(_endpoint)]
Seconds = Annotated[float, Field(gt=0, le=3600, strict=False)]


class EnvSpec(Section):
    """`kind: env`, a token in an environment variable."""

    kind: Literal["env"] = "env"
    variable: Name = "AUTHAGENT_TOKEN"


class FileSpec(Section):
    """`kind: file`, a token, a JSON credential or a projected token in a file."""

    kind: Literal["file"] = "file"
    path: AbsolutePath


class AgentSpec(Section):
    """`kind: agent`, the agent's socket. `wait`: seconds to wait for it to appear in a pod."""

    kind: Literal["agent"] = "agent"
    socket: AbsolutePath
    server_uid: Annotated[int, Field(ge=0)] | None = None
    wait: Seconds = 30.0


class ClientCredentialsSpec(Section):
    """`kind: client_credentials`, a confidential client of an identity provider."""

    kind: Literal["client_credentials"] = "client_credentials"
    issuer: Name | None = None
    token_endpoint: Name | None = None
    client_id: Name
    client_secret_file: AbsolutePath
    client_authentication: Literal["client_secret_basic", "client_secret_post"] = "client_secret_basic"
    audience: Name | None = None
    scopes: Scopes = ()
    ca_file: AbsolutePath | None = None
    timeout: Seconds = 10.0

    @model_validator(mode="after")
    def _one_place(self) -> ClientCredentialsSpec:
        if (self.issuer is None) == (self.token_endpoint is None):
            raise ValueError("needs either issuer or token_endpoint")
        return self


ProviderSpec = EnvSpec | FileSpec | AgentSpec | ClientCredentialsSpec


class When(Section):
    """Which contexts a binding is for: glob patterns, all of which must match."""

    project: Name | None = None
    domain: Name | None = None
    execution: Name | None = None
    task: Name | None = None
    execution_identity: Name | None = None
    oauth2_client: Name | None = None
    k8s_service_account: Name | None = None
    iam_role: Name | None = None


class Binding(Section):
    """A rule: contexts that match `when` are served by `provider`."""

    when: When = When()
    provider: Annotated[ProviderSpec, Field(discriminator="kind")]
    endpoint: EndpointText | None = None
    insecure: bool | None = None
    audience: Name | None = None
    scopes: Scopes = ()
    authorization_header: Annotated[str, Field(pattern=r"^[a-z0-9_.\-]+$")] | None = None


class ClientFile(Section):
    """The whole of `authagent.yaml`."""

    bindings: Annotated[tuple[Binding, ...], Field(strict=False)] | None = None


@dataclass(frozen=True)
class Settings:
    """What the environment and the file say together. `source` is the file, if there is one."""

    bindings: tuple[Binding, ...] | None = None
    source: str | None = None
    pinned: str | None = None
    socket: Path = POD_SOCKET
    socket_is_set: bool = False
    token_file: Path | None = None
    in_pod: bool = False
    plaintext: tuple[endpoint.Endpoint, ...] = ()
    authorization_header: str | None = None

    def may_send_plaintext(self, to: endpoint.Endpoint) -> bool:
        """Whether a token may go to `to` unencrypted: it stays on this machine, or the operator named it."""
        named = any(to.host == p.host and p.port in (None, to.port) for p in self.plaintext)
        return to.loopback or named


def load(environ: Mapping[str, str]) -> Settings:
    """
    Read the configuration that `environ` points at.

    Raises `ConfigError` for a variable or a file that cannot be used.
    """
    source, file = _file(environ)
    token_file = environ.get("AUTHAGENT_TOKEN_FILE")
    pinned = environ.get("AUTHAGENT_PROVIDER")
    plaintext = environ.get("AUTHAGENT_ALLOW_PLAINTEXT", "").split(",")
    return Settings(
        bindings=file.bindings,
        source=source,
        pinned=kind.check(pinned, "AUTHAGENT_PROVIDER") if pinned else None,
        socket=_socket(environ),
        socket_is_set=bool(environ.get("AUTHAGENT_SOCKET")),
        token_file=_path(token_file, "AUTHAGENT_TOKEN_FILE") if token_file else None,
        in_pod=environment.in_pod(environ),
        plaintext=tuple(endpoint.parse(host) for host in plaintext if host.strip()),
        authorization_header=environ.get("FLYTE_CREDENTIALS_AUTHORIZATION_METADATA_KEY", "").lower() or None,
    )


def _file(environ: Mapping[str, str]) -> tuple[str | None, ClientFile]:
    named = environ.get("AUTHAGENT_CONFIG")
    if named:
        try:
            return named, yaml_file.load(_path(named, "AUTHAGENT_CONFIG"), ClientFile)
        except FileNotFoundError:
            raise ConfigError(f"AUTHAGENT_CONFIG names {named}, which is not there") from None
    for default in DEFAULT_FILES:
        path = Path(default.replace("~", environ.get("HOME") or str(Path("~").expanduser()), 1))
        try:
            return str(path), yaml_file.load(path, ClientFile)
        except (FileNotFoundError, NotADirectoryError):
            continue
    return None, ClientFile()


def _path(text: str, variable: str) -> Path:
    try:
        return _absolute(Path(text))
    except (ValueError, RuntimeError) as wrong:
        raise ConfigError(f"{variable} cannot be {text!r}: {wrong}") from None


def _socket(environ: Mapping[str, str]) -> Path:
    """Contract section 2: the pod's well-known place, or the user's runtime directory."""
    named, runtime = environ.get("AUTHAGENT_SOCKET"), environ.get("XDG_RUNTIME_DIR")
    if named:
        return _path(named, "AUTHAGENT_SOCKET")
    if environment.in_pod(environ) or not runtime:
        return POD_SOCKET
    return Path(runtime) / "authagent" / "agent.sock"
