"""Running a program for what it prints, in bounded time and space."""

from __future__ import annotations

import os
import selectors
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from signal import SIGKILL

from flytekitplugins.authagent.credential import MAX_TOKEN
from flytekitplugins.authagent.errors import ConfigError, ProviderError, ProviderUnavailable

MAX_OUTPUT = 2 * MAX_TOKEN
"""Bytes that a program may print."""


def output(command: Sequence[str], *, timeout: float) -> str:
    """
    What `command` prints within `timeout` seconds, without blanks around it; its standard error goes nowhere.

    Raises `ConfigError`, `ProviderUnavailable`, `ProviderError`.
    """
    name = command[0]
    try:
        process = subprocess.Popen(  # noqa: S603 - the user's own program, from a file that others cannot write
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # so that what it starts ends with it
        )
    except (OSError, ValueError) as failed:
        reason = failed.strerror if isinstance(failed, OSError) else "a NUL in its arguments"
        raise ConfigError(f"{name} cannot be run: {reason}", hint="check the command, and PATH") from None
    deadline = time.monotonic() + timeout
    try:
        printed = _read(process, name, deadline)
        status = process.wait(max(deadline - time.monotonic(), 0.1))
    except (TimeoutError, subprocess.TimeoutExpired):
        raise ProviderUnavailable(
            f"{name} did not end within {timeout:g} s", hint="run it yourself: it may be waiting for an answer"
        ) from None
    finally:
        _end(process)
    if status:
        what = f"status {status}" if status > 0 else f"signal {-status}"
        raise ProviderError(f"{name} ended with {what}", hint="run it yourself to see what it says")
    try:
        text = printed.decode("ascii").strip()
    except UnicodeDecodeError:
        raise ProviderError(f"the output of {name} is not a token: it is not ASCII") from None
    if not text:
        raise ProviderError(f"{name} printed nothing", hint="it must print one access token")
    return text


def _read(process: subprocess.Popen[bytes], name: str, deadline: float) -> bytes:
    printed = bytearray()
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    descriptor = process.stdout.fileno()
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not selector.select(left):
                raise TimeoutError
            piece = os.read(descriptor, 65536)
            if not piece:
                return bytes(printed)
            printed += piece
            if len(printed) > MAX_OUTPUT:
                raise ProviderError(f"{name} printed more than {MAX_OUTPUT} bytes, which is no token")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Whatever is left of it goes, its children too."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, SIGKILL)
    process.wait()
    if process.stdout:
        process.stdout.close()
