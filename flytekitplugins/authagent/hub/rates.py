"""How many requests may come from an address, or from one network of IPv6."""

from __future__ import annotations

from flytekitplugins.authagent.agent.connections import network
from flytekitplugins.authagent.agent.token_bucket import TokenBuckets

BURST = 2.0
"""Seconds' worth of requests that may come at once."""


class Rates:
    """`rate` is in requests a second. Moments are by a steady clock."""

    def __init__(self, rate: float) -> None:
        self._buckets = TokenBuckets(rate, rate * BURST)

    def allows(self, address: str, now: float) -> bool:
        """Whether `address` may make one more request at `now`; then it is counted."""
        return self._buckets.take(network(address), now)
