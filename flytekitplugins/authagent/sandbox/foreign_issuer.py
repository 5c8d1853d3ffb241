"""An identity provider that is not ours, whose tokens the sandbox's control plane takes: a real one, in tests."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from flytekitplugins.authagent.errors import AuthAgentError
from flytekitplugins.authagent.http import Door
from flytekitplugins.authagent.oauth import discovery
from flytekitplugins.authagent.oauth.message import Request, Response

FRESH_SECONDS = 2.0
"""How long what was fetched is taken as it is."""

TIMEOUT = 5.0
"""Seconds for one document, as flyteadmin waits."""


class ForeignIssuer:
    """
    What its discovery document (RFC 8414, OpenID Connect Discovery) and its JWKS say, fetched when they are needed.

    `url` is the issuer as it spells itself, https or loopback; `audience` is what it calls the Flyte that its tokens
    are for. `now` gives seconds of a clock that only goes forward. Safe to use from any thread. Everything but
    `issuer`, `audience` and `client_of` raises `OSError` where it cannot be fetched; keys that were fetched once stay
    good while it does not answer.
    """

    def __init__(
        self, url: str, *, audience: str, timeout: float = TIMEOUT, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.issuer, self.audience = url, audience
        self._door, self._now = Door(timeout=timeout), now
        self._asking, self._lock = threading.Lock(), threading.Lock()
        self._metadata: dict[str, Any] | None = None
        self._keys: KeySet | None = None
        self._metadata_until = self._keys_until = 0.0

    @property
    def token_endpoint(self) -> str:
        """Where its tokens come from."""
        return self._named("token_endpoint")

    @property
    def authorization_endpoint(self) -> str:
        """Where people sign in."""
        return self._named("authorization_endpoint")

    @property
    def jwks_uri(self) -> str:
        """Where its keys are."""
        return self._named("jwks_uri")

    def metadata(self) -> dict[str, Any]:
        """Its discovery document, for which whoever comes second waits as long as the first may take."""
        if not self._asking.acquire(timeout=2 * self._door.timeout):
            raise OSError(f"{self.issuer} does not answer")
        try:
            if self._metadata is None or self._now() >= self._metadata_until:
                self._metadata = self._discovered()
                self._metadata_until = self._now() + FRESH_SECONDS
            return dict(self._metadata)
        finally:
            self._asking.release()

    def keys(self) -> KeySet:
        """Its public keys, those that it published a moment ago."""
        with self._lock:
            kept, fresh = self._keys, self._now() < self._keys_until
        if kept is not None and fresh:
            return kept
        try:
            fetched = self._fetched_keys()
        except OSError:
            if kept is None:
                raise
            fetched = kept
        with self._lock:
            self._keys, self._keys_until = fetched, self._now() + FRESH_SECONDS
        return fetched

    def client_of(self, jti: str) -> str | None:
        """Nobody tells."""
        return None

    def _named(self, name: str) -> str:
        named = self.metadata().get(name)
        if not isinstance(named, str) or not named:
            raise OSError(f"{self.issuer} names no {name}")
        return named

    def _discovered(self) -> dict[str, Any]:
        for request in discovery.requests(self.issuer):
            document = self._json(request)
            if document is None:
                continue
            if document.get("issuer") != self.issuer:
                raise OSError(f"{request.url} speaks for another issuer")  # RFC 8414 section 3.3
            return document
        raise OSError(f"{self.issuer} publishes no metadata")

    def _fetched_keys(self) -> KeySet:
        document: Any = self._json(Request(self.jwks_uri))
        try:
            keys: KeySet = KeySet.import_key_set(document)
        except (JoseError, ValueError, TypeError, KeyError, AttributeError):
            raise OSError(f"{self.issuer} publishes no keys") from None
        return keys

    def _json(self, request: Request) -> dict[str, Any] | None:
        """The JSON object at `request`, or `None` where there is none. Raises `OSError` without an answer."""
        try:
            response: Response = self._door.send(request)
        except AuthAgentError as error:
            raise OSError(str(error)) from None
        if response.status >= 500:
            raise OSError(f"{self.issuer} answered {response.status}")
        try:
            content = json.loads(response.body) if response.status == 200 else None
        except (ValueError, RecursionError):
            return None
        return content if isinstance(content, dict) else None
