"""
Who a person is, by an access token for the hub's own audience: a JWT (RFC 9068) that the issuer's keys prove, or, where
that is configured, any other token, about which the issuer is asked (RFC 7662).

A token that a task can have must not pass here, or a delegated task could extend its own grant.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from typing import Any

from flytekitplugins.authagent.agent.people_settings import PeopleSettings
from flytekitplugins.authagent.agent.refusal import Refusal, busy, unavailable
from flytekitplugins.authagent.credential import MAX_TOKEN, Secret
from flytekitplugins.authagent.errors import AuthAgentError, ConfigError
from flytekitplugins.authagent.http import Door
from flytekitplugins.authagent.hub import signed_token
from flytekitplugins.authagent.hub.issuer_clock import IssuerClock
from flytekitplugins.authagent.hub.keys import Keys
from flytekitplugins.authagent.hub.person import Expected, Person, person, refused
from flytekitplugins.authagent.oauth import introspection
from flytekitplugins.authagent.providers.oauth_client import OAuthClient

__all__ = ["People", "Person"]

IN_FLIGHT = 8
"""Questions about tokens at once: junk costs the sender nothing, and the issuer an answer each."""

RETRY_AFTER = 5
"""Seconds after which somebody who could not be authenticated may come again."""

_TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")  # RFC 6750 section 2.1


class People:
    """
    Authenticates; safe to use from any thread, and waits for the issuer in the one that asks.

    `not_audiences` are Flyte's, `not_clients` the hub's own clients: tokens for the former, and those issued to the
    latter, are what tasks are given. `clock` is in seconds since the epoch. Raises `ConfigError` for `settings` that
    would let those in.
    """

    def __init__(
        self,
        settings: PeopleSettings,
        *,
        not_audiences: frozenset[str],
        not_clients: frozenset[str],
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        if settings.audience in not_audiences:
            raise ConfigError(
                f"people: the audience {settings.audience!r} is Flyte's too, whose tokens tasks have",
                hint="give the hub an audience of its own at the identity provider",
            )
        if own := not_clients.intersection(settings.clients):
            raise ConfigError(f"people: the client {min(own)!r} is the hub's own, whose tokens tasks have")
        self._settings, self._now = settings, clock
        self._expected = Expected(
            settings.issuer, settings.audience, frozenset(settings.clients), not_audiences, not_clients
        )
        door = Door(settings.timeout, settings.ca_file, proxy=settings.proxy)
        self._clock = IssuerClock(clock, steady)
        self._keys = Keys(settings.issuer, door, self._clock, jwks_uri=settings.jwks_uri, steady=steady)
        spec = settings.introspecting_client if settings.introspect else None
        self._client = OAuthClient(spec, "introspection", clock=clock) if spec else None
        self._asking = threading.BoundedSemaphore(IN_FLIGHT)

    @property
    def trouble(self) -> str:
        """Why people cannot be authenticated, or soon cannot be, empty while they can."""
        return self._keys.trouble or self._clock.trouble

    def authenticate(self, token: Secret) -> Person:
        """
        The person who shows `token`.

        Raises `Refusal`: 401 where it is not good here, 503 and 429 where that cannot be said now.
        """
        text = token.reveal()
        if len(text) > MAX_TOKEN or not _TOKEN.fullmatch(text):
            raise refused("what was shown is no token: it is too long, or has characters that none has")
        claims = self._signed(text) if signed_token.is_jwt(text) else self._introspected(token)
        return person(token, claims, self._expected, now=self._now())

    def _signed(self, text: str) -> dict[str, Any]:
        settings = self._settings
        try:
            claims = signed_token.claims(
                text,
                self._keys.fitting,
                issuer=settings.issuer,
                types=settings.types,
                algorithms=settings.algorithms,
            )
            if self._clock.trouble:
                self._keys.refresh()  # somebody may have set the clock right
        except AuthAgentError as failed:
            raise _cannot(f"the issuer's keys: {failed}") from None
        self._check_clock()
        return claims

    def _introspected(self, token: Secret) -> dict[str, Any]:
        """The answer about a token, in which the issuer may leave out what it is called itself (section 2.2)."""
        if self._client is None:
            raise refused("what was shown is no JWT, and introspection is not configured")
        if not self._asking.acquire(timeout=self._settings.timeout):
            raise busy("too many tokens are being asked about", f"{IN_FLIGHT} at a time")
        try:
            claims = self._ask(self._client, token)
        except AuthAgentError as failed:
            raise _cannot(f"introspection: {failed}") from None
        finally:
            self._asking.release()
        if claims is None:
            raise refused("the issuer says that the token is not active")
        self._check_clock()
        return {"iss": self._settings.issuer} | claims

    def _ask(self, client: OAuthClient, token: Secret) -> dict[str, Any] | None:
        where = self._settings.introspection_endpoint or client.metadata.need("introspection_endpoint")
        response = client.send(introspection.request(where, client.authentication(), token))
        claims = introspection.read(response)
        self._clock.hear(response)
        return claims

    def _check_clock(self) -> None:
        if trouble := self._clock.trouble:
            raise _cannot(trouble)


def _cannot(reason: str) -> Refusal:
    return unavailable("people cannot be authenticated for now", reason, RETRY_AFTER)
