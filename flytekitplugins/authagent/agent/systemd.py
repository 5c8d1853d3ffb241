"""What systemd hands over and wants to hear: sockets that are listening already, and how things stand."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping

from flytekitplugins.authagent.errors import ConfigError

FIRST = 3
"""The first descriptor that is handed over (sd_listen_fds(3))."""


def listening(environ: MutableMapping[str, str]) -> int | None:
    """
    The descriptor of the socket that systemd made for us, `None` where it made none.

    The variables are taken out of `environ`, for they mean nobody else. Raises `ConfigError` for more than one.
    """
    count, pid = environ.pop("LISTEN_FDS", ""), environ.pop("LISTEN_PID", "")
    environ.pop("LISTEN_FDNAMES", None)
    if not count or pid != str(os.getpid()):
        return None
    if count != "1":
        raise ConfigError(f"systemd handed over {count} sockets", hint="the agent's unit has one ListenStream=")
    os.set_inheritable(FIRST, False)
    return FIRST


class Notifier:
    """Tells whoever started us, if it wants to be told (sd_notify(3)). Never raises: it is a courtesy."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        self._address = environ.pop("NOTIFY_SOCKET", "")
        watchdog = environ.pop("WATCHDOG_USEC", "")
        mine = environ.pop("WATCHDOG_PID", "") in ("", str(os.getpid()))
        counts = watchdog.isascii() and watchdog.isdigit() and len(watchdog) < 20
        self.watchdog_seconds = int(watchdog) / 1e6 if mine and counts else None
        """Seconds within which it wants to hear that we are alive."""

    def ready(self, status: str) -> None:
        """We serve; after a reload, again."""
        self._tell("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """The configuration is being read again (`Type=notify-reload` wants the moment, too)."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """We are on our way out."""
        self._tell("STOPPING=1")

    def alive(self) -> None:
        """We are not stuck."""
        self._tell("WATCHDOG=1")

    def _tell(self, *lines: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as telling:
                telling.settimeout(1)
                telling.connect(address)
                telling.send("\n".join(lines).encode())
        except OSError:
            return
