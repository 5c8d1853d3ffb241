"""All connections that are open: counted, swept, closed; and what their requests have in common."""

from __future__ import annotations

import asyncio
from collections import Counter
from ipaddress import IPv6Address
from typing import NamedTuple, Protocol

from flytekitplugins.authagent.agent.http import Request
from flytekitplugins.authagent.agent.peer import Peer

MAX_CONNECTIONS = 1024
MAX_CONNECTIONS_PER_USER = 512

MAX_KNOWN = 256
MAX_KNOWN_BYTES = 2048
"""Requests that are known by their bytes: most callers say the very same, and need not be parsed again."""

_NOTHING_SECRET = frozenset(
    b"grant_type audience resource scope requested_token_type requested_subject min_lifetime execution task".split()
)
"""Parameters of a request that may be known: a token that was shown is not kept."""


class Open(Protocol):
    """One of them. `deadline` is by the event loop's clock."""

    peer: Peer | None
    deadline: float

    def give_up(self) -> None:
        """Its time is over."""

    def finish(self) -> None:
        """Close it, unless it is being answered: then after the answer."""

    def abort(self) -> None:
        """Close it now."""


class Known(NamedTuple):
    """What the parser made of certain bytes: they were a whole request, and nothing else."""

    request: Request
    keep_alive: bool


class Connections:
    """Those that are open, and the requests that are `known` by their bytes."""

    def __init__(self, limit: int = MAX_CONNECTIONS, per_user: int = MAX_CONNECTIONS_PER_USER) -> None:
        self._limit, self._per_user = limit, per_user
        self._open: set[Open] = set()
        self._by_user: Counter[int | str] = Counter()
        self.draining = False
        self.known: dict[bytes, Known] = {}

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
            user = _user(connection)
            self._by_user[user] -= 1
            if not self._by_user[user]:
                del self._by_user[user]

    def sweep(self, now: float) -> None:
        """End what takes too long."""
        for connection in [c for c in self._open if c.deadline < now]:
            connection.give_up()

    def learn(self, data: bytes, known: Known) -> None:
        """Remember `known` for `data`, if it is short, ordinary, and holds no secret."""
        request = known.request
        names = {pair.partition(b"=")[0] for pair in request.body.split(b"&")}
        if request.path == b"/token" and not request.authorization and names <= _NOTHING_SECRET:
            if len(self.known) >= MAX_KNOWN:
                self.known.clear()
            self.known[data] = known

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
