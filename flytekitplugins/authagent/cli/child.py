"""A command that runs as if we were not there: our terminal, our signals, its status."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from types import FrameType

from flytekitplugins.authagent.errors import ConfigError

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)

_BY_THE_KERNEL = 0x80  # SI_KERNEL of <asm-generic/siginfo.h>
_LOOK = 0.5  # seconds after which the command is looked at, whatever became of its signal


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """
    Run `argv` to its end, in our process group, and give its status as a shell does: 128 + N after signal N.

    A signal that somebody sends us is passed on. What is typed at the terminal (Ctrl-C) the kernel has given to the
    whole group already, so it is not sent twice. Raises `ConfigError` where there is no such command.
    """
    caught: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        caught.append(number)  # by another thread, between two waits

    ours = [number for number in FORWARDED if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in ours}
    before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # or a status could be lost
    awaited = {*ours, signal.SIGCHLD}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    try:
        pid = _started(argv, environ, mask)
        while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
            came = signal.sigtimedwait(awaited, _LOOK)
            if came and came.si_signo != signal.SIGCHLD and came.si_code != _BY_THE_KERNEL:
                caught.append(came.si_signo)
            while caught:
                os.kill(pid, caught.pop(0))
        while signal.sigtimedwait(awaited, 0):  # the same Ctrl-C ended the command
            pass
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in before.items():
            with contextlib.suppress(TypeError):  # None: set by C code, which nothing here does
                signal.signal(number, handler)
    status = os.waitstatus_to_exitcode(ended[1])
    return 128 - status if status < 0 else status


def _started(argv: Sequence[str], environ: Mapping[str, str], mask: set[int] | set[signal.Signals]) -> int:
    """Its process id. It has our standard streams, and the signals that a program of its own would have."""
    try:
        return os.posix_spawnp(
            argv[0],
            list(argv),
            dict(environ),
            setsigmask=list(mask),
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],  # Python ignores both
        )
    except (OSError, ValueError) as failed:
        reason = failed.strerror if isinstance(failed, OSError) else "a NUL in its arguments"
        raise ConfigError(f"cannot run {argv[0]!r}: {reason}", hint="check the command, and PATH") from None
