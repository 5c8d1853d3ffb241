"""A client of an authorization server: who it is, where the server is, and what may be asked of it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from flytekitplugins.authagent import discovery as flyte
from flytekitplugins.authagent import trust
from flytekitplugins.authagent.credential import Credential, Secret
from flytekitplugins.authagent.discovery import FlyteServer, PublicClient
from flytekitplugins.authagent.errors import AuthAgentError, ConfigError, Denied, ProviderError, ProviderUnavailable
from flytekitplugins.authagent.http import Door, check_url
from flytekitplugins.authagent.oauth import discovery
from flytekitplugins.authagent.oauth.client_authentication import METHODS, Added, Proof
from flytekitplugins.authagent.oauth.discovery import Metadata
from flytekitplugins.authagent.oauth.message import Request, Response
from flytekitplugins.authagent.oauth.target import Target
from flytekitplugins.authagent.providers import Wanted
from flytekitplugins.authagent.specs import ClientCredentialsSpec, ClientSpec

_ENDPOINTS = (
    "token_endpoint",
    "authorization_endpoint",
    "device_authorization_endpoint",
    "revocation_endpoint",
    "userinfo_endpoint",
)

MAX_SECRET = 64 * 1024
"""Bytes of a file with a secret, a key or an assertion."""


@dataclass(frozen=True)
class OAuthClient:
    """
    What `spec` describes, completed by what its issuer, or `server` (the Flyte that it is for), says of itself.

    What proves the client is read for each request, so that it can rotate, and is held no longer than that.
    Everything is asked once; a failure is not remembered.
    """

    spec: ClientSpec
    kind: str
    server: FlyteServer | None = None
    in_pod: bool = False
    clock: Callable[[], float] = time.time
    secret: Secret | None = field(default=None, repr=False)
    _known: list[Metadata] = field(default_factory=list, init=False, repr=False, compare=False)
    _asking: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)

    @property
    def is_needed(self) -> bool:
        """Whether the Flyte that this is for wants tokens at all, as far as it is asked."""
        return self.spec.is_complete or self.public is not None

    @property
    def public(self) -> PublicClient | None:
        """What Flyte tells clients; `None` where it has no authentication. Raises `ConfigError` where none is known."""
        if self.server is None:
            raise ConfigError(
                f"{self.kind} has neither issuer nor token_endpoint, and no Flyte is known that could be asked",
                hint="set issuer, or say which Flyte: FLYTE_PLATFORM_URL, or endpoint: in the binding",
            )
        self.server.check_believable()
        return flyte.public_client(self.server, doubt_none=True)

    @property
    def from_flyte(self) -> PublicClient:
        """The same, empty where Flyte is not asked."""
        return (None if self.spec.is_complete else self.public) or PublicClient()

    @property
    def metadata(self) -> Metadata:
        """Where the server is: what `spec` says, completed by the issuer's document or by Flyte."""
        with self._asking:
            if not self._known:
                self._known.append(self._discovered().overridden_by(_local(self.spec)))
            return self._known[0]

    @property
    def client_id(self) -> str | None:
        """The client's id; Flyte's own public client where none is configured."""
        return self.spec.client_id or (None if self.spec.method == "federated" else self.from_flyte.client_id) or None

    @property
    def door(self) -> Door:
        """The way to the server."""
        return Door(
            timeout=self.spec.timeout,
            ca_file=self.spec.ca_file,
            verify=not self.spec.insecure_skip_verify,
            proxy=self.spec.proxy,
            proxy_authorization=self.server.proxy_authorization if self.server else None,
        )

    def authentication(self) -> Added:
        """What shows the server that it is us. Raises `ConfigError` for a proof that cannot be read."""
        proof = Proof(
            self._secret(),
            audience=self._addressee(),
            now=self.clock(),
            key_id=self.spec.key_id,
        )
        return METHODS[self.spec.method](self.client_id, proof)

    def check(self) -> None:
        """Raise `ConfigError` where a URL, or what proves the client, cannot be used. Nobody is asked."""
        for name in ("issuer", *_ENDPOINTS):
            url = getattr(self.spec, name)
            try:
                if url:
                    check_url(url)
            except (ConfigError, ValueError) as wrong:
                hint = wrong.hint if isinstance(wrong, ConfigError) else ""
                raise ConfigError(f"{name}: {wrong.args[0]}", hint=hint) from None
        proof = Proof(self._secret(), audience="nobody", now=self.clock(), key_id=self.spec.key_id)
        METHODS[self.spec.method](self.spec.client_id, proof)

    def send(self, request: Request) -> Response:
        """The answer to `request`. Raises as `Door.send`."""
        return self.door.send(request)

    def target(self, wanted: Wanted) -> Target:
        """
        What to ask for: what is wanted may narrow the configuration, never widen it.

        Raises `Denied` for a principal, a client, an audience or a scope that the configuration does not have.
        """
        if wanted.subject:
            raise Denied(
                f"{self.kind} speaks for {self._whom}, not for {wanted.subject!r}",
                hint="a token for a person needs a provider that can delegate",
            )
        if wanted.client and wanted.client != self.spec.client_id:
            raise Denied(f"{self.kind} is configured for {self.spec.client_id!r}, not for {wanted.client!r}")
        audience = self.spec.audience or (self.from_flyte.audience if self.spec.audience_from_flyte else None) or None
        if wanted.audience and wanted.audience != audience:
            raise Denied(f"{self.kind} is not configured for the audience {wanted.audience!r}")
        wider = set(wanted.scopes) - set(self.spec.scopes)
        if self.spec.scopes and wider:
            raise Denied(f"{self.kind} is not configured for the scopes {', '.join(sorted(wider))}")
        return Target(wanted.scopes or self.spec.scopes, audience, self.spec.resource)

    def labelled(self, credential: Credential) -> Credential:
        """`credential` with the Flyte that it is for, and the header that this wants, where Flyte was asked."""
        if self.spec.is_complete or self.server is None:
            return credential
        return replace(
            credential,
            header=credential.header or self.from_flyte.header or None,
            endpoint=credential.endpoint or self.server.spelled,
        )

    def _addressee(self) -> str:
        issuer = self.metadata.issuer if self.spec.assertion_audience == "issuer" else None
        return issuer or self.metadata.need("token_endpoint")

    @property
    def _whom(self) -> str:
        return f"its client {self.spec.client_id!r}" if self.spec.client_id else "its client"

    def _secret(self) -> Secret | None:
        spec = self.spec
        for name in ("client_secret_file", "private_key_file", "client_assertion_file"):
            path = getattr(spec, name)
            if path is not None:
                return read_secret(path, name, in_pod=self.in_pod)
        if spec.client_secret_env:
            text = os.environ.get(spec.client_secret_env, "").strip()
            if not text:
                raise ConfigError(f"client_secret_env names {spec.client_secret_env}, which is not set")
            return Secret(text)
        return self.secret

    def _discovered(self) -> Metadata:
        if self.spec.token_endpoint and isinstance(self.spec, ClientCredentialsSpec):
            return Metadata()  # it needs nothing else
        if self.spec.issuer:
            return self._of_issuer(self.spec.issuer)
        if self.spec.token_endpoint:
            return Metadata()
        found = flyte.metadata(self.server) if self.public is not None and self.server else None
        if found is None:
            raise ProviderError("this Flyte has no authentication, so there is no authorization server to ask")
        return found

    def _of_issuer(self, issuer: str) -> Metadata:
        """
        What `issuer` says over HTTP, or else Flyte over gRPC: the HTTP gateway of a flyteadmin may not answer.

        Flyte is believed only where it speaks for the very issuer that is configured.
        """
        try:
            return discover(issuer, self.door, needed=not self.spec.token_endpoint)
        except ProviderError as failed:
            if self.server is None or isinstance(failed, ProviderUnavailable):
                raise
            without = failed
        try:
            self.server.check_believable()
            found = flyte.metadata(self.server)
        except AuthAgentError as failed:
            said = failed.args[0]
        else:
            if found and (found.issuer or "").rstrip("/") == issuer.rstrip("/"):
                return found
            said = f"Flyte at {self.server.endpoint.target} speaks for another issuer, or for none"
        raise ProviderError(f"{without.args[0]}; and over gRPC: {said}", hint=without.hint)


def discover(issuer: str, door: Door, *, needed: bool = True) -> Metadata:
    """
    What the documents of `issuer` say. Without `needed`, a missing one is as good as an empty one.

    Raises `ProviderError` where there is none, or it speaks for somebody else, and as `Door.send`.
    """
    status = 0
    for request in discovery.requests(issuer):
        response = door.send(request)
        if response.is_success:
            return discovery.read(issuer, response)
        status = response.status
    if not needed:
        return Metadata(issuer=issuer)
    raise ProviderError(
        f"{issuer} has no discovery document (the last answer was {status})",
        hint="check the issuer, or set token_endpoint instead",
    )


def read_secret(path: Path, name: str, *, in_pod: bool) -> Secret:
    """The text of a file that holds a secret; `name` is its key. Raises `ConfigError`."""
    try:
        return Secret(trust.read_named(path, name, secret=not in_pod, limit=MAX_SECRET).decode().strip())
    except UnicodeDecodeError:
        raise ConfigError(f"{name} {path} is not text") from None


def _local(spec: ClientSpec) -> Metadata:
    return Metadata(spec.issuer, *(getattr(spec, name) for name in _ENDPOINTS))
