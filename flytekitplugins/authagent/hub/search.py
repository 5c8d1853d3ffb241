"""The search for the grant of an execution: whether to wait for one, and what happens where none is found."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import TypeVar

from flytekitplugins.authagent.agent.asked import Asked
from flytekitplugins.authagent.agent.delegation import Ungranted
from flytekitplugins.authagent.agent.refusal import Refusal, no_rule, unavailable
from flytekitplugins.authagent.agent.rule import Rule
from flytekitplugins.authagent.errors import AuthAgentError
from flytekitplugins.authagent.hub.flyte import Executions, Seen
from flytekitplugins.authagent.hub.records import began
from flytekitplugins.authagent.hub.store import Grant, Held, Store

Found = TypeVar("Found")

LOOK_AGAIN = 0.25
"""Seconds between two looks for a grant that is being waited for."""

REMEMBERED = 4096
"""Executions of which it is remembered who launched them, and whether a schedule did."""

REGISTRATION = 3.0
"""Seconds within which a parent says that it has launched a child: it does so at once."""


class Search:
    """The database and Flyte are asked in threads. `counts` says how often there was a wait, and nothing to find."""

    def __init__(
        self,
        store: Store,
        executions: Executions,
        counts: Counter[str],
        *,
        database: Executor,
        looking: Executor,
        now: Callable[[], float],
    ) -> None:
        self._store, self._executions, self.counts = store, executions, counts
        self._database, self._looking, self._now = database, looking, now
        self._looks: dict[str, asyncio.Future[Held | None]] = {}
        self._seen: OrderedDict[str, Seen] = OrderedDict()

    async def held(self, execution: str, asked: Asked, rule: Rule) -> Held | None:
        """The grant of `execution`; one that may come is waited for."""
        held = await self.now(execution)
        if held is not None:
            return held
        loop = asyncio.get_running_loop()
        deadline = loop.time() + await self._patience(execution, asked, rule)
        if loop.time() < deadline:
            self.counts["waited"] += 1
        while held is None and loop.time() < deadline:
            await asyncio.sleep(LOOK_AGAIN)
            held = await self.now(execution)
        return held

    async def now(self, execution: str) -> Held | None:
        """One look for all who want the same."""
        look = self._looks.get(execution)
        if look is None:
            look = asyncio.ensure_future(_in(self._database, partial(self._store.of_execution, execution)))
            self._looks[execution] = look
            look.add_done_callback(lambda done: self._looked(execution, done))
        held = await asyncio.shield(look)
        if held is not None and held.grant.expires_at <= self._now():
            return None  # whoever ends it is on the way
        return held

    def _looked(self, execution: str, done: asyncio.Future[Held | None]) -> None:
        self._looks.pop(execution, None)
        if not done.cancelled():
            done.exception()

    async def nothing(self, execution: str | None, asked: Asked, rule: Rule, why: str) -> Ungranted:
        """
        What happens without a grant: the rule says. Nobody who asked for a person gets anything else, and no execution
        that has acted for one, or is about to.
        """
        self.counts["ungranted"] += 1
        last = await self._last_grant(execution) if execution else None
        if last is not None:
            raise _over(last, self._now())
        if asked.subject is not None or rule.give.otherwise is None:
            raise Refusal(
                400,
                "unauthorized_client",
                "nobody has consented that this execution acts for them; see `authagent run` and `authagent grant`",
                why,
            )
        if rule.give.scheduled == "refuse" and (execution is None or await self._is_scheduled(execution, sure=True)):
            raise no_rule(f"rule {rule.name!r} gives scheduled executions nothing without a person")
        return Ungranted(why)

    async def _last_grant(self, execution: str) -> Grant | None:
        """The grant that `execution` has still to get, or had; none that came to nothing, or is somebody else's."""
        found = await _in(self._database, partial(self._store.last_covering, execution))
        if found is None:
            return None
        last, acted = found
        if acted or (last.status == "ended" and began(last)):
            return last
        if last.status == "ended":
            return None
        if last.launched:
            return last
        seen = await self._flytes_word(execution)
        return last if seen is None or seen.principal == last.subject else None

    async def _patience(self, execution: str, asked: Asked, rule: Rule) -> float:
        """
        Seconds to wait for a grant: where nothing else will do, where its person has yet to consent, and for a moment
        where a parent may be about to say that it launched this, which whoever has grants here may have done.
        """
        if rule.give.otherwise is None or asked.subject is not None:
            return 0.0 if await self._is_scheduled(execution) else rule.give.wait
        if await self._last_grant(execution) is not None:
            return rule.give.wait
        try:
            seen = await self._flytes_word(execution, sure=True)
        except Refusal:
            return min(rule.give.wait, REGISTRATION)  # it may be one
        if seen is None or not seen.principal or seen.scheduled:
            return 0.0
        within = execution[: execution.rindex(":") + 1]
        some = await _in(self._database, partial(self._store.has_live, seen.principal, within=within))
        return min(rule.give.wait, REGISTRATION) if some else 0.0

    async def _is_scheduled(self, execution: str, *, sure: bool = False) -> bool:
        """Whether Flyte says so. Where it must be `sure` and Flyte cannot be asked, nothing is given."""
        seen = await self._flytes_word(execution, sure=sure)
        return seen is not None and seen.scheduled

    async def _flytes_word(self, execution: str, *, sure: bool = False) -> Seen | None:
        """What Flyte says of an execution, once for all: who launched it, and how. As `_is_scheduled`."""
        known = self._seen.get(execution)
        if known is not None:
            return known
        try:
            seen = await _in(self._looking, partial(self._executions.look, execution))
        except AuthAgentError as failed:
            if sure:
                raise unavailable("Flyte cannot be asked about the execution for now", str(failed), 5) from None
            return None
        if seen is not None:
            self._seen[execution] = seen
            while len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)
        return seen


async def _in(threads: Executor, work: Callable[[], Found]) -> Found:
    return await asyncio.get_running_loop().run_in_executor(threads, work)


def _over(last: Grant, now: float) -> Refusal:
    """Why an execution gets nothing that has acted for somebody, or is to: nobody else's identity stands in."""
    if last.status == "active" and last.expires_at > now:
        return unavailable("a grant for this execution has just come, or is about to end; ask again", last.status)
    words = "the consent for this execution has ended; its person must consent again"
    if last.status == "pending":
        words = "somebody was asked to consent that this execution acts for them, and has not yet"
    return Refusal(400, "unauthorized_client", words, f"its grant {last.id}: {last.reason or last.status}")
