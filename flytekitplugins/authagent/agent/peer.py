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
    inherited or passed on since, and 0 across PID namespaces.
    """

    uid: int
    gid: int
    pid: int


def of(connection: Any) -> Peer:
    """The peer of a connected Unix socket, asked for once, right after it was accepted."""
    pid, uid, gid = _CREDENTIALS.unpack(connection.getsockopt(SOL_SOCKET, SO_PEERCRED, _CREDENTIALS.size))
    return Peer(uid, gid, pid)
