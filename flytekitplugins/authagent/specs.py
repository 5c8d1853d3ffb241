"""What each kind of provider can be told, as configuration files spell it: a model a kind."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from flytekitplugins.authagent import endpoint, wire
from flytekitplugins.authagent.errors import ConfigError
from flytekitplugins.authagent.oauth import token_exchange


class Section(BaseModel):
    """A part of a configuration file: unknown keys are errors, types are not guessed, values never shown."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


def _absolute(path: Path) -> Path:
    if "\0" in str(path):
        raise ValueError("no path has a NUL")
    try:
        path = path.expanduser()
    except RuntimeError:
        raise ValueError("~ stands for no home directory on this machine") from None
    if not path.is_absolute():
        raise ValueError("must be an absolute path")
    return path


def _id(value: int) -> int:
    if value == wire.NOBODY:
        raise ValueError(f"{wire.NOBODY} is whom the kernel names for anybody it cannot translate")
    return value


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


def _proxy(text: str) -> str:
    problem = "must be a URL such as http://proxy.example.com:3128"
    try:
        parts = urlsplit(text)
        found = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # brackets that are no address, and no port
        raise ValueError(problem) from None
    if not found:
        raise ValueError(problem)
    return text


AbsolutePath = Annotated[Path, Field(strict=False), AfterValidator(_absolute)]
Name = Annotated[str, Field(min_length=1)]
Scopes = Annotated[tuple[Annotated[str, AfterValidator(_scope)], ...], Field(strict=False)]
EndpointText = Annotated[str, AfterValidator(_endpoint)]
ProxyUrl = Annotated[str, AfterValidator(_proxy)]
Id = Annotated[int, Field(ge=0, le=2**32 - 2), AfterValidator(_id)]
"""A uid or a gid. The kernel keeps the last number for "no change" (setresuid(2))."""

Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]
Header = Annotated[str, Field(pattern=r"^[a-z0-9_.\-]+$")]
Argv = Annotated[tuple[Name, ...], Field(strict=False, min_length=1)]

ClientAuthentication = Literal[
    "none",
    "client_secret_basic",
    "client_secret_basic_raw",
    "client_secret_post",
    "client_secret_jwt",
    "private_key_jwt",
    "federated",
]


class EnvSpec(Section):
    """`kind: env`, a token in an environment variable."""

    kind: Literal["env"] = "env"
    variable: Name = "AUTHAGENT_TOKEN"


class FileSpec(Section):
    """`kind: file`, a token, a JSON credential or a projected token in a file."""

    kind: Literal["file"] = "file"
    path: AbsolutePath


class AgentSpec(Section):
    """
    `kind: agent`, the agent's socket. `wait`: seconds to wait for it to appear in a pod.

    `token_file`: the pod's projected token, for an agent that attests pods; shown where the file is there.
    """

    kind: Literal["agent"] = "agent"
    socket: AbsolutePath
    server_uid: Id | None = None
    wait: Seconds = 30.0
    token_file: AbsolutePath = Path(wire.POD_TOKEN)


class CommandSpec(Section):
    """`kind: command`, a program that prints a token. `timeout`: seconds that it may take."""

    kind: Literal["command"] = "command"
    command: Argv = Field(repr=False)  # people put secrets into arguments
    timeout: Seconds = 30.0


class ApiKeySpec(Section):
    """`kind: api_key`, a client's id and secret in one string, in a variable or in a file."""

    kind: Literal["api_key"] = "api_key"
    variable: Name | None = None
    path: AbsolutePath | None = None
    scopes: Scopes = ()
    audience: Name | None = None
    audience_from_flyte: bool = False


class PassthroughSpec(Section):
    """`kind: passthrough`, whatever headers the code sets with `auth_metadata(...)`."""

    kind: Literal["passthrough"] = "passthrough"


class ServerSpec(Section):
    """
    Which authorization server, and how to reach it.

    Where neither `issuer` nor an endpoint is set, Flyte is asked for its own. Where both are, what is set here goes
    before what the issuer's document says. `timeout` is in seconds for one request.
    """

    issuer: Name | None = None
    token_endpoint: Name | None = None
    authorization_endpoint: Name | None = None
    device_authorization_endpoint: Name | None = None
    revocation_endpoint: Name | None = None
    userinfo_endpoint: Name | None = None
    audience: Name | None = None
    audience_from_flyte: bool = False
    resource: Name | None = None
    scopes: Scopes = ()
    ca_file: AbsolutePath | None = None
    insecure_skip_verify: bool = False
    proxy: ProxyUrl | None = Field(default=None, repr=False)  # it may hold a password
    timeout: Seconds = 10.0

    @property
    def is_complete(self) -> bool:
        """Whether the server is named here, so that no Flyte need be asked."""
        return bool(self.issuer or self.token_endpoint)


class ClientSpec(ServerSpec):
    """
    A client of an authorization server, and what it proves itself with.

    `client_authentication` is what that implies (a secret: `client_secret_basic`, a private key: `private_key_jwt`,
    an assertion: `federated`, nothing: `none`) unless it is set. `assertion_audience` is whom an assertion that we sign
    is addressed to.
    """

    client_id: Name | None = None
    client_secret_file: AbsolutePath | None = None
    client_secret_env: Name | None = None
    private_key_file: AbsolutePath | None = None
    key_id: Name | None = None
    client_assertion_file: AbsolutePath | None = None
    assertion_audience: Literal["issuer", "token_endpoint"] = "issuer"
    client_authentication: ClientAuthentication | None = None

    @model_validator(mode="after")
    def _one_proof(self) -> ClientSpec:
        given = [name for name in _PROOFS if getattr(self, name)]
        if len(given) > 1:
            raise ValueError(f"has {' and '.join(given)}; one proof is enough")
        method = self.client_authentication
        fitting = _PROOFS[given[0]] if given else ("none",)
        if method and method not in fitting:
            raise ValueError(f"client_authentication: {method} does not fit {given[0] if given else 'no proof at all'}")
        if not self.client_id and fitting != ("federated",) and given:
            raise ValueError("needs a client_id")
        return self

    @property
    def method(self) -> str:
        """How the client authenticates, by the names of `oauth.client_authentication`."""
        given = next((name for name in _PROOFS if getattr(self, name)), None)
        return self.client_authentication or (_PROOFS[given][0] if given else "none")


_SECRET_METHODS = ("client_secret_basic", "client_secret_basic_raw", "client_secret_post", "client_secret_jwt")
_PROOFS = {
    "client_secret_file": _SECRET_METHODS,
    "client_secret_env": _SECRET_METHODS,
    "private_key_file": ("private_key_jwt",),
    "client_assertion_file": ("federated",),
}


class ClientCredentialsSpec(ClientSpec):
    """`kind: client_credentials`, a client that speaks for itself."""

    kind: Literal["client_credentials"] = "client_credentials"

    @model_validator(mode="after")
    def _confidential(self) -> ClientCredentialsSpec:
        if self.method == "none":
            raise ValueError("needs a client_secret_file, a private_key_file or a client_assertion_file")
        return self


class TokenExchangeSpec(ClientSpec):
    """
    `kind: token_exchange`, a token in return for another one, which stands in a file.

    `grant`: `token_exchange` (RFC 8693), `jwt_bearer` (RFC 7523 section 2.1) or `on_behalf_of` (Entra ID).
    """

    kind: Literal["token_exchange"] = "token_exchange"
    grant: Literal["token_exchange", "jwt_bearer", "on_behalf_of"] = "token_exchange"
    subject_token_file: AbsolutePath
    subject_token_type: Name = token_exchange.JWT
    actor_token_file: AbsolutePath | None = None
    actor_token_type: Name = token_exchange.JWT

    @model_validator(mode="after")
    def _only_what_the_grant_has(self) -> TokenExchangeSpec:
        if self.grant != "token_exchange" and self.actor_token_file:
            raise ValueError(f"grant: {self.grant} has no actor")
        return self


class LoginSpec(ClientSpec):
    """What a login needs: a client (Flyte's own public one unless set), and `patience`, seconds for the person."""

    patience: Seconds = 300.0


class PkceSpec(LoginSpec):
    """`kind: pkce`, a person who logs in with a browser. `redirect_uri`: where it comes back to, on loopback."""

    kind: Literal["pkce"] = "pkce"
    redirect_uri: Name | None = None


class DeviceSpec(LoginSpec):
    """`kind: device`, a person who logs in with a browser elsewhere."""

    kind: Literal["device"] = "device"


class KeyringSpec(ClientSpec):
    """`kind: keyring`, the login that `authagent login` or `pyflyte` left in the keyring of this machine."""

    kind: Literal["keyring"] = "keyring"


ProviderSpec = (
    EnvSpec
    | FileSpec
    | AgentSpec
    | KeyringSpec
    | CommandSpec
    | ClientCredentialsSpec
    | DeviceSpec
    | PkceSpec
    | TokenExchangeSpec
    | ApiKeySpec
    | PassthroughSpec
)
