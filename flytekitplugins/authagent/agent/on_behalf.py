"""Tokens of people: what a caller gets on behalf of whoever launched the execution in which it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from flytekitplugins.authagent.agent import policy
from flytekitplugins.authagent.agent.answers import Answers
from flytekitplugins.authagent.agent.asked import Asked
from flytekitplugins.authagent.agent.audit import known
from flytekitplugins.authagent.agent.decision import Decision
from flytekitplugins.authagent.agent.delegation import Delegation, Ungranted
from flytekitplugins.authagent.agent.http import Answer, there
from flytekitplugins.authagent.agent.mint import MINT_SECONDS, Mint
from flytekitplugins.authagent.agent.refusal import Refusal, unavailable
from flytekitplugins.authagent.agent.rule import Rule
from flytekitplugins.authagent.agent.settled import Settled
from flytekitplugins.authagent.agent.workload import Workload
from flytekitplugins.authagent.errors import AuthAgentError, Denied

Decide = Callable[[Workload, Asked], Answer | Awaitable[Answer]]
"""Decides by the rules as they are then, and answers."""

AnswerFrom = Callable[[Workload, Decision], Answer | Awaitable[Answer]]
"""Answers with a token from the source of a decision."""


class OnBehalf:
    """Answers by rules that give tokens of people. `decide` and `answer_from` are steps of the server's own walk."""

    def __init__(
        self,
        delegation: Delegation | None,
        mint: Mint,
        answers: Answers,
        settled: Settled,
        *,
        decide: Decide,
        answer_from: AnswerFrom,
    ) -> None:
        self._delegation, self._mint, self._answers, self._settled = delegation, mint, answers, settled
        self._decide, self._answer_from = decide, answer_from

    def use(self, settled: Settled) -> None:
        """Who waits for a token is decided upon again, by this configuration, when it is there."""
        self._settled = settled

    async def answer(self, workload: Workload, asked: Asked, rule: Rule) -> Answer:
        """A token of the person for whom the execution runs, or what the rule says without one."""
        assert self._delegation is not None  # noqa: S101 - whoever has such an upstream has this
        settled = self._settled
        record = known(workload, rule, asked)
        try:
            found = await asyncio.wait_for(
                self._delegation.token(workload, asked, rule, asked.shown), rule.give.wait + MINT_SECONDS
            )
        except Refusal as refusal:
            return self._answers.refused(workload, refusal, record)
        except asyncio.TimeoutError:
            not_now = unavailable("the grant's token cannot be had for now", "time", 5)
            return self._answers.refused(workload, not_now, record)
        except AuthAgentError as failed:
            if not isinstance(failed, Denied):
                self._mint.failures.failed(rule.give.upstream, failed)
            return self._answers.failed(workload, Decision(asked, rule, None, record), failed)
        if settled is not self._settled:
            return await there(self._decide(workload, asked))  # rules have changed meanwhile
        self._mint.failures.succeeded(rule.give.upstream)
        if isinstance(found, Ungranted):
            return await self._otherwise(workload, asked, rule, found)
        decision = Decision(asked, rule, None, record | found.facts)
        return self._answers.given(workload, decision, found.credential)

    async def _otherwise(self, workload: Workload, asked: Asked, rule: Rule, ungranted: Ungranted) -> Answer:
        """What the rule gives where there is no grant; the record says that this is why."""
        assert rule.give.otherwise is not None  # noqa: S101 - only then it is said that there is none
        other = rule.model_copy(update={"give": rule.give.otherwise})
        record = known(workload, other, asked) | {"without_grant": ungranted.why}
        try:
            policy.check_asked(other, asked)
            decision = Decision(asked, other, self._mint.source(other, asked), record)
        except Refusal as refusal:
            return self._answers.refused(workload, refusal, record)
        return await there(self._answer_from(workload, decision))
