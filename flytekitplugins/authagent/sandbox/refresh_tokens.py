"""The refresh tokens that are out, and what becomes of an old one when a new one is issued."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import Any

from authlib.oauth2.rfc6749 import TokenMixin

from flytekitplugins.authagent.sandbox.client import Client
from flytekitplugins.authagent.sandbox.families import Families, new_family

MAX_TOKENS = 10_000
"""Refresh tokens kept; the oldest is forgotten for a further one, as if it had expired."""


@dataclass(frozen=True)
class RefreshToken(TokenMixin):  # type: ignore[misc] # authlib has no types
    """
    One refresh token, as authlib asks about it. `expires_at` and `signed_in_at`: seconds since the epoch.

    A `family` is all that came from one sign-in. `spared`: it is the sandbox's own, and faults are for others.
    Access tokens that it brings are for `audience`, the issuer's usual one where that is `None`. One refresh may ask
    for another audience, as it may ask for less scope (RFC 8707 section 2.2): the next one that asks for nothing gets
    what the sign-in was for. They name `actor` as the one who acts for the user (RFC 8693 section 4.1).
    """

    text: str = field(repr=False)
    client_id: str
    user: str
    scope: str
    expires_at: float
    family: str
    signed_in_at: float
    spared: bool = False
    audience: str | None = None
    actor: dict[str, Any] | None = None

    def check_client(self, client: Client) -> bool:
        """Whether it was issued to this client."""
        return client.id == self.client_id

    def get_scope(self) -> str:
        """The scopes granted, joined by spaces."""
        return self.scope


class RefreshTokens:
    """
    All refresh tokens, in memory. Safe to use from any thread.

    `rotates`: a token can be used once, and using it again revokes its family (RFC 9700 section 4.14.2).
    Without, an old token stays good until it expires, as with flyteadmin's own server.
    """

    def __init__(self, families: Families, *, rotates: bool, lifetime: float) -> None:
        self._families, self.rotates, self.lifetime = families, rotates, lifetime
        self._lock = threading.Lock()
        self._live: OrderedDict[str, RefreshToken] = OrderedDict()
        self._spent: OrderedDict[str, str] = OrderedDict()

    def issue(
        self, client_id: str, user: str, scope: str, *, now: float, family: str = "", **more: Any
    ) -> RefreshToken:
        """
        The first token of a sign-in, which is named `family` where it has a name already.

        `more` is the rest of what a `RefreshToken` is made of.
        """
        token = RefreshToken(
            _text(), client_id, user, scope, now + self.lifetime, family or new_family(), signed_in_at=now, **more
        )
        with self._lock:
            self._keep(token)
        return token

    def find(self, text: str, *, now: float) -> RefreshToken | None:
        """The token, if it can be used at `now`. One that was used before takes its family with it."""
        with self._lock:
            family = self._spent.get(text)
            if family is not None:
                self._families.revoke(family)
        token = self.look(text)
        return token if token is not None and now < token.expires_at else None

    def look(self, text: str) -> RefreshToken | None:
        """The token if it was neither used, revoked nor forgotten, expired or not; looking changes nothing."""
        with self._lock:
            token = self._live.get(text)
        return None if token is None or self._families.revoked(token.family) else token

    def spares(self, text: str) -> bool:
        """Whether it is a token of the sandbox itself, which the faults leave alone."""
        with self._lock:
            token = self._live.get(text)
            return token is not None and token.spared

    def rotate(self, old: RefreshToken, *, now: float) -> RefreshToken | None:
        """The token that follows `old`, or `None` if somebody else was faster to use it."""
        with self._lock:
            if self.rotates and self._live.pop(old.text, None) is None:
                self._families.revoke(old.family)
                return None
            if self.rotates:
                self._spent[old.text] = old.family
                _bound(self._spent)
            successor = replace(old, text=_text(), expires_at=now + self.lifetime)
            self._keep(successor)
            return successor

    def _keep(self, token: RefreshToken) -> None:
        self._live[token.text] = token
        _bound(self._live)


def _text() -> str:
    return secrets.token_urlsafe(32)


def _bound(kept: OrderedDict[str, RefreshToken] | OrderedDict[str, str]) -> None:
    while len(kept) > MAX_TOKENS:
        kept.popitem(last=False)
