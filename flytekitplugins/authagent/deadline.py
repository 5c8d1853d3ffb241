"""A deadline for a whole HTTP exchange, below requests, whose timeouts are for one read each."""

from __future__ import annotations

import http.client
import io
import socket
import time
from collections.abc import Callable
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError


class DeadlineAdapter(HTTPAdapter):
    """
    Sends requests that are over at `deadline` (of `time.monotonic`): connecting, a proxy's consent, TLS, the request,
    the headers and the body together. The resolver alone keeps its own time.

    Whoever is late is a timeout, as requests has them. A connection of another kind, such as SOCKS, is left as it is.
    """

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        super().__init__()

    def get_connection_with_tls_context(self, *args: Any, **more: Any) -> Any:
        """See requests, from 2.32 on."""
        return self._timed(super().get_connection_with_tls_context(*args, **more))

    def get_connection(self, *args: Any, **more: Any) -> Any:
        """See requests, until 2.31."""
        return self._timed(super().get_connection(*args, **more))

    def _timed(self, pool: Any) -> Any:
        kind = _KINDS.get(pool.ConnectionCls)
        if kind is not None:
            pool.ConnectionCls = _made(kind, self._deadline)
        return pool


def _made(kind: type[_InTime], deadline: float) -> Callable[..., _InTime]:
    def made(*args: Any, **more: Any) -> _InTime:
        connection = kind(*args, **more)
        connection.deadline = deadline
        return connection

    return made


def _remaining(deadline: float) -> float:
    """Seconds, more than none: a socket takes zero for 'do not wait'."""
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise TimeoutError("the exchange is over")
    return remaining


class _InTime(HTTPConnection):
    """Waits for its socket, whatever it is for, no longer than until `deadline`."""

    deadline = float("inf")

    def _new_conn(self) -> socket.socket:
        """As urllib3's own, except that the addresses of a name share the time: a silent one leaves the others some."""
        try:
            found = socket.getaddrinfo(self._dns_host, self.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise NewConnectionError(self, "the name cannot be resolved") from None
        last: OSError | None = None
        for tried, (family, kind, protocol, _, address) in enumerate(found):
            try:
                return self._connected(socket.socket(family, kind, protocol), address, share=len(found) - tried)
            except OSError as failed:
                last = failed
        if isinstance(last, TimeoutError):
            raise ConnectTimeoutError(self, "connecting took too long")
        raise NewConnectionError(self, "no connection")

    def _connected(self, connection: socket.socket, address: Any, *, share: int) -> socket.socket:
        try:
            for option in self.socket_options or ():
                connection.setsockopt(*option)
            connection.settimeout(_remaining(self.deadline) / share)
            connection.connect(address)
            connection.settimeout(_remaining(self.deadline))  # of a TLS handshake it is the limit for the whole
        except OSError:
            connection.close()
            raise
        return connection

    def send(self, data: Any) -> None:
        """See `http.client`."""
        if self.sock is not None:
            self.sock.settimeout(_remaining(self.deadline))
        super().send(data)

    def response_class(self, sock: Any, *args: Any, **more: Any) -> http.client.HTTPResponse:  # type: ignore[override] # made, not a class
        """What reads an answer of the server's, or of the proxy's to CONNECT."""
        response = http.client.HTTPResponse(sock, *args, **more)
        response.fp = io.BufferedReader(_Reader(sock, response.fp, self.deadline))
        return response


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
