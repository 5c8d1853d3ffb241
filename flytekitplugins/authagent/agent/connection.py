"""A connection: HTTP/1.1 parsed by httptools, bounded in every direction."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import httptools

from flytekitplugins.authagent.agent import peer as peers
from flytekitplugins.authagent.agent.connections import Connections
from flytekitplugins.authagent.agent.http import Answer, Request, plain
from flytekitplugins.authagent.agent.peer import Peer

logger = logging.getLogger(__name__)

MAX_HEADERS = 64
MAX_PATH = 16 * 1024
MAX_BODY = 64 * 1024
MAX_REQUEST = MAX_BODY + 16 * 1024
"""Bytes of a whole request as it is sent: request line, headers, body, the framing of chunks, and trailers."""

REQUEST_SECONDS = 5.0
"""From the opening of a connection to the first bytes of a request, and from those to its last."""

IDLE_SECONDS = 30.0
"""Between two requests on one connection."""

ANSWER_SECONDS = 5.0
"""For the other side to read an answer."""

SWEEP_SECONDS = 0.5
"""How often connections are looked at that are beyond their time: one timer for all of them."""

_ONCE = frozenset((b"authorization", b"content-type", b"host", b"transfer-encoding"))
"""
Headers that a request has once at most: of two, this server and whoever stands before it might believe different ones.
The parser itself refuses a second Content-Length, and one beside Transfer-Encoding.
"""

_NOT_HTTP = "that is not HTTP/1.1 as it is spoken here"

_OF_BROWSERS = frozenset((b"cookie", b"origin", b"sec-fetch-site"))
"""Headers by which a browser says whose page it is on."""

Handler = Callable[[Peer | None, Request], Answer | Awaitable[Answer]]


class Connection(asyncio.Protocol):
    """
    One client. Its requests are answered one after the other; a second one that comes before the answer of the
    first is not read on.

    `attested`: the kernel says who it is. `browsers`: browsers may come, so that their headers are looked at.
    """

    def __init__(self, handler: Handler, connections: Connections, *, attested: bool, browsers: bool = False) -> None:
        self._handler = handler
        self._connections = connections
        self._attested = attested
        self._of_browsers = _OF_BROWSERS if browsers else frozenset()
        self._loop = asyncio.get_running_loop()
        self._parser: Any = None
        self._transport: Any = None
        self._task: asyncio.Future[Any] | None = None
        self._last = False
        self._paused = False
        self.peer: Peer | None = None
        self.deadline = 0.0
        self.held = self._asking = 0
        self._over = False
        self._begin()

    def _begin(self) -> None:
        self._path = b""
        self._body = b""
        self._received = 0
        self._count = self._header_bytes = 0
        self._headers: dict[bytes, bytes] = {}
        self._in_headers = True

    # From the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The kernel is asked now who this is: later the other end may be somebody else's."""
        self._transport = transport
        self.peer = (
            peers.of(transport.get_extra_info("socket"))
            if self._attested
            else peers.at(transport.get_extra_info("peername"))
        )
        self.deadline = self._loop.time() + REQUEST_SECONDS
        if not self._connections.admit(self):
            self._refuse(503, "too many connections")

    def data_received(self, data: bytes) -> None:
        """Bytes of one request, or of several."""
        if self._over:
            return
        if self._task is not None:
            self._refuse(400, "one request at a time")
            return
        if self._parser is None:
            self._parser = httptools.HttpRequestParser(self)
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            # What our own callbacks refuse ends up here too, and has been answered already.
            self._refuse(400, _NOT_HTTP)
        except httptools.HttpParserUpgrade:
            pass  # refused when the message was complete
        else:
            if self._received > MAX_REQUEST:
                self._refuse(431 if self._in_headers else 413, "the request is too large")
            elif not self._connections.hold(self, self._received + self._asking):
                self._refuse(503, "too many requests are being read or answered")

    def eof_received(self) -> bool:
        """A client may close its sending side and still read the answer."""
        self._last = True
        return self._task is not None

    def connection_lost(self, exc: Exception | None) -> None:
        """Whatever is being minted for it goes on: others may want it."""
        self._over = True
        self._connections.leave(self)
        self._parser = None  # it knows us as we know it: without this only the garbage collector would end us
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        """The other side does not read: nothing more is read from it either."""
        self._paused = True
        self.deadline = self._loop.time() + ANSWER_SECONDS
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """It has read."""
        self._paused = False
        if not self._over and self._task is None:
            self._transport.resume_reading()

    # From the parser

    def on_message_begin(self) -> None:
        """The first bytes are there."""
        if self._task is not None:
            self._refuse(400, "one request at a time")
            return
        self.deadline = self._loop.time() + REQUEST_SECONDS

    def on_url(self, url: bytes) -> None:
        """It comes in pieces of any size."""
        self._path += url
        if len(self._path) > MAX_PATH:
            self._refuse(431, "the request line is too long")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Few of them mean anything, and none that comes after the body does (RFC 9110 section 6.5)."""
        self._count += 1
        self._header_bytes += len(name) + len(value)
        if self._count > MAX_HEADERS or self._header_bytes > MAX_REQUEST:
            self._refuse(431, "the headers are too many, or too large")
        if not self._in_headers:
            return
        lower = name.lower()
        if lower in _ONCE:
            if lower in self._headers:
                self._refuse(400, _NOT_HTTP)
            self._headers[lower] = value
        elif lower in self._of_browsers:
            # A header that comes twice is none: whoever put the second one there is not to choose which of them counts.
            self._headers[lower] = b"" if lower in self._headers else value

    def on_headers_complete(self) -> None:
        """From here on the body is counted."""
        self._in_headers = False
        if self._headers.get(b"transfer-encoding", b"chunked").lower() != b"chunked":
            self._refuse(400, _NOT_HTTP)

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._body += body
        if len(self._body) > MAX_BODY:
            self._refuse(413, "the body is too large")

    def on_message_complete(self) -> None:
        """A whole request."""
        if self._over:
            return
        if self._parser.should_upgrade():  # what follows would be no HTTP
            self._refuse(400, "nothing else is spoken here")
            return
        headers = self._headers
        path, question, query = self._path.partition(b"?")
        authorization = headers.get(b"authorization")
        request = Request(
            self._parser.get_method(),
            path,
            self._body,
            None if authorization is None else authorization.decode("latin-1"),
            headers.get(b"content-type", b"").partition(b";")[0].strip().lower(),
            query if question else None,
            headers,
        )
        # Who does not read what was answered gets this answer, too, and no further one.
        keep_alive = self._parser.should_keep_alive() and not self._connections.draining and not self._paused
        self._begin()
        try:
            answer = self._handler(self.peer, request)
        except Exception:
            logger.exception("a request could not be answered")
            answer, keep_alive = plain(503, "the agent cannot answer"), False
        if isinstance(answer, Answer):
            self._send(answer, keep_alive)
            return
        self._asking = len(request.body)
        self.deadline = float("inf")  # those who answer have a deadline of their own
        self._transport.pause_reading()
        self._task = asyncio.ensure_future(answer)
        self._task.add_done_callback(lambda task: self._answered(task, keep_alive))

    # Out

    def _answered(self, task: asyncio.Future[Answer], keep_alive: bool) -> None:
        self._task = None
        self._asking = 0
        self._connections.hold(self, self._received)
        if task.cancelled() or self._over:
            return
        if task.exception() is not None:
            logger.error("a request could not be answered", exc_info=task.exception())
            self._send(plain(503, "the agent cannot answer"), keep_alive=False)
            return
        self._send(task.result(), keep_alive and not self._last and not self._connections.draining)
        if not self._over:
            self._transport.resume_reading()

    def _send(self, answer: Answer, keep_alive: bool) -> None:
        seconds = IDLE_SECONDS if keep_alive and not self._paused else ANSWER_SECONDS
        ends = self._loop.time() + seconds
        self.deadline = min(self.deadline, ends) if self._paused else ends  # who does not read gains nothing by asking
        self._transport.write(answer.encoded(keep_alive=keep_alive))
        if not keep_alive:
            self._over = True
            self._transport.close()

    def _refuse(self, status: int, why: str) -> None:
        """Say what is wrong, once, and end: what follows cannot be told apart any more."""
        if not self._over:
            self._send(plain(status, why), keep_alive=False)

    def give_up(self) -> None:
        """Its time is over."""
        if self._over or self._transport.get_write_buffer_size():
            self.abort()
        elif self._received:
            self._refuse(408, "the request did not end in time")
        else:
            self.finish()

    def finish(self) -> None:
        """Close it, unless it is being answered: then after the answer."""
        if self._task is None and not self._over:
            self._over = True
            self.deadline = self._loop.time() + ANSWER_SECONDS
            self._transport.close()

    def abort(self) -> None:
        """Close it now, whatever was still to be sent."""
        self._transport.abort()
