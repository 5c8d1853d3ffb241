"""Reading a token endpoint's answer (RFC 6749 sections 5.1 and 5.2): a credential, or one error of our tree."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from flytekitplugins.authagent.credential import MAX_TOKEN, Credential, Secret, claims, moment, number, token
from flytekitplugins.authagent.errors import AuthAgentError, Denied, ProviderError, ProviderUnavailable
from flytekitplugins.authagent.oauth import echo, error_code
from flytekitplugins.authagent.oauth.message import Request, Response

REFUSALS = frozenset(
    {
        "access_denied",
        "consent_required",
        "interaction_required",
        "invalid_client",
        "invalid_grant",
        "invalid_resource",
        "invalid_scope",
        "invalid_target",
        "login_required",
        "mfa_required",
        "unauthorized_client",
    }
)
"""Error codes that mean no, today and tomorrow (RFC 6749 section 5.2, RFC 8693 section 2.2.2)."""

HINTS = {
    "consent_required": "let an administrator consent, or log in to the client once",
    "interaction_required": "log in to the client once: the identity provider wants more than a password",
    "invalid_grant": "what was shown has ended, or was used before: log in again, or get a fresh assertion",
    "invalid_client": "check the client's id, its secret, and how it authenticates",
    "invalid_scope": "ask for the scopes that this client may have",
    "invalid_target": "ask for the audience that this client may have",
    "unauthorized_client": "allow this grant for the client",
}


SHOWN = ("sub", "name", "preferred_username", "nickname", "email", "scp", "scope")
"""Claims that are shown to people."""

_METADATA_KEY = re.compile(r"[A-Za-z0-9_.\-]{1,64}")

BEARER = frozenset({"", "bearer", "bearertoken"})
"""Spellings of the type, in lower case: some servers leave it empty, Apigee writes `BearerToken`."""

OTHER_TYPES = {
    "dpop": "DPoP (RFC 9449)",
    "hmac": "HMAC",
    "jwt": "JWT",
    "mac": "MAC",
    "n_a": "N_A, which is no access token (RFC 8693)",
    "pop": "PoP",
}
"""The types that a refusal names."""

FRESH = 5.0
"""Seconds by which what a server says of one moment may differ: a `Date` is in seconds, and servers cache it."""


@dataclass(frozen=True)
class Granted:
    """
    What a token endpoint gave: the credential, and what gets the next one, where there is such a thing.

    `refresh_expires_at` is in seconds since the epoch, `None` where the server does not say (no RFC names it).
    """

    credential: Credential
    refresh_token: Secret | None = None
    refresh_expires_at: float | None = None


def granted(response: Response, sent: Request, *, now: float, provider: str) -> Granted:
    """All of the answer to `sent`. Raises as `read`."""
    credential = read(response, sent, now=now, provider=provider)
    answer = response.json()
    text, life = answer.get("refresh_token"), number(answer.get("refresh_expires_in"))
    if text is None:
        return Granted(credential)
    if not isinstance(text, str) or not 0 < len(text) <= MAX_TOKEN or not (text.isascii() and text.isprintable()):
        raise ProviderError(f"{response.url} answered with a refresh_token that is none (RFC 6749 appendix A.17)")
    return Granted(credential, Secret(text), now + life if life else None)  # 0 means that it has no end


def read(response: Response, sent: Request, *, now: float, provider: str) -> Credential:
    """
    The credential in `response`, which answers `sent`, with its expiry turned into a moment.

    `now` is seconds since the epoch. Raises `Denied` where the server says no, `ProviderUnavailable` where it
    cannot answer for now, `ProviderError` where it answers something else. The errors name the endpoint and the
    status, and never anything that was sent or the body.
    """
    if not response.is_refusal:
        credential = _credential(response, now=now, provider=provider)
        said = [claims(secret).get(name) for secret in _tokens(credential) for name in SHOWN]
        echo.check([*credential.scopes, credential.header, *said], sent, response.url)
        return credential
    if 300 <= response.status < 400:
        raise ProviderError(
            f"{response.url} answered {response.status}, a redirect, which a token endpoint does not do",
            hint="use the URL that it redirects to, if that is the identity provider's",
        )
    raise refusal(response, sent)


def _credential(response: Response, *, now: float, provider: str) -> Credential:
    answer = response.json()
    text = answer.get("access_token")
    if not isinstance(text, str):
        raise ProviderError(f"{response.url} answered without an access_token")
    check_type(answer.get("token_type"), response.url)
    secret = token(text, of=f"the access_token of {response.url}")
    scope = answer.get("scope")
    header, id_token = answer.get("authorization_metadata_key"), answer.get("id_token")
    expires_in = _expires_in(answer, url=response.url)
    lifetime = _lifetime(secret, expires_in, response.date, now=now)
    known = [seconds for seconds in (expires_in, lifetime) if seconds is not None]
    return Credential(
        secret,
        expires_at=now + min(known) if known else None,
        lifetime=expires_in if lifetime is None else max(lifetime, 0.0),
        header=header if isinstance(header, str) and _METADATA_KEY.fullmatch(header) else None,
        scopes=tuple(scope.split()) if isinstance(scope, str) else (),
        id_token=token(id_token, of=f"the id_token of {response.url}") if isinstance(id_token, str) else None,
        provider=provider,
    )


def _tokens(credential: Credential) -> tuple[Secret, ...]:
    return (credential.token, credential.id_token) if credential.id_token else (credential.token,)


def check_type(kind: object, of: str) -> None:
    """
    Refuse a `token_type` that Flyte does not take, by its name if that is a known one (RFC 6749 section 7.1).

    Raises `ProviderError`.
    """
    name = kind.strip().lower() if isinstance(kind, str) else "" if kind is None else "?"
    if name in BEARER:
        return
    shown = OTHER_TYPES.get(name, "one that is not known here")
    raise ProviderError(
        f"{of} gave a token of another type than Bearer: token_type is {shown}",
        hint="Flyte takes bearer tokens only; switch sender-constrained tokens off for this client",
    )


def _expires_in(answer: dict[str, Any], *, url: str) -> float | None:
    """Seconds for which the server says that the token is good. Raises `ProviderError` for what is no such number."""
    if answer.get("expires_in") is None:
        return None
    expires_in = number(answer["expires_in"])
    if not expires_in:
        raise ProviderError(f"{url} issued a token with an expires_in that is not a number of seconds ahead")
    return expires_in


def _lifetime(secret: Secret, expires_in: float | None, date: float | None, *, now: float) -> float | None:
    """
    Seconds until the `exp` of a token that has just come; `None` where it has none.

    `exp` is a moment of the issuer's clock, which `date` tells. `iat` does not: flyteadmin's own server keeps the
    login's at a refresh. Still, `iat` shows that our clock is behind the issuer's, or that it and `date` are so far
    ahead that a new token seems to have ended.
    """
    found = claims(secret)
    issued, ends = moment(found.get("iat")), moment(found.get("exp"))
    if ends is None:
        return None
    if date is not None and date < ends:
        return ends - (issued if issued is not None and date < issued <= date + FRESH else date)
    is_new = issued is not None and expires_in is not None and abs(ends - issued - expires_in) <= FRESH
    if date is not None and now >= ends and not is_new:
        return ends - date
    if issued is not None and (now < issued or issued < ends <= now):
        return ends - issued
    return ends - now


def refusal(response: Response, sent: Request) -> AuthAgentError:
    """The error that an answer other than 200 stands for (section 5.2)."""
    unavailable = response.status == 429 or response.status >= 500
    try:
        answer = response.json()
    except ProviderError as nothing_to_read:
        if unavailable:
            return ProviderUnavailable(f"{response.url} answered {response.status}")
        return nothing_to_read
    code = error_code.shown(answer)
    message = f"{response.url} answered {response.status}: {code}{error_code.explained(answer)}"
    return _kind(code, unavailable)(message, hint=HINTS.get(code, ""))


def _kind(code: str, unavailable: bool) -> type[AuthAgentError]:
    if code in REFUSALS:
        return Denied
    if unavailable or code in ("temporarily_unavailable", "slow_down"):
        return ProviderUnavailable
    return ProviderError
