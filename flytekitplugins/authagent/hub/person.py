"""A person who shows an access token to the hub, and what must be true of that token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from flytekitplugins.authagent.agent.refusal import Refusal
from flytekitplugins.authagent.credential import Secret, moment

LEEWAY = 30.0
"""Seconds for which a token may be from the future. None is given at its end."""

LONGEST = 256
"""Characters of a subject and of a client's id."""

_CLIENTS = ("client_id", "azp", "cid", "appid")  # RFC 9068, OpenID Connect, Okta, Entra ID
_OF_OTHERS = {
    "nonce": "an ID token",
    "at_hash": "an ID token",
    "c_hash": "an ID token",
    "s_hash": "an ID token",
    "events": "a security event or logout token",
}
_KINDS = {
    "typ": ("bearer",),  # Keycloak's; it has ID, Refresh, Offline and Logout too
    "token_use": ("access", "access_token"),  # Cognito's and Hydra's
    "token_type": ("bearer", "access", "access_token"),  # RFC 7662 section 2.2
}


@dataclass(frozen=True)
class Person:
    """`subject` by `client`. `expires_at`, seconds since the epoch, is the end of `token`, as it was shown."""

    subject: str
    client: str
    expires_at: float
    scopes: tuple[str, ...]
    token: Secret = field(repr=False)
    name: str = ""
    """What people call them, as the issuer says; where `sub` is a number they would not know whom it means."""


@dataclass(frozen=True)
class Expected:
    """
    Whose tokens are good: of `issuer`, for `audience` and for none of `not_audiences`, from one of `clients` (empty:
    from any) and from none of `not_clients`.
    """

    issuer: str
    audience: str
    clients: frozenset[str]
    not_audiences: frozenset[str]
    not_clients: frozenset[str]


def refused(reason: str) -> Refusal:
    """Nobody whom the hub knows. `reason` is for the audit file, and quotes nothing of the token."""
    what = "show an access token of the hub's issuer, for the hub's own audience, that is still good"
    return Refusal(401, "invalid_token", what, reason)


def person(token: Secret, claims: Mapping[str, Any], expected: Expected, *, now: float) -> Person:
    """
    The person of whom the issuer says `claims`, which are its own: signed by it, or its answer about `token`.

    `now` is in seconds since the epoch. Raises `Refusal`.
    """
    if claims.get("iss") != expected.issuer:
        raise refused("the token is from another issuer")
    _check_audience(claims.get("aud"), expected)
    _check_kind(claims)
    ends = _check_times(claims, now)
    subject = claims.get("sub")
    if not _is_name(subject):
        raise refused("the token does not say whom it speaks for")
    return Person(subject, _client(claims, expected), ends, _scopes(claims), token, _name(claims))


def _check_audience(audience: object, expected: Expected) -> None:
    listed = audience if isinstance(audience, list) else [audience]
    named = [one for one in listed if isinstance(one, str)]
    if len(named) < len(listed) or expected.audience not in named:
        raise refused("the token is for another audience")
    # A token that Flyte takes as well may be a task's: every task of an execution can read it.
    if {_alike(one) for one in named} & {_alike(one) for one in expected.not_audiences}:
        raise refused("the token is for another audience too, one whose tokens tasks have")


def _alike(audience: str) -> str:
    return audience.rstrip("/").casefold()


def _check_kind(claims: Mapping[str, Any]) -> None:
    if "act" in claims:
        raise refused("the token is a delegated one: somebody acts with it for somebody else (RFC 8693 section 4.1)")
    if "cnf" in claims:
        raise refused("the token is bound to a key, which a bearer does not show (RFC 7800)")
    for name, what in _OF_OTHERS.items():
        if name in claims:
            raise refused(f"the token has the claim {name}: it is {what}, no access token")
    for name, kinds in _KINDS.items():
        kind = claims.get(name, kinds[0])
        if not isinstance(kind, str) or kind.lower() not in kinds:
            raise refused(f"the token's claim {name} says that it is no access token")


def _check_times(claims: Mapping[str, Any], now: float) -> float:
    ends = moment(claims.get("exp"))
    if ends is None:
        raise refused("the token does not say when it ends")
    if ends <= now:
        raise refused("the token has ended")
    for name in ("nbf", "iat"):
        begins = moment(claims.get(name, 0))
        if begins is None or begins > now + LEEWAY:
            raise refused("the token is from the future")
    return ends


def _client(claims: Mapping[str, Any], expected: Expected) -> str:
    named = [claims[name] for name in _CLIENTS if name in claims]
    if not named or not all(map(_is_name, named)):
        raise refused("the token does not say to which client it was issued")
    if len(set(named)) > 1:
        raise refused("the token says that it was issued to several clients")
    client = str(named[0])
    if client in expected.not_clients:
        raise refused("the token was issued to the hub itself: it may be one of a grant")
    if expected.clients and client not in expected.clients:
        raise refused("the token was issued to a client that people may not use here")
    return client


def _name(claims: Mapping[str, Any]) -> str:
    """OpenID Connect Core section 5.1. Nothing is decided by it."""
    named = (claims.get(name) for name in ("preferred_username", "email", "name"))
    return next((value for value in named if _is_name(value)), "")


def _is_name(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and 0 < len(value) <= LONGEST and value.isprintable() and bool(value.strip())


def _scopes(claims: Mapping[str, Any]) -> tuple[str, ...]:
    said = claims.get("scope", claims.get("scp", ()))
    if isinstance(said, str):
        return tuple(said.split())
    return tuple(one for one in said if isinstance(one, str)) if isinstance(said, list) else ()
