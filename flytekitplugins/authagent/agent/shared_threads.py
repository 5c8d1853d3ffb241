"""Threads that callers share: whoever asks for much waits for its own turns, and keeps none of the others out."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TypeVar

from flytekitplugins.authagent.agent.refusal import busy

Found = TypeVar("Found")

Turn = asyncio.Future[bool]
"""What a caller waits for: whether it may go on. It may not where it made room for another."""


class SharedThreads:
    """
    Up to `at_once` pieces of work at a time, of one holder up to `each`; others wait for `patience` seconds at most.

    Holders take turns, so that one which has much to do delays the others by one piece. `waiting` may wait, of one
    holder `each_waiting`; where all of that is taken, the holder with the most there makes room for one with less.
    `refusal` is what the others are told. Touched on the event loop only.
    """

    def __init__(
        self, name: str, *, at_once: int, each: int, waiting: int, each_waiting: int, patience: float, refusal: str
    ) -> None:
        self._refusal = refusal
        self._pool = ThreadPoolExecutor(at_once, name)
        self._free, self._each = at_once, each
        self._room, self._each_waiting, self._patience = waiting, each_waiting, patience
        self._busy: Counter[Hashable] = Counter()
        self._queues: OrderedDict[Hashable, deque[Turn]] = OrderedDict()  # whose turn is next stands first

    async def run(self, holder: Hashable, work: Callable[[], Found]) -> Found:
        """
        What `work` gives, in a thread.

        Raises `Refusal` where too much is waited for, and RuntimeError after `close`. A caller that is cancelled leaves
        the queue; work that has begun goes on, and counts as its holder's until it is done.
        """
        if self._free and self._busy[holder] < self._each and holder not in self._queues:
            self._take(holder)
        else:
            await self._wait(holder)
        left = partial(self._left, holder)
        try:
            future = self._pool.submit(work)
        except RuntimeError:
            left()
            raise
        loop = asyncio.get_running_loop()
        future.add_done_callback(lambda _: _soon(loop, left))
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Nothing begins any more."""
        self._pool.shutdown(wait=False)

    async def _wait(self, holder: Hashable) -> None:
        self._find_room(holder)
        turn: Turn = asyncio.get_running_loop().create_future()
        self._queues.setdefault(holder, deque()).append(turn)
        self._room -= 1
        mine = False
        try:
            await asyncio.wait((turn,), timeout=self._patience)
            mine = turn.done() and turn.result()
        finally:
            if not mine:
                self._withdraw(holder, turn)
        if not mine:
            raise busy(self._refusal, "no turn in time")

    def _find_room(self, holder: Hashable) -> None:
        own = len(self._queues.get(holder, ()))
        if own >= self._each_waiting:
            raise busy(self._refusal, f"{own} of the same one")
        if self._room:
            return
        longest = max(self._queues, key=lambda other: len(self._queues[other]))
        if len(self._queues[longest]) <= own + 1:
            raise busy(self._refusal, "those of others")
        youngest = self._queues[longest][-1]
        self._out_of_the_queue(longest, youngest)
        youngest.set_result(False)

    def _withdraw(self, holder: Hashable, turn: Turn) -> None:
        if not turn.done():
            self._out_of_the_queue(holder, turn)
        elif turn.result():  # it was given at the moment at which nobody wanted it any more
            self._left(holder)

    def _out_of_the_queue(self, holder: Hashable, turn: Turn) -> None:
        queue = self._queues[holder]
        queue.remove(turn)
        self._room += 1
        if not queue:
            del self._queues[holder]

    def _take(self, holder: Hashable) -> None:
        self._free -= 1
        self._busy[holder] += 1

    def _left(self, holder: Hashable) -> None:
        self._free += 1
        self._busy[holder] -= 1
        if not self._busy[holder]:
            del self._busy[holder]
        following = next((other for other in self._queues if self._busy[other] < self._each), None)
        if following is not None:
            turn = self._queues[following][0]
            self._queues.move_to_end(following)
            self._out_of_the_queue(following, turn)
            self._take(following)
            turn.set_result(True)


def _soon(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    with suppress(RuntimeError):  # the loop has ended, and nobody waits any more
        loop.call_soon_threadsafe(call)
