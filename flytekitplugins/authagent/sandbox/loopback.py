"""A small HTTP/1.1 server on 127.0.0.1: bounded requests, bounded waits, and nothing that a web page could drive."""

from __future__ import annotations

import logging
import re
import select
import socket
import threading
import time
import traceback
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from flytekitplugins.authagent.sandbox.exchange import Answer, Call, json_answer

logger = logging.getLogger(__name__)

MAX_BODY = 64 * 1024
"""Bytes of a request's body."""

MAX_CONNECTIONS = 256
"""Connections, and so threads, at one time; a further one is closed at once."""

REQUEST_SECONDS = 15.0
"""Seconds in which a request must have arrived whole, and that an idle connection is kept."""

NAMES = frozenset({"127.0.0.1", "localhost", "::1"})
"""The hosts that a request may be for: any other name was made to point here by somebody else's DNS."""


class LoopbackServer:
    """
    Serves `answer` on a free port of 127.0.0.1, a thread for each connection.

    The port is taken when this is made, so `url` is known before anything is answered. An `answer` of `None`
    closes the connection without a word.
    """

    def __init__(self, name: str, answer: Callable[[Call], Answer | None]) -> None:
        self._server = _Server(name, answer)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name=name, daemon=True
        )

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Answer nobody any more, those who are connected included."""
        self._server.stopping.set()
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join(timeout=5)
        self._server.server_close()
        self._server.hang_up()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, name: str, answer: Callable[[Call], Answer | None]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.name, self.answer = name, answer
        self.stopping = threading.Event()
        self.arriving: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            full = len(self._connections) >= MAX_CONNECTIONS
            if not full:
                self._connections.add(request)
        if full:
            logger.warning("%s: more than %d connections", self.name, MAX_CONNECTIONS)
            self.shutdown_request(request)
        else:
            super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._connections.discard(request)
        self.arriving.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Called by `serve_forever` at each turn: hang up on whoever takes too long to say what they want."""
        deadline = time.monotonic() - REQUEST_SECONDS
        for connection, since in list(self.arriving.items()):
            if since < deadline:
                _hang_up(connection)

    def hang_up(self) -> None:
        """Close every connection; its thread ends with it."""
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            _hang_up(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke is no news, and a traceback of it is none either."""
        logger.debug("%s: a connection broke", self.name)


class _Unusable(Exception):
    """A request that gets a status and a few words, and no further."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one segment: two cost 40 ms of delayed acknowledgement
    timeout = REQUEST_SECONDS
    server: _Server

    def handle_one_request(self) -> None:
        self.server.arriving[self.connection] = time.monotonic()
        super().handle_one_request()

    def _answer(self) -> None:
        try:
            body = self._body()
        except _Unusable as request:
            return self._refuse(*request.args)
        finally:
            self.server.arriving.pop(self.connection, None)
        path, _, query = self.path.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items()}
        call = Call(self.command, path, headers, body, query, self._left)
        try:
            answer = self.server.answer(call)
        except Exception as broken:
            # The message of an exception may quote the request, so only its kind and its place are told.
            where = "".join(traceback.format_tb(broken.__traceback__))
            logger.error("%s: %s in %s %s\n%s", self.server.name, type(broken).__name__, call.method, path, where)  # noqa: TRY400 - as above
            answer = json_answer(500, {"error": "server_error"})
        logger.debug("%s: %s %s -> %s", self.server.name, call.method, path, answer.status if answer else "nothing")
        return self._send(answer)

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = do_OPTIONS = do_PATCH = _answer

    def _body(self) -> bytes:
        """The request's body. Raises `_Unusable` for a request that cannot be taken."""
        hosts, lengths = self.headers.get_all("Host", []), self.headers.get_all("Content-Length", ["0"])
        if len(hosts) != 1 or _host(hosts[0]) not in NAMES:
            raise _Unusable(421, "this server is for loopback addresses only")
        if self.headers.get("Transfer-Encoding") is not None:
            raise _Unusable(411, "say the length of the body instead of sending chunks")
        if len(lengths) > 1 or not re.fullmatch(r"[0-9]{1,10}", lengths[0]):
            raise _Unusable(400, "that is not a Content-Length")
        length = int(lengths[0])
        if length > MAX_BODY:
            raise _Unusable(413, f"a body has at most {MAX_BODY} bytes")
        body = self.rfile.read(length)
        if len(body) < length:
            raise ConnectionAbortedError
        return body

    def _refuse(self, status: int, words: str) -> None:
        self.close_connection = True  # whatever follows cannot be told from the rest of this request
        self.request_version = self.protocol_version  # http.server sends no status to what it takes for HTTP/0.9
        refusal = {"error": "invalid_request", "error_description": words}
        self._send(json_answer(status, refusal, ("Connection", "close")))

    def _send(self, answer: Answer | None) -> None:
        if answer is None or self.server.stopping.is_set():
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def _left(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        sent = select.poll()
        sent.register(self.connection, select.POLLIN)
        while not self.server.stopping.is_set():
            rest = deadline - time.monotonic()
            if rest <= 0:
                return False
            if not sent.poll(min(rest, 0.2) * 1000):
                continue
            if not self.connection.recv(1, socket.MSG_PEEK):
                return True
            # A next request was sent ahead: it waits its turn, and we do not spin.
            self.server.stopping.wait(min(rest, 0.2))
        return True

    def handle_expect_100(self) -> bool:
        """curl waits for this word before it sends a body; http.server would leave it in the buffer."""
        carries_on = super().handle_expect_100()
        self.wfile.flush()
        return carries_on

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """http.server's own would be HTML that repeats the request."""
        self._refuse(code, HTTPStatus(code).phrase)

    def version_string(self) -> str:
        """What the `Server` header says."""
        return "authagent-sandbox"

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: http.server logs request lines, whose queries may hold what belongs in a body."""


def _host(header: str) -> str | None:
    try:
        return urlsplit(f"//{header}").hostname
    except ValueError:
        return None


def _hang_up(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it is closed already
