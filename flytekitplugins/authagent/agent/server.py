"""The walk of one token request: peer, what is asked, attestation, policy, mint, audit, answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sized
from functools import partial

from flytekitplugins.authagent.agent import documents, policy
from flytekitplugins.authagent.agent.answers import Answers
from flytekitplugins.authagent.agent.asked import Asked, check_form, read
from flytekitplugins.authagent.agent.attestor import Attestor
from flytekitplugins.authagent.agent.audit import Audit, known
from flytekitplugins.authagent.agent.children import Children
from flytekitplugins.authagent.agent.crowd import Crowd
from flytekitplugins.authagent.agent.decision import Decision
from flytekitplugins.authagent.agent.delegation import Delegation
from flytekitplugins.authagent.agent.file import AgentFile
from flytekitplugins.authagent.agent.http import Answer, Request, not_allowed, plain, there
from flytekitplugins.authagent.agent.metrics import Metrics
from flytekitplugins.authagent.agent.mint import MINT_SECONDS, Mint
from flytekitplugins.authagent.agent.on_behalf import OnBehalf
from flytekitplugins.authagent.agent.peer import Peer
from flytekitplugins.authagent.agent.readiness import Readiness
from flytekitplugins.authagent.agent.refusal import Refusal, unavailable
from flytekitplugins.authagent.agent.settled import Settled
from flytekitplugins.authagent.agent.workload import Workload
from flytekitplugins.authagent.credential import Credential
from flytekitplugins.authagent.errors import AuthAgentError
from flytekitplugins.authagent.providers import Provider
from flytekitplugins.authagent.source import Throttled


class Server:
    """Answers requests. Everything but a mint and the attestation of a pod happens at once, on the event loop."""

    def __init__(
        self,
        file: AgentFile,
        attestor: Attestor,
        mint: Mint,
        audit: Audit,
        *,
        uid: int,
        connections: Sized,
        delegation: Delegation | None = None,
    ) -> None:
        self._mint, self._audit, self._uid, self._delegation = mint, audit, uid, delegation
        self._settled = settled = Settled(file, attestor)
        self._crowd = Crowd(file.mint_rate)
        self._readiness = Readiness(mint)
        self.metrics = Metrics(mint, connections)
        self._answers = answers = Answers(audit, self.metrics, settled)
        self._children = Children(delegation, audit, answers, settled)
        self._on_behalf = OnBehalf(delegation, mint, answers, settled, decide=self._decide, answer_from=self._answer)
        self.troubles: list[Callable[[], str]] = []
        """Others of the process who may be unable to serve: each says why, or nothing."""

    def adopt(self, file: AgentFile, attestor: Attestor, providers: Mapping[str, Provider]) -> None:
        """Answer by `file` from now on. Who waits for a mint is decided upon again when it is there."""
        self._mint.adopt(file, providers)
        self._settled = settled = Settled(file, attestor)
        self._crowd.use(file.mint_rate)
        self._answers.use(settled)
        self._children.use(settled)
        self._on_behalf.use(settled)

    def on_socket(self, peer: Peer | None, request: Request) -> Answer | Awaitable[Answer]:
        """What the socket answers to `peer`, whom the kernel attests."""
        assert peer is not None  # noqa: S101 - a Unix socket always has one
        match request.path:
            case b"/token":
                return self._token(peer, request) if request.method == b"POST" else not_allowed(b"POST")
            case b"/grants/children":
                return self._children.answer(peer, request) if request.method == b"POST" else not_allowed(b"POST")
            case b"/identity" | b"/.well-known/oauth-authorization-server" | b"/metrics":
                return self._document(peer, request) if request.method == b"GET" else not_allowed(b"GET")
            case _:
                return self.on_health(request)

    def on_health(self, request: Request) -> Answer | Awaitable[Answer]:
        """What anybody may know: whether it runs, and whether it could serve."""
        if request.method not in (b"GET", b"HEAD"):
            return not_allowed(b"GET")
        if request.path == b"/livez":
            return plain(200, "ok")
        if request.path == b"/readyz":
            return self._ready()
        return plain(404, "there is nothing here")

    def on_address(self, _peer: Peer | None, request: Request) -> Answer | Awaitable[Answer]:
        """What the TCP address answers: as `on_health`, and the numbers, which hold nobody's name."""
        if request.path == b"/metrics" and request.method == b"GET":
            return self._metrics()
        return self.on_health(request)

    # The walk

    def _token(self, peer: Peer, request: Request) -> Answer | Awaitable[Answer]:
        settled = self._settled
        try:
            check_form(request)
            asked = read(request.body, request.authorization, exchanges=settled.exchanges)
            decision = settled.decisions.get((peer.uid, peer.gid, asked))
            if decision is not None:
                return self._answer(Workload(peer), decision)
            if settled.file.hub:
                asked = asked.as_workload()
            workload = settled.attestor.attest(peer, asked.shown)
        except Refusal as refusal:
            return self._answers.refused(Workload(peer), refusal, {})
        if isinstance(workload, Workload):
            return self._decide(workload, asked)
        return self._attested(peer, workload, asked)

    async def _attested(self, peer: Peer, attestation: Awaitable[Workload], asked: Asked) -> Answer:
        try:
            workload = await attestation
        except Refusal as refusal:
            return self._answers.refused(Workload(peer), refusal, {})
        return await there(self._decide(workload, asked))

    def _decide(self, workload: Workload, asked: Asked) -> Answer | Awaitable[Answer]:
        """By the rules as they are now. What was decided for the kernel's word alone is remembered for `request`."""
        settled, peer = self._settled, workload.peer
        try:
            rule = policy.decide(settled.file.rules, workload, asked, settled.file.delegating)
            if rule.give.upstream in settled.file.delegating:
                return self._crowd.waiting_for_people(workload, self._on_behalf.answer(workload, asked, rule))
            decision = Decision(asked, rule, self._mint.source(rule, asked), known(workload, rule, asked))
        except Refusal as refusal:
            return self._answers.refused(workload, refusal, known(workload, asked=asked))
        if workload.pod is None and not peer.address and asked.is_memorable:
            decision.key = peer.uid, peer.gid, asked
        return self._answer(workload, decision)

    def _answer(self, workload: Workload, decision: Decision) -> Answer | Awaitable[Answer]:
        assert decision.source is not None  # noqa: S101 - only those of people have none
        try:
            self._crowd.check(workload, decision.source)
            answer = decision.source.ask(
                min_lifetime=decision.asked.min_lifetime, may_fetch=partial(self._crowd.may_mint, workload)
            )
        except Refusal as refusal:
            return self._answers.refused(workload, refusal, decision.record)
        except Throttled:
            return self._answers.refused(workload, self._crowd.slower(), decision.record)
        except AuthAgentError as failed:
            return self._answers.failed(workload, decision, failed)
        if isinstance(answer, Credential):
            self.metrics.cached += 1
            return self._answers.given(workload, decision, answer)
        self.metrics.waited += 1
        minted = self._minted(workload, decision, asyncio.wrap_future(answer), self._settled)
        return self._crowd.waiting(workload, decision.source, minted)

    async def _minted(
        self, workload: Workload, decision: Decision, flight: asyncio.Future[Credential], settled: Settled
    ) -> Answer:
        try:
            # The flight is everybody's: one caller who leaves must not take it away from the others.
            credential = await asyncio.wait_for(asyncio.shield(flight), MINT_SECONDS)
            if settled is not self._settled:
                return await there(self._decide(workload, decision.asked))  # rules have changed meanwhile
            assert decision.source is not None  # noqa: S101 - as in `_answer`
            least = decision.asked.min_lifetime
            answer = decision.source.follow(credential, least, partial(self._crowd.may_mint, workload))
            if not isinstance(answer, Credential):
                answer = await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(answer)), MINT_SECONDS)
            judged = decision.source.judge(answer, least)
            return self._answers.given(workload, decision, judged)
        except asyncio.TimeoutError:
            refusal = unavailable("the identity provider does not answer", f"no token within {MINT_SECONDS:g} s", 5)
            return self._answers.refused(workload, refusal, decision.record)
        except Throttled:
            return self._answers.refused(workload, self._crowd.slower(), decision.record)
        except AuthAgentError as failed:
            return self._answers.failed(workload, decision, failed)

    # Beside the walk

    def _document(self, peer: Peer, request: Request) -> Answer | Awaitable[Answer]:
        if request.path == b"/identity":
            return documents.identity(self._settled.file, self._settled.attestor, peer, request, self._delegation)
        if request.path == b"/metrics":
            return self._metrics() if peer.uid in (0, self._uid) else plain(403, "not for you")
        return documents.metadata(self._settled.file, peer)

    def _metrics(self) -> Answer:
        text = self.metrics.text(self._settled.attestor, ready=not self._unable())
        return Answer(200, text, b"text/plain; version=0.0.4; charset=utf-8")

    def _unable(self) -> str:
        """What is wrong, as far as it is known without asking anybody."""
        if not self._audit.ready:
            return "the audit file cannot be written"
        found = (trouble() for trouble in (self._settled.attestor.ready, *self.troubles))
        return next(filter(None, found), "")

    def _ready(self) -> Answer | Awaitable[Answer]:
        why = self._unable()
        return plain(503, why) if why else self._readiness.answer(self._settled.file.rules)
