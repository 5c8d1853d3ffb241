"""
The agent's answers.

The walk of one token request: peer, what is asked, policy, mint, audit, answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Sized
from dataclasses import dataclass
from typing import Any, NamedTuple

from flytekitplugins.authagent import wire
from flytekitplugins.authagent.agent import policy
from flytekitplugins.authagent.agent.asked import PARAMETERS, Asked, read
from flytekitplugins.authagent.agent.audit import Audit, compact, hashed
from flytekitplugins.authagent.agent.file import AgentFile, Rule
from flytekitplugins.authagent.agent.http import Answer, Request, document, not_allowed, plain, refused
from flytekitplugins.authagent.agent.metrics import Metrics
from flytekitplugins.authagent.agent.mint import Mint
from flytekitplugins.authagent.agent.peer import Peer
from flytekitplugins.authagent.agent.refusal import Refusal, invalid_request, no_rule, unavailable
from flytekitplugins.authagent.credential import Credential
from flytekitplugins.authagent.errors import AuthAgentError, Denied, TooShort
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
    """What a user gets for a certain request, and the part of its audit record that is always the same."""

    asked: Asked
    rule: Rule
    source: Source
    record: dict[str, Any]
    given: Given | None = None


class Server:
    """Answers requests. Everything but a mint happens at once, on the event loop."""

    def __init__(self, file: AgentFile, mint: Mint, audit: Audit, *, uid: int, connections: Sized) -> None:
        self._file = file
        self._mint = mint
        self._audit = audit
        self._uid = uid
        self._decisions: dict[tuple[int, int, bytes, str | None], Decision] = {}
        self._connections = connections
        self.metrics = Metrics()

    def on_socket(self, peer: Peer | None, request: Request) -> Answer | Awaitable[Answer]:
        """What the socket answers to `peer`, whom the kernel attests."""
        assert peer is not None  # noqa: S101 - a Unix socket always has one
        match request.path:
            case b"/token":
                return self._token(peer, request) if request.method == b"POST" else not_allowed(b"POST")
            case b"/identity" | b"/.well-known/oauth-authorization-server" | b"/metrics":
                return self._document(peer, request) if request.method == b"GET" else not_allowed(b"GET")
            case _:
                return self.on_health(request)

    def on_health(self, request: Request) -> Answer:
        """What anybody may know: whether it runs, and whether it could serve."""
        if request.method not in (b"GET", b"HEAD"):
            return not_allowed(b"GET")
        if request.path == b"/livez":
            return plain(200, "ok")
        if request.path == b"/readyz":
            why = self._unready()
            return plain(503, why) if why else plain(200, "ok")
        return plain(404, "there is nothing here")

    def on_address(self, _peer: Peer | None, request: Request) -> Answer:
        """What the TCP address answers: as `on_health`, and the numbers, which hold nobody's name."""
        if request.path == b"/metrics" and request.method == b"GET":
            return self._metrics()
        return self.on_health(request)

    # The walk

    def _token(self, peer: Peer, request: Request) -> Answer | Awaitable[Answer]:
        try:
            decision = self._decided(peer, request)
            answer = decision.source.ask(min_lifetime=decision.asked.min_lifetime)
        except Refusal as refusal:
            return self._refused(peer, refusal, {})
        except AuthAgentError as failed:
            return self._failed(peer, decision, failed)
        if isinstance(answer, Credential):
            self.metrics.cached += 1
            return self._given(peer, decision, answer)
        self.metrics.waited += 1
        return self._minted(peer, decision, asyncio.wrap_future(answer))

    def _decided(self, peer: Peer, request: Request) -> Decision:
        """The decision for this user and these very bytes; rules do not change while the agent runs."""
        _check_form(request)
        key = (peer.uid, peer.gid, request.body, request.authorization)
        decision = self._decisions.get(key)
        if decision is None:
            asked = read(request.body, request.authorization)
            rule = policy.decide(self._file.rules, peer, asked)
            decision = Decision(asked, rule, self._mint.source(rule, asked), _record(rule, asked))
            if len(self._decisions) >= MAX_DECISIONS:
                self._decisions.clear()
            self._decisions[key] = decision
        return decision

    async def _minted(self, peer: Peer, decision: Decision, flight: asyncio.Future[Credential]) -> Answer:
        try:
            # The flight is everybody's: one caller who leaves must not take it away from the others.
            credential = await asyncio.wait_for(asyncio.shield(flight), MINT_SECONDS)
            return self._given(peer, decision, decision.source.judge(credential, decision.asked.min_lifetime))
        except asyncio.TimeoutError:
            refusal = unavailable("the identity provider does not answer", f"no token within {MINT_SECONDS:g} s", 5)
            return self._refused(peer, refusal, decision.record)
        except AuthAgentError as failed:
            return self._failed(peer, decision, failed)

    def _given(self, peer: Peer, decision: Decision, credential: Credential) -> Answer:
        given = decision.given
        if given is None or given.credential is not credential:
            given = decision.given = self._prepared(decision, credential)
        self.metrics.answers["given"] += 1
        now = time.time()
        who = f'{{"time":{now:.3f},"uid":{peer.uid},"gid":{peer.gid},"pid":{peer.pid}'
        if not self._audit.append(f"{who},{given.record}\n"):
            return refused(unavailable("the agent cannot write its audit file", "", 5))
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
        flyte = self._file.flyte
        after = {"scope": " ".join(credential.scopes or policy.scopes(decision.rule, decision.asked))}
        if flyte and flyte.authorization_metadata_key:
            after["authorization_metadata_key"] = flyte.authorization_metadata_key
        before = f'{{"access_token":"{token}","issued_token_type":"{wire.ACCESS_TOKEN_TYPE}","token_type":"Bearer",'
        return Given(credential, compact(record)[1:], before.encode(), compact(after)[1:].encode())

    def _failed(self, peer: Peer, decision: Decision, failed: AuthAgentError) -> Answer:
        """Why there is no token, in words that are good for a caller to hear; the whole story is in the audit file."""
        if isinstance(failed, TooShort):
            refusal = invalid_request(f"no token lives {decision.asked.min_lifetime} s or more")
        elif isinstance(failed, Denied):
            refusal = no_rule(str(failed))
            refusal.description = "the identity provider, or the rule, allows no such token; see the agent's audit file"
        else:
            refusal = unavailable("the identity provider cannot be used for now", str(failed))
        return self._refused(peer, refusal, decision.record)

    def _refused(self, peer: Peer, refusal: Refusal, known: dict[str, Any]) -> Answer:
        self.metrics.answers[refusal.error] += 1
        record = {
            "uid": peer.uid,
            "gid": peer.gid,
            "pid": peer.pid,
            "outcome": refusal.error,
            "reason": refusal.reason or refusal.description,
            **known,
        }
        if not self._audit.write(record):
            return refused(unavailable("the agent cannot write its audit file", "", 5))
        return refused(refusal)

    # Beside the walk

    def _document(self, peer: Peer, request: Request) -> Answer:
        if request.path == b"/identity":
            return self._identity(peer)
        if request.path == b"/metrics":
            return self._metrics() if peer.uid in (0, self._uid) else plain(403, "not for you")
        return document(
            {
                "issuer": "http://agent",
                "token_endpoint": "http://agent/token",
                "grant_types_supported": [wire.CLIENT_CREDENTIALS],
                "token_endpoint_auth_methods_supported": ["none"],
                "response_types_supported": [],
                "token_request_parameters_supported": list(PARAMETERS),
            }
        )

    def _identity(self, peer: Peer) -> Answer:
        if not any(policy.knows(rule.who, peer) for rule in self._file.rules):
            return refused(Refusal(401, "invalid_client", "this agent has no rule for you"))
        content: dict[str, Any] = {"uid": peer.uid, "gid": peer.gid, "attestor": self._file.attestor}
        if self._file.flyte:
            content["flyte"] = self._file.flyte.model_dump(exclude_none=True)
        return document(content)

    def _metrics(self) -> Answer:
        text = self.metrics.text(self._mint.minted, self._mint.failed, len(self._connections))
        return Answer(200, text.encode(), b"text/plain; version=0.0.4; charset=utf-8")

    def _unready(self) -> str:
        if not self._audit.ready:
            return "the audit file cannot be written"
        ill = sorted(name for name, healthy in self._mint.healthy.items() if not healthy)
        return f"no token from {', '.join(ill)}" if ill else ""


def _check_form(request: Request) -> None:
    if request.content_type != FORM:
        raise Refusal(415, "invalid_request", f"send {FORM.decode()}")
    if request.has_query:
        raise invalid_request("parameters belong into the body, not into the URL")


def _record(rule: Rule, asked: Asked) -> dict[str, Any]:
    """What the audit file says of a request. What the caller says of itself is marked as its claim, and cut short."""
    claimed = {"execution": asked.execution, "task": asked.task, "subject": asked.subject}
    known: dict[str, Any] = {
        "rule": rule.name,
        "upstream": rule.give.upstream,
        "audience": rule.give.audience,
        "scopes": policy.scopes(rule, asked),
        "claimed": {name: value[:200] for name, value in claimed.items() if value} or None,
    }
    return {name: value for name, value in known.items() if value is not None}
