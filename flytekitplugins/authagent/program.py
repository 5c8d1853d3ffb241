"""Running a program for what it prints, in bounded time and space."""

from __future__ import annotations

import atexit
import logging
import os
import selectors
import shutil
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from signal import SIGKILL
from typing import TextIO

from flytekitplugins.authagent.credential import MAX_TOKEN
from flytekitplugins.authagent.errors import ConfigError, ProviderError, ProviderUnavailable

logger = logging.getLogger(__name__)

MAX_OUTPUT = 2 * MAX_TOKEN
"""Bytes that a program may print."""

NOTICE = 10.0
"""Seconds after which a person at the terminal is told what they wait for."""

_running: set[subprocess.Popen[bytes]] = set()


def output(
    command: Sequence[str],
    *,
    timeout: float,
    source: str = "",
    terminal: TextIO | None = None,
    notice: float = NOTICE,
) -> str:
    """
    What `command` prints within `timeout` seconds, without blanks around it.

    `source` is the file, or the variable, that configures the command. Nothing is taken from the working directory, for
    that may be a repository of somebody else's.

    Its standard error is shown at `terminal`, as it comes; without one it goes nowhere. Ctrl-C ends the program with
    this process. Raises `ConfigError`, `ProviderUnavailable`, `ProviderError`.
    """
    name = command[0]
    logger.info("running the external command %s%s", name, f" of {source}" if source else "")
    try:
        process = subprocess.Popen(  # noqa: S603 - the user's own program, from a file that others cannot write
            [_found(name), *command[1:]],
            cwd="/",  # a relative path among its arguments must not lead into the working directory
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=terminal or subprocess.DEVNULL,
            start_new_session=True,  # so that what it starts ends with it
        )
    except (OSError, ValueError) as failed:
        reason = failed.strerror if isinstance(failed, OSError) else "a NUL in its arguments"
        raise ConfigError(f"{name} cannot be run: {reason}", hint="check the command, and PATH") from None
    _running.add(process)
    started = time.monotonic()
    deadline = started + timeout
    try:
        printed = _read(process, name, started + notice if terminal else deadline, deadline, terminal)
        status = process.wait(max(deadline - time.monotonic(), 0.1))
    except (TimeoutError, subprocess.TimeoutExpired):
        raise ProviderUnavailable(
            f"{name} did not end within {timeout:g} s",
            hint="start again" if terminal else "run it yourself: it may be waiting for an answer",
        ) from None
    finally:
        _end(process)
    if status:
        what = f"status {status}" if status > 0 else f"signal {-status}"
        raise ProviderError(
            f"{name} ended with {what}",
            hint="see above what it says" if terminal else "run it yourself to see what it says",
        )
    try:
        text = printed.decode("ascii").strip()
    except UnicodeDecodeError:
        raise ProviderError(f"the output of {name} is not a token: it is not ASCII") from None
    if not text:
        raise ProviderError(f"{name} printed nothing", hint="it must print one access token")
    return text


def _found(name: str) -> str:
    """Where the program `name` is: as it is written, or in a directory of `PATH` that is an absolute path."""
    if Path(name).is_absolute():
        return name
    if "/" in name:
        raise ConfigError(
            f"{name} cannot be run: it would be another program in every working directory",
            hint="write its absolute path, or its name alone",
        )
    found = shutil.which(name, path=os.pathsep.join(filter(os.path.isabs, os.get_exec_path())))
    if found is None:
        raise ConfigError(f"{name} cannot be run: it is in no directory of PATH", hint="check the command, and PATH")
    return found


def _read(
    process: subprocess.Popen[bytes], name: str, notice_at: float, deadline: float, terminal: TextIO | None
) -> bytes:
    printed = bytearray()
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    descriptor = process.stdout.fileno()
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while True:
            now = time.monotonic()
            if not selector.select(max(min(notice_at, deadline) - now, 0)):
                if terminal is None or notice_at >= deadline or time.monotonic() >= deadline:
                    raise TimeoutError
                terminal.write(
                    f"Waiting for {name}, for {deadline - time.monotonic():.0f} s at most. Ctrl-C ends it.\n"
                )
                terminal.flush()
                notice_at = deadline
                continue
            piece = os.read(descriptor, 65536)
            if not piece:
                return bytes(printed)
            printed += piece
            if len(printed) > MAX_OUTPUT:
                raise ProviderError(f"{name} printed more than {MAX_OUTPUT} bytes, which is no token")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Whatever is left of it goes, its children too."""
    _running.discard(process)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, SIGKILL)
    process.wait()
    if process.stdout:
        process.stdout.close()


@atexit.register
def _end_all() -> None:
    """A thread that waits for a program does not end with the process, and its program would outlive both."""
    for process in list(_running):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, SIGKILL)


os.register_at_fork(after_in_child=_running.clear)  # they are the parent's
