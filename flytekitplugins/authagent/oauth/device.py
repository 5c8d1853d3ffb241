"""The device authorization grant (RFC 8628)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from flytekitplugins.authagent.credential import Secret, number
from flytekitplugins.authagent.errors import AuthAgentError, Denied, ProviderError, ProviderUnavailable
from flytekitplugins.authagent.oauth import echo, error_code, token_response
from flytekitplugins.authagent.oauth.client_authentication import Added
from flytekitplugins.authagent.oauth.message import Request, Response
from flytekitplugins.authagent.oauth.target import Target, token_request
from flytekitplugins.authagent.oauth.token_response import Granted

GRANT = "urn:ietf:params:oauth:grant-type:device_code"

DEFAULT_INTERVAL = 5.0
"""Seconds between polls where the server does not say (section 3.2)."""

SLOWER = 5.0
"""Seconds that `slow_down` adds, for good (section 3.5)."""

LONGEST_INTERVAL = 60.0
LONGEST_LIFE = 3600.0
"""Bounds on what a server may make us wait."""


@dataclass(frozen=True)
class DeviceCode:
    """
    What a person is to do, and what we poll with. `expires_at` is in seconds since the epoch, `interval` in seconds.

    `verification_uri_complete` has the code in it; `None` where the server has no such address.
    """

    device_code: Secret = field(repr=False)
    user_code: str
    verification_uri: str
    verification_uri_complete: str | None
    expires_at: float
    interval: float


def request(endpoint: str, client: Added, target: Target) -> Request:
    """Ask for a code (section 3.1)."""
    return token_request(endpoint, client, [], target)


def read(response: Response, sent: Request, *, now: float) -> DeviceCode:
    """
    The code in `response` (section 3.2).

    Raises `Denied`, `ProviderUnavailable` and `ProviderError` as `token_response.read`.
    """
    if response.is_refusal:
        raise token_response.refusal(response, sent)
    answer = response.json()
    code, user_code = _text(answer, "device_code"), _text(answer, "user_code")
    uri = _text(answer, "verification_uri") or _text(answer, "verification_url")  # Google's spelling of the draft
    if not (code and user_code and uri):
        raise ProviderError(f"{response.url} answered without a device_code, a user_code or a verification_uri")
    if not user_code.isprintable():
        raise ProviderError(f"{response.url} answered with a user_code that cannot be shown")
    complete = _text(answer, "verification_uri_complete")
    echo.check([user_code, uri, complete], sent, response.url)
    life = _seconds(answer, "expires_in", response.url, LONGEST_LIFE, default=600.0)
    return DeviceCode(
        Secret(code),
        user_code,
        _address(uri, response.url),
        _address(complete, response.url) if complete else None,
        expires_at=now + life,
        interval=_seconds(answer, "interval", response.url, LONGEST_INTERVAL, default=DEFAULT_INTERVAL),
    )


def poll(token_endpoint: str, client: Added, code: DeviceCode) -> Request:
    """Ask whether the person has answered (section 3.4)."""
    grant = [("grant_type", GRANT), ("device_code", code.device_code.reveal())]
    return token_request(token_endpoint, client, grant)


def judge(response: Response, sent: Request, interval: float, *, now: float, provider: str) -> Granted | float:
    """
    What was granted, or the seconds to wait before the next poll (section 3.5).

    Raises `Denied` where the person, or the server, says no, or the code has expired. A server that cannot be
    reached for a moment is polled again, more slowly.
    """
    if not response.is_refusal:
        return token_response.granted(response, sent, now=now, provider=provider)
    code = _error(response)
    if code == "authorization_pending":
        return interval
    if code == "slow_down" or response.status == 429:
        return min(interval + SLOWER, LONGEST_INTERVAL)
    if code == "expired_token":
        raise Denied("the code expired before anybody confirmed it", hint="start again for a new code")
    if code in ("access_denied", "authorization_declined"):  # the latter is Entra ID's
        raise Denied(
            "the login was declined on the device page",
            hint="log in again and allow it, or ask the operator of the identity provider to let you",
        )
    failed: AuthAgentError = token_response.refusal(response, sent)
    if isinstance(failed, ProviderUnavailable):
        return min(interval * 2, LONGEST_INTERVAL)  # section 3.5: exponential back-off
    raise failed


def _error(response: Response) -> str | None:
    try:
        return error_code.found(response.json())
    except ProviderError:
        return None


def _text(answer: dict[str, Any], name: str) -> str | None:
    value = answer.get(name)
    return value if isinstance(value, str) and 0 < len(value) <= 4096 else None


def _address(text: str, url: str) -> str:
    """A person is sent there, and a terminal shows it: it must be a plain web address."""
    if text.startswith(("https://", "http://")) and text.isprintable() and not any(c in text for c in " <>\"'\\"):
        return text
    raise ProviderError(f"{url} answered with a verification_uri that is not a web address")


def _seconds(answer: dict[str, Any], name: str, url: str, longest: float, *, default: float) -> float:
    said = answer.get(name)
    value = default if said is None else number(said)
    if not value:
        raise ProviderError(f"{url} answered with an {name} that is not a number of seconds")
    return min(value, longest)
