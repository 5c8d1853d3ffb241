"""One deadline for a whole HTTP exchange, below requests, whose timeouts are for one read each."""

from __future__ import annotations

import http.client
import io
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

PIECE = 16384
"""Bytes that are sent or read at a time: what one TLS record holds."""


class TooLarge(requests.exceptions.RequestException):
    """The response body is larger than the caller allows."""


class TooSlow(requests.exceptions.Timeout):
    """The response began, and did not end in time."""


class BrokenOff(requests.exceptions.ConnectionError):
    """The response began, and its end never came, or is no HTTP."""


class DeadlineSession(requests.Session):
    """
    A session whose every exchange is over at a deadline: resolving the name, connecting, a proxy's consent, TLS, the
    request, the headers and the body together. For one thread at a time.

    It reads no `~/.netrc` and no proxy from the environment, and it follows no redirect.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False
        self._adapter = _DeadlineAdapter()
        self.mount("http://", self._adapter)
        self.mount("https://", self._adapter)

    def exchange(
        self, method: str, url: str, *, deadline: float, limit: int, **options: Any
    ) -> tuple[requests.Response, bytes]:
        """
        The response and its body of at most `limit` bytes, before `deadline` (of `time.monotonic`).

        Raises `requests.exceptions.Timeout` after the deadline (`TooSlow` where the response had begun),
        `BrokenOff`, `TooLarge` for a larger body, and what requests raises.
        """
        self._adapter.deadline = deadline
        try:
            left = _remaining(deadline)
            response = self.request(method, url, timeout=left, allow_redirects=False, stream=True, **options)
            with response:
                return response, _body(response, deadline, limit)
        except requests.exceptions.RequestException:
            raise
        except (TimeoutError, urllib3.exceptions.TimeoutError):
            raise TooSlow from None
        except (OSError, urllib3.exceptions.HTTPError, http.client.HTTPException) as broken:
            raise BrokenOff(type(broken).__name__) from None


def _body(response: requests.Response, deadline: float, limit: int) -> bytes:
    body = bytearray()
    # `read1` returns what is there. `read` would wait for a full buffer, and a body that drips never fills one.
    while piece := response.raw.read1(PIECE, decode_content=True):
        body += piece
        if len(body) > limit:
            raise TooLarge
        _remaining(deadline)
    return bytes(body)


class _DeadlineAdapter(HTTPAdapter):
    """Makes connections that keep to `deadline`, which is that of the exchange under way."""

    def __init__(self) -> None:
        self.deadline = float("inf")
        super().__init__(pool_connections=1, pool_maxsize=1)

    def get_connection_with_tls_context(self, *args: Any, **more: Any) -> Any:
        """See requests, from 2.32 on."""
        return self._timed(super().get_connection_with_tls_context(*args, **more))

    def get_connection(self, *args: Any, **more: Any) -> Any:
        """See requests, until 2.31."""
        return self._timed(super().get_connection(*args, **more))

    def _timed(self, pool: Any) -> Any:
        kind = pool.ConnectionCls
        if isinstance(kind, type):  # else it was done for an earlier exchange
            pool.ConnectionCls = self._connections(_KINDS.get(kind) or type(kind.__name__, (_OtherInTime, kind), {}))
        return pool

    def _connections(self, kind: type[_InTime]) -> Callable[..., _InTime]:
        def connection(*args: Any, **more: Any) -> _InTime:
            made = kind(*args, **more)
            made.adapter = self
            return made

        return connection


def _remaining(deadline: float) -> float:
    """Seconds, more than none: a socket takes zero for "do not wait"."""
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise TimeoutError("the exchange is over")
    return remaining


def connected(host: str, port: int, deadline: float, options: Iterable[Any] = ()) -> socket.socket:
    """
    A connection to the first address of `host` that takes one, before `deadline`.

    The addresses share the time: a silent one leaves the others some. Of a TLS handshake that follows, the timeout of
    the socket is the limit for the whole. Raises `OSError`: `TimeoutError`, or `socket.gaierror` for an unknown name.
    """
    found = _addresses(host, port, deadline)
    last: OSError = socket.gaierror(socket.EAI_NONAME, "the name has no address")
    for tried, (family, kind, protocol, _, address) in enumerate(found):
        connection = socket.socket(family, kind, protocol)
        try:
            for option in options:
                connection.setsockopt(*option)
            connection.settimeout(_remaining(deadline) / (len(found) - tried))
            connection.connect(address)
            connection.settimeout(_remaining(deadline))
        except OSError as failed:
            connection.close()
            last = failed
        else:
            return connection
    raise last


def _addresses(host: str, port: int, deadline: float) -> list[Any]:
    """What `getaddrinfo` finds, in a thread, for the resolver has no time limit to set. Raises `OSError`."""
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def resolve() -> None:
        try:
            answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except UnicodeError:
            answers.put(socket.gaierror(socket.EAI_NONAME, "that is no name"))
        except OSError as failed:
            answers.put(failed)

    threading.Thread(target=resolve, name="authagent-resolve", daemon=True).start()
    try:
        found = answers.get(timeout=_remaining(deadline))
    except queue.Empty:
        raise TimeoutError("the name was not resolved in time") from None
    if isinstance(found, OSError):
        raise found
    return list(found)


class _OtherInTime(HTTPConnection):
    """Waits for its socket, whatever it is for, no longer than until the deadline. Connecting is left as it is."""

    adapter: _DeadlineAdapter

    def send(self, data: Any) -> None:
        """See `http.client`. In pieces, for over TLS each would have the whole time."""
        if self.sock is None and self.auto_open:
            self.connect()
        pieces = [data[at : at + PIECE] for at in range(0, len(data), PIECE)] if isinstance(data, bytes) else [data]
        for piece in pieces:
            if self.sock is not None:
                self.sock.settimeout(_remaining(self.adapter.deadline))
            super().send(piece)

    def response_class(self, sock: Any, *args: Any, **more: Any) -> http.client.HTTPResponse:  # type: ignore[override] # made, not a class
        """What reads an answer of the server's, or of the proxy's to CONNECT."""
        response = http.client.HTTPResponse(sock, *args, **more)
        response.fp = io.BufferedReader(_Reader(sock, response.fp, self.adapter.deadline))
        return response


class _InTime(_OtherInTime):
    """Connects in time, too."""

    def _new_conn(self) -> socket.socket:
        """As urllib3's own, but for the deadline."""
        try:
            return connected(self._dns_host, self.port, self.adapter.deadline, self.socket_options or ())
        except TimeoutError:
            raise ConnectTimeoutError(self, "connecting took too long") from None
        except socket.gaierror as unknown:
            raise NameResolutionError(self.host, self, unknown) from None
        except OSError as failed:
            raise NewConnectionError(self, "no connection") from failed


class _Plain(_InTime):
    """For `http:`."""


class _Secure(_InTime, HTTPSConnection):
    """For `https:`."""


_KINDS: dict[Any, type[_InTime]] = {HTTPConnection: _Plain, HTTPSConnection: _Secure}


class _Reader(io.RawIOBase):
    """What comes over `connection`, as `file` reads it, until `deadline`: each read waits for what is left only."""

    def __init__(self, connection: Any, file: Any, deadline: float) -> None:
        self._connection, self._file, self._deadline = connection, file, deadline

    def readable(self) -> bool:
        """See `io`."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """See `io`. Raises `TimeoutError`."""
        self._connection.settimeout(_remaining(self._deadline))
        read: int | None = self._file.readinto1(buffer)
        return read

    def close(self) -> None:
        """See `io`: what was read from is closed, too."""
        try:
            self._file.close()
        finally:
            super().close()
