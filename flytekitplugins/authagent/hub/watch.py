"""
What goes on in the background: executions are followed, grants end, what was kept of them is revoked.

Every step is a look into the database and one at somebody else, done by whichever replica gets to it first. What fails
is done again, later each time, until it is done. Whom it waits for has rounds and threads of their own: a Flyte that
hangs keeps nothing from being revoked, and an identity provider that hangs keeps nothing from its end.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import Any, Literal, TypeVar

from flytekitplugins.authagent.agent.hub_settings import HubSettings
from flytekitplugins.authagent.errors import AuthAgentError, ProviderError, ProviderUnavailable
from flytekitplugins.authagent.hub.consent import Consent
from flytekitplugins.authagent.hub.custody import Custody
from flytekitplugins.authagent.hub.flyte import Executions
from flytekitplugins.authagent.hub.grants import PATIENCE
from flytekitplugins.authagent.hub.rounds import Rounds
from flytekitplugins.authagent.hub.store import Grant, Store, Tokens

Found = TypeVar("Found")

logger = logging.getLogger(__name__)

AT_ONCE = 32
"""What one round takes on of each kind of work; where that was not all of it, the next one begins at once."""

NOT_YET = 2.0
"""Seconds after which an execution that is not launched yet is looked for again."""

FIRST_RETRY, LAST_RETRY = 2.0, 60.0
"""Seconds until a revocation that failed is tried again: at first, and at most."""

REFUSED_RETRY = 300.0
"""Seconds after which a revocation that the provider would not do is tried again."""

RESEAL_EVERY = 10.0

COUNT_EVERY = 60.0
"""Seconds between two counts of what is stored, and two purges: both read much."""

REMEMBERED = 30 * 24 * 3600.0
"""Seconds for which a grant that has ended is kept; the audit file remembers it for longer."""

Written = Callable[[dict[str, Any]], bool]
"""Writes an audit record, and says whether it could."""


class Watch:
    """
    Rounds until `stop`. `threads` wait for the database, `looking` for Flyte, `revoking` for the identity provider.

    `write` writes an audit record; `now` is in seconds since the epoch.
    """

    def __init__(
        self,
        store: Store,
        custody: Custody,
        consent: Consent,
        executions: Executions,
        settings: HubSettings,
        *,
        threads: Executor,
        looking: Executor,
        revoking: Executor,
        write: Written,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._custody, self._executions = store, custody, executions
        self._settings, self._write, self._now = settings, write, now
        self._threads, self._looking, self._revoking = threads, looking, revoking
        self.consent = consent
        self._tries: Counter[str] = Counter()
        self._revocations = Rounds(self._revoke)
        self._rounds = (
            Rounds(self._save, self._expire, self._decline),
            Rounds(self._follow),
            self._revocations,
            Rounds(self._reseal, self._tidy),
        )
        self._resealed = self._tidied = float("-inf")
        self.counts: Counter[str] = Counter()
        self.stored: dict[str, int] = {}

    @property
    def trouble(self) -> str:
        """Why the database cannot be used, empty while it can."""
        return next(filter(None, (rounds.trouble for rounds in self._rounds)), "")

    def start(self) -> None:
        """Begin, on the event loop that runs."""
        self._loop = asyncio.get_running_loop()
        for rounds in self._rounds:
            rounds.start()

    def use(self, consent: Consent, settings: HubSettings) -> None:
        """Go on by these settings."""
        self.consent, self._settings = consent, settings

    def wake(self) -> None:
        """There is something to revoke. Any thread may say so."""
        self._loop.call_soon_threadsafe(self._revocations.wake)

    async def stop(self) -> None:
        """No further round is begun, and those that go on are waited for, a little."""
        if ending := [task for rounds in self._rounds if (task := rounds.stop())]:
            await asyncio.wait(ending, timeout=1)

    async def _save(self) -> bool:
        if self._custody.unsaved:
            await self._in(self._custody.save)
        return False

    async def _expire(self) -> bool:
        due = await self._in(partial(self._store.due_to_expire, AT_ONCE))
        for grant_id in due:
            await self._end(grant_id, "expired")
        return len(due) >= AT_ONCE

    async def _decline(self) -> bool:
        due = await self._in(partial(self._store.overdue_consents, self._now() - PATIENCE, AT_ONCE))
        for grant_id in due:
            await self._end(grant_id, "declined")
        return len(due) >= AT_ONCE

    async def _follow(self) -> bool:
        due = await self._in(partial(self._store.looks.due, AT_ONCE))
        await asyncio.gather(*(self._followed(execution, grant) for execution, grant in due))
        return len(due) >= AT_ONCE

    async def _followed(self, execution: str, grant: Grant) -> None:
        """One execution: over, launched, foreign, or to be looked at again."""
        now, root = self._now(), execution == grant.execution
        try:
            seen = await self._in(partial(self._executions.look, execution), self._looking)
        except AuthAgentError as failed:
            self.counts["unseen"] += 1
            logger.info("an execution could not be looked at: %s", failed)
            await self._in(partial(self._store.looks.done, execution, next_look=now + self._settings.look_every))
            return
        self.counts["looks"] += 1
        if not root and (seen is None or seen.over or seen.principal != grant.subject):
            await self._in(partial(self._store.children.forget, execution))
        elif seen is None and not grant.launched and now < grant.created_at + self._settings.appears_within:
            await self._in(partial(self._store.looks.done, execution, next_look=now + NOT_YET))
        elif seen is None:
            await self._end(grant.id, "execution_ended" if grant.launched else "never_launched")
        elif seen.over:
            await self._end(grant.id, "execution_ended")
        elif seen.principal != grant.subject:
            await self._end(grant.id, "foreign")
        else:
            next_look = now + self._settings.look_every
            await self._in(partial(self._store.looks.done, execution, next_look=next_look, launched=True))

    async def _end(self, grant_id: str, reason: str) -> None:
        ended = await self._in(partial(self._store.end, grant_id, reason))
        if ended is not None:
            self.tell(ended, reason)

    def tell(self, grant: Grant, reason: str) -> None:
        """A grant has ended. Any thread may say so."""
        self.counts[f"ended: {reason}"] += 1
        self._write({"event": "grant", "outcome": "ended", "reason": reason, **facts(grant)})
        self.wake()

    async def _revoke(self) -> bool:
        due = await self._in(partial(self._store.revocations.due, AT_ONCE))
        await asyncio.gather(*(self._in(partial(self.revoke, grant, tokens), self._revoking) for grant, tokens in due))
        return len(due) >= AT_ONCE

    def revoke(self, grant: Grant, tokens: Tokens) -> str:
        """
        End what is kept of a grant that has ended, at the identity provider; in a thread. What came of it: `done`,
        `unsupported`, or `pending` where it will be tried again.
        """
        record = {"event": "revocation", **facts(grant)}
        try:
            done = tokens.refresh is None or self.consent.revoke(tokens.refresh)
            outcome: Literal["done", "unsupported"] = "done" if done else "unsupported"
        except AuthAgentError as failed:
            tries = self._tries[grant.id] = self._tries[grant.id] + 1
            pause = min(FIRST_RETRY * 2 ** (tries - 1), LAST_RETRY)
            if isinstance(failed, ProviderError) and not isinstance(failed, ProviderUnavailable):
                pause = REFUSED_RETRY
            self._store.revocations.failed(grant.id, next_try=self._now() + pause)
            self.counts["revocations failed"] += 1
            if tries == 1:
                self._write({**record, "outcome": "pending", "reason": str(failed)})
            return "pending"
        self._store.revocations.finished(grant.id, outcome)
        tries = self._tries.pop(grant.id, 0)
        self.counts[f"revocations {outcome}"] += 1
        waited = round(self._now() - (grant.ended_at or self._now()), 3)
        self._write({**record, "outcome": outcome, "seconds_after_the_end": waited, "failed_before": tries})
        return outcome

    async def _reseal(self) -> bool:
        if self._now() > self._resealed + RESEAL_EVERY:
            count = await self._in(partial(self._store.sealing.reseal, AT_ONCE * 8))
            self.counts["resealed"] += count
            if not count:
                self._resealed = self._now()
        return False

    async def _tidy(self) -> bool:
        if self._now() > self._tidied + COUNT_EVERY:
            self._tidied = self._now()
            while await self._in(partial(self._store.purge, self._now() - REMEMBERED, AT_ONCE * 8)) == AT_ONCE * 8:
                self.counts["purges"] += 1
            self.stored = await self._in(self._store.counts)
        return False

    async def _in(self, work: Callable[[], Found], threads: Executor | None = None) -> Found:
        return await asyncio.get_running_loop().run_in_executor(threads or self._threads, work)


def facts(grant: Grant) -> dict[str, Any]:
    """What audit records say of a grant."""
    return {
        "grant": grant.id,
        "execution": grant.execution,
        "subject": grant.subject,
        "scopes": grant.scopes,
        "expires_at": grant.expires_at,
    }
