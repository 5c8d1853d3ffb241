"""How many requests may come from an address, or from one network of IPv6: a bucket each, which fills with time."""

from __future__ import annotations

from collections import OrderedDict

from flytekitplugins.authagent.agent.connections import network

REMEMBERED = 4096
"""Networks whose buckets are known; one that was forgotten has a full bucket again."""

BURST = 2.0
"""Seconds' worth of requests that may come at once."""


class Rates:
    """`rate` is in requests a second. Moments are by a steady clock."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._most = max(rate * BURST, 1.0)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allows(self, address: str, now: float) -> bool:
        """Whether `address` may make one more request at `now`; then it is counted."""
        whose = network(address)
        left, at = self._buckets.pop(whose, (self._most, now))
        left = min(left + max(now - at, 0.0) * self._rate, self._most)
        self._buckets[whose] = (max(left - 1, 0.0) if left >= 1 else left, now)
        while len(self._buckets) > REMEMBERED:
            self._buckets.popitem(last=False)
        return left >= 1
