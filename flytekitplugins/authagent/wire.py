"""
The agent's wire: HTTP/1.1 on a Unix socket, as bytes in and bytes out.

Client and server share these names and nothing else, so that either may be a release older than the other. It
imports nothing, `__future__` included: `authagent token` pays for every module that it touches.
"""

CLIENT_CREDENTIALS = "client_credentials"
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105 - a name from RFC 8693
ACCESS_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - a name from RFC 8693

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
POD_TOKEN = "/var/run/secrets/authagent/token"  # noqa: S105 - a path
"""Where a pod finds its projected token for an agent that attests pods (the default pod template mounts it)."""

MAX_REPLY = 1 << 20
"""Bytes of an answer, headers included. A token's is about 1 KiB."""

MAX_SOCKET_PATH = 107
"""Bytes of a Unix socket's path (`sun_path` in unix(7), less its terminator)."""

NOBODY = 65534
"""The uid that the kernel reports for one it cannot translate: it stands for anybody, so it proves nothing."""

_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


class Broken(Exception):
    """What came back is not an answer of an agent."""


class Reply:
    """One answer: `status`, `headers` by their lower-case names, `body`."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body


def form(fields: list[tuple[str, str]]) -> bytes:
    """`application/x-www-form-urlencoded`, as RFC 6749 appendix B wants it."""
    return b"&".join(_quoted(name) + b"=" + _quoted(value) for name, value in fields)


def _quoted(text: str) -> bytes:
    return b"".join(b"%c" % byte if byte in _PLAIN else b"%%%02X" % byte for byte in text.encode())


def get(path: str, shown: str = "") -> bytes:
    """A request for `path`, showing a pod's token where there is one; the connection ends with its answer."""
    authorization = f"Authorization: Bearer {shown}\r\n" if shown else ""
    return f"GET {path} HTTP/1.1\r\nHost: agent\r\n{authorization}Connection: close\r\n\r\n".encode()


def post(path: str, body: bytes) -> bytes:
    """A request that posts a form to `path`; the connection ends with its answer."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n"
        f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Reader:
    """Collects an answer from pieces of any size: `feed` them until `reply` is there, then `end` if it never was."""

    def __init__(self) -> None:
        self._buffer = b""
        self.reply: Reply | None = None

    def feed(self, piece: bytes) -> None:
        """Take what arrived. Raises `Broken` as soon as it cannot become an answer."""
        self._buffer += piece
        if len(self._buffer) > MAX_REPLY:
            raise Broken("the answer is too large")
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        status, headers = _head(head)
        length = headers.get("content-length", "")
        if not (length.isascii() and length.isdigit() and len(length) < 9):
            raise Broken("the answer does not say its length")
        if len(body) >= int(length):
            self.reply = Reply(status, headers, body[: int(length)])

    def end(self) -> None:
        """The other side has closed. Raises `Broken`: an answer that was whole would have been taken before."""
        raise Broken("the connection ended before the answer did")


def _head(head: bytes) -> tuple[int, dict[str, str]]:
    lines = head.decode("latin-1").split("\r\n")
    start = lines[0].split(" ", 2)
    if not start[0].startswith("HTTP/1.") or len(start) < 2 or not (len(start[1]) == 3 and start[1].isdigit()):
        raise Broken("that is not HTTP")
    headers = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon:
            raise Broken("a header without a colon")
        headers[name.strip().lower()] = value.strip()
    return int(start[1]), headers


def trusted_server(uid: int, own: int, expected: int | None) -> bool:
    """
    Whether a socket of `uid` may be our agent: it is ours, root's, or the one we were told to expect.

    Whoever else listens there would learn which tokens we want and could hand us theirs.
    """
    return uid != NOBODY and uid in (own, 0, expected)
