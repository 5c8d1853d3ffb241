"""The authorization code grant with PKCE, for a program on its user's machine (RFC 7636, RFC 8252, RFC 9207)."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit, urlunsplit

from flytekitplugins.authagent.credential import Secret
from flytekitplugins.authagent.errors import Denied, ProviderError
from flytekitplugins.authagent.oauth import error_code
from flytekitplugins.authagent.oauth.client_authentication import Added
from flytekitplugins.authagent.oauth.message import Request
from flytekitplugins.authagent.oauth.target import Target, token_request

MAX_CODE = 8192
"""Characters of an authorization code."""


@dataclass(frozen=True)
class Started:
    """One login that has begun: where the browser goes, and what its return is checked against. Used once."""

    url: str = field(repr=False)  # holds the state
    redirect_uri: str
    state: Secret
    verifier: Secret
    issuer: str | None = None
    issuer_must_answer: bool = False


def start(
    authorization_endpoint: str,
    client_id: str,
    redirect_uri: str,
    target: Target,
    *,
    issuer: str | None = None,
    issuer_must_answer: bool = False,
    random_text: Callable[[int], str] = secrets.token_urlsafe,
    state: str | None = None,
    more: Iterable[tuple[str, str]] = (),
) -> Started:
    """
    A new login, with a `state` (random unless set) and a verifier of its own (RFC 7636 section 4.1: 43 characters or
    more). `more` are further parameters of the request.

    `issuer_must_answer`: the server says that its answers name it (RFC 9207 section 3), so one that does not is
    from somebody else.
    """
    verifier = random_text(32)
    state = state or random_text(24)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    query = [
        ("response_type", "code"),
        ("client_id", client_id),
        ("redirect_uri", redirect_uri),
        ("state", state),
        ("code_challenge", challenge),
        ("code_challenge_method", "S256"),
        *target.fields(),
        *more,
    ]
    where = urlsplit(authorization_endpoint)
    joined = "&".join(filter(None, (where.query, urlencode(query))))
    return Started(
        urlunsplit(where._replace(query=joined, fragment="")),
        redirect_uri,
        Secret(state),
        Secret(verifier),
        issuer,
        issuer_must_answer,
    )


def is_answer(query: Mapping[str, str], started: Started) -> bool:
    """
    Whether `query` belongs to this login: its `state` is ours (RFC 6749 section 10.12).

    Anything else is not an answer at all: any page may send a browser to a loopback port.
    """
    return secrets.compare_digest(query.get("state", "").encode(), started.state.reveal().encode())


def code(query: Mapping[str, str], started: Started) -> Secret:
    """
    The authorization code in an answer.

    Raises `Denied` where the person or the server declined, `ProviderError` for an answer of another issuer
    (RFC 9207 section 2.4) and for one that is none.
    """
    named = query.get("iss")
    if started.issuer and named is not None and named.rstrip("/") != started.issuer.rstrip("/"):
        raise ProviderError(
            "the login was answered by another issuer than the one that was asked",
            hint="start again; if it comes back, somebody may be mixing up your logins (RFC 9207)",
        )
    if started.issuer_must_answer and named is None:
        raise ProviderError("the answer to the login does not say which issuer gave it (RFC 9207)", hint="start again")
    if "error" in query:
        declined = query["error"] == "access_denied"
        raise Denied(
            "the login was declined"
            if declined
            else f"the identity provider did not log anybody in: {error_code.shown(query)}",
            hint="log in again and allow it, or ask the operator of the identity provider to let you"
            if declined
            else "check the client, its redirect address and its scopes at the identity provider",
        )
    found = query.get("code", "")
    if not found or len(found) > MAX_CODE:
        raise ProviderError("the identity provider answered the login without a code")
    return Secret(found)


def request(token_endpoint: str, client: Added, authorization_code: Secret, started: Started) -> Request:
    """Redeem the code (RFC 6749 section 4.1.3, RFC 7636 section 4.5)."""
    grant = [
        ("grant_type", "authorization_code"),
        ("code", authorization_code.reveal()),
        ("redirect_uri", started.redirect_uri),
        ("code_verifier", started.verifier.reveal()),
    ]
    return token_request(token_endpoint, client, grant)
