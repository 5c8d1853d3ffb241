"""A decision: what a workload gets for a certain request, which is remembered where the same may be asked again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from flytekitplugins.authagent.agent.asked import Asked
from flytekitplugins.authagent.agent.rule import Rule
from flytekitplugins.authagent.credential import Credential
from flytekitplugins.authagent.source import Source


class Given(NamedTuple):
    """One credential as a decision hands it out: all of the answer and of its audit record but the moment."""

    credential: Credential
    record: str
    before_expiry: bytes
    after_expiry: bytes


Key = tuple[int, int, Asked]
"""A user, its group, and what it asks for, as it was read: nothing else of a request counts when it is asked again."""


@dataclass
class Decision:
    """
    What a workload gets for a certain request, and the part of its audit record that is always the same.

    `key` is what it is remembered by; `None` for one that is not.
    """

    asked: Asked
    rule: Rule
    source: Source | None
    record: dict[str, Any]
    key: Key | None = None
    given: Given | None = None
