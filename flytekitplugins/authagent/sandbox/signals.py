"""SIGINT, SIGTERM and SIGHUP as something to wait for."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from types import FrameType, TracebackType
from typing import Any

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Signals:
    """
    While this is entered, a signal that asks us to stop is noted, and interrupts `wait`; nothing else happens.

    Only the main thread can enter it. `received` is the first that came.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Signals:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._before = {number: signal.signal(number, self._note) for number in STOPPING}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._read)
        os.close(self._write)

    def wait(self, seconds: float, *descriptors: int) -> bool:
        """
        Wait that long at most, less if a further signal comes or one of `descriptors` is readable.

        Returns whether the time is up, with neither.
        """
        poll = select.poll()
        for descriptor in (self._read, *descriptors):
            poll.register(descriptor, select.POLLIN)
        readable = poll.poll(max(seconds, 0) * 1000)
        with contextlib.suppress(BlockingIOError):
            os.read(self._read, 4096)
        return not readable

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = self.received or signal.Signals(number)


def exit_status(returncode: int) -> int:
    """What a shell calls it: a process ended by signal N has the status 128 + N."""
    return 128 - returncode if returncode < 0 else returncode
