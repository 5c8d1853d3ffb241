"""Which sign-ins are over: all that came from one of them is dead."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict

MAX_REVOKED = 100_000
"""Revoked families remembered: more than there are tokens and codes kept, so that none of those comes back to life."""


def new_family() -> str:
    """The name of one sign-in, which all that comes from it carries."""
    return secrets.token_hex(8)


class Families:
    """The families that were revoked. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._revoked: OrderedDict[str, None] = OrderedDict()

    def revoke(self, family: str) -> None:
        """From now on nothing of `family` is good, what is issued in it later included."""
        with self._lock:
            self._revoked[family] = None
            if len(self._revoked) > MAX_REVOKED:
                self._revoked.popitem(last=False)

    def revoked(self, family: str) -> bool:
        """Whether it was revoked."""
        with self._lock:
            return family in self._revoked
