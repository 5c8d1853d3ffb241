"""A port for a process that must know it before it listens."""

from __future__ import annotations

import random
import socket
from pathlib import Path

HANDED_OUT = Path("/proc/sys/net/ipv4/ip_local_port_range")
"""The first and last port that Linux gives to whoever does not ask for a certain one."""

MANY = 16384
ATTEMPTS = 100


def free_port() -> int:
    """
    A loopback port that nobody has, now or by chance later: one of those that are only had for the asking.

    Whoever was to listen on a port of the others might find that a connection of somebody else's has got it.
    """
    first = _first_handed_out()
    for _ in range(ATTEMPTS):
        port = random.randrange(max(first - MANY, 1024), first)  # noqa: S311 - it need not be unguessable
        if _is_free(port):
            return port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _first_handed_out() -> int:
    try:
        first = int(HANDED_OUT.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        first = 0
    return first if first > 1024 + ATTEMPTS else 32768


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
