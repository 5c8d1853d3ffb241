"""Reading signed JWTs that others present (RFC 7519, RFC 7523 section 3)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import Key, KeySet

SIGNATURES = ("RS256", "ES256", "PS256")
"""Algorithms of a key pair. A shared secret never counts where one of these does, nor the other way round."""


class BadAssertion(Exception):
    """A JWT that is refused. Its message quotes nothing of it."""


def unverified(text: str) -> dict[str, Any]:
    """What `text` claims, before anything is proven. Raises `BadAssertion` where it is no JWT."""
    try:
        claims = json.loads(jws.extract_compact(text.encode()).payload)
    except (JoseError, ValueError, RecursionError):
        raise BadAssertion("not a JWT") from None
    if not isinstance(claims, dict):
        raise BadAssertion("not a JWT")
    return claims


def verified(text: str, keys: KeySet, *, algorithms: Sequence[str] = SIGNATURES, now: float) -> dict[str, Any]:
    """
    The claims of `text`, whose signature by one of `keys` and whose times are good at `now`, without any leeway.

    It must have an `exp`. Raises `BadAssertion`.
    """
    claims = unverified(text)
    kid = jws.extract_compact(text.encode()).headers().get("kid")
    if not any(_signed_by(text, key, algorithms) for key in keys.keys if kid in (None, key.kid)):
        raise BadAssertion("its signature is wrong")
    if not all(map(_number, (claims.get("exp"), claims.get("nbf", 0)))):
        raise BadAssertion("its times are missing or no numbers")
    if not claims.get("nbf", 0) <= now < claims["exp"]:
        raise BadAssertion("it is not valid now")
    return claims


def check_audience(claims: dict[str, Any], accepted: Iterable[str]) -> None:
    """Raises `BadAssertion` unless `claims` are for one of `accepted`."""
    audience = claims.get("aud")
    named = [audience] if isinstance(audience, str) else audience
    if not isinstance(named, list) or not any(one in named for one in accepted):
        raise BadAssertion("it is for somebody else")


def _signed_by(text: str, key: Key, algorithms: Sequence[str]) -> bool:
    try:
        jws.deserialize_compact(text, key, algorithms=list(algorithms))
    except (JoseError, ValueError):
        return False
    return True


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
