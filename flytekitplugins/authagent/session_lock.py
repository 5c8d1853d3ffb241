"""One at a time, over all threads and processes of a user."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from flytekitplugins.authagent import trust
from flytekitplugins.authagent.errors import ConfigError, ProviderUnavailable

WAIT = 30.0
"""Seconds to wait for another one that renews the same login: it has a deadline of its own."""

PAUSE = 0.02

_threads: dict[str, threading.Lock] = {}
_guard = threading.Lock()


@contextmanager
def held(name: str, environ: Mapping[str, str], *, wait: float = WAIT) -> Iterator[None]:
    """
    Hold the lock called `name`; the kernel lets go of it when its holder ends, however that is.

    Raises `ProviderUnavailable` after `wait` seconds, `ConfigError` where no file can be locked safely.
    """
    deadline = time.monotonic() + wait
    with _guard:
        own = _threads.setdefault(name, threading.Lock())
    if not own.acquire(timeout=wait):
        raise _late(wait)
    try:
        descriptor = os.open(_file(name, environ), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            while not _taken(descriptor):
                if time.monotonic() > deadline:
                    raise _late(wait)
                time.sleep(PAUSE)
            yield
        finally:
            os.close(descriptor)
    finally:
        own.release()


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _late(wait: float) -> ProviderUnavailable:
    return ProviderUnavailable(f"another process has been renewing this login for {wait:g} s", hint="try again")


def _file(name: str, environ: Mapping[str, str]) -> Path:
    """Its file, in a directory that is ours alone: below HOME, so that every process of the user finds the same."""
    home = environ.get("HOME")
    places = [Path(home, ".flyte", "authagent")] if home else []
    places.append(Path(tempfile.gettempdir(), f"authagent-{os.geteuid()}"))
    for place in places:
        try:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            trust.check_parents(place / "lock")
        except OSError:
            continue
        return place / f"{hashlib.sha256(name.encode()).hexdigest()[:24]}.lock"
    raise ConfigError("there is no directory in which a login can be locked", hint="let HOME be a directory of yours")


def _after_fork() -> None:
    global _guard  # noqa: PLW0603 - a lock that another thread of the parent held would never open
    _guard = threading.Lock()
    _threads.clear()


os.register_at_fork(after_in_child=_after_fork)
