"""
Takes connections from the listening socket, and answers at once those whose first bytes are known.

Most callers connect, say what was said a thousand times, and want one answer. For them a connection of the event loop
would cost more than the answer itself; all others get one (docs/decisions/0016-known-bytes.md).
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable

from flytekitplugins.authagent.agent import peer as peers
from flytekitplugins.authagent.agent.connection import Begun, Connection, Handler
from flytekitplugins.authagent.agent.connections import MAX_KNOWN_BYTES, Connections
from flytekitplugins.authagent.agent.http import Answer

logger = logging.getLogger(__name__)

AT_ONCE = 64
"""Connections taken before those that are open have their turn, and handed over at one time."""

PAUSE = 0.1
"""Seconds after which it is tried again where the process has no descriptor left."""


class Acceptor:
    """Accepts until `close`. `made` makes a connection of one that has begun here."""

    def __init__(
        self,
        listening: socket.socket,
        handler: Handler,
        connections: Connections,
        made: Callable[[Begun], Connection],
    ) -> None:
        self._listening = listening
        self._handler = handler
        self._connections = connections
        self._made = made
        self._loop = asyncio.get_running_loop()
        self._handing_over: set[asyncio.Task[None]] = set()
        self._closed = False
        self._listen()

    def close(self) -> None:
        """Nobody is accepted any more, but who has connected already."""
        self._closed = True
        self._loop.remove_reader(self._listening.fileno())
        self._accept()

    async def handed_over(self) -> None:
        """When those that were accepted are connections of the event loop, or a second has passed."""
        await asyncio.sleep(0)  # for those that had not spoken yet
        if self._handing_over:
            await asyncio.wait(self._handing_over, timeout=1)

    def _listen(self) -> None:
        if not self._closed:
            self._loop.add_reader(self._listening.fileno(), self._accept)

    def _accept(self) -> None:
        taken: list[socket.socket] = []
        try:
            for _ in range(AT_ONCE - len(self._handing_over)):
                taken.append(self._listening.accept()[0])
        except (BlockingIOError, ConnectionAbortedError):
            pass
        except OSError as failed:
            logger.warning("no connection can be accepted: %s", failed.strerror)
            self._loop.remove_reader(self._listening.fileno())
            self._loop.call_later(PAUSE, self._listen)
        early = [connection for connection in taken if not self._served(connection)]
        if early:
            self._loop.call_soon(self._serve_once_more, early)

    def _serve_once_more(self, early: list[socket.socket]) -> None:
        """Between connecting and speaking a caller needs a moment, often no longer than a turn of the loop."""
        for connection in early:
            if not self._served(connection):
                self._hand_over(connection, b"")

    def _served(self, connection: socket.socket) -> bool:
        try:
            return self._answered(connection)
        except Exception:  # of one caller's; the others of this turn are not to suffer
            logger.exception("a request could not be answered")
            connection.close()
            return True

    def _answered(self, connection: socket.socket) -> bool:
        """Whether something was there to be read; then it is answered, or handed over."""
        try:
            data = connection.recv(MAX_KNOWN_BYTES + 1, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            data = b""  # nobody is there any more: the event loop will see
        known = self._connections.known.get(data)
        if known is None or known.keep_alive or not self._connections.have_room():
            self._hand_over(connection, data)
            return True
        answer = self._handler(peers.of(connection), known.request)
        if not isinstance(answer, Answer):
            self._hand_over(connection, data, answer)
            return True
        try:
            # A new connection has room for it.
            connection.send(answer.encoded(keep_alive=False), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError:
            logger.debug("a caller left before its answer")
        connection.close()
        return True

    def _hand_over(self, connection: socket.socket, data: bytes, answer: Awaitable[Answer] | None = None) -> None:
        """To a connection of the event loop, with what was read, or with the answer that is awaited."""
        connection.setblocking(False)
        begun = Begun(data, answer)
        task = self._loop.create_task(self._adopted(connection, begun))
        self._handing_over.add(task)
        task.add_done_callback(self._handing_over.discard)

    async def _adopted(self, connection: socket.socket, begun: Begun) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: self._made(begun), connection)
        except OSError as failed:
            logger.info("a connection ended before it was served: %s", failed.strerror)
            begun.forget()
            connection.close()
