"""The command that the sandbox is wrapped around."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence

from flytekitplugins.authagent.errors import ConfigError
from flytekitplugins.authagent.sandbox.signals import Signals, exit_status

GRACE_SECONDS = 10.0
"""How long the command may take to end after a signal."""


class Command:
    """
    Runs `argv` with `environment`, with our standard input and output.

    It gets a session of its own, so that a Ctrl-C reaches it once, through us, and that what it leaves behind can
    be found.
    """

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str]) -> None:
        self._argv, self._environment = list(argv), environment
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, signals: Signals) -> int:
        """
        Run to the end, passing on the first signal that comes; return the status as a shell would.

        What it leaves running in its group is ended too. Raises `ConfigError` where there is no such command.
        """
        try:
            process = self._process = subprocess.Popen(  # noqa: S603 - running it is what we are asked for
                self._argv, env=self._environment, start_new_session=True
            )
        except OSError as wrong:
            raise ConfigError(f"cannot run {self._argv[0]!r}: {wrong.strerror}") from None
        ended = os.pidfd_open(process.pid)
        try:
            while process.poll() is None and signals.received is None:
                signals.wait(3600, ended)
            if signals.received is not None:
                self._signal(signals.received)
                self._wait(GRACE_SECONDS)
        finally:
            os.close(ended)
        self.stop()
        return exit_status(process.returncode)

    def stop(self) -> None:
        """End it, and whatever it left running in its group."""
        for number, seconds in ((signal.SIGTERM, 1.0), (signal.SIGKILL, GRACE_SECONDS)):
            if self._signal(0):
                self._signal(number)
                self._wait(seconds)
        self._process = None  # its number may be somebody else's from now on

    def _wait(self, seconds: float) -> None:
        """Until every process of its group has ended, that long at most."""
        deadline = time.monotonic() + seconds
        while self._signal(0) and time.monotonic() < deadline:
            time.sleep(0.02)

    def _signal(self, number: int) -> bool:
        """Send `number` to all of its group; whether there is anybody left."""
        process = self._process
        if process is None:
            return False
        process.poll()  # or a process that ended would count as one that is left
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
            return True
        return False
