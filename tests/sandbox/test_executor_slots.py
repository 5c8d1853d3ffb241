"""How many attempts run at once, and that waiting for one's own children cannot stop everything."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from running_control_plane import running
from templates import ended, launched, phase, ran, register, script, task

from flytekitplugins.authagent.sandbox.executor.slots import Slots

pytestmark = pytest.mark.timeout(60)


def test_no_more_run_at_once_than_there_are_slots_and_in_the_order_of_asking():
    started: list[int] = []
    at_once: list[int] = []

    async def work(slots: Slots, number: int) -> None:
        async with slots.taken():
            started.append(number)
            at_once.append(1)
            assert len(at_once) <= 2
            await asyncio.sleep(0)
            at_once.pop()

    async def everything() -> None:
        slots = Slots(2)
        await asyncio.gather(*(work(slots, number) for number in range(10)))

    asyncio.run(everything())
    assert started == list(range(10))


def test_parents_that_wait_for_a_child_do_not_stop_everything():
    """Two parents hold both slots, and wait for children that need one."""

    async def parent(slots: Slots) -> str:
        async with slots.taken():
            return await child(slots)

    async def child(slots: Slots) -> str:
        async with slots.taken():
            return "done"

    async def everything() -> list[str]:
        slots = Slots(2, patience=0.05)
        return await asyncio.wait_for(asyncio.gather(parent(slots), parent(slots)), timeout=10)

    assert asyncio.run(everything()) == ["done", "done"]


def test_slots_that_were_opened_for_such_parents_are_closed_again():
    async def everything() -> int:
        slots = Slots(1, patience=0.02)
        async with slots.taken(), slots.taken(), slots.taken():
            pass
        holders = 0
        most = 0

        async def work() -> None:
            nonlocal holders, most
            async with slots.taken():
                holders += 1
                most = max(most, holders)
                await asyncio.sleep(0.001)
                holders -= 1

        await asyncio.gather(*(work() for _ in range(5)))
        return most

    assert asyncio.run(everything()) == 1


@settings(max_examples=60, deadline=2000)
@given(
    number=st.integers(1, 3),
    works=st.lists(st.tuples(st.integers(0, 3), st.none() | st.integers(0, 4)), max_size=12),
)
def test_whoever_is_cancelled_takes_no_slot_along(number, works):
    """Each work sleeps some turns of the loop and may be cancelled after some others."""

    async def turns(count: int) -> None:
        for _ in range(count):
            await asyncio.sleep(0)

    async def work(slots: Slots, sleeps: int) -> None:
        async with slots.taken():
            await turns(sleeps)

    async def everything() -> int:
        slots = Slots(number)
        tasks = [asyncio.create_task(work(slots, sleeps)) for sleeps, _ in works]

        async def cancel(task: asyncio.Task[None], after: int) -> None:
            await turns(after)
            task.cancel()

        cancelling = [cancel(task, after) for task, (_, after) in zip(tasks, works, strict=True) if after is not None]
        await asyncio.wait_for(asyncio.gather(*tasks, *cancelling, return_exceptions=True), timeout=5)
        async with contextlib.AsyncExitStack() as all_of_them:
            entering = [all_of_them.enter_async_context(slots.taken()) for _ in range(number)]
            return len([await asyncio.wait_for(slot, timeout=1) for slot in entering])

    assert asyncio.run(everything()) == number


@pytest.mark.parametrize("kind", ["eager parent", "eager clean-up"])
def test_who_waits_for_others_or_ends_them_holds_no_slot(tmp_path, kind):
    with running(tmp_path, slots=1) as control_plane:
        stubs = control_plane.stubs()
        request = task("parent", "sleep", "60", is_eager=kind == "eager parent")
        if kind == "eager clean-up":
            request.spec.template.type = "eager_failure_handler_task"
        register(stubs, request, task("child", "true"))
        parent = launched(stubs, "parent")

        child = ran(stubs, "child")

        assert phase(stubs, child.id) == "SUCCEEDED"
        assert child.closure.duration.ToMilliseconds() < 5000  # it did not wait for patience to end
        assert phase(stubs, parent) == "RUNNING"


def test_other_tasks_wait_for_their_turn(tmp_path):
    """Each makes a directory that no other may have made at that time."""
    source = f"busy = {str(tmp_path / 'busy')!r}\nos.mkdir(busy)\nimport time\ntime.sleep(0.05)\nos.rmdir(busy)"
    with running(tmp_path / "plane", slots=1) as control_plane:
        stubs = control_plane.stubs()
        register(stubs, script("alone", source))

        executions = [launched(stubs, "alone") for _ in range(6)]

        for execution_id in executions:
            ended(stubs, execution_id)
            assert phase(stubs, execution_id) == "SUCCEEDED"
