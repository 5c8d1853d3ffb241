"""Tokens that speak for whoever launched an execution: what the server asks of whoever keeps the grants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from flytekitplugins.authagent.agent.asked import Asked
from flytekitplugins.authagent.agent.rule import Rule
from flytekitplugins.authagent.agent.workload import Workload
from flytekitplugins.authagent.credential import Credential, Secret


@dataclass(frozen=True)
class Delegated:
    """A token under a grant. `facts` go into the audit record: the grant, and whom the token speaks for."""

    credential: Credential
    facts: dict[str, Any]


@dataclass(frozen=True)
class Ungranted:
    """There is no grant, and the rule says what is given then. `why` goes into the audit record."""

    why: str


class Delegation(Protocol):
    """
    The hub itself, or the way to it. Called on the event loop; every wait has a deadline.

    `shown` is the token by which the workload was attested.
    """

    async def token(self, workload: Workload, asked: Asked, rule: Rule, shown: Secret | None) -> Delegated | Ungranted:
        """
        A token that speaks for the person whose grant covers the execution of `workload`.

        Raises `Refusal` where there is none and the rule wants one, and errors of our tree where there is one and no
        token can be had.
        """

    async def adopt(self, workload: Workload, child: str, shown: Secret | None) -> dict[str, Any]:
        """
        Let the grant of `workload` cover the execution `child` (`project:domain:name`), too; what is answered.

        Raises `Refusal`, and errors of our tree where it cannot be done for now.
        """

    async def grant_of(self, workload: Workload, shown: Secret | None) -> dict[str, Any] | None:
        """`subject` and `expires_at` of the grant that covers `workload`; `None` where none is known."""
