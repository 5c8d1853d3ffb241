"""
Access tokens, verified as a flyteadmin 1.16.8 verifies them, with its words for what is wrong.

Its own server ("internal") and an identity provider ("external") differ in the words only. Neither allows any
leeway between clocks, and neither looks at `iss`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from joserfc import jws
from joserfc.errors import DecodeError, JoseError

from flytekitplugins.authagent.sandbox.posture import Issuer

Claims = Mapping[str, Any]

_ALGORITHMS = ["RS256", "ES256"]
_MALFORMED = {
    "internal": "token contains an invalid number of segments",
    "external": "oidc: malformed jwt: go-jose/go-jose: compact JWS format must have three parts",
}
_WRONG_KEY = {
    "internal": "crypto/rsa: verification error",
    "external": "failed to verify id token signature",
}


class BadToken(Exception):
    """A token that is refused, in flyteadmin's words. `claims` are there once the signature was good."""

    def __init__(self, message: str, claims: Claims | None = None, *, expired: bool = False) -> None:
        super().__init__(message)
        self.claims = claims or {}
        self.expired = expired


def verified(token: str, *, issuer: Issuer, kind: str, now: float) -> Claims:
    """
    The claims of `token`, whose signature, times (RFC 7519 section 4.1) and audience are good.

    `kind` is the posture's `issuer`; `now` is in seconds since the epoch. Raises `BadToken`.
    """
    claims = _signed_claims(token, issuer, kind)
    _check_times(claims, kind, int(now))
    _check_audience(claims, issuer.audience)
    return claims


def expired(kind: str, claims: Claims) -> BadToken:
    """What an expired token is answered with."""
    return BadToken(_timely(kind, "Token is expired"), claims)


def unverifiable(kind: str, claims: Claims) -> BadToken:
    """What a token signed by a key that nobody knows is answered with."""
    return BadToken(_WRONG_KEY[kind], claims)


def _signed_claims(token: str, issuer: Issuer, kind: str) -> Claims:
    if token.count(".") != 2:
        raise BadToken(_MALFORMED[kind])
    try:
        keys = issuer.keys()
    except OSError as error:
        raise BadToken(f"fetching keys oidc: get keys failed {error}") from error
    try:
        claims = json.loads(jws.deserialize_compact(token, keys, algorithms=_ALGORITHMS).payload)
    except (DecodeError, UnicodeDecodeError, json.JSONDecodeError):
        raise BadToken(_MALFORMED[kind]) from None
    except (JoseError, ValueError):  # a bad signature, an unknown key, an algorithm that is not allowed
        raise BadToken(_WRONG_KEY[kind]) from None
    if not isinstance(claims, dict):
        raise BadToken(_MALFORMED[kind])
    return claims


def _check_times(claims: Claims, kind: str, now: int) -> None:
    """Where several are wrong, flyteadmin names the last one; a time that is not a number is wrong."""
    wrong = ""
    if "exp" in claims and not now < _seconds(claims["exp"], otherwise=now):
        wrong = "Token is expired"
    if "iat" in claims and not now >= _seconds(claims["iat"], otherwise=now + 1):
        wrong = "Token used before issued"
    if "nbf" in claims and not now >= _seconds(claims["nbf"], otherwise=now + 1):
        wrong = "Token is not valid yet"
    if wrong:
        raise BadToken(_timely(kind, wrong), claims, expired=wrong == "Token is expired")


def _seconds(claim: Any, *, otherwise: float) -> float:
    return claim if isinstance(claim, (int, float)) else otherwise


def _timely(kind: str, message: str) -> str:
    return f"failed to validate token: {message}" if kind == "external" else message


def _check_audience(claims: Claims, wanted: str) -> None:
    audience = claims.get("aud", [])
    audience = [audience] if isinstance(audience, str) else audience
    if not isinstance(audience, list) or wanted not in audience:
        seen = " ".join(map(str, audience)) if isinstance(audience, list) else audience
        named = " ".join(str(claims.get(name, "")) for name in ("iss", "sub", "jti"))
        raise BadToken(f"invalid audience [&{{[{seen}] {named}}}], wanted [map[{wanted}:{{}}]]", claims)
