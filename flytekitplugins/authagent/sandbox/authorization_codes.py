"""The authorization codes that are out (RFC 6749 section 4.1.2)."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass, field

from flytekitplugins.authagent.sandbox.families import Families, new_family

LIFETIME = 60.0
"""Seconds: as long as a browser needs to bring a code to its client."""

MAX_CODES = 10_000
"""Codes kept; the oldest is forgotten for a further one, as if it had expired."""


@dataclass(frozen=True)
class AuthorizationCode:
    """
    One code, as authlib asks about it. Times are seconds since the epoch.

    `redirect_uri` is the one that was asked for, if one was (section 4.1.3); `family` is of all that it gives, and
    `audience` what that is for, where the request said so.
    """

    text: str = field(repr=False)
    client_id: str
    user: str
    scope: str
    redirect_uri: str | None
    code_challenge: str | None
    nonce: str | None
    auth_time: int
    expires_at: float
    family: str
    audience: str | None = None
    code_challenge_method: str = "S256"

    def get_redirect_uri(self) -> str | None:
        """See authlib."""
        return self.redirect_uri

    def get_scope(self) -> str:
        """The scopes granted, joined by spaces."""
        return self.scope


class AuthorizationCodes:
    """All codes, in memory. Safe to use from any thread."""

    def __init__(self, families: Families) -> None:
        self._families = families
        self._lock = threading.Lock()
        self._live: OrderedDict[str, AuthorizationCode] = OrderedDict()
        self._spent: OrderedDict[str, AuthorizationCode] = OrderedDict()

    def issue(
        self,
        client_id: str,
        user: str,
        scope: str,
        *,
        redirect_uri: str | None,
        code_challenge: str | None,
        nonce: str | None,
        now: float,
        audience: str | None = None,
    ) -> AuthorizationCode:
        """A code for `user`, who just signed in and agreed."""
        code = AuthorizationCode(
            secrets.token_urlsafe(32),
            client_id,
            user,
            scope,
            redirect_uri,
            code_challenge,
            nonce,
            auth_time=int(now),
            expires_at=now + LIFETIME,
            family=new_family(),
            audience=audience,
        )
        with self._lock:
            _keep(self._live, code)
        return code

    def find(self, text: str, client_id: str, *, now: float) -> AuthorizationCode | None:
        """
        The code, if this client can use it at `now`.

        A second use revokes what the first one gave (section 4.1.2); an attempt of another client changes nothing.
        """
        with self._lock:
            spent, code = self._spent.get(text), self._live.get(text)
        if spent and spent.client_id == client_id:
            self._families.revoke(spent.family)
        return code if code and code.client_id == client_id and now < code.expires_at else None

    def spend(self, code: AuthorizationCode) -> bool:
        """Use it up; whether nobody else was faster, or else what they got is revoked."""
        with self._lock:
            first = self._live.pop(code.text, None) is not None
            _keep(self._spent, code)
        if not first:
            self._families.revoke(code.family)
        return first


def _keep(kept: OrderedDict[str, AuthorizationCode], code: AuthorizationCode) -> None:
    kept[code.text] = code
    if len(kept) > MAX_CODES:
        kept.popitem(last=False)
