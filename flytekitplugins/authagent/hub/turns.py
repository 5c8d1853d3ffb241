"""Turns: one thread at a time for each of many names."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from flytekitplugins.authagent.errors import ProviderUnavailable


@dataclass
class _Turn:
    lock: threading.Lock = field(default_factory=threading.Lock)
    users: int = 0


class Turns:
    """Locks by name, which last as long as somebody holds or awaits them."""

    def __init__(self) -> None:
        self._turns: dict[str, _Turn] = {}
        self._guard = threading.Lock()

    @contextmanager
    def taken(self, name: str, *, wait: float) -> Iterator[None]:
        """Hold the turn for `name`. Raises `ProviderUnavailable` after `wait` seconds."""
        with self._guard:
            turn = self._turns.setdefault(name, _Turn())
            turn.users += 1
        try:
            if not turn.lock.acquire(timeout=wait):
                raise ProviderUnavailable(f"another thread has had this grant for {wait:g} s", hint="try again")
            try:
                yield
            finally:
                turn.lock.release()
        finally:
            with self._guard:
                turn.users -= 1
                if not turn.users:
                    del self._turns[name]

    def __contains__(self, name: str) -> bool:
        return name in self._turns

    def __len__(self) -> int:
        return len(self._turns)
