"""One at a time, over all threads and processes of a user."""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from flytekitplugins.authagent import trust
from flytekitplugins.authagent.errors import ConfigError, ProviderUnavailable

WAIT = 30.0
"""Seconds to wait for another one that renews the same login: it has a deadline of its own."""

PAUSE = 0.02

_threads: dict[str, threading.Lock] = {}
_guard = threading.Lock()
_open: set[int] = set()


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
        with _locked(_file(name, environ), deadline, wait):
            yield
    finally:
        own.release()


@contextmanager
def _locked(path: Path, deadline: float, wait: float) -> Iterator[None]:
    descriptor = _opened(path)
    _open.add(descriptor)
    try:
        while not _taken(descriptor, path):
            if time.monotonic() > deadline:
                raise _late(wait)
            time.sleep(PAUSE)
        yield
    finally:
        if descriptor in _open:  # in a process that was forked meanwhile it is closed already
            _open.discard(descriptor)
            with suppress(OSError):  # closing alone would not do where a forked process has the file open too
                fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)


def _opened(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    except OSError as failed:
        raise ConfigError(f"{path} cannot be opened: {failed.strerror}", hint="delete it") from None
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode) or facts.st_uid != os.geteuid() or facts.st_mode & 0o077:
        os.close(descriptor)
        raise ConfigError(f"{path} is not a file that only we can use", hint="delete it")
    return descriptor


def _taken(descriptor: int, path: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as failed:
        raise ConfigError(f"{path} cannot be locked: {failed.strerror}", hint="keep it on a local disk") from None
    return True


class LockTimeout(ProviderUnavailable):
    """Another process has the lock, and keeps it."""


def _late(wait: float) -> LockTimeout:
    return LockTimeout(
        f"another process has been renewing this login, or has waited for you to log in, for {wait:g} s",
        hint="finish the login that waits, or end it, and try again",
    )


def _file(name: str, environ: Mapping[str, str]) -> Path:
    """Its file, in a directory that is ours alone: below HOME, so that every process of the user finds the same."""
    home = environ.get("HOME")
    places = [Path(home, ".flyte", "authagent")] if home else []
    places.append(Path(tempfile.gettempdir(), f"authagent-{os.geteuid()}"))
    for place in places:
        try:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            trust.check_parents(place / "lock")
            if place.stat().st_uid != os.geteuid() or not os.access(place, os.W_OK | os.X_OK):
                continue
        except (OSError, ConfigError):
            continue
        return place / f"{hashlib.sha256(name.encode()).hexdigest()[:24]}.lock"
    raise ConfigError("there is no directory in which a login can be locked", hint="let HOME be a directory of yours")


def _after_fork() -> None:
    """The locks are the parent's, and must not last as long as a child that was forked while they were held."""
    global _guard  # noqa: PLW0603 - a lock that another thread of the parent held would never open
    _guard = threading.Lock()
    _threads.clear()
    for descriptor in _open:
        with suppress(OSError):
            os.close(descriptor)
    _open.clear()


os.register_at_fork(after_in_child=_after_fork)
