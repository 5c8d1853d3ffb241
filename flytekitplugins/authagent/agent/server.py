"""
The agent's answers.

The walk of one token request: peer, what is asked, attestation, policy, mint, audit, answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sized
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from flytekitplugins.authagent import wire
from flytekitplugins.authagent.agent import documents, policy
from flytekitplugins.authagent.agent.asked import MAX_MEMORABLE, Asked, read, read_child
from flytekitplugins.authagent.agent.attestor import Attestor
from flytekitplugins.authagent.agent.audit import Audit, compact, hashed, known
from flytekitplugins.authagent.agent.crowd import Crowd
from flytekitplugins.authagent.agent.delegation import Delegation, Ungranted
from flytekitplugins.authagent.agent.file import AgentFile
from flytekitplugins.authagent.agent.http import Answer, Request, document, not_allowed, plain, refused
from flytekitplugins.authagent.agent.metrics import Metrics
from flytekitplugins.authagent.agent.mint import Mint
from flytekitplugins.authagent.agent.peer import Peer
from flytekitplugins.authagent.agent.readiness import Readiness
from flytekitplugins.authagent.agent.refusal import Refusal, invalid_request, no_rule, unavailable, unknown_peer
from flytekitplugins.authagent.agent.rule import Rule
from flytekitplugins.authagent.agent.workload import Workload
from flytekitplugins.authagent.credential import Credential, Secret
from flytekitplugins.authagent.errors import AuthAgentError, Denied, ProviderUnavailable, TooShort
from flytekitplugins.authagent.providers import Provider
from flytekitplugins.authagent.source import Source

MINT_SECONDS = 25.0
"""For which a caller is kept waiting for a mint; its own patience (`providers.agent`) is longer."""

MAX_DECISIONS = 4096
"""Decisions remembered: the same user asking the same again is the usual case, by far."""

FORM = b"application/x-www-form-urlencoded"


class Given(NamedTuple):
    """One credential as a decision hands it out: all of the answer and of its audit record but the moment."""

    credential: Credential
    record: str
    before_expiry: bytes
    after_expiry: bytes


@dataclass
class Decision:
    """What a workload gets for a certain request, and the part of its audit record that is always the same."""

    asked: Asked
    rule: Rule
    source: Source | None
    record: dict[str, Any]
    given: Given | None = None


@dataclass
class Settled:
    """What holds from one reading of the configuration to the next, and what was decided meanwhile."""

    file: AgentFile
    attestor: Attestor
    decisions: dict[tuple[int, int, Request], Decision] = field(default_factory=dict)


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
        self._delegation = delegation
        self._settled = Settled(file, attestor)
        self._mint = mint
        self._audit = audit
        self._uid = uid
        self._crowd = Crowd()
        self.metrics = Metrics(mint, connections)
        self._readiness = Readiness(mint)
        self.troubles: list[Callable[[], str]] = []
        """Others of the process who may be unable to serve: each says why, or nothing."""

    def adopt(self, file: AgentFile, attestor: Attestor, providers: Mapping[str, Provider]) -> None:
        """Answer by `file` from now on. Who waits for a mint is decided upon again when it is there."""
        self._mint.adopt(file.upstreams, providers)
        self._settled = Settled(file, attestor)

    def on_socket(self, peer: Peer | None, request: Request) -> Answer | Awaitable[Answer]:
        """What the socket answers to `peer`, whom the kernel attests."""
        assert peer is not None  # noqa: S101 - a Unix socket always has one
        match request.path:
            case b"/token":
                return self._token(peer, request) if request.method == b"POST" else not_allowed(b"POST")
            case b"/grants/children":
                return self._child(peer, request) if request.method == b"POST" else not_allowed(b"POST")
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
        decision = settled.decisions.get((peer.uid, peer.gid, request))
        if decision is not None:
            return self._answer(Workload(peer), decision)
        try:
            _check_form(request)
            asked = read(request.body, request.authorization, exchanges=settled.file.exchanges)
            if settled.file.hub:
                asked = asked.as_workload()
            workload = settled.attestor.attest(peer, asked.shown)
        except Refusal as refusal:
            return self._refused(Workload(peer), refusal, {})
        if isinstance(workload, Workload):
            return self._decide(workload, asked, request)
        return self._attested(peer, workload, asked)

    async def _attested(self, peer: Peer, attestation: Awaitable[Workload], asked: Asked) -> Answer:
        try:
            workload = await attestation
        except Refusal as refusal:
            return self._refused(Workload(peer), refusal, {})
        return await _there(self._decide(workload, asked))

    def _decide(self, workload: Workload, asked: Asked, request: Request | None = None) -> Answer | Awaitable[Answer]:
        """By the rules as they are now. What was decided for the kernel's word alone is remembered for `request`."""
        settled, peer = self._settled, workload.peer
        try:
            rule = policy.decide(settled.file.rules, workload, asked, settled.file.delegating)
            if rule.give.upstream in settled.file.delegating:
                return self._crowd.waiting_for_people(workload, self._delegated(workload, asked, rule))
            decision = Decision(asked, rule, self._mint.source(rule, asked), known(workload, rule, asked))
        except Refusal as refusal:
            return self._refused(workload, refusal, known(workload, asked=asked))
        if request and workload.pod is None and len(request.body) <= MAX_MEMORABLE and asked.is_memorable:
            if len(settled.decisions) >= MAX_DECISIONS:
                settled.decisions.clear()
            settled.decisions[peer.uid, peer.gid, request] = decision
        return self._answer(workload, decision)

    async def _delegated(self, workload: Workload, asked: Asked, rule: Rule) -> Answer:
        """A token of the person for whom the execution runs, or what the rule says without one."""
        assert self._delegation is not None  # noqa: S101 - whoever has such an upstream has this
        settled = self._settled
        record = known(workload, rule, asked)
        try:
            found = await asyncio.wait_for(
                self._delegation.token(workload, asked, rule, asked.shown), rule.give.wait + MINT_SECONDS
            )
        except Refusal as refusal:
            return self._refused(workload, refusal, record)
        except asyncio.TimeoutError:
            return self._refused(workload, unavailable("the grant's token cannot be had for now", "time", 5), record)
        except AuthAgentError as failed:
            return self._failed(workload, Decision(asked, rule, None, record), failed)
        if settled is not self._settled:
            return await _there(self._decide(workload, asked))  # rules have changed meanwhile
        if isinstance(found, Ungranted):
            return await self._otherwise(workload, asked, rule, found)
        decision = Decision(asked, rule, None, record | found.facts)
        return self._given(workload, decision, found.credential)

    async def _otherwise(self, workload: Workload, asked: Asked, rule: Rule, ungranted: Ungranted) -> Answer:
        """What the rule gives where there is no grant; the record says that this is why."""
        assert rule.give.otherwise is not None  # noqa: S101 - only then it is said that there is none
        other = rule.model_copy(update={"give": rule.give.otherwise})
        record = known(workload, other, asked) | {"without_grant": ungranted.why}
        try:
            policy.check_asked(other, asked)
            decision = Decision(asked, other, self._mint.source(other, asked), record)
        except Refusal as refusal:
            return self._refused(workload, refusal, record)
        return await _there(self._answer(workload, decision))

    def _child(self, peer: Peer, request: Request) -> Answer | Awaitable[Answer]:
        """A workload launched an execution, which its grant is to cover, too."""
        settled = self._settled
        try:
            _check_form(request)
            if self._delegation is None or not settled.file.delegating:
                raise invalid_request("nobody keeps grants here")
            child, shown = read_child(request.body, request.authorization)
            workload = settled.attestor.attest(peer, shown)
        except Refusal as refusal:
            return self._refused(Workload(peer), refusal, {"event": "child"})
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
                return self._unwritten()
            content = await asyncio.wait_for(delegation.adopt(workload, child, shown), MINT_SECONDS)
        except Refusal as refusal:
            return self._refused(workload, refusal, record)
        except (asyncio.TimeoutError, AuthAgentError) as failed:
            return self._refused(workload, unavailable("grants cannot be changed for now", str(failed)), record)
        if not self._audit.write({**workload.peer.described(), "outcome": "covered", **record}):
            return self._unwritten()
        return document(content)

    def _answer(self, workload: Workload, decision: Decision) -> Answer | Awaitable[Answer]:
        assert decision.source is not None  # noqa: S101 - only those of people have none
        try:
            self._crowd.check(workload, decision.source)
            answer = decision.source.ask(min_lifetime=decision.asked.min_lifetime)
        except Refusal as refusal:
            return self._refused(workload, refusal, decision.record)
        except AuthAgentError as failed:
            return self._failed(workload, decision, failed)
        if isinstance(answer, Credential):
            self.metrics.cached += 1
            return self._given(workload, decision, answer)
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
                return await _there(self._decide(workload, decision.asked))  # rules have changed meanwhile
            assert decision.source is not None  # noqa: S101 - as in `_answer`
            return self._given(workload, decision, decision.source.judge(credential, decision.asked.min_lifetime))
        except asyncio.TimeoutError:
            refusal = unavailable("the identity provider does not answer", f"no token within {MINT_SECONDS:g} s", 5)
            return self._refused(workload, refusal, decision.record)
        except AuthAgentError as failed:
            return self._failed(workload, decision, failed)

    def _given(self, workload: Workload, decision: Decision, credential: Credential) -> Answer:
        given = decision.given
        if given is None or given.credential is not credential:
            given = decision.given = self._prepared(decision, credential)
        now, peer = time.time(), workload.peer
        whom = (
            f'"uid":{peer.uid},"gid":{peer.gid},"pid":{peer.pid}'
            if not peer.address
            else compact(peer.described())[1:-1]
        )
        who = f'{{"time":{now:.3f},{whom}'
        if not self._audit.append(f"{who},{given.record}\n"):
            return self._unwritten()
        self.metrics.answers["given"] += 1
        expires_at = credential.expires_at
        expiry = b"" if expires_at is None else b'"expires_in":%d,' % max(int(expires_at - now), 1)
        return Answer(200, given.before_expiry + expiry + given.after_expiry)

    def _prepared(self, decision: Decision, credential: Credential) -> Given:
        """RFC 6749 section 5.1 and RFC 8693 section 2.2.1. A token has no character that JSON would escape."""
        token = credential.token.reveal()
        if credential.expires_at is not None:
            self.metrics.expires_at[decision.rule.give.upstream] = credential.expires_at
        record = {
            "outcome": "given",
            **decision.record,
            "token": hashed(token),
            "expires_at": credential.expires_at,
        }
        flyte = self._settled.file.flyte
        after = {"scope": " ".join(credential.scopes or policy.scopes(decision.rule, decision.asked))}
        header = credential.header or (flyte.authorization_metadata_key if flyte else None)
        if header and header != "authorization":
            after["authorization_metadata_key"] = header
        before = f'{{"access_token":"{token}","issued_token_type":"{wire.ACCESS_TOKEN_TYPE}","token_type":"Bearer",'
        return Given(credential, compact(record)[1:], before.encode(), compact(after)[1:].encode())

    def _failed(self, workload: Workload, decision: Decision, failed: AuthAgentError) -> Answer:
        """Why there is no token, in words that are good for a caller to hear; the whole story is in the audit file."""
        if isinstance(failed, TooShort):
            refusal = invalid_request(f"no token lives {decision.asked.min_lifetime} s or more")
        elif isinstance(failed, Denied):
            refusal = no_rule(str(failed))
            refusal.description = "the identity provider, or the rule, allows no such token; see the agent's audit file"
        elif decision.asked.subject_token and not isinstance(failed, ProviderUnavailable):
            refusal = invalid_request("the identity provider does not take the token that was shown")  # RFC 8693 2.2.2
            refusal.reason = str(failed)
        else:
            refusal = unavailable("the identity provider cannot be used for now", str(failed))
        return self._refused(workload, refusal, decision.record)

    def _refused(self, workload: Workload, refusal: Refusal, record: dict[str, Any]) -> Answer:
        content = {
            **workload.peer.described(),
            "outcome": refusal.error,
            "reason": refusal.reason or refusal.description,
            **(record or known(workload)),
        }
        if not self._audit.write(content):
            return self._unwritten()
        self.metrics.answers[refusal.error] += 1
        return refused(refusal)

    def _unwritten(self) -> Answer:
        """Nothing is answered that is not written down first."""
        refusal = unavailable("the agent cannot write its audit file", "", 5)
        self.metrics.answers[refusal.error] += 1
        return refused(refusal)

    # Beside the walk

    def _document(self, peer: Peer, request: Request) -> Answer | Awaitable[Answer]:
        if request.path == b"/identity":
            return documents.identity(self._settled.file, self._settled.attestor, peer, request, self._delegation)
        if request.path == b"/metrics":
            return self._metrics() if peer.uid in (0, self._uid) else plain(403, "not for you")
        return documents.metadata(self._settled.file)

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


async def _there(answer: Answer | Awaitable[Answer]) -> Answer:
    return answer if isinstance(answer, Answer) else await answer


def _check_form(request: Request) -> None:
    if request.content_type != FORM:
        raise Refusal(415, "invalid_request", f"send {FORM.decode()}")
    if request.has_query:
        raise invalid_request("parameters belong into the body, not into the URL")
