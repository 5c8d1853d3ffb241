"""Eager workflows: parents that launch executions of their own and wait for them."""

from __future__ import annotations

import asyncio
import time

from flytekit import eager, task


@task
async def double(n: int) -> int:
    return 2 * n


@task
async def sleeping(seconds: float) -> int:
    time.sleep(seconds)
    return 1


@task
async def failing(n: int) -> int:
    return int("not a number")


@eager
async def family(n: int) -> int:
    one, two = await asyncio.gather(double(n=n), double(n=n + 1))
    return one + two


@eager
async def grandparent(n: int) -> int:
    return await family(n=n)


@eager
async def orphaning(seconds: float) -> int:
    one, two = await asyncio.gather(sleeping(seconds=seconds), failing(n=1))
    return one + two
