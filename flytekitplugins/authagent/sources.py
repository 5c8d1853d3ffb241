"""Many sources of credentials: one for each purpose, shared by all who ask for the same."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Hashable

from flytekitplugins.authagent.bounded_cache import BoundedCache
from flytekitplugins.authagent.credential import Credential
from flytekitplugins.authagent.source import Source

BYTES = 8 << 20
"""Bytes that the sources have at most, by what `size` says of their keys."""


class Sources:
    """
    Up to `limit` sources by key, the least recently used dropped first. Safe to use from any thread.

    `size`: bytes of text that a key has, and that its source comes to have.
    """

    def __init__(self, limit: int, size: Callable[[Hashable], int] = lambda _key: 0) -> None:
        self._sources: BoundedCache[Hashable, Source] = BoundedCache(limit, BYTES, lambda key, _source: size(key))
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Source]) -> Source:
        """The source of `key`, made by `make` the first time."""
        with self._lock:
            source = self._sources.get(key)
            if source is None:
                source = make()
                self._sources.put(key, source)
            return source

    def drop(self, unwanted: Callable[[Hashable], bool]) -> None:
        """Forget those whose key is `unwanted`; whoever holds one keeps it."""
        with self._lock:
            self._sources.drop(lambda key, _source: unwanted(key))

    def clear(self) -> None:
        """Forget all of them; whoever holds one keeps it."""
        with self._lock:
            self._sources.clear()

    def __len__(self) -> int:
        return len(self._sources)

    def _forked(self) -> None:
        self._lock = threading.Lock()


class Direct:
    """A credential that belongs to the caller alone: it is fetched each time, in the caller's thread, and not kept."""

    def __init__(self, fetch: Callable[[float | None], Credential]) -> None:
        self._fetch = fetch

    def get(self, *, min_lifetime: float = 0.0, timeout: float | None = None) -> Credential:
        """As `Source.get`; there is nothing to wait for."""
        return self._fetch(min_lifetime or None)

    def renew(self, rejected: Credential) -> Credential:
        """There is no other."""
        return rejected


process_wide = Sources(limit=1000)
"""The sources of this process, for everybody in it."""

os.register_at_fork(after_in_child=process_wide._forked)
