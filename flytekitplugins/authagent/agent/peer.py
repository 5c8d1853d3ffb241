"""Who is at the other end of a connection, as the kernel says."""

from __future__ import annotations

import struct
from socket import SO_PEERCRED, SOL_SOCKET
from typing import Any, NamedTuple

_CREDENTIALS = struct.Struct("3i")


class Peer(NamedTuple):
    """
    Whoever connected (unix(7), SO_PEERCRED). `uid` and `gid` decide.

    `pid` is for the audit file alone: it is that of the process which connected, even if the socket has been
    inherited or passed on since, and 0 across PID namespaces. Who comes over the network has an `address` and none of
    the three.
    """

    uid: int
    gid: int
    pid: int
    address: str = ""

    def described(self) -> dict[str, int | str]:
        """As the audit file has it."""
        return {"address": self.address} if self.address else {"uid": self.uid, "gid": self.gid, "pid": self.pid}


UNKNOWN = -1
"""Stands where the kernel says nothing: no rule can name it."""


def of(connection: Any) -> Peer:
    """The peer of a connected Unix socket, asked for once, right after it was accepted."""
    pid, uid, gid = _CREDENTIALS.unpack(connection.getsockopt(SOL_SOCKET, SO_PEERCRED, _CREDENTIALS.size))
    return Peer(uid, gid, pid)


def at(address: Any) -> Peer:
    """Whoever connected from `address`, as `socket.getpeername` has it: nobody as far as the kernel can say."""
    host = address[0] if isinstance(address, tuple) and address else "unknown"
    return Peer(UNKNOWN, UNKNOWN, 0, str(host))
