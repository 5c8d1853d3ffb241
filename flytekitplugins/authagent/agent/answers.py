"""What callers are answered: a token, or why there is none. Nothing is answered that is not written down first."""

from __future__ import annotations

import time
from typing import Any

from flytekitplugins.authagent import wire
from flytekitplugins.authagent.agent import policy
from flytekitplugins.authagent.agent.audit import Audit, compact, hashed, known, moment
from flytekitplugins.authagent.agent.decision import Decision, Given
from flytekitplugins.authagent.agent.http import Answer, refused
from flytekitplugins.authagent.agent.metrics import Metrics
from flytekitplugins.authagent.agent.refusal import Refusal, invalid_request, misconfigured, no_rule, unavailable
from flytekitplugins.authagent.agent.settled import Settled
from flytekitplugins.authagent.agent.workload import Workload
from flytekitplugins.authagent.credential import Credential
from flytekitplugins.authagent.errors import (
    AuthAgentError,
    ConfigError,
    Denied,
    NoCredential,
    ProviderUnavailable,
    TooShort,
)


class Answers:
    """Each is written into the audit file, counted, and returned."""

    def __init__(self, audit: Audit, metrics: Metrics, settled: Settled) -> None:
        self._audit, self._metrics, self._settled = audit, metrics, settled

    def use(self, settled: Settled) -> None:
        """Answer by this configuration from now on."""
        self._settled = settled

    def given(self, workload: Workload, decision: Decision, credential: Credential) -> Answer:
        """The token of `credential`. What does not change from one time to the next is made once."""
        given = decision.given
        if given is None or given.credential is not credential:
            given = decision.given = self._prepared(decision, credential)
            self._settled.remember(decision)  # now that it is known how large it is
        now, peer = time.time(), workload.peer
        whom = (
            f'"uid":{peer.uid},"gid":{peer.gid},"pid":{peer.pid}'
            if not peer.address
            else compact(peer.described())[1:-1]
        )
        who = f'{{"time":"{moment(now)}",{whom}'
        if not self._audit.append(f"{who},{given.record}\n"):
            return self.unwritten()
        self._metrics.answers["given"] += 1
        expires_at = credential.expires_at
        expiry = b"" if expires_at is None else b'"expires_in":%d,' % max(int(expires_at - now), 1)
        return Answer(200, given.before_expiry + expiry + given.after_expiry)

    def _prepared(self, decision: Decision, credential: Credential) -> Given:
        """RFC 6749 section 5.1 and RFC 8693 section 2.2.1. A token has no character that JSON would escape."""
        token = credential.token.reveal()
        if credential.expires_at is not None:
            self._metrics.expires_at[decision.rule.give.upstream] = credential.expires_at
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

    def failed(self, workload: Workload, decision: Decision, failed: AuthAgentError) -> Answer:
        """Why there is no token, in words that are good for a caller to hear; the whole story is in the audit file."""
        if isinstance(failed, TooShort):
            refusal = invalid_request("no token lives as long as min_lifetime asks")
        elif isinstance(failed, Denied):
            refusal = no_rule(str(failed))
            refusal.description = "the identity provider, or the rule, allows no such token; see the agent's audit file"
        elif isinstance(failed, ConfigError | NoCredential):
            refusal = misconfigured(str(failed))
        elif decision.asked.subject_token and not isinstance(failed, ProviderUnavailable):
            refusal = invalid_request("the identity provider does not take the token that was shown")  # RFC 8693 2.2.2
            refusal.reason = str(failed)
        else:
            refusal = unavailable("the identity provider cannot be used for now", str(failed))
        return self.refused(workload, refusal, decision.record)

    def refused(self, workload: Workload, refusal: Refusal, record: dict[str, Any]) -> Answer:
        """`refusal`, of which `record` is what the audit file says beside who, when and why."""
        content = {
            **workload.peer.described(),
            "outcome": refusal.error,
            "reason": refusal.reason or refusal.description,
            **(record or known(workload)),
        }
        if not self._audit.write(content):
            return self.unwritten()
        self._metrics.answers[refusal.error] += 1
        return refused(refusal)

    def unwritten(self) -> Answer:
        """What is answered where the audit file cannot be written."""
        refusal = unavailable("the agent cannot write its audit file", "", 5)
        self._metrics.answers[refusal.error] += 1
        return refused(refusal)
