"""How the agent of this machine is, for people: whether it lives, could serve, and what it has done."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

from flytekitplugins.authagent.errors import AuthAgentError
from flytekitplugins.authagent.providers.agent import AgentProvider

SECONDS = 5.0
"""For all that an agent is asked here."""

_SAMPLE = re.compile(r'^authagent_(\w+)(?:\{(?:outcome|upstream)="([^"]*)"\})? (\S+)$', re.MULTILINE)

_IDENTITY = re.compile(
    r"(uid [0-9]{1,10})?(, )?(gid [0-9]{1,10})?"
    r"|pod [a-z0-9-]{1,63}/[a-z0-9.-]{1,253}, (no execution|[\w.-]+:[\w.-]+:[\w.-]+)"
)
"""What an agent may say of its caller: numbers, and names as Kubernetes and Flyte have them."""


def look(socket: Path, pod_token: Path | None = None) -> dict[str, Any] | None:
    """
    Facts by name; `None` where there is no agent. One that does not answer is a fact too.

    What it counts it tells its own user and root only, so the last three are missing for others.
    """
    agent = AgentProvider(socket, token_file=pod_token)
    facts: dict[str, Any] = {"socket": str(socket)}
    deadline = time.monotonic() + SECONDS
    try:
        ready = agent.page("/readyz", within=SECONDS)
        if ready is None:
            return None
        facts["ready"] = "yes" if ready[0] == 200 else f"no: {ready[1].strip()}"
        facts |= _identity(agent, deadline)
        counted = agent.page("/metrics", within=deadline - time.monotonic())
    except AuthAgentError as error:
        return facts | {"ready": f"no: {error.args[0]}"}
    return facts | (_counted(counted[1]) if counted and counted[0] == 200 else {})


def _identity(agent: AgentProvider, deadline: float) -> dict[str, Any]:
    try:
        known = agent.identity(within=deadline - time.monotonic()) or {}
    except AuthAgentError:
        return {"knows": "has no rule for us"}
    pod, attestor = known.get("pod"), known.get("attestor")
    who = ", ".join(f"{name} {known[name]}" for name in ("uid", "gid") if isinstance(known.get(name), int))
    if isinstance(pod, dict):
        execution = f", {pod['execution']}" if "execution" in pod else ", no execution"
        who = f"pod {pod.get('namespace')}/{pod.get('name')}{execution}"
    return {
        "attestor": attestor if attestor in ("kernel", "kubernetes") else None,
        "knows": f"us as {who}" if _IDENTITY.fullmatch(who) else None,
    }


def _counted(text: str) -> dict[str, Any]:
    """The metrics that say something to people, in words."""
    found: dict[str, dict[str, float]] = {}
    for name, label, value in _SAMPLE.findall(text):
        found.setdefault(name, {})[label] = float(value)
    requests = found.get("requests_total", {})
    minted, failed = found.get("mints_total", {}), found.get("mint_failures_total", {})
    left = found.get("token_seconds_to_expiry", {})
    return {
        "answers": ", ".join(f"{count:.0f} {outcome}" for outcome, count in sorted(requests.items())) or "none yet",
        "mints": "; ".join(
            f"{name}: {minted.get(name, 0):.0f} minted, {failed.get(name, 0):.0f} failed"
            + (f", {left[name]:.0f} s left" if name in left else "")
            for name in sorted({*minted, *failed})
        )
        or "none yet",
        "connections": int(found.get("connections", {}).get("", 0)),
    }
