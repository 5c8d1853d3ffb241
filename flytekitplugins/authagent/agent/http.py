"""One HTTP request, and its answer, as the agent's connections speak them."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Mapping
from typing import Any, NamedTuple

from flytekitplugins.authagent.agent.refusal import Refusal

REASONS = {
    200: b"OK",
    201: b"Created",
    202: b"Accepted",
    303: b"See Other",
    400: b"Bad Request",
    401: b"Unauthorized",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    409: b"Conflict",
    410: b"Gone",
    413: b"Content Too Large",
    415: b"Unsupported Media Type",
    422: b"Unprocessable Content",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    503: b"Service Unavailable",
}

JSON = b"application/json"
FORM = b"application/x-www-form-urlencoded"


class Request(NamedTuple):
    """
    A whole request. `path` has no query, and `query` is `None` where there is no question mark.

    `headers` are those that the connection looks at, by small name. They make a request unfit to be the key of
    anything: what is remembered is keyed by what was read from a request (`asked.Asked`), never by its bytes.
    """

    method: bytes
    path: bytes
    body: bytes = b""
    authorization: str | None = None
    content_type: bytes = b""
    query: bytes | None = None
    headers: Mapping[bytes, bytes] = {}


class Answer(NamedTuple):
    """`headers` are whole lines. Nothing that is answered may be stored by anybody on the way (RFC 6749 5.1)."""

    status: int
    body: bytes
    content_type: bytes = JSON
    headers: bytes = b""

    def encoded(self, *, keep_alive: bool) -> bytes:
        """As it goes over the wire."""
        return b"HTTP/1.1 %d %s\r\nContent-Type: %s\r\nCache-Control: no-store\r\n%sContent-Length: %d\r\n%s\r\n%s" % (
            self.status,
            REASONS[self.status],
            self.content_type,
            self.headers,
            len(self.body),
            b"" if keep_alive else b"Connection: close\r\n",
            self.body,
        )


def document(content: dict[str, Any], status: int = 200) -> Answer:
    """A JSON object."""
    return Answer(status, json.dumps(content, separators=(",", ":")).encode())


def refused(refusal: Refusal) -> Answer:
    """RFC 6749 section 5.2."""
    headers = b"" if refusal.retry_after is None else b"Retry-After: %d\r\n" % refusal.retry_after
    if refusal.status == 401:
        headers += b'WWW-Authenticate: Basic realm="authagent"\r\n'
    content = {"error": refusal.error, "error_description": refusal.description}
    return document(content, refusal.status)._replace(headers=headers)


def plain(status: int, text: str) -> Answer:
    """One line for people and probes."""
    return Answer(status, text.encode() + b"\n", b"text/plain; charset=utf-8")


def not_allowed(method: bytes) -> Answer:
    """The path is right, the method is not."""
    return Answer(405, b'{"error":"invalid_request"}', headers=b"Allow: %s\r\n" % method)


async def there(answer: Answer | Awaitable[Answer]) -> Answer:
    """`answer`, when it is there."""
    return answer if isinstance(answer, Answer) else await answer
