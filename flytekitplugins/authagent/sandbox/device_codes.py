"""The devices that wait for somebody to sign in elsewhere (RFC 8628)."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass, field

LIFETIME = 600.0
"""Seconds that a person has to type a user code."""

USUAL_INTERVAL = 5
"""Seconds between polls where the server names no interval (section 3.2)."""

SLOWER = 5
"""Seconds by which `slow_down` lengthens the interval (section 3.5)."""

LETTERS = "BCDFGHJKLMNPQRSTVWXZ"
"""No vowels, so that no words come out (section 6.1)."""

MAX_WAITING = 1_000
"""Devices kept; the oldest is forgotten for a further one."""


@dataclass
class DeviceCode:
    """
    One device that waits. Times are seconds since the epoch.

    `audience` is what its tokens will be for, where it said so. `allowed` is `None` until somebody decided; `user` is
    who did.
    """

    text: str = field(repr=False)
    user_code: str = field(repr=False)
    client_id: str
    scope: str
    expires_at: float
    interval: int
    audience: str | None = None
    polled_at: float = 0.0
    allowed: bool | None = None
    user: str | None = None

    def get_client_id(self) -> str:
        """See authlib."""
        return self.client_id

    def get_scope(self) -> str:
        """The scopes asked for, joined by spaces."""
        return self.scope


class DeviceCodes:
    """All devices that wait, in memory. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: OrderedDict[str, DeviceCode] = OrderedDict()

    def issue(
        self, client_id: str, scope: str, *, interval: int | None, now: float, audience: str | None = None
    ) -> DeviceCode:
        """A device that waits from `now` on, and may poll each `interval` seconds."""
        text, interval = secrets.token_urlsafe(32), interval or USUAL_INTERVAL
        code = DeviceCode(text, _user_code(), client_id, scope, now + LIFETIME, interval, audience)
        with self._lock:
            self._waiting[code.text] = code
            if len(self._waiting) > MAX_WAITING:
                self._waiting.popitem(last=False)
        return code

    def find(self, text: str) -> DeviceCode | None:
        """The device with this code, expired or not, until it was answered for good."""
        with self._lock:
            return self._waiting.get(text)

    def shown(self, user_code: str, *, now: float) -> DeviceCode | None:
        """The device that shows `user_code` and still waits; a person may type it in lower case, with any spaces."""
        typed = "".join(letter for letter in user_code.upper() if letter in LETTERS)
        with self._lock:
            for code in self._waiting.values():
                if secrets.compare_digest(code.user_code.replace("-", ""), typed):
                    return code if code.allowed is None and now < code.expires_at else None
        return None

    def decide(self, user_code: str, user: str, *, allowed: bool, now: float) -> DeviceCode | None:
        """What `user` decided about the device; `None` where it does not wait (any more)."""
        code = self.shown(user_code, now=now)
        with self._lock:
            if code is None or code.allowed is not None:
                return None
            code.allowed, code.user = allowed, user
            return code

    def poll(self, code: DeviceCode, *, now: float) -> str:
        """
        What a device hears that asks at `now`: `"allowed"` once, or an error of RFC 8628 section 3.5.

        After `"allowed"` and `"access_denied"` the code is unknown. Asking too soon lengthens the interval.
        """
        with self._lock:
            if code.text not in self._waiting:
                return "invalid_grant"
            if now >= code.expires_at:
                return "expired_token"
            if code.allowed is not None:
                del self._waiting[code.text]
                return "allowed" if code.allowed else "access_denied"
            too_soon, code.polled_at = now < code.polled_at + code.interval, now
            code.interval += SLOWER * too_soon
            return "slow_down" if too_soon else "authorization_pending"


def _user_code() -> str:
    half = ["".join(secrets.choice(LETTERS) for _ in range(4)) for _ in range(2)]
    return "-".join(half)
