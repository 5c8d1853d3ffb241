"""From an attested execution to a token of the person who consented: grant, policy, custody."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import Any, TypeVar

from flytekitplugins.authagent.agent import policy
from flytekitplugins.authagent.agent.asked import Asked
from flytekitplugins.authagent.agent.delegation import Delegated, Ungranted
from flytekitplugins.authagent.agent.mint import check_lifetime, check_principal
from flytekitplugins.authagent.agent.refusal import Refusal, no_rule, unavailable
from flytekitplugins.authagent.agent.rule import Rule
from flytekitplugins.authagent.agent.workload import Workload
from flytekitplugins.authagent.credential import Credential, Secret
from flytekitplugins.authagent.errors import AuthAgentError, ProviderUnavailable, TooShort
from flytekitplugins.authagent.hub.adoption import Adoption
from flytekitplugins.authagent.hub.consent import Lost
from flytekitplugins.authagent.hub.custody import Custody, TooSoon
from flytekitplugins.authagent.hub.flyte import Executions
from flytekitplugins.authagent.hub.grants import Ended
from flytekitplugins.authagent.hub.search import Search
from flytekitplugins.authagent.hub.store import Grant, Held, Store
from flytekitplugins.authagent.oauth.token_exchange import actor_of

Found = TypeVar("Found")

logger = logging.getLogger(__name__)

REFRESHES = 4
"""Times that a request lets another one of its grant go first, where that asked for something else."""

SOON = 15.0
"""Seconds for which a token must be good still to be given while the next one is fetched."""


class Delegate:
    """See `agent.delegation.Delegation`. The database and the identity provider are asked in threads."""

    def __init__(
        self,
        store: Store,
        custody: Custody,
        executions: Executions,
        *,
        database: Executor,
        provider: Executor,
        looking: Executor,
        now: Callable[[], float],
        ended: Ended,
    ) -> None:
        self._store, self._custody, self._executions = store, custody, executions
        self._adoption = Adoption(store, executions, ended)
        self._database, self._provider, self._looking = database, provider, looking
        self._now, self._ended = now, ended
        self._flights: dict[tuple[str, tuple[str, ...], int], asyncio.Future[Credential]] = {}
        self._turns: dict[str, asyncio.Lock] = {}
        self._queued: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self._search = Search(store, executions, self.counts, database=database, looking=looking, now=now)

    async def token(self, workload: Workload, asked: Asked, rule: Rule, shown: Secret | None) -> Delegated | Ungranted:
        """See `Delegation`."""
        if asked.subject_token is not None or asked.actor_token is not None:
            raise no_rule("the rule gives tokens of whoever consented, and none in return for another")
        pod = workload.pod
        if pod is None or pod.execution is None:
            return await self._search.nothing(None, asked, rule, "no execution is attested for the caller")
        held, unlaunched = await self._held(pod.execution, asked, rule)
        if held is None:
            return await self._search.nothing(pod.execution, asked, rule, "no grant covers the execution")
        grant = held.grant
        self._check_person(grant, asked, rule)
        scopes = _scopes(grant, asked, rule)
        credential = self._custody.fresh(held.tokens, scopes, asked.min_lifetime)
        if credential is None and not asked.min_lifetime:
            credential = self._custody.valid(held.tokens, scopes, SOON)
            if credential is not None:  # nobody waits for the next one while this is good
                self._flight(grant, scopes, 0)
        waited = unlaunched or credential is None
        if credential is None:
            credential = await self._renewed(held, scopes, asked.min_lifetime)
        if waited:
            await self._check_alive(pod.execution, grant)
        if asked.min_lifetime and credential.remaining(self._now()) + 1 < asked.min_lifetime:
            raise TooShort(f"no token lives {asked.min_lifetime} s or more")
        check_principal(credential, grant.subject, rule.give.upstream, rule.name)
        check_lifetime(credential, rule.give.max_lifetime, rule.give.upstream, rule.name)
        self.counts["given"] += 1
        facts = {"grant": grant.id, "speaks_for": grant.subject, "actor": actor_of(credential)}
        return Delegated(credential, {name: value for name, value in facts.items() if value})

    async def adopt(self, workload: Workload, child: str, shown: Secret | None) -> dict[str, Any]:
        """See `Delegation`."""
        asks = f"a child of {workload.pod.execution}" if workload.pod else "a child"
        work = partial(self._adoption.adopt, workload, child)
        grant = await self._in_turn(asks, work, self._looking)
        self.counts["adopted"] += 1
        return {"execution": child, "expires_at": int(grant.expires_at)}

    async def grant_of(self, workload: Workload, shown: Secret | None) -> dict[str, Any] | None:
        """See `Delegation`."""
        execution = workload.pod.execution if workload.pod else None
        if execution is None:
            return None
        try:
            held = await self._search.now(execution)
        except AuthAgentError:
            return None
        return None if held is None else {"subject": held.grant.subject, "expires_at": int(held.grant.expires_at)}

    # Its token

    def _check_person(self, grant: Grant, asked: Asked, rule: Rule) -> None:
        if not policy.speaks_for(rule, grant.subject):
            raise no_rule(f"rule {rule.name!r} does not let anybody act for {grant.subject!r}")
        if asked.subject is not None and asked.subject != grant.subject:
            raise no_rule(f"{grant.subject!r} has consented, and not the person who was asked for")

    async def _held(self, execution: str, asked: Asked, rule: Rule) -> tuple[Held | None, bool]:
        """
        The grant of `execution`, and whether Flyte had to be asked about it. One that turns out to be for somebody
        else's is looked past, once: it was in the way.
        """
        for _ in range(2):
            held = await self._search.held(execution, asked, rule)
            if held is None or held.grant.launched:
                return held, False
            if await self._is_theirs(held.grant):
                return held, True
        return None, True

    async def _is_theirs(self, grant: Grant) -> bool:
        """
        Whether Flyte names the person of `grant`, which was given before the launch; else it is good for nothing.

        Its name was a secret until then, and this is one more look: it can only take away. A grant that is for an
        execution of somebody else's ends. Raises `Refusal` where Flyte does not know the execution, or does not say.
        """
        try:
            seen = await self._in(self._looking, partial(self._executions.look, grant.execution))
            if seen is None:
                raise no_rule("Flyte does not know the execution as one of the person who consented")
            if seen.principal == grant.subject:
                looked = partial(self._store.looks.done, grant.execution, next_look=self._now(), launched=True)
                await self._in(self._database, looked)
                return True
            ended = await self._in(self._database, partial(self._store.end, grant.id, "foreign"))
            if ended is not None:  # else somebody was faster, and has told of it
                self._ended(ended, "foreign")
        except AuthAgentError as failed:
            raise unavailable("Flyte cannot be asked about the execution for now", str(failed), 5) from None
        return False

    async def _check_alive(self, execution: str, grant: Grant) -> None:
        """Nothing is given under a grant that ended while somebody else was asked."""
        held = await self._in(self._database, partial(self._store.of_execution, execution))
        if held is None or held.grant.id != grant.id:
            raise no_rule("the grant has ended meanwhile")

    async def _renewed(self, held: Held, scopes: tuple[str, ...], min_lifetime: int) -> Credential:
        """
        One flight in this process for all tasks of a grant; between replicas the store sees to it.

        The old token stands in while it is valid and no other can be had for now.
        """
        if not self._custody.may_bring(held.tokens, scopes, min_lifetime):
            raise TooShort(f"no token lives {min_lifetime} s or more")
        try:
            return await asyncio.shield(self._flight(held.grant, scopes, min_lifetime))
        except ProviderUnavailable as failed:
            old = self._custody.valid(held.tokens, scopes, min_lifetime)
            if old is None:
                raise
            logger.warning("using the old token of a grant, for the next cannot be had: %s", failed)
            return old
        except Lost as lost:
            raise Refusal(
                400,
                "unauthorized_client",
                "the consent for this execution cannot be used any more; its person must consent again",
                str(lost.args[0]),
            ) from None

    def _flight(self, grant: Grant, scopes: tuple[str, ...], min_lifetime: int) -> asyncio.Future[Credential]:
        key = (grant.id, scopes, min_lifetime)
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = asyncio.ensure_future(self._flown(grant, scopes, min_lifetime))
            flight.add_done_callback(lambda done: self._landed(key, done))
        return flight

    async def _flown(self, grant: Grant, scopes: tuple[str, ...], min_lifetime: int) -> Credential:
        """Whatever a task asks for, its grant is refreshed once in a while, and keeps no thread in between."""
        work = partial(self._custody.renewed, grant, scopes, min_lifetime)
        for _ in range(REFRESHES):
            try:
                return await self._in_turn(grant.id, work, self._provider)
            except TooSoon as early:
                await asyncio.sleep(early.seconds)
        raise ProviderUnavailable("too many others want other tokens of the same grant", hint="try again")

    async def _in_turn(self, what: str, work: Callable[[], Found], threads: Executor) -> Found:
        """What is asked for one grant, or one parent, takes one thread, however many ways there are to ask for it."""
        turn = self._turns.setdefault(what, asyncio.Lock())
        self._queued[what] += 1
        try:
            async with turn:
                return await self._in(threads, work)
        finally:
            self._queued[what] -= 1
            if not self._queued[what]:
                del self._queued[what], self._turns[what]

    def _landed(self, key: tuple[str, tuple[str, ...], int], done: asyncio.Future[Credential]) -> None:
        self._flights.pop(key, None)
        if not done.cancelled():
            done.exception()  # somebody may not wait for it any more

    async def _in(self, threads: Executor, work: Callable[[], Found]) -> Found:
        return await asyncio.get_running_loop().run_in_executor(threads, work)


def _scopes(grant: Grant, asked: Asked, rule: Rule) -> tuple[str, ...]:
    """What of the grant the token is to have: what is asked, or what the rule gives of it. Sorted, to be a key."""
    consented = set(grant.scopes)
    if asked.scopes:
        if consented and not set(asked.scopes) <= consented:
            raise Refusal(400, "invalid_scope", "the person has consented to fewer scopes")
        return tuple(sorted(asked.scopes))
    given = set(rule.give.scopes)
    if given and consented and not given & consented:
        raise Refusal(400, "invalid_scope", "the person has consented to none of the scopes that the rule gives")
    return tuple(sorted(given & consented if given and consented else given or consented))
