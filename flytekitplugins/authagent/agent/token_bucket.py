"""How often a caller may do something that costs: a token bucket each, which fills with time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

REMEMBERED = 4096
"""Callers whose buckets are known; one that was forgotten has a full bucket again."""


class TokenBuckets:
    """`rate` is in tokens a second, `burst` is how many a full bucket has. Moments are by a steady clock."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = max(burst, 1.0)
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def take(self, caller: Hashable, now: float) -> bool:
        """Whether `caller` had a token left at `now`; then it is spent."""
        left, at = self._buckets.pop(caller, (self._burst, now))
        left = min(left + max(now - at, 0.0) * self._rate, self._burst)
        self._buckets[caller] = (max(left - 1, 0.0) if left >= 1 else left, now)
        while len(self._buckets) > REMEMBERED:
            self._buckets.popitem(last=False)
        return left >= 1
