"""Many sources of credentials: one for each purpose, shared by all who ask for the same."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

from flytekitplugins.authagent.source import Source


class Sources:
    """Sources by key, the least recently used dropped first. Safe to use from any thread."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._sources: OrderedDict[Hashable, Source] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Source]) -> Source:
        """The source of `key`, made by `make` the first time."""
        with self._lock:
            source = self._sources.get(key)
            if source is None:
                source = self._sources[key] = make()
            self._sources.move_to_end(key)
            while len(self._sources) > self._limit:
                self._sources.popitem(last=False)
            return source

    def clear(self) -> None:
        """Forget all of them; whoever holds one keeps it."""
        with self._lock:
            self._sources.clear()

    def __len__(self) -> int:
        return len(self._sources)

    def _forked(self) -> None:
        self._lock = threading.Lock()


process_wide = Sources(limit=1000)
"""The sources of this process, for everybody in it."""

os.register_at_fork(after_in_child=process_wide._forked)
