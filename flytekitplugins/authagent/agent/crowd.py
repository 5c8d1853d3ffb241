"""Who waits for mints: one caller that asks for ever new tokens must not keep the provider to itself."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Coroutine
from typing import Any

from flytekitplugins.authagent.agent.http import Answer
from flytekitplugins.authagent.agent.refusal import busy
from flytekitplugins.authagent.agent.workload import Workload
from flytekitplugins.authagent.source import Source

LIMIT = 32
"""Different tokens that one user, or one pod, may wait for at a time: each is a request to the provider."""


class Crowd:
    """Callers and the sources that they wait for. Any number may wait for the same one."""

    def __init__(self) -> None:
        self._waiting: defaultdict[object, Counter[Source]] = defaultdict(Counter)
        self._for_people: Counter[object] = Counter()

    def check(self, workload: Workload, source: Source) -> None:
        """Raises `Refusal` where the caller waits for too much already, and would have to wait for this, too."""
        if not self._waiting:
            return
        waiting = self._waiting.get(_holder(workload), ())
        if len(waiting) >= LIMIT and source not in waiting and not source.held():
            raise busy("too many different tokens are being waited for", f"{len(waiting)} at a time")

    def waiting(self, workload: Workload, source: Source, answer: Awaitable[Answer]) -> asyncio.Future[Answer]:
        """`answer`, until which the caller counts as waiting for `source`: from now on, not only once it is awaited."""
        holder = _holder(workload)
        self._waiting[holder][source] += 1
        task = asyncio.ensure_future(answer)
        task.add_done_callback(lambda _: self._leave(holder, source))
        return task

    def waiting_for_people(self, workload: Workload, answer: Coroutine[Any, Any, Answer]) -> Awaitable[Answer]:
        """`answer`, which may wait for a grant. Raises `Refusal` where the caller waits for too many already."""
        holder = _holder(workload)
        if self._for_people[holder] >= LIMIT:
            answer.close()
            raise busy("too many requests of this caller wait for a grant", f"{LIMIT} at a time")
        self._for_people[holder] += 1
        task = asyncio.ensure_future(answer)
        task.add_done_callback(lambda _: self._left_people(holder))
        return task

    def _left_people(self, holder: object) -> None:
        self._for_people[holder] -= 1
        if not self._for_people[holder]:
            del self._for_people[holder]

    def _leave(self, holder: object, source: Source) -> None:
        sources = self._waiting[holder]
        sources[source] -= 1
        if not sources[source]:
            del sources[source]
        if not sources:
            del self._waiting[holder]


def _holder(workload: Workload) -> object:
    """Who is held to the limit: pods of one node may all run as the same user."""
    return workload.pod.uid if workload.pod else workload.peer.address or workload.peer.uid
