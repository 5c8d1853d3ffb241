"""Failed mints, in the log: each upstream has one line a minute at most, whatever its callers ask."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable

from flytekitplugins.authagent.errors import AuthAgentError

logger = logging.getLogger(__name__)

EVERY = 60.0
"""Seconds between two lines about one upstream."""


class FailureLog:
    """
    Logs the first failure of an upstream at once, then the latest one of each minute with how many there were.

    Any thread may call it. Messages of our own errors hold no secret and no words of a peer.
    """

    def __init__(self, steady: Callable[[], float] = time.monotonic) -> None:
        self._steady = steady
        self._lock = threading.Lock()
        self._logged: dict[str, float] = {}
        self._failed: Counter[str] = Counter()

    def failed(self, upstream: str, error: AuthAgentError) -> None:
        """Log that `upstream` gave no token, and why."""
        with self._lock:
            self._failed[upstream] += 1
            now, last = self._steady(), self._logged.get(upstream)
            if last is not None and now < last + EVERY:
                return
            self._logged[upstream] = now
            count = self._failed.pop(upstream)
        logger.warning("no token from the upstream %r: %s (failures since the last line: %d)", upstream, error, count)

    def succeeded(self, upstream: str) -> None:
        """Log that `upstream` gives tokens again, where it did not."""
        if upstream not in self._logged:
            return
        with self._lock:
            gone = self._logged.pop(upstream, None)
            self._failed.pop(upstream, None)
        if gone is not None:
            logger.info("the upstream %r gives tokens again", upstream)
