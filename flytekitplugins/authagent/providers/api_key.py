"""A client's id and secret in one string: the keys of flytekit, of Union and of Flyte 2."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from flytekitplugins.authagent import endpoint as endpoints
from flytekitplugins.authagent.credential import Credential, Secret
from flytekitplugins.authagent.discovery import FlyteServer
from flytekitplugins.authagent.errors import ConfigError
from flytekitplugins.authagent.providers import Wanted
from flytekitplugins.authagent.providers.client_credentials import mint
from flytekitplugins.authagent.providers.oauth_client import OAuthClient, read_secret
from flytekitplugins.authagent.specs import ApiKeySpec, ClientCredentialsSpec

VARIABLES = ("FLYTE_API_KEY", "_UNION_EAGER_API_KEY", "EAGER_API_KEY", "FLYTE_CREDENTIALS_API_KEY")
"""Looked at in this order."""

_SCHEMES = ("dns:///", "https://", "http://")


@dataclass(frozen=True)
class ApiKey:
    """What a key says. `endpoint` is `None` where it names no Flyte; `org` is Union's."""

    client_id: str
    client_secret: Secret
    endpoint: str | None = None
    org: str | None = None


@dataclass(frozen=True)
class ApiKeyProvider:
    """
    Mints with the client of a key, from the authorization server of the Flyte that the key names.

    `client` makes the OAuth client of a key.
    """

    spec: ApiKeySpec
    environ: Mapping[str, str] = field(repr=False)
    client: Callable[[ApiKey], OAuthClient] = field(repr=False)
    in_pod: bool = False
    kind: str = field(default="api_key", init=False)
    absent: str = field(default=f"none of {', '.join(VARIABLES)} is set", init=False)
    remedy: str = field(default="set FLYTE_API_KEY", init=False)

    def fetch(self, wanted: Wanted, *, min_lifetime: float | None = None) -> Credential | None:
        """
        A fresh token, `None` where there is no key.

        Raises `ConfigError` for a key that cannot be read, and as `ClientCredentialsProvider`.
        """
        key = self.key()
        return None if key is None else mint(self.client(key), wanted, provider=self.kind)

    def key(self) -> ApiKey | None:
        """The key that is configured. Raises `ConfigError` for one that cannot be read."""
        if self.spec.path:
            secret = read_secret(self.spec.path, "path", in_pod=self.in_pod)
            return parse(secret.reveal(), of=str(self.spec.path))
        names = (self.spec.variable,) if self.spec.variable else VARIABLES
        for name in names:
            if text := self.environ.get(name):
                return parse(text.strip(), of=name)
        if self.spec.variable:
            raise ConfigError(f"variable: {self.spec.variable} is not set", hint="set it to an API key")
        return None


def provider(
    spec: ApiKeySpec,
    environ: Mapping[str, str],
    server: FlyteServer | None,
    reach: Callable[[str], FlyteServer],
    *,
    in_pod: bool,
) -> ApiKeyProvider:
    """The provider of `spec`. `server`: the Flyte of keys that name none. `reach`: the way to one that is named."""

    def client(key: ApiKey) -> OAuthClient:
        flyte = reach(key.endpoint) if key.endpoint else server
        options = ClientCredentialsSpec.model_construct(
            client_id=key.client_id,
            scopes=spec.scopes,
            audience=spec.audience,
            audience_from_flyte=spec.audience_from_flyte,
        )
        known: dict[str, object] = {"client_authentication": "client_secret_basic"}
        if flyte:
            known |= {"ca_file": flyte.ca_file, "insecure_skip_verify": flyte.skip_verify}
        return OAuthClient(options.model_copy(update=known), "api_key", flyte, in_pod=in_pod, secret=key.client_secret)

    return ApiKeyProvider(spec, environ, client, in_pod=in_pod)


def parse(text: str, *, of: str) -> ApiKey:
    """
    Read a key, which `of` held: base64 of `endpoint:client_id:client_secret:org`, or of JSON with the last three.

    The endpoint may have a scheme and a port, the secret may have colons in it. Raises `ConfigError`, which never
    quotes the key.
    """
    try:
        padded = text + "=" * (-len(text) % 4)
        decoded = base64.b64decode(padded.replace("-", "+").replace("_", "/"), validate=True).decode()
    except (binascii.Error, ValueError):
        raise ConfigError(f"{of} does not hold an API key: it is not base64 of text", hint=_FORMATS) from None
    return _from_json(decoded, of) if decoded.lstrip().startswith("{") else _from_parts(decoded, of)


_FORMATS = "a key is base64 of endpoint:client_id:client_secret:org, or of {client_id, client_secret} as JSON"


def _from_json(decoded: str, of: str) -> ApiKey:
    try:
        found = json.loads(decoded)
    except (ValueError, RecursionError):
        raise ConfigError(f"{of} does not hold an API key: its JSON cannot be read", hint=_FORMATS) from None
    values = [found.get(name) for name in ("client_id", "client_secret", "endpoint", "org")]
    if not all(isinstance(v, str) and v for v in values[:2]) or not all(
        v is None or isinstance(v, str) for v in values
    ):
        raise ConfigError(f"{of} does not hold an API key: client_id or client_secret is missing", hint=_FORMATS)
    return _checked(values[2] or None, values[0], values[1], values[3], of)


def _from_parts(decoded: str, of: str) -> ApiKey:
    scheme = next((s for s in _SCHEMES if decoded.lower().startswith(s)), "")
    parts = decoded[len(scheme) :].split(":")
    if len(parts) > 4 and parts[1].isascii() and parts[1].isdigit() and 0 < int(parts[1][:6]) < 65536:
        parts[:2] = [f"{parts[0]}:{parts[1]}"]
    if len(parts) < 4:
        raise ConfigError(f"{of} does not hold an API key: it has {len(parts)} parts, not four", hint=_FORMATS)
    host, client_id, *secret, org = parts
    return _checked(scheme + host, client_id, ":".join(secret), org, of)


def _checked(endpoint: str | None, client_id: str, secret: str, org: str | None, of: str) -> ApiKey:
    if not client_id or not secret:
        raise ConfigError(f"{of} does not hold an API key: its client_id or client_secret is empty", hint=_FORMATS)
    if endpoint is not None:
        try:
            endpoints.parse(endpoint)
        except ConfigError:
            raise ConfigError(f"{of} does not hold an API key: it begins with no endpoint", hint=_FORMATS) from None
    return ApiKey(client_id, Secret(secret), endpoint, None if org in (None, "", "None") else org)
