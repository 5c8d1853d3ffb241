"""A token of a confidential client, straight from the identity provider."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from flytekitplugins.authagent import trust
from flytekitplugins.authagent.config import ClientCredentialsSpec
from flytekitplugins.authagent.credential import Credential, Secret
from flytekitplugins.authagent.errors import ConfigError, Denied, ProviderError
from flytekitplugins.authagent.http import Door
from flytekitplugins.authagent.oauth import client_credentials, discovery, token_response
from flytekitplugins.authagent.oauth.client_authentication import METHODS
from flytekitplugins.authagent.providers import Wanted

MAX_SECRET = 64 * 1024
"""Bytes of a client secret's file."""


@dataclass(frozen=True)
class ClientCredentialsProvider:
    """
    Mints by the client credentials grant (RFC 6749 section 4.4).

    The secret is read for each mint, so that it can rotate, and is held no longer than the request.
    """

    spec: ClientCredentialsSpec
    in_pod: bool = False
    clock: Callable[[], float] = time.time
    kind: str = field(default="client_credentials", init=False)
    absent: str = field(default="no client is configured", init=False)
    remedy: str = field(default="write a binding with kind: client_credentials", init=False)
    _discovered: list[str] = field(default_factory=list, init=False, repr=False)
    _discovery: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)

    def fetch(self, wanted: Wanted, *, min_lifetime: float | None = None) -> Credential:
        """
        A fresh token.

        Raises `Denied` for a principal, a client, an audience or a scope that the configuration does not have or
        the server refuses, `ProviderUnavailable` and `ProviderError` as `oauth.token_response` and `http` say.
        """
        scopes, audience = self._allowed(wanted)
        door = Door(timeout=self.spec.timeout, ca_file=self.spec.ca_file)
        authenticate = METHODS[self.spec.client_authentication]
        sent = client_credentials.request(
            self.spec.token_endpoint or self._token_endpoint(door),
            authenticate(self.spec.client_id, self._secret()),
            scopes=scopes,
            audience=audience,
        )
        return token_response.read(door.send(sent), sent, now=self.clock(), provider=self.kind)

    def _allowed(self, wanted: Wanted) -> tuple[tuple[str, ...], str | None]:
        """The scopes and the audience to ask for: what is wanted may narrow the configuration, never widen it."""
        if wanted.subject:
            raise Denied(
                f"client_credentials speaks for its client {self.spec.client_id!r}, not for {wanted.subject!r}",
                hint="a token for a person needs a provider that can delegate",
            )
        if wanted.client and wanted.client != self.spec.client_id:
            raise Denied(f"client_credentials is configured for {self.spec.client_id!r}, not for {wanted.client!r}")
        if wanted.audience and wanted.audience != self.spec.audience:
            raise Denied(f"client_credentials is not configured for the audience {wanted.audience!r}")
        wider = set(wanted.scopes) - set(self.spec.scopes)
        if self.spec.scopes and wider:
            raise Denied(f"client_credentials is not configured for the scopes {', '.join(sorted(wider))}")
        return wanted.scopes or self.spec.scopes, self.spec.audience

    def _secret(self) -> Secret:
        path = self.spec.client_secret_file
        try:
            text = trust.read(path, secret=not self.in_pod, limit=MAX_SECRET).decode().strip()
        except (FileNotFoundError, NotADirectoryError):
            raise ConfigError(f"client_secret_file {path} is not there") from None
        except UnicodeDecodeError:
            raise ConfigError(f"client_secret_file {path} is not text") from None
        if not text:
            raise ConfigError(f"client_secret_file {path} is empty")
        return Secret(text)

    def _token_endpoint(self, door: Door) -> str:
        """Discovered once; a failure is not remembered."""
        with self._discovery:
            if not self._discovered:
                self._discovered.append(self._discover(door))
            return self._discovered[0]

    def _discover(self, door: Door) -> str:
        issuer = self.spec.issuer or ""
        for request in discovery.requests(issuer):
            response = door.send(request)
            if response.status == 200:
                return discovery.token_endpoint(issuer, response)
        raise ProviderError(
            f"{issuer} has no discovery document (the last answer was {response.status})",
            hint="check the issuer, or set token_endpoint instead",
        )
