"""How many attempts run at once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

PATIENCE = 15.0
"""Seconds without any attempt starting or ending after which one more is let in."""


class Slots:
    """
    A number of places, taken in the order of asking.

    A task may wait for an execution that it launched, which waits for a place: with every place held by such
    a parent nothing would ever move. flytekit's own parents, eager ones, are known and hold none; for all
    others one more place is opened whenever nothing has moved for `patience` seconds, and closed after use.
    Belongs to one event loop.
    """

    def __init__(self, number: int, *, patience: float = PATIENCE) -> None:
        self._free = number
        self._patience = patience
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._opened = 0  # places that will not come back when they are given up

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        """Wait for a place, and hold it while this is open."""
        await self._take()
        try:
            yield
        finally:
            self._give_back()

    async def _take(self) -> None:
        if self._free > 0:
            self._free -= 1
            self._moved()
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        if self._timer is None:
            self._moved()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give_back()  # it was our turn in the very moment in which we were told to go
            raise

    def _give_back(self) -> None:
        if self._opened:
            self._opened -= 1
        else:
            self._free += 1
        if self._free > 0 and self._admit():
            self._free -= 1
        self._moved()

    def _admit(self) -> bool:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # else whoever waited has been cancelled
                turn.set_result(None)
                return True
        return False

    def _moved(self) -> None:
        """Something started or ended, or began to wait: count the seconds of standstill from now on."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            self._timer = asyncio.get_running_loop().call_later(self._patience, self._open_one)

    def _open_one(self) -> None:
        self._timer = None
        if self._admit():
            self._opened += 1
        self._moved()
