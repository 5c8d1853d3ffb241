"""
Limits what one caller costs the identity provider: the tokens it may wait for at one time, and the new ones a second.

A caller can ask for as many different tokens as there are subsets of a rule's scopes, and as many as it has tokens to
exchange. Each is a request to the identity provider, which serves others too.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Coroutine
from typing import Any

from flytekitplugins.authagent.agent.http import Answer
from flytekitplugins.authagent.agent.refusal import Refusal, busy
from flytekitplugins.authagent.agent.token_bucket import TokenBuckets
from flytekitplugins.authagent.agent.workload import Workload
from flytekitplugins.authagent.source import Source

LIMIT = 32
"""Different tokens that one user, or one pod, may wait for at a time."""

BURST = 64
"""New tokens that a caller may have at once. After that they come at the configured rate (`mint_rate`)."""


class Crowd:
    """
    Callers and the sources that they wait for. Any number may wait for the same one.

    `rate`: requests to identity providers a second that one caller may cause; tokens that are there cost nothing.
    """

    def __init__(self, rate: float) -> None:
        self._rate, self._mints = rate, TokenBuckets(rate, BURST)
        self._waiting: defaultdict[object, Counter[Source]] = defaultdict(Counter)
        self._for_people: Counter[object] = Counter()

    def check(self, workload: Workload, source: Source) -> None:
        """Raises `Refusal` where the caller waits for too much already, and would have to wait for this, too."""
        if not self._waiting:
            return
        waiting = self._waiting.get(_holder(workload), ())
        if len(waiting) >= LIMIT and source not in waiting and not source.held():
            raise busy("too many different tokens are being waited for", f"{len(waiting)} at a time")

    def use(self, rate: float) -> None:
        """Go on by this rate. Buckets are as they were where it is the same."""
        if rate != self._rate:
            self._rate, self._mints = rate, TokenBuckets(rate, BURST)

    def may_mint(self, workload: Workload) -> bool:
        """Whether the caller may cause one more request to an identity provider; then it is counted."""
        return self._mints.take(_holder(workload), time.monotonic())

    def slower(self) -> Refusal:
        """What a caller hears that may not mint now, and after how many seconds it may again."""
        words = "too many new tokens are asked for; slow down"
        return busy(words, f"more than {BURST}, and {self._rate:g} a second", math.ceil(1 / self._rate))

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
