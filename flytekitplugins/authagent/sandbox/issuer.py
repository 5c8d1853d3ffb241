"""Who issues the sandbox's tokens: its key, its clients, its users, and what it remembers of what it issued."""

from __future__ import annotations

import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterable

from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey

from flytekitplugins.authagent.sandbox import client
from flytekitplugins.authagent.sandbox.dialect import Dialect, Token
from flytekitplugins.authagent.sandbox.refresh_tokens import RefreshTokens

USERS = ("alice", "bob")

MAX_REMEMBERED = 10_000
"""Tokens whose client is remembered, newest first kept."""

REFRESH_LIFETIME = 24 * 3600.0


class Issuer:
    """
    Signs tokens as `dialect` spells them, `lifetime` seconds good each.

    `issuer` is the base URL of the server that answers for it; `now` gives seconds since the epoch.
    """

    def __init__(
        self,
        issuer: str,
        dialect: Dialect,
        *,
        lifetime: int = 300,
        refresh_lifetime: float = REFRESH_LIFETIME,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.issuer, self.dialect, self.lifetime, self.now = issuer, dialect, lifetime, now
        self.token_endpoint = issuer + dialect.token_path
        self.authorization_endpoint = issuer + dialect.authorization_path
        self.jwks_uri = issuer + dialect.jwks_path
        self.audience = dialect.audience(issuer)
        self.clients = client.made_for_this_run()
        self.refresh_tokens = RefreshTokens(rotates=dialect.rotates, lifetime=refresh_lifetime)
        self._key = RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256"}, auto_kid=True)
        self._public = KeySet([RSAKey.import_key(self._key.as_dict(private=False))])
        self._lock = threading.Lock()
        self._client_of: OrderedDict[str, str] = OrderedDict()

    def keys(self) -> KeySet:
        """The public keys that its tokens verify with."""
        return self._public

    def client_of(self, jti: str) -> str | None:
        """The client that a token was issued to, where the token itself may not say; `None` for one not of here."""
        with self._lock:
            return self._client_of.get(jti)

    def sign(self, client_id: str, user: str | None, scopes: Iterable[str], *, ahead: int = 0) -> tuple[str, int]:
        """
        An access token, and the whole seconds that it is still good for.

        Its moments are whole seconds, so it ends up to one second earlier than `lifetime` from now. `ahead` is
        by how many seconds the clock that they are read from is wrong.
        """
        now, jti = self.now(), uuid.uuid4().hex
        issued_at = int(now)
        token = Token(
            issuer=self.issuer,
            audience=self.audience,
            client_id=client_id,
            user=user,
            scopes=tuple(scopes),
            issued_at=issued_at + ahead,
            expires_at=issued_at + ahead + self.lifetime,
            jti=jti,
        )
        header = {"alg": "RS256", "typ": self.dialect.typ, "kid": self._key.kid}
        text = jwt.encode(header, self.dialect.claims(token), self._key)
        with self._lock:
            self._client_of[jti] = client_id
            if len(self._client_of) > MAX_REMEMBERED:
                self._client_of.popitem(last=False)
        return text, max(1, int(issued_at + self.lifetime - now))

    def sign_in(self, user: str, *, client_id: str = client.FLYTECTL, spared: bool = False) -> str:
        """
        What the user's client keeps after `user` signed in: a refresh token.

        There is no page to sign in on yet, so whoever can call this is believed. Raises `KeyError` for an
        unknown user.
        """
        if user not in USERS:
            raise KeyError(user)
        return self.refresh_tokens.issue(client_id, user, "all offline", now=self.now(), spared=spared).text
