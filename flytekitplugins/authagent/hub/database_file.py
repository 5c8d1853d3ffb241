"""The file of a SQLite store: ours alone, and open in one process."""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import suppress
from pathlib import Path

from flytekitplugins.authagent import trust
from flytekitplugins.authagent.errors import ConfigError


class DatabaseFile:
    """A lock beside the file, for as long as the store is open: custody is a matter of one process there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    def take(self) -> None:
        """Make the file, if it is not there, and lock it. Raises `ConfigError`."""
        try:
            trust.check_parents(self.path)
        except (FileNotFoundError, NotADirectoryError):
            raise ConfigError(
                f"the directory of the store's file {self.path} is not there", hint="make that directory"
            ) from None
        lock = _opened(self.path.with_name(self.path.name + ".lock"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as failed:
            os.close(lock)
            if not isinstance(failed, BlockingIOError):
                raise ConfigError(
                    f"the store's file {self.path} cannot be locked: {failed.strerror}", hint="keep it on a local disk"
                ) from None
            raise ConfigError(
                f"the store's file {self.path} is in use by another process",
                hint="one hub a file; several replicas need PostgreSQL",
            ) from None
        self._lock = lock
        try:
            os.close(_opened(self.path))
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Let another process have it."""
        lock, self._lock = self._lock, None
        if lock is None:
            return
        with suppress(OSError):  # closing alone would not do where a forked process has the file open too
            fcntl.flock(lock, fcntl.LOCK_UN)
        os.close(lock)


def _opened(path: Path) -> int:
    """A file that only we can use, made if need be; SQLite gives the files that it makes beside it the same mode."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    except OSError as failed:
        raise ConfigError(f"{path} cannot be opened: {failed.strerror}", hint="check its owner and mode") from None
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode) or facts.st_uid != os.geteuid():
        os.close(descriptor)
        raise ConfigError(f"{path} is not a file of ours (uid {os.geteuid()})", hint="chown it, or move it away")
    if stat.S_IMODE(facts.st_mode) != 0o600:
        os.fchmod(descriptor, 0o600)  # Kubernetes opens the files of a volume with an fsGroup to that group
    return descriptor
