"""Children: a workload launched an execution, which the grant that covers its own is to cover, too."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from flytekitplugins.authagent.agent import policy
from flytekitplugins.authagent.agent.answers import Answers
from flytekitplugins.authagent.agent.asked import check_form, read_child
from flytekitplugins.authagent.agent.audit import Audit, known
from flytekitplugins.authagent.agent.delegation import Delegation
from flytekitplugins.authagent.agent.http import Answer, Request, document
from flytekitplugins.authagent.agent.mint import MINT_SECONDS
from flytekitplugins.authagent.agent.peer import Peer
from flytekitplugins.authagent.agent.refusal import Refusal, invalid_request, unavailable, unknown_peer
from flytekitplugins.authagent.agent.settled import Settled
from flytekitplugins.authagent.agent.workload import Workload
from flytekitplugins.authagent.credential import Secret
from flytekitplugins.authagent.errors import AuthAgentError


class Children:
    """Answers at `/grants/children`. It is written down before it is done, and once more before it is said to be."""

    def __init__(self, delegation: Delegation | None, audit: Audit, answers: Answers, settled: Settled) -> None:
        self._delegation, self._audit, self._answers, self._settled = delegation, audit, answers, settled

    def use(self, settled: Settled) -> None:
        """Answer by this configuration from now on."""
        self._settled = settled

    def answer(self, peer: Peer, request: Request) -> Answer | Awaitable[Answer]:
        """Whether the child that the form names is covered now, or why it is not."""
        settled = self._settled
        try:
            check_form(request)
            if self._delegation is None or not settled.file.delegating:
                raise invalid_request("nobody keeps grants here")
            child, shown = read_child(request.body, request.authorization)
            workload = settled.attestor.attest(peer, shown)
        except Refusal as refusal:
            return self._answers.refused(Workload(peer), refusal, {"event": "child"})
        return self._adopted(self._delegation, workload, peer, child, shown)

    async def _adopted(
        self,
        delegation: Delegation,
        attested: Workload | Awaitable[Workload],
        peer: Peer,
        child: str,
        shown: Secret | None,
    ) -> Answer:
        workload = Workload(peer)
        record: dict[str, Any] = {"event": "child", "child": child}
        try:
            workload = attested if isinstance(attested, Workload) else await attested
            record = known(workload) | record
            if not any(policy.knows(rule.who, workload) for rule in self._settled.file.delegating_rules):
                raise unknown_peer("no rule gives this caller tokens of people")
            if not self._audit.write({**workload.peer.described(), "outcome": "asked", **record}):
                return self._answers.unwritten()
            content = await asyncio.wait_for(delegation.adopt(workload, child, shown), MINT_SECONDS)
        except Refusal as refusal:
            return self._answers.refused(workload, refusal, record)
        except (asyncio.TimeoutError, AuthAgentError) as failed:
            not_now = unavailable("grants cannot be changed for now", str(failed))
            return self._answers.refused(workload, not_now, record)
        if not self._audit.write({**workload.peer.described(), "outcome": "covered", **record}):
            return self._answers.unwritten()
        return document(content)
