"""
What a person asks their hub: to take a grant, to show it, to end it. Requests and answers are data; `HubClient` sends.

A *grant* lets the tasks of one execution act for the person who gave it, until it ends.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from flytekitplugins.authagent import own_words
from flytekitplugins.authagent.credential import Secret, number
from flytekitplugins.authagent.errors import (
    AuthAgentError,
    ConfigError,
    Denied,
    ProviderError,
    ProviderUnavailable,
    Rejected,
)
from flytekitplugins.authagent.http import Door
from flytekitplugins.authagent.oauth import echo, error_code
from flytekitplugins.authagent.oauth.message import Request, Response

STATUSES = ("pending", "active", "ended")
REVOCATIONS = ("none", "pending", "done", "unsupported")

POLL = 2.0
"""Seconds between looks at a pending grant where the hub does not say."""

LONGEST_POLL = 30.0
LONGEST_TEXT = 256
"""Characters of a name that are worth showing."""

_PART = r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,254}"
_EXECUTION = re.compile(f"{_PART}:{_PART}:{_PART}")
_ID = re.compile(r"[A-Za-z0-9_\-]{1,128}")
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,256}")


@dataclass(frozen=True)
class Grant:
    """
    A grant as the hub knows it. Moments are in seconds since the epoch.

    `reason` says why it ended, `revocation` what has become of its tokens at the identity provider. `consent_uri` is
    the page on which the person consents, asked about every `interval` seconds.
    """

    id: str
    execution: str
    subject: str
    scopes: tuple[str, ...]
    status: str
    reason: str
    created_at: int
    expires_at: int
    launched: bool
    children: int
    revocation: str
    consent_uri: str | None = None
    interval: float = POLL


@dataclass(frozen=True)
class Described:
    """What the hub says to everybody (RFC 9728 section 2): whom its tokens must be for, and who issues them."""

    resource: str
    issuer: str
    scopes: tuple[str, ...] = ()


@dataclass(frozen=True)
class HubClient:
    """
    The hub at `url`, for the person whose token `token` gives.

    Every call raises `Rejected` where the hub does not take the token, `Denied` where it says no, `ConfigError` for
    what it cannot make sense of, `ProviderUnavailable` where it does not answer for now, and `ProviderError` where it
    answers something else.
    """

    url: str
    token: Callable[[], Secret] = field(repr=False)
    door: Door = field(default_factory=Door)

    def deposit(
        self, execution: str, *, seconds: int | None = None, scopes: Sequence[str] = (), launch_later: bool = False
    ) -> Grant:
        """
        A grant for `execution`, active or waiting for consent. Without `seconds` it lasts as long as the hub likes.

        One that was there already stays, and lasts until then at least.
        """
        form = [("execution", execution)] + [("expires_in", str(seconds))] * (seconds is not None)
        form += [("scope", " ".join(scopes))] * bool(scopes) + [("launch", "later")] * launch_later
        found = self._grant("/grants", form)
        if found.execution != execution:
            raise ProviderError(f"{self.url} answered with a grant for another execution than {execution}")
        if found.status == "ended":
            raise ProviderError(f"{self.url} answered with a grant that has ended")
        if found.status == "pending" and found.consent_uri is None:
            raise ProviderError(f"{self.url} waits for consent, and does not say where it is given")
        return found

    def get(self, id: str) -> Grant:
        """The grant `id`; the hub looks whether its execution has been launched."""
        return self._the(id, self._grant(f"/grants/{check_id(id)}"))

    def mine(self) -> tuple[Grant, ...]:
        """The grants of the person, newest first: those that live, and those that ended within a day."""
        answer = self._answer("/grants")
        listed = answer.get("grants")
        if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
            raise ProviderError(f"{self.url}/grants answered without a list of grants")
        return tuple(grant(each, self.url) for each in listed)

    def revoke(self, id: str) -> Grant:
        """End the grant `id`."""
        return self._the(id, self._grant("/grants/revoke", [("id", check_id(id))]))

    def revoke_execution(self, execution: str) -> Grant:
        """End the grant of `execution`."""
        found = self._grant("/grants/revoke", [("execution", execution)])
        if found.execution != execution:
            raise ProviderError(f"{self.url} answered with a grant for another execution than {execution}")
        return found

    def _the(self, id: str, found: Grant) -> Grant:
        if found.id != id:
            raise ProviderError(f"{self.url} answered with another grant than {id}")
        return found

    def _grant(self, path: str, form: Sequence[tuple[str, str]] = ()) -> Grant:
        return grant(self._answer(path, form), self.url)

    def _answer(self, path: str, form: Sequence[tuple[str, str]] = ()) -> dict[str, Any]:
        token = self.token()
        sent = request(self.url + path, token, form)
        answer = read(_sent(self.door, sent))
        echo.check([answer], sent, self.url)
        return answer


def request(url: str, token: Secret, form: Sequence[tuple[str, str]] = ()) -> Request:
    """Ask the hub as the person whose `token` this is (RFC 6750 section 2.1)."""
    headers = (("Authorization", f"Bearer {token.reveal()}"), ("Accept", "application/json"))
    return Request(url, tuple(form), headers)


def describe(url: str, door: Door) -> Described:
    """
    What the hub at `url` says of itself, to anybody.

    Raises `ProviderUnavailable`, `ProviderError` and `ConfigError` as `HubClient`.
    """
    response = _sent(door, Request(f"{url}/.well-known/oauth-protected-resource", headers=(("Accept", "*/*"),)))
    answer = read(response)
    issuers, scopes = answer.get("authorization_servers"), answer.get("scopes_supported", [])
    issuer = issuers[0] if isinstance(issuers, list) and issuers else None
    if not isinstance(issuer, str) or not issuer or not isinstance(scopes, list):
        raise ProviderError(f"{response.url} does not say who issues the hub's tokens")
    known = tuple(scope for scope in scopes if isinstance(scope, str) and _SCOPE.fullmatch(scope))
    return Described(_text(answer, "resource", response.url), issuer, known)


def read(response: Response) -> dict[str, Any]:
    """What a good answer says. Raises as `HubClient`; of a refusal the error code and our own sentences are shown."""
    status = response.status
    if not response.is_refusal:
        return _json(response)
    if 300 <= status < 400:
        raise ProviderError(
            f"{response.url} answered {status}, a redirect, which a hub does not do",
            hint="write the url that it redirects to, if that is the hub's",
        )
    if status == 500 and _words(response):
        raise ProviderError(f"{response.url} answered 500{_words(response)}")
    if status == 429 or status >= 500:
        raise ProviderUnavailable(f"{response.url} answered {status}{_words(response)}", hint=_when(response.headers))
    if status == 401:
        raise Rejected(f"the hub does not take the token (401{_words(response)})", hint="log in to the hub")
    code = error_code.shown(_json(response))
    told = f"the hub refused: {code}{_words(response)}"
    if status in (403, 404, 409) or code in ("invalid_scope", "unauthorized_client", "access_denied"):
        raise Denied(told)
    if status == 400:
        raise ConfigError(
            told, hint="ask for less time, for other scopes, or for another execution: the hub has its bounds"
        )
    raise ProviderError(f"{response.url} answered {status}: {code}")


def grant(answer: dict[str, Any], hub: str) -> Grant:
    """
    The grant that `answer` describes. Raises `ProviderError` for anything that it cannot be.

    Keys that are not known are a newer hub's. Its words are shown at terminals, and its page is opened in a browser:
    both must be plain, and the page the hub's own.
    """
    where = f"{hub}/grants"
    scopes = tuple(_text(answer, "scope", where, empty=True).split())
    launched = answer.get("launched")
    if not isinstance(launched, bool):
        raise _wrong("launched", where)
    return Grant(
        id=_matching(_ID, answer, "id", where),
        execution=_matching(_EXECUTION, answer, "execution", where),
        subject=_text(answer, "subject", where),
        scopes=scopes,
        status=_one_of(STATUSES, answer, "status", where),
        reason=_text(answer, "reason", where, empty=True),
        created_at=_whole(answer, "created_at", where),
        expires_at=_whole(answer, "expires_at", where),
        launched=launched,
        children=_whole(answer, "children", where),
        revocation=_one_of(REVOCATIONS, answer, "revocation", where),
        consent_uri=_page(answer, hub),
        interval=_interval(answer, where),
    )


def check_execution(text: str) -> str:
    """`text`, if it names an execution as `project:domain:name`. Raises `ConfigError`."""
    if _EXECUTION.fullmatch(text):
        return text
    raise ConfigError(f"{text!r} does not name an execution", hint="write PROJECT:DOMAIN:NAME")


def check_id(text: str) -> str:
    """`text`, if it can be a grant's id. Raises `ConfigError`."""
    if _ID.fullmatch(text):
        return text
    raise ConfigError(f"{text!r} is no grant's id", hint="`authagent grants` shows them")


def _sent(door: Door, sent: Request) -> Response:
    try:
        return door.send(sent)
    except AuthAgentError as failed:
        raise _of_the_hub(failed) from None


def _json(response: Response) -> dict[str, Any]:
    try:
        return response.json()
    except ProviderError as failed:
        raise _of_the_hub(failed) from None


def _of_the_hub(failed: AuthAgentError) -> AuthAgentError:
    """What was written for identity providers, said of the hub."""
    return type(failed)(str(failed.args[0]), hint=failed.hint.replace("identity provider", "hub"))


def _words(response: Response) -> str:
    """A sentence of our own hub, if it says one: other words may repeat the token."""
    try:
        words = own_words.said(response.json())
    except ProviderError:
        return ""
    return f": {words}" if words else ""


def _when(headers: dict[str, str]) -> str:
    seconds = headers.get("retry-after", "")
    if seconds.isascii() and seconds.isdigit() and len(seconds) < 6:
        return f"try again in {int(seconds)} s"
    return "try again later"


def _text(answer: dict[str, Any], name: str, where: str, *, empty: bool = False) -> str:
    value = answer.get(name)
    if value is None and empty:
        return ""
    if not isinstance(value, str) or not (value or empty) or not value.isprintable():
        raise _wrong(name, where)
    return value if name == "scope" else value[:LONGEST_TEXT]


def _matching(pattern: re.Pattern[str], answer: dict[str, Any], name: str, where: str) -> str:
    value = answer.get(name)
    if isinstance(value, str) and pattern.fullmatch(value):
        return value
    raise _wrong(name, where)


def _one_of(known: tuple[str, ...], answer: dict[str, Any], name: str, where: str) -> str:
    value = answer.get(name)
    if isinstance(value, str) and value in known:
        return value
    raise _wrong(name, where)


def _whole(answer: dict[str, Any], name: str, where: str) -> int:
    value = number(answer.get(name))
    if value is None or value != int(value):
        raise _wrong(name, where)
    return int(value)


def _interval(answer: dict[str, Any], where: str) -> float:
    said = answer.get("interval")
    value = POLL if said is None else number(said)
    if not value:
        raise _wrong("interval", where)
    return min(max(value, 1.0), LONGEST_POLL)


def _page(answer: dict[str, Any], hub: str) -> str | None:
    value = answer.get("consent_uri")
    if value is None:
        return None
    plain = isinstance(value, str) and value.isascii() and value.isprintable() and len(value) <= 4096
    if plain and not any(c in value for c in " <>\"'`\\") and _origin(value) == _origin(hub) is not None:
        return str(value)
    raise ProviderError(
        f"{hub} wants consent on a page that is not its own, so it was not opened",
        hint="let `hub: url` of the hub's own configuration be the url that people call it by",
    )


def _origin(url: str) -> tuple[str, str, int] | None:
    """Scheme, host and port; `None` for what has no such thing, or credentials beside it."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"https": 443, "http": 80}[parts.scheme]
    except (ValueError, KeyError):
        return None
    return (parts.scheme, parts.hostname, port) if parts.hostname and parts.username is None else None


def _wrong(name: str, where: str) -> ProviderError:
    return ProviderError(f"{where} answered with a grant whose {name} is missing or cannot be", hint="is it a hub?")
