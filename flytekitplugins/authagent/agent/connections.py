"""All connections that are open: counted, swept, closed."""

from __future__ import annotations

import asyncio
from collections import Counter
from ipaddress import IPv6Address
from typing import Protocol

from flytekitplugins.authagent.agent.peer import Peer

MAX_CONNECTIONS = 1024
MAX_CONNECTIONS_PER_USER = 512

MAX_HELD = 16 << 20
"""Bytes of all requests that are being read or answered; one user may have half of it."""


class Open(Protocol):
    """One of them. `deadline` is by the event loop's clock; `held` are the bytes of its request that are kept."""

    peer: Peer | None
    deadline: float
    held: int

    def give_up(self) -> None:
        """Its time is over."""

    def finish(self) -> None:
        """Close it, unless it is being answered: then after the answer."""

    def abort(self) -> None:
        """Close it now."""


class Connections:
    """Those that are open."""

    def __init__(self, limit: int = MAX_CONNECTIONS, per_user: int = MAX_CONNECTIONS_PER_USER) -> None:
        self._limit, self._per_user = limit, per_user
        self._open: set[Open] = set()
        self._by_user: Counter[int | str] = Counter()
        self._held_by_user: Counter[int | str] = Counter()
        self.draining = False

    def __len__(self) -> int:
        return len(self._open)

    def have_room(self) -> bool:
        """Whether there is room for anybody."""
        return len(self._open) < self._limit

    def admit(self, connection: Open) -> bool:
        """Whether there is room for it. One user never takes all of it."""
        user = _user(connection)
        if len(self._open) >= self._limit or self._by_user[user] >= self._per_user:
            return False
        self._open.add(connection)
        self._by_user[user] += 1
        return True

    def leave(self, connection: Open) -> None:
        """It is closed."""
        if connection in self._open:
            self._open.remove(connection)
            self.hold(connection, 0)
            user = _user(connection)
            self._by_user[user] -= 1
            if not self._by_user[user]:
                del self._by_user[user]

    def hold(self, connection: Open, size: int) -> bool:
        """Whether `connection` may keep `size` bytes of a request. What it kept before is replaced."""
        more = size - connection.held
        if not more or connection not in self._open:
            return True
        connection.held = size
        user = _user(connection)
        self._held_by_user[user] += more
        if not self._held_by_user[user]:
            del self._held_by_user[user]
        return more < 0 or (self._held_by_user[user] <= MAX_HELD // 2 and sum(self._held_by_user.values()) <= MAX_HELD)

    def sweep(self, now: float) -> None:
        """End what takes too long."""
        for connection in [c for c in self._open if c.deadline < now]:
            connection.give_up()

    async def drain(self, seconds: float) -> None:
        """Let those that are being answered finish, and end the others."""
        self.draining = True
        for connection in list(self._open):
            connection.finish()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while self._open and loop.time() < deadline:
            await asyncio.sleep(0.02)
        for connection in list(self._open):
            connection.abort()


def _user(connection: Open) -> int | str:
    """Who is held to the limit: the user whom the kernel names, or the network of the address."""
    peer = connection.peer
    return -1 if peer is None else network(peer.address) or peer.uid


def network(address: str) -> str:
    """
    Who is one stranger, as far as addresses say: an IPv4 address; of IPv6, the /64 that everybody has for themselves.
    """
    if ":" not in address:
        return address
    try:
        known = IPv6Address(address)
    except ValueError:
        return address
    mapped = known.ipv4_mapped
    return known.packed[:8].hex(":", 2) + "::/64" if mapped is None else str(mapped)
