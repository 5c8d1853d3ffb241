"""Threads that are shared: nobody has more than its share once others want theirs, and nothing is lost on the way."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine
from typing import Any

import pytest

from flytekitplugins.authagent.agent.refusal import Refusal
from flytekitplugins.authagent.agent.shared_threads import SharedThreads

BOUNDS = {"at_once": 4, "each": 2, "waiting": 8, "each_waiting": 8, "patience": 5.0}


class Gate:
    """Work that is held until the gate opens, and who was at it in which order."""

    def __init__(self, **bounds: Any) -> None:
        self.threads = SharedThreads("test", refusal="too many", **(BOUNDS | bounds))
        self.began: list[str] = []
        self.most: dict[str, int] = {}
        self._now: dict[str, int] = {}
        self._lock, self.open = threading.Lock(), threading.Event()

    def work(self, holder: str) -> str:
        with self._lock:
            self.began.append(holder)
            self._now[holder] = self._now.get(holder, 0) + 1
            self.most[holder] = max(self._now[holder], self.most.get(holder, 0))
        assert self.open.wait(20)
        with self._lock:
            self._now[holder] -= 1
        return holder

    def ask(self, holder: str) -> asyncio.Task[str]:
        return asyncio.ensure_future(self.threads.run(holder, lambda: self.work(holder)))

    async def until(self, number: int) -> None:
        while len(self.began) < number:
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.05)


def play(scene: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scene, 20))


async def outcomes(tasks: list[asyncio.Task[str]]) -> list[str | int]:
    found = await asyncio.gather(*tasks, return_exceptions=True)
    return [each.status if isinstance(each, Refusal) else str(each) for each in found]


def test_one_holder_never_has_more_than_its_part_of_the_threads() -> None:
    async def scene() -> None:
        gate = Gate()
        greedy = [gate.ask("greedy") for _ in range(10)]
        await gate.until(2)
        assert gate.began == ["greedy"] * 2
        modest = [gate.ask("modest"), gate.ask("other")]
        await gate.until(4)
        assert sorted(gate.began) == ["greedy", "greedy", "modest", "other"]
        gate.open.set()
        assert await outcomes(greedy + modest) == ["greedy"] * 10 + ["modest", "other"]
        assert gate.most["greedy"] == 2
        gate.threads.close()

    play(scene())


def test_holders_take_turns_however_many_one_of_them_has_waiting() -> None:
    async def scene() -> None:
        gate = Gate(at_once=1, each=1)
        first = gate.ask("greedy")
        await gate.until(1)
        many = [gate.ask("greedy") for _ in range(5)]
        await asyncio.sleep(0)
        few = [gate.ask("modest"), gate.ask("modest"), gate.ask("other")]
        await asyncio.sleep(0.02)
        gate.open.set()
        await asyncio.gather(first, *many, *few)
        assert gate.began[:7] == ["greedy", "greedy", "modest", "other", "greedy", "modest", "greedy"]
        gate.threads.close()

    play(scene())


def test_where_nobody_else_wants_it_one_holder_may_have_all_of_the_queue_and_makes_room_when_others_do() -> None:
    async def scene() -> None:
        gate = Gate(each=4)
        greedy = [gate.ask("greedy") for _ in range(13)]  # 4 run, 8 wait, one is too many
        await gate.until(4)
        assert [task.done() for task in greedy] == [False] * 12 + [True]
        modest = [gate.ask("modest") for _ in range(5)]
        await asyncio.sleep(0.05)
        assert [task.done() for task in modest] == [False] * 4 + [True]  # half of it each
        assert [task.done() for task in greedy] == [False] * 8 + [True] * 5  # the youngest made room
        gate.open.set()
        assert await outcomes(greedy) == ["greedy"] * 8 + [429] * 5
        assert await outcomes(modest) == ["modest"] * 4 + [429]
        gate.threads.close()

    play(scene())


def test_who_waits_too_long_is_told_so_and_leaves_its_place() -> None:
    async def scene() -> None:
        gate = Gate(at_once=1, patience=0.2, waiting=1)
        first = gate.ask("a")
        await gate.until(1)
        began = time.monotonic()
        assert await outcomes([gate.ask("b")]) == [429]
        assert 0.15 < time.monotonic() - began < 2
        late = gate.ask("c")
        await asyncio.sleep(0.05)
        gate.open.set()
        assert await outcomes([first, late]) == ["a", "c"]
        assert gate.began == ["a", "c"]  # nothing was done for who had left
        gate.threads.close()

    play(scene())


def test_whoever_is_cancelled_holds_its_thread_as_long_as_the_work_lasts_and_no_longer() -> None:
    async def scene() -> None:
        gate = Gate()
        gone = [gate.ask("a") for _ in range(4)]  # two at it, two wait
        await gate.until(2)
        for task in gone:
            task.cancel()
        await asyncio.gather(*gone, return_exceptions=True)
        again = gate.ask("a")
        await asyncio.sleep(0.1)
        assert gate.began == ["a", "a"]
        gate.open.set()
        assert await again == "a"
        assert gate.most == {"a": 2}
        assert await outcomes([gate.ask("a") for _ in range(6)]) == ["a"] * 6  # nothing is held any more
        gate.threads.close()

    play(scene())


def test_a_turn_that_comes_at_the_moment_of_a_cancellation_goes_to_the_next() -> None:
    async def scene() -> None:
        loop = asyncio.get_running_loop()

        def later(steps: int, task: asyncio.Task[str]) -> None:
            loop.call_soon(later, steps - 1, task) if steps else task.cancel()

        for steps in [*range(8)] * 10:  # of the event loop, after the end of the work before
            gate = Gate(at_once=1, each=1)
            gate.open.set()
            ready = threading.Event()

            waiting: list[asyncio.Task[str]] = []

            def first(
                steps: int = steps, ready: threading.Event = ready, waiting: list[asyncio.Task[str]] = waiting
            ) -> None:
                assert ready.wait(10)
                loop.call_soon_threadsafe(later, steps, waiting[0])

            running = asyncio.ensure_future(gate.threads.run("a", first))
            await asyncio.sleep(0)
            waiting += [gate.ask("b"), gate.ask("c")]
            await asyncio.sleep(0)
            ready.set()
            assert await waiting[1] == "c"
            await asyncio.gather(running, waiting[0], return_exceptions=True)
            assert await gate.ask("b") == "b"
            gate.threads.close()

    play(scene())


def test_what_the_work_raises_is_raised_and_after_the_end_nothing_is_held() -> None:
    async def scene() -> None:
        gate = Gate(at_once=1)

        def failing() -> str:
            raise ValueError("so it is")

        for _ in range(3):
            with pytest.raises(ValueError, match="so it is"):
                await gate.threads.run("a", failing)
        gate.threads.close()
        for _ in range(3):
            with pytest.raises(RuntimeError):
                await gate.threads.run("a", failing)

    play(scene())
