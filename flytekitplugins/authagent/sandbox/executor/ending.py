"""Ends tasks of an event loop, for certain."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any


async def end(tasks: Collection[asyncio.Future[Any]]) -> None:
    """
    Cancel `tasks` and wait until they are over, whatever becomes of us meanwhile.

    Whoever is cancelled while waiting here still is, afterwards: first the processes must be gone.
    """
    for task in tasks:
        task.cancel()
    if not tasks:
        return
    try:
        await asyncio.wait(tasks)
    except asyncio.CancelledError:
        await asyncio.wait(tasks)
        raise
    finally:
        for task in tasks:
            _ = task.cancelled() or task.exception()  # looked at, so that asyncio does not complain
