"""An HTTP request and its answer, as the grants see them: data, and no I/O."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from flytekitplugins.authagent.errors import ProviderError


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

    def json(self) -> dict[str, Any]:
        """
        The body as a JSON object.

        Raises `ProviderError` naming the URL, the status and what came instead, never the body.
        """
        try:
            found = json.loads(self.body)
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, dict):
            return found
        raise ProviderError(
            f"{self.url} answered {self.status} with {self._kind()} where JSON was expected",
            hint="check that the URL is the identity provider's and that no proxy or login page stands before it",
        )

    def _kind(self) -> str:
        if not self.body:
            return "nothing"
        if b"<html" in self.body[:2048].lower() or b"<!doctype" in self.body[:2048].lower():
            return "an HTML page"
        return "something else"
