"""Work that is done again and again until it is told to stop, whatever becomes of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from flytekitplugins.authagent.errors import ProviderUnavailable

logger = logging.getLogger(__name__)

EVERY = 1.0
"""Seconds between two rounds."""

Step = Callable[[], Awaitable[bool]]
"""A part of a round, and whether there is more of the same to do at once."""


class Rounds:
    """
    `steps`, one after the other, in a task of their own: one that fails, or is slow, keeps only these waiting, and one
    that fails not even those.

    `trouble` says why the database could not be used when a step last needed it, and is empty where it could.
    """

    def __init__(self, *steps: Step) -> None:
        self._steps = steps
        self._woken = asyncio.Event()
        self._troubles: dict[Step, str] = {}
        self._task: asyncio.Task[None] | None = None

    @property
    def trouble(self) -> str:
        """See the class."""
        return next(iter(self._troubles.values()), "")

    def start(self) -> None:
        """Begin, on the event loop that runs."""
        self._task = asyncio.get_running_loop().create_task(self._go_on())

    def wake(self) -> None:
        """The next round begins at once. From the event loop only."""
        self._woken.set()

    def stop(self) -> asyncio.Task[None] | None:
        """No further round is begun; the task ends soon."""
        if self._task is not None:
            self._task.cancel()
        return self._task

    async def _go_on(self) -> None:
        while True:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._woken.wait(), EVERY)
            self._woken.clear()
            for step in self._steps:
                await self._do(step)

    async def _do(self, step: Step) -> None:
        try:
            more = await step()
        except ProviderUnavailable as failed:
            if not self.trouble:
                logger.warning("a round was not finished: %s", failed)
            self._troubles[step] = str(failed.args[0])
        except Exception:
            logger.exception("a round was not finished")
        else:
            self._troubles.pop(step, None)
            if more:
                self._woken.set()
