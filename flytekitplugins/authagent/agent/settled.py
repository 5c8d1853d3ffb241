"""What is settled between two readings of the configuration."""

from __future__ import annotations

from dataclasses import dataclass, field

from flytekitplugins.authagent.agent.attestor import Attestor
from flytekitplugins.authagent.agent.decision import Decision
from flytekitplugins.authagent.agent.file import AgentFile
from flytekitplugins.authagent.agent.http import Request


@dataclass
class Settled:
    """What holds from one reading of the configuration to the next, and what was decided meanwhile."""

    file: AgentFile
    attestor: Attestor
    decisions: dict[tuple[int, int, Request], Decision] = field(default_factory=dict)
