"""Who issues the sandbox's tokens: its key, its clients, its users, and what it remembers of what it issued."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from authlib.oidc.core.grants.util import create_half_hash
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey

from flytekitplugins.authagent.sandbox import assertion, client, metadata
from flytekitplugins.authagent.sandbox.access_tokens import AccessToken, AccessTokens
from flytekitplugins.authagent.sandbox.assertion import BadAssertion
from flytekitplugins.authagent.sandbox.authorization_codes import AuthorizationCodes
from flytekitplugins.authagent.sandbox.device_codes import USUAL_INTERVAL, DeviceCodes
from flytekitplugins.authagent.sandbox.dialect import Dialect, Token
from flytekitplugins.authagent.sandbox.families import Families, new_family
from flytekitplugins.authagent.sandbox.refresh_tokens import RefreshTokens
from flytekitplugins.authagent.sandbox.trusted_issuer import TrustedIssuer
from flytekitplugins.authagent.sandbox.users import USERS, profile

REFRESH_LIFETIME = 24 * 3600.0


class Issuer:
    """
    Signs tokens as `dialect` spells them, `lifetime` seconds good each.

    `issuer` is the base URL of the server that answers for it; `now` gives seconds since the epoch. `trusted` are
    others whose JWTs count here; `device_interval` is how many seconds a device waits between two polls.
    """

    def __init__(
        self,
        issuer: str,
        dialect: Dialect,
        *,
        lifetime: int = 300,
        refresh_lifetime: float = REFRESH_LIFETIME,
        device_interval: int = USUAL_INTERVAL,
        trusted: Iterable[TrustedIssuer] = (),
        now: Callable[[], float] = time.time,
    ) -> None:
        self.issuer, self.dialect, self.lifetime, self.now = issuer, dialect, lifetime, now
        self.token_endpoint = issuer + dialect.token_path
        self.authorization_endpoint = issuer + dialect.authorization_path
        self.jwks_uri = issuer + dialect.jwks_path
        self.audience = dialect.audience(issuer)
        self.clients = client.made_for_this_run(dialect.scopes)
        self.trusted = {other.issuer: other for other in trusted}
        self.device_interval = device_interval
        self.families = Families()
        self.refresh_tokens = RefreshTokens(self.families, rotates=dialect.rotates, lifetime=refresh_lifetime)
        self.access_tokens = AccessTokens(self.families)
        self.authorization_codes = AuthorizationCodes(self.families)
        self.device_codes = DeviceCodes()
        self._key = RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256"}, auto_kid=True)
        self._public = KeySet([RSAKey.import_key(self._key.as_dict(private=False))])

    def keys(self) -> KeySet:
        """The public keys that its tokens verify with."""
        return self._public

    def metadata(self) -> dict[str, Any]:
        """What its metadata documents say."""
        return metadata.of(self.issuer, self.dialect)

    def client_of(self, jti: str) -> str | None:
        """The client that a token was issued to, where the token itself may not say; `None` for one not of here."""
        return self.access_tokens.client_of(jti)

    def sign(
        self,
        client_id: str,
        user: str | None,
        scopes: Iterable[str],
        *,
        family: str = "",
        audience: str | None = None,
        actor: dict[str, Any] | None = None,
        until: float | None = None,
        signed_in_at: float | None = None,
        ahead: int = 0,
    ) -> tuple[str, int]:
        """
        An access token, and the whole seconds that it is still good for.

        It is for `audience`, Flyte if that is `None`. Its moments are whole seconds, so it ends up to one second
        earlier than `lifetime` from now, and never after `until`. `ahead` is by how many seconds the clock that they
        are read from is wrong. `signed_in_at` is when the sign-in was that a refreshed token comes from: some dialects
        keep it as `iat`.
        """
        now, jti = self.now(), uuid.uuid4().hex
        issued_at = int(now)
        lifetime = self.lifetime if until is None else min(self.lifetime, int(until) - issued_at)
        keeps = signed_in_at is not None and self.dialect.keeps_issued_at
        token = Token(
            issuer=self.issuer,
            audience=audience or self.audience,
            client_id=client_id,
            user=user,
            scopes=tuple(scopes),
            issued_at=int(signed_in_at or 0) if keeps else issued_at + ahead,
            expires_at=issued_at + ahead + lifetime,
            jti=jti,
            actor=actor,
        )
        text = self._encode(self.dialect.claims(token), self.dialect.typ)
        self.access_tokens.keep(AccessToken(jti, client_id, user, frozenset(token.scopes), family or new_family()))
        return text, max(1, int(issued_at + lifetime - now))

    def sign_id_token(
        self, client_id: str, user: str, access_token: str, *, nonce: str | None = None, auth_time: int | None = None
    ) -> str:
        """The ID token beside `access_token` (OpenID Connect Core section 2)."""
        now = int(self.now())
        half = create_half_hash(access_token, "RS256")
        claims = profile(user) | {
            "iss": self.issuer,
            "aud": client_id,
            "azp": client_id,
            "iat": now,
            "exp": now + self.lifetime,
            "at_hash": half.decode() if half else None,
            "nonce": nonce,
            "auth_time": auth_time,
        }
        return self._encode({name: value for name, value in claims.items() if value is not None}, "JWT")

    def read(self, text: str) -> tuple[AccessToken, Mapping[str, Any]]:
        """
        An access token of its own and its claims. Raises `BadAssertion` unless it is good now and was not revoked.
        """
        claims = assertion.verified(text, self._public, now=self.now())
        token = self.access_tokens.find(str(claims.get("jti")))  # an ID token has no jti
        if token is None:
            raise BadAssertion("it was revoked, or is no access token")
        return token, claims

    def sign_in(
        self, user: str, *, client_id: str = client.FLYTECTL, audience: str | None = None, spared: bool = False
    ) -> str:
        """
        What the user's client keeps after `user` signed in: a refresh token.

        The access tokens that it brings are for `audience` (Flyte), as if the sign-in had asked for that, unless a
        refresh asks for the other one: see `RefreshToken`. It stands for a sign-in of long ago, so whoever can call
        this is believed. Raises `KeyError` for an unknown user.
        """
        if user not in USERS:
            raise KeyError(user)
        token = self.refresh_tokens.issue(
            client_id, user, "all offline", audience=audience, now=self.now(), spared=spared
        )
        return token.text

    def _encode(self, claims: Mapping[str, Any], typ: str) -> str:
        header = {"alg": "RS256", "typ": typ, "kid": self._key.kid}
        return str(jwt.encode(header, dict(claims), self._key))
