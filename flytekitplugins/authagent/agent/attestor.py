"""Who says who a caller is."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

from flytekitplugins.authagent.agent.peer import Peer
from flytekitplugins.authagent.agent.workload import Workload
from flytekitplugins.authagent.credential import Secret


class Attestor(Protocol):
    """
    Turns a connection, and what the caller shows, into a workload.

    Called on the event loop: it answers at once where it can, or with something to wait for, which has a deadline
    of its own. Raises `Refusal`, at once or when waited for.
    """

    @property
    def name(self) -> str:
        """The word that configuration uses for it."""

    def attest(self, peer: Peer, shown: Secret | None) -> Workload | Awaitable[Workload]:
        """The workload behind `peer`, which shows `shown` (a `client_assertion`, RFC 7523 section 2.2), or nothing."""

    def ready(self) -> str:
        """Why it could not attest anybody now; empty where it could."""

    def counts(self) -> dict[str, int]:
        """How its attestations ended, by outcome, since it was made."""

    def close(self) -> None:
        """It is asked nothing any more."""


class Kernel:
    """The kernel's word is enough. What a caller shows beside it means nothing, and is not looked at."""

    name = "kernel"

    def attest(self, peer: Peer, shown: Secret | None) -> Workload:
        """See `Attestor`."""
        return Workload(peer)

    def ready(self) -> str:
        """See `Attestor`."""
        return ""

    def counts(self) -> dict[str, int]:
        """See `Attestor`: nothing is worth counting."""
        return {}

    def close(self) -> None:
        """See `Attestor`."""
