"""What a browser asks of a page: a request, and the headers by which browsers say whose page they are on."""

from __future__ import annotations

from typing import NamedTuple

from flytekitplugins.authagent.agent.http import Request


class PageRequest(NamedTuple):
    """A request for a page. `cookie`, `origin` and `fetch_site` are headers, `None` where they are not there."""

    method: bytes
    path: bytes
    query: bytes
    content_type: bytes
    body: bytes
    cookie: str | None
    origin: str | None
    fetch_site: str | None

    @classmethod
    def of(cls, request: Request) -> PageRequest:
        """`request`, as it was read from a connection for browsers."""
        cookie, origin, fetch_site = map(request.headers.get, (b"cookie", b"origin", b"sec-fetch-site"))
        return cls(
            request.method,
            request.path,
            request.query or b"",
            request.content_type,
            request.body,
            _text(cookie),
            _text(origin),
            _text(fetch_site),
        )


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")
