"""What is remembered between requests, bounded by its number and by its bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

ENTRY = 1024
"""Bytes that an entry is taken to have beside its texts: the objects that hold them."""


class BoundedCache(Generic[Key, Value]):
    """
    Up to `entries` values of up to `limit` bytes in all, the least recently used dropped first.

    `size` says how many bytes of text an entry has. One thread uses it; others may `peek`.
    """

    def __init__(self, entries: int, limit: int, size: Callable[[Key, Value], int]) -> None:
        self._entries, self._limit, self._size = entries, limit, size
        self._kept: OrderedDict[Key, tuple[Value, int]] = OrderedDict()
        self.size = 0

    def get(self, key: Key) -> Value | None:
        """The value of `key`, which counts as used by that."""
        found = self._kept.get(key)
        if found is None:
            return None
        self._kept.move_to_end(key)
        return found[0]

    def peek(self, key: Key) -> Value | None:
        """The value of `key`, from any thread: it does not count as used."""
        found = self._kept.get(key)
        return None if found is None else found[0]

    def put(self, key: Key, value: Value) -> None:
        """Keep `value`; one that is larger than all the room there is is not kept."""
        self.pop(key)
        size = ENTRY + self._size(key, value)
        if size > self._limit:
            return
        self._kept[key] = value, size
        self.size += size
        while self.size > self._limit or len(self._kept) > self._entries:
            self.size -= self._kept.popitem(last=False)[1][1]

    def pop(self, key: Key) -> None:
        """Forget `key`, if it is there."""
        found = self._kept.pop(key, None)
        if found is not None:
            self.size -= found[1]

    def drop(self, unwanted: Callable[[Key, Value], bool]) -> None:
        """Forget the entries that are `unwanted`."""
        for key in [key for key, (value, _) in self._kept.items() if unwanted(key, value)]:
            self.pop(key)

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()
        self.size = 0

    def __contains__(self, key: Key) -> bool:
        return key in self._kept

    def __len__(self) -> int:
        return len(self._kept)


def text_size(*texts: str | None) -> int:
    """Bytes that `texts` have in memory, where a character may take four."""
    return sum(len(text) * (1 if text.isascii() else 4) for text in texts if text)
