"""Logins in files that only their owner can read, for machines without a keyring. They are not encrypted."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from flytekitplugins.authagent import trust
from flytekitplugins.authagent.errors import ConfigError

MAX_FILE = 1 << 20
"""Bytes of one login: three tokens, and where they came from."""


class LoginFiles:
    """
    Text by name, a file each, in `~/.flyte/authagent/logins`: 0600 in a directory of mode 0700.

    A file is replaced as a whole, so a reader gets the old login or the new one. Whoever writes holds the lock of the
    login (`session_lock`).
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    @property
    def directory(self) -> Path | None:
        """Where the files are, `None` where there is no HOME."""
        home = self._environ.get("HOME")
        return Path(home, ".flyte", "authagent", "logins") if home else None

    def path(self, name: str) -> Path | None:
        """The file of `name`, whether it is there or not; `None` where there is no HOME."""
        return self.directory / f"{_digest(name)}.json" if self.directory else None

    def get(self, name: str) -> str | None:
        """
        The text, `None` where there is no such file.

        Raises `ConfigError` for a link, for a file or directory that others can reach, and for one that is no text.
        """
        path = self.path(name)
        if path is None or not os.path.lexists(path):
            return None
        if path.is_symlink():
            raise ConfigError(f"{path} is a symbolic link, and a login is never read through one", hint=f"rm {path}")
        try:
            _check_own_directory(path.parent)
            return trust.read(path, secret=True, limit=MAX_FILE).decode()
        except FileNotFoundError:  # it has been deleted meanwhile
            return None
        except UnicodeDecodeError:
            raise ConfigError(f"{path} is not text", hint=f"rm {path}, then `authagent login`") from None
        except OSError as failed:
            raise ConfigError(f"{path} cannot be read: {failed.strerror}", hint=f"rm -r {path}") from None

    def set(self, name: str, text: str) -> None:
        """Replace the file of `name`. Raises `ConfigError` as `check`, and `OSError` where it cannot be written."""
        directory = self.check()
        path, new = directory / f"{_digest(name)}.json", directory / f"{_digest(name)}.new"
        new.unlink(missing_ok=True)  # of a process that was killed while it wrote
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with open(descriptor, "w") as file:  # noqa: PTH123 - a descriptor has no Path
                file.write(text)
                file.flush()
                os.fsync(descriptor)
            new.replace(path)
        except BaseException:
            new.unlink(missing_ok=True)
            raise
        _sync(directory)

    def delete(self, name: str) -> bool:
        """Take the file away, however loose it is; whether there was one. Raises `OSError`."""
        path = self.path(name)
        if path is None or not os.path.lexists(path):
            return False
        path.unlink(missing_ok=True)
        return True

    def check(self) -> Path:
        """
        The directory, made where it was not there.

        Raises `ConfigError` where it cannot be ours alone.
        """
        directory = self.directory
        if directory is None:
            raise ConfigError(
                "HOME is not set, so there is no place for a login", hint="set HOME to a directory of yours"
            )
        try:
            for missing in (directory.parent.parent, directory.parent, directory):  # `parents` would follow the umask
                missing.mkdir(mode=0o700, exist_ok=True)
        except OSError as failed:
            raise ConfigError(f"{directory} cannot be made: {failed.strerror}", hint="check HOME") from None
        _check_own_directory(directory)
        if not os.access(directory, os.W_OK | os.X_OK):
            raise ConfigError(f"{directory} cannot be written", hint=f"chmod 700 {directory}")
        return directory

    def all(self) -> list[Path]:
        """The files that are there."""
        directory = self.directory
        return sorted(directory.glob("*.json")) if directory and directory.is_dir() else []


def _check_own_directory(directory: Path) -> None:
    trust.check_parents(directory / "login")
    facts = directory.lstat()
    if not stat.S_ISDIR(facts.st_mode):
        raise ConfigError(f"{directory} is not a directory of its own", hint=f"rm {directory}")
    if facts.st_uid != os.geteuid() or facts.st_mode & 0o077:
        raise ConfigError(f"{directory} can be reached by others", hint=f"chown and chmod 700 {directory}")


def _sync(directory: Path) -> None:
    """Let the new name survive a power cut, where the file system can."""
    with suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:32]
