"""An HTTP request and its answer, as the grants see them: data, and no I/O."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import timezone
from email.utils import parsedate_to_datetime
from typing import Any

from flytekitplugins.authagent.errors import ProviderError

_LATIN_1 = re.compile(r"charset\s*=\s*\"?(iso-8859-1|latin-?1|windows-1252)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Request:
    """
    What to send. With a `form` it is a POST of `application/x-www-form-urlencoded`, otherwise a GET.

    Both `form` and `headers` may hold secrets, so neither is in its repr.
    """

    url: str
    form: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Response:
    """What came back, already bounded in size. The body may hold secrets."""

    url: str
    status: int
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    """By lower-case names."""
    body: bytes = field(default=b"", repr=False)

    @property
    def is_success(self) -> bool:
        """Whether its status says so; some servers answer 201 where a standard has 200."""
        return 200 <= self.status < 300

    @property
    def is_refusal(self) -> bool:
        """Whether it says no: by its status, or by an `error` in an answer of 200, as GitHub does."""
        if not self.is_success:
            return True
        try:
            return bool(self.json().get("error"))
        except ProviderError:
            return False

    @property
    def date(self) -> float | None:
        """When the server answered, by its own clock (RFC 9110 section 6.6.1), in seconds since the epoch."""
        try:
            sent = parsedate_to_datetime(self.headers.get("date", ""))
            return sent.replace(tzinfo=sent.tzinfo or timezone.utc).timestamp()
        except (TypeError, ValueError, OverflowError):
            return None

    def json(self) -> dict[str, Any]:
        """
        The body as a JSON object.

        Raises `ProviderError` naming the URL, the status and what came instead, never the body.
        """
        try:
            found = json.loads(self._text())
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, dict):
            return found
        raise ProviderError(
            f"{self.url} answered {self.status} with {self._kind()} where JSON was expected",
            hint="check that the URL is the identity provider's and that no proxy or login page stands before it",
        )

    def _text(self) -> bytes | str:
        """The body as `json` takes it: UTF-8, 16 or 32, a byte order mark before it or not, or Latin-1 that says so."""
        try:
            self.body.decode()
        except UnicodeDecodeError:
            if _LATIN_1.search(self.headers.get("content-type", "")):
                return self.body.decode("latin-1")
        return self.body

    def _kind(self) -> str:
        if not self.body:
            return "nothing"
        if b"<html" in self.body[:2048].lower() or b"<!doctype" in self.body[:2048].lower():
            return "an HTML page"
        return "something else"
