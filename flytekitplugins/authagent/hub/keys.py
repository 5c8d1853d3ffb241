"""The keys of an issuer: fetched when they are needed, kept while they serve."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from joserfc.jwk import Key

from flytekitplugins.authagent.errors import AuthAgentError, ProviderUnavailable
from flytekitplugins.authagent.http import Door
from flytekitplugins.authagent.hub.issuer_clock import IssuerClock
from flytekitplugins.authagent.oauth import jwks
from flytekitplugins.authagent.providers.oauth_client import discover

logger = logging.getLogger(__name__)

FRESH = 300.0
"""Seconds for which keys are used as they are: one that its issuer has withdrawn counts no longer than that."""

KEPT = 24 * 3600.0
"""Seconds for which they are used while the issuer does not answer."""

PAUSE = 30.0
"""Seconds between two fetches, however many tokens name keys that nobody has heard of."""

RETRY = 1.0
"""Seconds after which an issuer is asked again where there is no key yet."""

REQUESTS = 3
"""Two documents that may say where the keys are, and the keys."""


@dataclass(frozen=True)
class _Known:
    """`at` is by the steady clock."""

    keys: tuple[Key, ...]
    at: float


class Keys:
    """
    The keys of `issuer`, at `jwks_uri` or where its own document says. Safe to use from any thread.

    One fetch at a time: whoever needs what it brings waits for it, and everybody else goes on with what there is.
    `trouble` is why the last fetch failed, empty while it did not. `clock` hears when the issuer answered.
    """

    def __init__(
        self,
        issuer: str,
        door: Door,
        clock: IssuerClock,
        *,
        jwks_uri: str | None = None,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._issuer, self._door, self._clock, self._steady = issuer, door, clock, steady
        self._configured = jwks_uri
        self._found: str | None = None
        self._known: _Known | None = None
        self._not_before = float("-inf")
        self._asking = threading.Lock()
        self.trouble = ""

    def fitting(self, kid: str | None, algorithm: str) -> tuple[Key, ...]:
        """
        The keys that can have signed with `algorithm` under the name `kid`; empty where the issuer has none.

        Raises `ProviderUnavailable` where it cannot be asked whether it has.
        """
        known = self._known
        found = self._among(known, kid, algorithm)
        if found and known is not None and self._steady() < known.at + FRESH:
            return found
        self._fetch(wait=not found)
        found = self._among(self._known, kid, algorithm)
        if not found and self.trouble:
            raise ProviderUnavailable(self.trouble)
        return found

    def refresh(self) -> None:
        """Fetch them now, if that is not too soon after the last time."""
        self._fetch(wait=True)

    def _among(self, known: _Known | None, kid: str | None, algorithm: str) -> tuple[Key, ...]:
        if known is None or self._steady() >= known.at + KEPT:
            return ()
        return jwks.fitting(known.keys, kid, algorithm)

    def _fetch(self, *, wait: bool) -> None:
        """Fetch them, unless somebody just did. Without `wait`, leave it to whoever is at it."""
        if not self._asking.acquire(timeout=REQUESTS * self._door.timeout if wait else 0):
            if wait:
                raise ProviderUnavailable(f"{self._issuer} did not answer in time")
            return
        try:
            if self._steady() >= self._not_before:
                self._ask()
        finally:
            self._asking.release()

    def _ask(self) -> None:
        try:
            response = self._door.send(jwks.request(self._where()))
            keys = jwks.read(response)
        except AuthAgentError as failed:
            self._found = None  # it may have moved them
            self._not_before = self._steady() + (PAUSE if self._known else RETRY)
            if str(failed) != self.trouble:
                logger.warning("the keys of %s cannot be fetched: %s", self._issuer, failed)
            self.trouble = str(failed)
            return
        self._clock.hear(response)
        now = self._steady()
        self._known, self._not_before, self.trouble = _Known(keys, now), now + PAUSE, ""

    def _where(self) -> str:
        if self._configured:
            return self._configured
        if self._found is None:
            self._found = discover(self._issuer, self._door).need("jwks_uri")
        return self._found
