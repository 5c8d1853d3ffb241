"""An HTTP/2 server of one answer, written out in frames (RFC 9113): gRPC speaks to it, and it speaks no gRPC."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

_HEADERS, _SETTINGS, _PING, _GOAWAY = 1, 4, 6, 7
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1


@dataclass(frozen=True)
class Http2Answer:
    """What every request is answered with. `goaway`: the connection is closed so instead, with that error code."""

    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    goaway: int | None = None


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def _literal(name: str, value: str) -> bytes:
    """A header without compression (RFC 7541 section 6.2.2)."""
    return b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def _exactly(connection: socket.socket, length: int) -> bytes:
    content = b""
    while len(content) < length:
        piece = connection.recv(length - len(content))
        if not piece:
            raise ConnectionError
        content += piece
    return content


def _serve_http_1(connection: socket.socket, answer: Http2Answer) -> None:
    """As whatever speaks HTTP/2 does: the same to a client of HTTP/1.1."""
    connection.recv(65536)
    headers = dict(answer.headers)
    head = f"HTTP/1.1 {headers.pop(':status', '400')} Answer\r\nContent-Length: {len(answer.body)}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    connection.sendall(head.encode() + b"\r\n" + answer.body)


def _serve(connection: socket.socket, answer: Http2Answer) -> None:
    preface = _exactly(connection, 24)
    if not preface.startswith(b"PRI "):
        return _serve_http_1(connection, answer) if answer.headers else None
    connection.sendall(_frame(_SETTINGS, 0, 0))
    while True:
        head = _exactly(connection, 9)
        length, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
        stream, payload = int.from_bytes(head[5:], "big"), _exactly(connection, length)
        if kind == _SETTINGS and not flags & _ACK:
            connection.sendall(_frame(_SETTINGS, _ACK, 0))
        elif kind == _PING and not flags & _ACK:
            connection.sendall(_frame(_PING, _ACK, 0, payload))
        elif kind == _HEADERS and answer.goaway is not None:
            connection.sendall(_frame(_GOAWAY, 0, 0, struct.pack(">II", 0, answer.goaway)))
            return None
        elif kind == _HEADERS:
            block = b"".join(_literal(name, value) for name, value in answer.headers)
            ends = 0 if answer.body else _END_STREAM
            connection.sendall(_frame(_HEADERS, _END_HEADERS | ends, stream, block))
            if answer.body:
                connection.sendall(_frame(0, _END_STREAM, stream, answer.body))


@contextmanager
def http2(answer: Http2Answer, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """The port of loopback where it is served."""
    if tls:
        tls.set_alpn_protocols(["h2", "http/1.1"])

    def each(connection: socket.socket) -> None:
        with suppress(OSError), connection:
            secured = tls.wrap_socket(connection, server_side=True) if tls else connection
            with secured:
                _serve(secured, answer)

    def serve() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=each, args=(listening.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
