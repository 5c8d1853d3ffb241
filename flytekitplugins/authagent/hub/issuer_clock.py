"""How far the clock of this machine is from an issuer's: a token's end is a moment of the issuer's clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flytekitplugins.authagent.oauth.message import Response

LARGEST = 90.0
"""Seconds by which the two may differ. With more, what has ended might be taken, and what is good refused."""


@dataclass(frozen=True)
class _Heard:
    """The issuer's clock stood between `earliest` and `latest` when ours, the steady one, stood at `at`."""

    earliest: float
    latest: float
    at: float


class IssuerClock:
    """
    Remembers the `Date` of the issuer's newest answer (RFC 9110 section 6.6.1). Safe to use from any thread.

    From then on time is told by `steady`, so a `wall` clock that is set anew afterwards is noticed too. Both are in
    seconds; `wall` is since the epoch.
    """

    def __init__(self, wall: Callable[[], float], steady: Callable[[], float]) -> None:
        self._wall, self._steady = wall, steady
        self._heard: _Heard | None = None

    def hear(self, response: Response) -> None:
        """
        Take down when `response` was sent; one that does not say changes nothing.

        Caches add an `Age`; some keep the `Date` beside it and some do not, so the truth lies between the two.
        """
        earliest = response.date
        if earliest is None:
            return
        age = response.headers.get("age", "").strip()
        old = float(age) if age.isascii() and age.isdigit() and len(age) < 9 else 0.0
        self._heard = _Heard(earliest, earliest + old + 1.0, self._steady())  # its unit is a second

    @property
    def ahead(self) -> float:
        """Seconds by which our clock is ahead of the issuer's, negative where it is behind, 0 where nobody knows."""
        heard = self._heard
        if heard is None:
            return 0.0
        now = self._wall() - (self._steady() - heard.at)
        return now - min(max(now, heard.earliest), heard.latest)

    @property
    def trouble(self) -> str:
        """Why our clock cannot be relied on, empty while it can."""
        ahead = self.ahead
        if abs(ahead) <= LARGEST:
            return ""
        return f"the clock of this machine is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the issuer's"
