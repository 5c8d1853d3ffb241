"""What the agent says of itself, and of the caller."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from flytekitplugins.authagent import wire
from flytekitplugins.authagent.agent import policy
from flytekitplugins.authagent.agent.asked import PARAMETERS
from flytekitplugins.authagent.agent.attestor import Attestor
from flytekitplugins.authagent.agent.file import AgentFile
from flytekitplugins.authagent.agent.http import Answer, Request, document, refused
from flytekitplugins.authagent.agent.peer import Peer
from flytekitplugins.authagent.agent.refusal import Refusal
from flytekitplugins.authagent.agent.workload import Workload
from flytekitplugins.authagent.credential import Secret


def metadata(file: AgentFile) -> Answer:
    """What may be asked, and how (RFC 8414). Clients send no parameter that is not listed here."""
    return document(
        {
            "issuer": "http://agent",
            "token_endpoint": "http://agent/token",
            "grant_types_supported": [wire.CLIENT_CREDENTIALS] + [wire.TOKEN_EXCHANGE] * file.exchanges,
            "token_endpoint_auth_methods_supported": ["none"],
            "response_types_supported": [],
            "token_request_parameters_supported": list(PARAMETERS),
        }
    )


def identity(file: AgentFile, attestor: Attestor, peer: Peer, request: Request) -> Answer | Awaitable[Answer]:
    """What the agent knows of the caller, who may show a pod's token as a bearer token, and which Flyte it serves."""
    scheme, _, shown = (request.authorization or "").partition(" ")
    secret = Secret(shown) if scheme.lower() == "bearer" and shown else None
    try:
        workload = attestor.attest(peer, secret)
    except Refusal as refusal:
        return refused(refusal)
    return _introduced(file, workload) if isinstance(workload, Workload) else _later(file, workload)


async def _later(file: AgentFile, attestation: Awaitable[Workload]) -> Answer:
    try:
        return _introduced(file, await attestation)
    except Refusal as refusal:
        return refused(refusal)


def _introduced(file: AgentFile, workload: Workload) -> Answer:
    if not any(policy.knows(rule.who, workload) for rule in file.rules):
        return refused(Refusal(401, "invalid_client", "this agent has no rule for you"))
    peer = workload.peer
    content: dict[str, Any] = {"uid": peer.uid, "gid": peer.gid, "attestor": file.attestor}
    if workload.pod:
        content["pod"] = workload.pod.described()
    if file.flyte:
        content["flyte"] = file.flyte.model_dump(exclude_none=True)
    return document(content)
