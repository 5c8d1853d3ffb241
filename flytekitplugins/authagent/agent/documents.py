"""What the agent says of itself, and of the caller."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from flytekitplugins.authagent import wire
from flytekitplugins.authagent.agent import policy
from flytekitplugins.authagent.agent.asked import PARAMETERS
from flytekitplugins.authagent.agent.attestor import Attestor
from flytekitplugins.authagent.agent.delegation import Delegation
from flytekitplugins.authagent.agent.file import AgentFile
from flytekitplugins.authagent.agent.http import Answer, Request, document, refused
from flytekitplugins.authagent.agent.peer import Peer
from flytekitplugins.authagent.agent.refusal import Refusal
from flytekitplugins.authagent.agent.workload import Workload
from flytekitplugins.authagent.credential import Secret


def metadata(file: AgentFile, peer: Peer) -> Answer:
    """
    What may be asked, and how (RFC 8414). Clients send no parameter that is not listed here.

    Whoever comes over the network is told the hub's own address, or they would look for the endpoint elsewhere, and
    show it what attests them.
    """
    base = file.hub.url if file.hub and peer.address else "http://agent"
    return document(
        {
            "issuer": base,
            "token_endpoint": f"{base}/token",
            "grant_types_supported": [wire.CLIENT_CREDENTIALS] + [wire.TOKEN_EXCHANGE] * file.exchanges,
            "token_endpoint_auth_methods_supported": ["none"],
            "response_types_supported": [],
            "token_request_parameters_supported": list(PARAMETERS),
        }
    )


def identity(
    file: AgentFile, attestor: Attestor, peer: Peer, request: Request, delegation: Delegation | None
) -> Answer | Awaitable[Answer]:
    """What the agent knows of the caller, who may show a pod's token as a bearer token, and which Flyte it serves."""
    scheme, _, shown = (request.authorization or "").partition(" ")
    secret = Secret(shown) if scheme.lower() == "bearer" and shown else None
    try:
        workload = attestor.attest(peer, secret)
    except Refusal as refusal:
        return refused(refusal)
    if isinstance(workload, Workload) and not (delegation and file.delegating):
        return _introduced(file, workload, None)
    return _later(file, workload, delegation, secret)


async def _later(
    file: AgentFile, attested: Workload | Awaitable[Workload], delegation: Delegation | None, shown: Secret | None
) -> Answer:
    try:
        workload = attested if isinstance(attested, Workload) else await attested
    except Refusal as refusal:
        return refused(refusal)
    grant = None
    if delegation and any(policy.knows(rule.who, workload) for rule in file.delegating_rules):
        grant = await delegation.grant_of(workload, shown)
    return _introduced(file, workload, grant)


def _introduced(file: AgentFile, workload: Workload, grant: dict[str, Any] | None) -> Answer:
    if not any(policy.knows(rule.who, workload) for rule in file.rules):
        return refused(Refusal(401, "invalid_client", "this agent has no rule for you"))
    content: dict[str, Any] = {**workload.peer.described(), "attestor": file.attestor}
    content.pop("pid", None)
    if workload.pod:
        content["pod"] = workload.pod.described()
    if file.flyte:
        content["flyte"] = file.flyte.model_dump(exclude_none=True)
    if file.delegating:
        content["children"] = "/grants/children"
    if grant:
        content["grant"] = grant
    return document(content)
