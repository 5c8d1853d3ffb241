"""The client's configuration: `authagent.yaml` and the `AUTHAGENT_*` variables, read in this file only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from flytekitplugins.authagent import endpoint, environment, kind, yaml_file
from flytekitplugins.authagent.errors import ConfigError
from flytekitplugins.authagent.specs import AbsolutePath, EndpointText, Header, Name, ProviderSpec, Scopes, Section

DEFAULT_FILES = ("~/.flyte/authagent.yaml", "/etc/flyte/authagent.yaml")
POD_SOCKET = Path("/var/run/authagent/agent.sock")


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
    authorization_header: Header | None = None


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
        return _PATH.validate_python(text)
    except (ValidationError, RuntimeError):
        raise ConfigError(f"{variable} cannot be {text!r}: it must be an absolute path") from None


_PATH: TypeAdapter[Path] = TypeAdapter(AbsolutePath)


def _socket(environ: Mapping[str, str]) -> Path:
    """Contract section 2: the pod's well-known place, or the user's runtime directory."""
    named, runtime = environ.get("AUTHAGENT_SOCKET"), environ.get("XDG_RUNTIME_DIR")
    if named:
        return _path(named, "AUTHAGENT_SOCKET")
    if environment.in_pod(environ) or not runtime:
        return POD_SOCKET
    return Path(runtime) / "authagent" / "agent.sock"
