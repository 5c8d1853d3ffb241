"""A connection: HTTP/1.1 parsed by httptools, bounded in every direction."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import httptools

from flytekitplugins.authagent.agent import peer as peers
from flytekitplugins.authagent.agent.connections import MAX_KNOWN_BYTES, Connections, Known
from flytekitplugins.authagent.agent.http import Answer, Request, plain
from flytekitplugins.authagent.agent.peer import Peer

logger = logging.getLogger(__name__)

MAX_HEADER_BYTES = 16 * 1024
MAX_HEADERS = 64
MAX_BODY = 64 * 1024
REQUEST_SECONDS = 5.0
"""From the opening of a connection to the first bytes of a request, and from those to its last."""

IDLE_SECONDS = 30.0
"""Between two requests on one connection."""

ANSWER_SECONDS = 5.0
"""For the other side to read an answer."""

SWEEP_SECONDS = 0.5
"""How often connections are looked at that are beyond their time: one timer for all of them."""

_OF_BROWSERS = (b"cookie", b"origin", b"sec-fetch-site")
"""Headers by which a browser says whose page it is on, as `Request` has them."""

Handler = Callable[[Peer | None, Request], Answer | Awaitable[Answer]]


@dataclass(frozen=True)
class Begun:
    """What happened to a connection before it had one of these: `data` was read, or even its `answer` is awaited."""

    data: bytes = b""
    answer: Awaitable[Answer] | None = None

    def forget(self) -> None:
        """Nobody waits for the answer any more."""
        if isinstance(self.answer, asyncio.Future):
            self.answer.cancel()
        elif isinstance(self.answer, Coroutine):
            self.answer.close()


class Connection(asyncio.Protocol):
    """
    One client. Its requests are answered one after the other; a second one that comes before the answer of the
    first is not read on.
    """

    def __init__(
        self, handler: Handler, connections: Connections, begun: Begun | None = None, *, attested: bool
    ) -> None:
        self._handler = handler
        self._connections = connections
        self._begun = begun or Begun()
        self._attested = attested
        self._loop = asyncio.get_running_loop()
        self._parser: Any = None
        self._transport: Any = None
        self._task: asyncio.Future[Any] | None = None
        self._last = False
        self._paused = False
        self.peer: Peer | None = None
        self.deadline = 0.0
        self._messages: list[Known | None] = []
        self._reset()

    def _reset(self) -> None:
        self._path = b""
        self._body = b""
        self._header_bytes = 0
        self._headers = 0
        self._authorization: str | None = None
        self._content_type = b""
        self._of_browsers: dict[bytes, str] = {}
        self._reading_headers = True
        self._over = False

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
            self._begun.forget()
        elif self._begun.answer is not None:
            self._wait_for(self._begun.answer, keep_alive=False)
        elif self._begun.data:
            self.data_received(self._begun.data)

    def data_received(self, data: bytes) -> None:
        """Bytes of one request, or of several."""
        if self._over:
            return
        if self._task is not None:
            self._refuse(400, "one request at a time")
            return
        whole = data if not self._header_bytes and len(data) <= MAX_KNOWN_BYTES else b""
        known = self._connections.known.get(whole)
        if known is not None:
            self._answer(known)
            return
        if self._parser is None:
            self._parser = httptools.HttpRequestParser(self)
        self._messages = []
        if self._reading_headers:
            self._header_bytes += len(data)
            if self._header_bytes > MAX_HEADER_BYTES + MAX_BODY:
                self._refuse(431, "the headers are too large")
                return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            # What our own callbacks refuse ends up here too, and has been answered already.
            self._refuse(400, "that is not HTTP/1.1 as it is spoken here")
        except httptools.HttpParserUpgrade:
            pass  # refused when the message was complete
        else:
            if whole and len(self._messages) == 2 and self._messages[1] is not None:  # it began, ended, and was alone
                self._connections.learn(whole, self._messages[1])

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
        self._messages.append(None)
        self.deadline = self._loop.time() + REQUEST_SECONDS

    def on_url(self, url: bytes) -> None:
        """It comes in pieces of any size."""
        self._path += url
        if len(self._path) > MAX_HEADER_BYTES:
            self._refuse(431, "the request line is too long")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Few of them mean anything."""
        self._headers += 1
        if self._headers > MAX_HEADERS:
            self._refuse(431, "too many headers")
        lower = name.lower()
        if lower == b"authorization":
            self._authorization = value.decode("latin-1")
        elif lower == b"content-type":
            self._content_type = value.partition(b";")[0].strip().lower()
        elif lower in _OF_BROWSERS:
            # A header that comes twice is none: whoever put the second one there is not to choose which of them counts.
            self._of_browsers[lower] = "" if lower in self._of_browsers else value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """From here on the body is counted."""
        self._reading_headers = False

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._body += body
        if len(self._body) > MAX_BODY:
            self._refuse(413, "the body is too large")

    def on_message_complete(self) -> None:
        """A whole request."""
        if self._over:
            return
        if self._task is not None:
            self._refuse(400, "one request at a time")
            return
        if self._parser.should_upgrade():  # what follows would be no HTTP
            self._refuse(400, "nothing else is spoken here")
            return
        path, question, query = self._path.partition(b"?")
        request = Request(
            self._parser.get_method(),
            path,
            self._body,
            self._authorization,
            self._content_type,
            bool(question),
            query,
            *(self._of_browsers.get(name) for name in _OF_BROWSERS),
        )
        known = Known(request, self._parser.should_keep_alive())
        self._messages.append(known)
        self._answer(known)

    def _answer(self, known: Known) -> None:
        keep_alive = known.keep_alive and not self._connections.draining
        if keep_alive:
            self._reset()
        answer = self._handler(self.peer, known.request)
        if isinstance(answer, Answer):
            self._send(answer, keep_alive)
            return
        self._wait_for(answer, keep_alive=keep_alive)

    def _wait_for(self, answer: Awaitable[Answer], *, keep_alive: bool) -> None:
        self.deadline = float("inf")  # those who answer have a deadline of their own
        self._transport.pause_reading()
        self._task = asyncio.ensure_future(answer)
        self._task.add_done_callback(lambda task: self._answered(task, keep_alive))

    # Out

    def _answered(self, task: asyncio.Future[Answer], keep_alive: bool) -> None:
        self._task = None
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
        elif self._path or self._body:
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
