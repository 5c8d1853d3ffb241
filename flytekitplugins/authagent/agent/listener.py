"""The agent's socket: made so that nobody else could have made it, and never wider than it is told to be."""

from __future__ import annotations

import errno
import grp
import logging
import os
import socket
import stat
from pathlib import Path

from flytekitplugins.authagent import trust, wire
from flytekitplugins.authagent.errors import ConfigError

logger = logging.getLogger(__name__)

BACKLOG = 1024
"""Connections that wait to be accepted: a burst of pods that start together must not get EAGAIN."""


class Listener:
    """
    A bound and listening Unix socket. `close` removes its path, if it is still ours.

    `inherited` is the descriptor of one that somebody else (systemd) made at `path`: its mode and its path are theirs.
    """

    def __init__(
        self, path: Path, *, mode: int = 0o600, group: str | None = None, inherited: int | None = None
    ) -> None:
        self.path = path
        self._inode: int | None = None
        _check_length(path)
        if inherited is not None:
            self.socket = _taken_over(inherited, path)
            return
        _make_directory(path.parent)
        _clear(path)
        self.socket = _bound(path, mode, group)
        self._inode = path.lstat().st_ino

    def close(self) -> None:
        """Stop listening. Another agent that has replaced the socket keeps its own."""
        self.socket.close()
        try:
            if self._inode is not None and self.path.lstat().st_ino == self._inode:
                self.path.unlink()
        except OSError:
            logger.info("the socket %s is gone already", self.path)


def _taken_over(descriptor: int, path: Path) -> socket.socket:
    """Raises `ConfigError` for anything but a stream socket that listens at `path`."""
    try:
        taken = socket.socket(fileno=descriptor)
        listens = taken.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as failed:
        raise ConfigError(f"systemd handed over no socket: {failed.strerror}") from None
    if taken.family != socket.AF_UNIX or taken.type != socket.SOCK_STREAM or not listens:
        raise ConfigError("systemd handed over another socket than a listening Unix stream socket")
    named = taken.getsockname()
    if not isinstance(named, str) or not _same_place(named, path):
        raise ConfigError(
            f"systemd listens at {named!r}, and the configuration says {str(path)!r}",
            hint="give `socket:` and ListenStream= the same path",
        )
    trust.check_parents(path)
    taken.setblocking(False)
    return taken


def _same_place(named: str, path: Path) -> bool:
    """/var/run is a link to /run on most machines."""
    return os.path.realpath(named) == os.path.realpath(path)


def _check_length(path: Path) -> None:
    if len(os.fsencode(path)) > wire.MAX_SOCKET_PATH:
        raise ConfigError(f"socket: {path} is too long", hint=f"a Unix socket's path has {wire.MAX_SOCKET_PATH} bytes")


def _make_directory(directory: Path) -> None:
    """Private if we make it. One that is there must not let others replace what is in it."""
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
    except FileNotFoundError:
        raise ConfigError(f"socket: {directory.parent} is not there", hint="make it, for root or for us") from None
    except OSError as failed:
        raise ConfigError(f"socket: {directory} cannot be used: {failed.strerror}") from None
    if not directory.is_dir():
        raise ConfigError(f"socket: {directory} is not a directory")
    trust.check_parents(directory / "socket")


def _clear(path: Path) -> None:
    """Remove what an agent that died has left behind. Whatever else is there stays, and is an error."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ConfigError(f"socket: {path} is there, and is not a socket", hint="name another path")
    if found.st_uid not in (os.geteuid(), 0):
        raise ConfigError(f"socket: {path} belongs to uid {found.st_uid}")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(2)
        answer = probe.connect_ex(os.fspath(path))
    if answer not in (errno.ECONNREFUSED, errno.ENOENT):
        raise ConfigError(f"socket: {path} is served already", hint="stop the other agent, or name another path")
    path.unlink(missing_ok=True)


def _bound(path: Path, mode: int, group: str | None) -> socket.socket:
    """The umask is set before the socket is there: there is no moment at which it is wider."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    before = os.umask(0o777 & ~mode if group is None else 0o177)
    try:
        listening.bind(os.fspath(path))
        if group is not None:
            os.chown(path, -1, grp.getgrnam(group).gr_gid)
            path.chmod(mode)
        listening.listen(BACKLOG)
    except OSError as failed:
        listening.close()
        raise ConfigError(f"socket: {path} cannot be made: {failed.strerror}") from None
    finally:
        os.umask(before)
    listening.setblocking(False)
    return listening
