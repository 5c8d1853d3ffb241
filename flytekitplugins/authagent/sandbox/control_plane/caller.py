"""Who is calling: what flyteadmin makes of the claims of an access token."""

from __future__ import annotations

import contextvars
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc
from flyteidl.service import identity_pb2

from flytekitplugins.authagent.sandbox.control_plane.token import BadToken, Claims
from flytekitplugins.authagent.sandbox.refusal import Refusal

SCOPE = "all"
"""The one scope that flyteadmin knows: with it a caller may do everything, without it nothing."""


@dataclass(frozen=True)
class Caller:
    """
    The identity of one call.

    `subject` is the token's `sub`, which becomes the `principal` and, unless the request names another one,
    the `execution_identity` of an execution. It is empty for anonymous callers, and for client credentials of
    flyteadmin's own server.
    """

    subject: str = ""
    scopes: frozenset[str] = frozenset()
    user_info: identity_pb2.UserInfoResponse = field(default_factory=identity_pb2.UserInfoResponse)


ANONYMOUS = Caller()

_caller: contextvars.ContextVar[Caller] = contextvars.ContextVar("caller", default=ANONYMOUS)


def current_caller() -> Caller:
    """Who made the call that this thread is answering."""
    return _caller.get()


@contextmanager
def answering(caller: Caller) -> Iterator[None]:
    """While this is open, `caller` is the current caller of this thread."""
    token = _caller.set(caller)
    try:
        yield
    finally:
        _caller.reset(token)


def caller_of(claims: Claims) -> Caller:
    """
    The caller that these verified claims describe.

    Only `sub`, `scp`, `client_id`, `email` and `user_info` matter; a token with neither client nor scopes
    may do everything. Raises `BadToken` for an unusable `scp`, and the INTERNAL `Refusal` without a word that
    flyteadmin answers with when it stumbles over the type of another claim.
    """
    info = claims.get("user_info")
    if not all(isinstance(claims.get(name, ""), str) for name in ("client_id", "email")):
        raise Refusal(grpc.StatusCode.INTERNAL, "")
    if info is not None and not isinstance(info, dict):
        raise Refusal(grpc.StatusCode.INTERNAL, "")
    subject = str(claims.get("sub", ""))
    scopes = _scopes(claims)
    if not scopes and not claims.get("client_id"):
        scopes = frozenset({SCOPE})
    return Caller(subject, scopes, _user_info(subject, claims, info or {}))


def _scopes(claims: Claims) -> frozenset[str]:
    scp = claims.get("scp", [])
    if isinstance(scp, str):
        return frozenset({scp})  # one scope, however many words it has
    if isinstance(scp, list):
        return frozenset(str(scope) for scope in scp)
    raise BadToken(f"failed getting scope claims due to  unknown type {type(scp).__name__} with value {scp}", claims)


def _user_info(subject: str, claims: Claims, info: Claims) -> identity_pb2.UserInfoResponse:
    answer = identity_pb2.UserInfoResponse(
        subject=str(info.get("subject", "")) or subject,
        name=str(info.get("name", "")),
        email=str(claims.get("email", "")) or str(info.get("email", "")),
    )
    answer.additional_claims.update(dict(claims))
    return answer
