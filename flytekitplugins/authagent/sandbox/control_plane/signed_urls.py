"""
A small HTTP server in the place of an object store: it takes and gives files against signed URLs.

A URL is good for one method, one file and a while. Nobody makes one without the key, which stays in memory.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import logging
import os
import secrets
import tempfile
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

logger = logging.getLogger(__name__)

LARGEST = 1 << 30
"""Bytes that an upload may have."""

_CHUNK = 1 << 20
_TIMEOUT = 30.0  # seconds that a peer may be silent
_AT_ONCE = 32


class SignedUrls:
    """Signs URLs for files under `root`, and serves them on a loopback port of its own."""

    def __init__(self, root: Path, *, largest: int = LARGEST, now: Callable[[], float] = time.time) -> None:
        self.root = root.resolve()
        self.largest = largest
        self._key = secrets.token_bytes(32)
        self._now = now
        self._server: _Server | None = None

    @property
    def base(self) -> str:
        """Where the URLs begin, such as `http://127.0.0.1:40001`, once started."""
        if self._server is None:
            raise RuntimeError("the data server has not been started")
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> None:
        """Listen on a free port of 127.0.0.1."""
        self._server = _Server(("127.0.0.1", 0), self)
        serve = functools.partial(self._server.serve_forever, poll_interval=0.05)
        threading.Thread(target=serve, name="sandbox-data", daemon=True).start()

    def stop(self) -> None:
        """Listen no more; nothing happens if this was not started."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def contains(self, path: Path) -> bool:
        """Whether `path`, whatever links are on the way, is a place under `root`."""
        try:
            return path.resolve().is_relative_to(self.root)
        except (OSError, RuntimeError, ValueError):  # links in a circle, or no path at all
            return False

    def sign(self, method: str, path: Path, seconds: float, md5: bytes = b"") -> str:
        """A URL good for `method` (GET or PUT) on `path`; what is put must have the hash `md5`, if given."""
        expires = str(int(self._now() + seconds))
        digest = base64.b64encode(md5).decode()
        relative = str(path.relative_to(self.root))
        signature = self._signature(method, relative, expires, digest)
        query = urlencode({"expires": expires, "md5": digest, "signature": signature})
        return f"{self.base}/{quote(relative)}?{query}"

    def allowed(self, method: str, url: str) -> tuple[Path, str] | None:
        """The file that this signed URL is for and the hash it must have; `None` if it is not good."""
        split = urlsplit(url)
        query = {name: values[0] for name, values in parse_qs(split.query, keep_blank_values=True).items()}
        relative = unquote(split.path).lstrip("/")
        expires, digest = query.get("expires", ""), query.get("md5", "")
        wanted = self._signature(method, relative, expires, digest)
        if not hmac.compare_digest(wanted.encode(), query.get("signature", "").encode()):
            return None
        path = self.root / relative
        if self._now() >= int(expires) or not self.contains(path):
            return None
        return path, digest

    def _signature(self, method: str, *parts: str) -> str:
        return hmac.new(self._key, "\0".join((method, *parts)).encode(), hashlib.sha256).hexdigest()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], urls: SignedUrls) -> None:
        self.urls = urls
        self._places = threading.BoundedSemaphore(_AT_ONCE)
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._places.acquire()  # connections beyond these wait in the kernel
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._places.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()


class _Handler(BaseHTTPRequestHandler):
    """One request a connection (HTTP/1.0), so that no idle one holds a place."""

    server: _Server
    timeout = _TIMEOUT
    wbufsize = -1

    def do_PUT(self) -> None:
        granted = self.server.urls.allowed("PUT", self.path)
        if granted is None:
            return self._refuse(403, "the URL is not signed for this, or has expired")
        path, digest = granted
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            return self._refuse(411, "say how long it is: Content-Length")
        if int(length) > self.server.urls.largest:
            return self._refuse(413, f"more than {self.server.urls.largest} bytes")
        if digest and self.headers.get("Content-MD5", "") != digest:
            return self._refuse(403, "Content-MD5 is not what the URL was signed for")
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not self._receive(path, int(length), digest):
            return self._refuse(400, "the content is not what was announced")
        self._answer(200, 0)
        return None

    def _receive(self, path: Path, length: int, digest: str) -> bool:
        """Put the body into `path`, whole or not at all; whether it has that length and hash."""
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".upload-", delete=False) as file:
            received = Path(file.name)
            try:
                md5 = _copy(self.rfile, file, length)
                if md5 is None or (digest and base64.b64encode(md5).decode() != digest):
                    return False
                file.flush()
                received.replace(path)
            except OSError:
                return False
            finally:
                received.unlink(missing_ok=True)
        return True

    def do_GET(self) -> None:
        self._send(with_body=True)

    def do_HEAD(self) -> None:
        self._send(with_body=False)

    def _send(self, *, with_body: bool) -> None:
        granted = self.server.urls.allowed("GET", self.path)
        if granted is None:
            return self._refuse(403, "the URL is not signed for this, or has expired")
        try:
            file = granted[0].open("rb")
        except OSError:
            return self._refuse(404, "there is no such file")
        with file:
            size = os.fstat(file.fileno()).st_size
            self._answer(200, size)
            if with_body:
                _copy(file, self.wfile, size)
        return None

    def _answer(self, status: int, length: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.send_header("Content-Type", "application/octet-stream")
        self.end_headers()

    def _refuse(self, status: int, reason: str) -> None:
        body = reason.encode()
        self._answer(status, len(body))
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the request line holds the signature."""


def _copy(source: Any, target: IO[bytes] | Any, length: int) -> bytes | None:
    """Copy `length` bytes; their MD5 hash, or `None` if there were fewer."""
    digest = hashlib.md5(usedforsecurity=False)
    while length:
        chunk = source.read(min(_CHUNK, length))
        if not chunk:
            return None
        digest.update(chunk)
        target.write(chunk)
        length -= len(chunk)
    return digest.digest()
