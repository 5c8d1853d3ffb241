"""Eager workflows that leave children behind: by failing, and by being aborted."""

import asyncio
import time

import flytekit
from flytekit import task

from flytekitplugins.authagent import AuthAgent, eager


@task
async def sleep_for(seconds: int) -> int:
    time.sleep(seconds)
    return seconds


async def leave_a_child_behind(seconds: int) -> None:
    """Launch a child and wait until Flyte knows it, but not for its end."""
    child = asyncio.ensure_future(sleep_for(seconds=seconds))
    queue = flytekit.FlyteContextManager.current_context().worker_queue
    while not any(item.wf_exec for items in queue.entries.values() for item in items):
        await asyncio.sleep(0.1)
    child.cancel()


def fail() -> int:
    raise ValueError("this parent fails, and its child runs on")


@eager(task_config=AuthAgent("file"))
async def failing_parent(seconds: int) -> int:
    await leave_a_child_behind(seconds)
    return fail()


@flytekit.eager
async def stock_failing_parent(seconds: int) -> int:
    await leave_a_child_behind(seconds)
    return fail()


@eager
async def waiting_parent(seconds: int) -> int:
    return await sleep_for(seconds=seconds)


@eager
async def parent_of_many(seconds: int) -> int:
    return sum(await asyncio.gather(*(sleep_for(seconds=seconds + n) for n in range(5))))
