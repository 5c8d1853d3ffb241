"""A server that never falls silent and never ends: it sends byte after byte, for as long as somebody listens."""

from __future__ import annotations

import itertools
import socket
import ssl
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

PAUSE = 0.05
"""Seconds between two bytes: no timeout for a single read notices."""


@dataclass(frozen=True)
class Drip:
    """
    What is sent at once, and what follows byte by byte, over and over. `hears`: whether the request is read first.

    `tls`: whether that is said inside of TLS; else it is said in the place of a handshake.
    """

    at_once: bytes = b""
    endless: bytes = b"x"
    hears: bool = True
    tls: bool = True


OK = b"HTTP/1.1 200 OK\r\n"

IN_HTTP = {
    "silence": Drip(endless=b""),
    "status line": Drip(b"HTTP/1.1 200 O"),
    "header": Drip(OK + b"X-Long: "),
    "headers": Drip(OK, b"X-Many: y\r\n"),
    "informational responses": Drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "body of a length": Drip(OK + b"Content-Length: 1000000\r\n\r\n", b" "),
    "body without a length": Drip(OK + b"Connection: close\r\n\r\n", b" "),
    "chunks": Drip(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "size of a chunk": Drip(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
    "trailers": Drip(OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X-Many: y\r\n"),
    "before the request was read": Drip(OK, b"X-Many: y\r\n", hears=False),
}
"""What a server may drip that speaks HTTP. Add a line, and every client of HTTP is tried against it."""

IN_THE_PLACE_OF_TLS = {
    "silence instead of a handshake": Drip(endless=b"", hears=False, tls=False),
    "record of a handshake": Drip(b"\x16\x03\x03\x40\x00", b"\x02", hears=False, tls=False),
    "many records of a handshake": Drip(b"", b"\x16\x03\x03\x00\x01\x00", hears=False, tls=False),
}


class DrippingServer:
    """Serves `drip` to whoever connects to `listening`, over TLS where it has a context and the drip wants it."""

    def __init__(self, listening: socket.socket, drip: Drip, tls: ssl.SSLContext | None = None) -> None:
        self._listening, self._drip, self._tls = listening, drip, tls
        self._stop = threading.Event()
        self._open: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._stop.set()
        for each in (self._listening, *self._open):
            each.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection = self._listening.accept()[0]
                self._open.append(connection)
                threading.Thread(target=self._drip_into, args=(connection,), daemon=True).start()

    def _drip_into(self, connection: socket.socket) -> None:
        with suppress(OSError, ValueError):
            if self._tls and self._drip.tls:
                connection = self._tls.wrap_socket(connection, server_side=True)
                self._open.append(connection)
            if self._drip.hears:
                connection.recv(65536)
            if self._drip.at_once:
                connection.sendall(self._drip.at_once)
            for byte in _forever(self._drip.endless):
                connection.sendall(byte)
                if self._stop.wait(PAUSE):
                    return
            self._stop.wait()


def _forever(content: bytes) -> Iterable[bytes]:
    return (bytes([byte]) for byte in itertools.cycle(content))


@contextmanager
def dripping(drip: Drip, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """The port of loopback where it is served."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = DrippingServer(listening, drip, tls)
    try:
        yield listening.getsockname()[1]
    finally:
        server.close()


@contextmanager
def dripping_socket(path: Path, drip: Drip) -> Iterator[Path]:
    """The Unix socket where it is served."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen()
    server = DrippingServer(listening, drip)
    try:
        yield path
    finally:
        server.close()
