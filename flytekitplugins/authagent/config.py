"""The client's configuration: `authagent.yaml` and the `AUTHAGENT_*` variables, read in this file only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError, model_validator

from flytekitplugins.authagent import endpoint, environment, http, kind, trust, wire, yaml_file
from flytekitplugins.authagent.credential import MAX_TOKEN
from flytekitplugins.authagent.errors import ConfigError
from flytekitplugins.authagent.specs import (
    AbsolutePath,
    EndpointText,
    FileSpec,
    Header,
    Name,
    ProviderSpec,
    Scopes,
    Section,
)

VARIABLES = frozenset(
    {
        "AUTHAGENT_ALLOW_PLAINTEXT",
        "AUTHAGENT_AUTO",
        "AUTHAGENT_CONFIG",
        "AUTHAGENT_EXECUTION",
        "AUTHAGENT_EXECUTION_DOMAIN",
        "AUTHAGENT_EXECUTION_PROJECT",
        "AUTHAGENT_GUARD",
        "AUTHAGENT_HUB",
        "AUTHAGENT_HUB_TOKEN_FILE",
        "AUTHAGENT_POD_TOKEN",
        "AUTHAGENT_PROVIDER",
        "AUTHAGENT_REQUIRE_PEERS",
        "AUTHAGENT_SOCKET",
        "AUTHAGENT_TOKEN",
        "AUTHAGENT_TOKEN_FILE",
    }
)
"""Every variable of ours, the tests' too."""

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

    @model_validator(mode="after")
    def _agrees(self) -> Binding:
        if self.endpoint and (wrong := endpoint.contradiction(self.endpoint, self.insecure)):
            raise ValueError(wrong)
        return self


def _hub_url(text: str) -> str:
    try:
        http.check_url(text)
        plain = text.isprintable() and not any(c in text for c in " ?#\\\"'<>")
    except (ConfigError, ValueError) as wrong:
        raise ValueError(str(wrong.args[0])) from None
    if not plain:
        raise ValueError("must be a plain URL such as https://hub.example.com")
    return text.rstrip("/")


class Hub(Section):
    """
    The hub that keeps a person's grants, and what gives it the person's token.

    Where no `provider` does, they log in as `client_id` at the issuer that the hub names. `audience`: whom the token
    must be for.
    """

    url: Annotated[str, AfterValidator(_hub_url)]
    ca_file: AbsolutePath | None = None
    audience: Name | None = None
    client_id: Name | None = None
    provider: Annotated[ProviderSpec, Field(discriminator="kind")] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Hub:
        if self.provider and self.client_id:
            raise ValueError("has a provider and a client_id; the client_id of a provider stands in it")
        return self


class ClientFile(Section):
    """The whole of `authagent.yaml`."""

    bindings: Annotated[tuple[Binding, ...], Field(strict=False)] | None = None
    hub: Hub | None = None


@dataclass(frozen=True)
class Settings:
    """
    What the environment and the file say together. `source` is the file, if there is one.

    `pod_token` is where the pod's projected token stands, for an agent that no binding describes.
    """

    bindings: tuple[Binding, ...] | None = None
    source: str | None = None
    pinned: str | None = None
    socket: Path = POD_SOCKET
    socket_is_set: bool = False
    token_file: Path | None = None
    pod_token: Path = Path(wire.POD_TOKEN)
    in_pod: bool = False
    plaintext: tuple[endpoint.Endpoint, ...] = ()
    hub: Hub | None = None

    def may_send_plaintext(self, to: endpoint.Endpoint) -> bool:
        """Whether a token may go to `to` unencrypted: it stays on this machine, or the operator named it."""
        return endpoint.may_be_plaintext(to, self.plaintext)


def load(environ: Mapping[str, str]) -> Settings:
    """
    Read the configuration that `environ` points at.

    Raises `ConfigError` for a variable or a file that cannot be used.
    """
    source, file = _file(environ)
    in_pod = environment.in_pod(environ)
    pinned = environ.get("AUTHAGENT_PROVIDER")
    return Settings(
        bindings=file.bindings,
        source=source,
        pinned=kind.check(pinned, "AUTHAGENT_PROVIDER") if pinned else None,
        socket=_socket(environ),
        socket_is_set=bool(environ.get("AUTHAGENT_SOCKET")),
        token_file=_named_file(environ, "AUTHAGENT_TOKEN_FILE", secret=not in_pod),
        pod_token=_named_file(environ, "AUTHAGENT_POD_TOKEN", secret=False) or Path(wire.POD_TOKEN),
        in_pod=in_pod,
        plaintext=endpoint.allowed_plaintext(environ),
        hub=_hub(environ, file.hub),
    )


def _hub(environ: Mapping[str, str], written: Hub | None) -> Hub | None:
    """The hub of the file, with what the environment says in its place."""
    url = environ.get("AUTHAGENT_HUB")
    token_file = _named_file(environ, "AUTHAGENT_HUB_TOKEN_FILE", secret=not environment.in_pod(environ))
    said: dict[str, object] = {}
    if url:
        try:
            said["url"] = _hub_url(url)
        except ValueError as wrong:
            raise ConfigError(f"AUTHAGENT_HUB cannot be used: {wrong}") from None
    if token_file:
        said |= {"provider": FileSpec(path=token_file), "client_id": None}
    if written is None:
        return Hub.model_validate(said) if url else None
    return written.model_copy(update=said)


def _file(environ: Mapping[str, str]) -> tuple[str | None, ClientFile]:
    named = environ.get("AUTHAGENT_CONFIG")
    if named:
        path = _path(named, "AUTHAGENT_CONFIG")
        content = trust.read_named(path, "AUTHAGENT_CONFIG", secret=False, limit=yaml_file.MAX_FILE)
        return named, yaml_file.parse(content, ClientFile, name=f"AUTHAGENT_CONFIG: {named}")
    for default in DEFAULT_FILES:
        path = Path(default.replace("~", str(environment.home(environ)), 1))
        try:
            return str(path), yaml_file.load(path, ClientFile)
        except (FileNotFoundError, NotADirectoryError):
            continue
    return None, ClientFile()


def _named_file(environ: Mapping[str, str], variable: str, *, secret: bool) -> Path | None:
    """The file that `variable` names, looked at now: one that cannot be used must not count as none."""
    if not (named := environ.get(variable)):
        return None
    path = _path(named, variable)
    trust.read_named(path, variable, secret=secret, limit=2 * MAX_TOKEN)
    return path


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
    return _path(runtime, "XDG_RUNTIME_DIR") / "authagent" / "agent.sock"
