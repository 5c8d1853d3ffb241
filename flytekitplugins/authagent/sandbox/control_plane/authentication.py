"""Who may call what: the authentication of a flyteadmin 1.16.8, in every posture it has."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import grpc

from flytekitplugins.authagent.sandbox.control_plane import token as tokens
from flytekitplugins.authagent.sandbox.control_plane.caller import ANONYMOUS, SCOPE, Caller, caller_of
from flytekitplugins.authagent.sandbox.control_plane.token import BadToken, Claims
from flytekitplugins.authagent.sandbox.counts import Counts
from flytekitplugins.authagent.sandbox.faults import Faults
from flytekitplugins.authagent.sandbox.posture import Issuer, Posture
from flytekitplugins.authagent.sandbox.refusal import Refusal

ANYONE = frozenset({"GetOAuth2Metadata", "GetPublicClientConfig"})
"""The methods that tell a client how to log in, and so ask nobody who they are."""

HEADERS = ("authorization", "flyte-authorization")
"""Where a token may be: what is in the first hides the second, even if it is garbage."""

Metadata = Iterable[tuple[str, "str | bytes"]]

_NO_TOKEN = "[JWT_VERIFICATION_FAILED] Could not retrieve {what} from metadata, caused by: " + (
    "rpc error: code = Unauthenticated desc = Request unauthenticated with {scheme}"
)
_FRAME = "token parse error id token err: access token err: {reason}, access token err: " + (
    _NO_TOKEN.format(what="id token", scheme="IDToken")
)


@dataclass(frozen=True)
class _Verdict:
    """What became of one call: a caller, or a refusal; whose token it was, and whether that had expired."""

    caller: Caller | None = None
    refusal: Refusal | None = None
    client: str = "anonymous"
    expired: bool = False


class Authentication:
    """Decides for each unary call who makes it, and counts the decision. Safe to use from any thread."""

    def __init__(
        self,
        *,
        issuer: Issuer,
        posture: Posture,
        counts: Counts,
        faults: Faults,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._issuer = issuer
        self._posture = posture
        self._counts = counts
        self._faults = faults
        self._now = now

    def caller(self, method: str, metadata: Metadata) -> Caller:
        """
        Who calls `method` (short name, such as `GetTask`) with this metadata.

        Raises `Refusal`, UNAUTHENTICATED where the token is not good enough.
        """
        verdict = self._decide(method, metadata)
        accepted = verdict.caller is not None
        self._counts.rpc(method, verdict.client, accepted=accepted, expired=verdict.expired)
        if verdict.caller is None:
            raise verdict.refusal or Refusal(grpc.StatusCode.INTERNAL, "")
        return verdict.caller

    def _decide(self, method: str, metadata: Metadata) -> _Verdict:
        if method in ANYONE:
            self._counts.discover(method)
            return _Verdict(ANONYMOUS)
        if not self._posture.use_auth:
            return _Verdict(ANONYMOUS)
        kind = self._posture.issuer
        try:
            claims = tokens.verified(_bearer(metadata), issuer=self._issuer, kind=kind, now=self._now())
            return self._authorise(claims, caller_of(claims))
        except BadToken as bad:
            client = self._client(bad.claims)
            if self._posture.disable_for_grpc:
                return _Verdict(ANONYMOUS, client=client, expired=bad.expired)
            refusal = Refusal(grpc.StatusCode.UNAUTHENTICATED, _FRAME.format(reason=bad))
            return _Verdict(refusal=refusal, client=client, expired=bad.expired)
        except Refusal as refusal:
            return _Verdict(refusal=refusal)

    def _authorise(self, claims: Claims, caller: Caller) -> _Verdict:
        """Decide about a good token: by its scopes, and by the faults that somebody has ordered."""
        client = self._client(claims)
        if SCOPE not in caller.scopes:
            message = "authenticated user doesn't have required scope"
            return _Verdict(refusal=Refusal(grpc.StatusCode.UNAUTHENTICATED, message), client=client)
        if self._faults.take("expire_now") is not None:
            raise tokens.expired(self._posture.issuer, claims)
        if self._faults.take("reject_rpc") is not None:
            reason = tokens.unverifiable(self._posture.issuer, claims)
            refusal = Refusal(grpc.StatusCode.UNAUTHENTICATED, _FRAME.format(reason=reason))
            return _Verdict(refusal=refusal, client=client)
        return _Verdict(caller, client=client)

    def _client(self, claims: Claims) -> str:
        """The OAuth client to count a token under: flyteadmin's own server leaves `client_id` empty."""
        minted_for = self._issuer.client_of(str(claims["jti"])) if "jti" in claims else None
        return minted_for or str(claims.get("client_id") or claims.get("sub") or "anonymous")


def _bearer(metadata: Metadata) -> str:
    """The token that a call carries (RFC 6750 section 2.1, in any case); `BadToken` if there is none."""
    sent = dict(reversed(list(metadata)))  # of several headers with one name the first counts
    header = next((str(sent[name]) for name in HEADERS if name in sent), "")
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise BadToken(_NO_TOKEN.format(what="bearer token", scheme="Bearer"))
    return token
