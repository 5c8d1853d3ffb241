"""What is settled between two readings of the configuration."""

from __future__ import annotations

from dataclasses import dataclass, field

from flytekitplugins.authagent.agent.attestor import Attestor
from flytekitplugins.authagent.agent.decision import Decision, Key
from flytekitplugins.authagent.agent.file import AgentFile
from flytekitplugins.authagent.bounded_cache import BoundedCache

MAX_DECISIONS = 4096
DECISION_BYTES = 4 << 20
"""Decisions remembered, and their bytes: the same user asking the same again is the usual case, by far."""


def _size(key: Key, decision: Decision) -> int:
    """Bytes of what the caller said, of the record, which is there as an object and as text, and of the answer."""
    given = decision.given
    answer = 0 if given is None else 3 * len(given.record) + len(given.before_expiry) + len(given.after_expiry)
    return key[2].size + answer


@dataclass
class Settled:
    """What holds from one reading of the configuration to the next, and what was decided meanwhile."""

    file: AgentFile
    attestor: Attestor
    decisions: BoundedCache[Key, Decision] = field(
        default_factory=lambda: BoundedCache(MAX_DECISIONS, DECISION_BYTES, _size)
    )
    exchanges: bool = field(init=False)

    def __post_init__(self) -> None:
        self.exchanges = self.file.exchanges

    def remember(self, decision: Decision) -> None:
        """Give the same for the same request from now on, until the configuration is read again."""
        if decision.key is not None:
            self.decisions.put(decision.key, decision)
