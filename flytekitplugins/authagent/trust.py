"""Whether a file can be trusted: who may have written it, and who may read it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from flytekitplugins.authagent.errors import ConfigError

MAX_LINKS = 40
"""Symbolic links followed on the way to one file, as Linux does."""


def read(path: Path, *, secret: bool, limit: int) -> bytes:
    """
    The content of a file that nobody but root and us can have written.

    `secret`: it must not be readable by others either, which a pod (whose only user is us) does not need. The
    check and the reading use one open file, so what was checked is what is read.

    Raises `FileNotFoundError` if it is not there, `ConfigError` if it is loose, unreadable or over `limit` bytes.
    """
    _walk(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except PermissionError:
        raise ConfigError(f"{path} cannot be read by uid {os.geteuid()}", hint="check its owner and mode") from None
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor has no Path
        facts = os.fstat(descriptor)
        _check_file(path, facts, secret=secret)
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ConfigError(f"{path} is larger than {limit} bytes")
    return content


def _check_file(path: Path, facts: os.stat_result, *, secret: bool) -> None:
    if not stat.S_ISREG(facts.st_mode):
        raise ConfigError(f"{path} is not a regular file")
    _check_owner(path, facts)
    if facts.st_mode & 0o022:
        raise ConfigError(f"{path} can be written by others", hint=f"chmod go-w {path}")
    # A file of root's that we read at all is read through its group: that is how daemons get their secrets.
    readers = 0o004 if facts.st_uid == 0 != os.geteuid() else 0o044
    if secret and facts.st_mode & readers:
        raise ConfigError(f"{path} holds a secret and can be read by others", hint=f"chmod 600 {path}")


def _check_owner(path: Path, facts: os.stat_result) -> None:
    if facts.st_uid not in (0, os.geteuid()):
        raise ConfigError(
            f"{path} belongs to uid {facts.st_uid}, who is neither root nor us (uid {os.geteuid()})",
            hint="chown it, or keep it in a directory of your own",
        )


def check_parents(path: Path) -> None:
    """
    Refuse a path in whose place others could put something else, whether it is there already or not.

    Raises `FileNotFoundError` if its directory is not there, `ConfigError`.
    """
    _walk(path.parent)
    check_directory(path.parent, path.parent.stat())


def _walk(path: Path) -> None:
    """Check every directory and link on the way: whoever may replace one of them decides what we read."""
    todo = list(reversed(Path(os.path.abspath(path)).parts[1:]))  # noqa: PTH100 - resolve() would follow links
    here, links = Path("/"), 0
    while todo:
        part = todo.pop()
        if part == "..":
            here = here.parent
            continue
        step = here / part
        facts = step.lstat()
        if stat.S_ISLNK(facts.st_mode):
            _check_owner(step, facts)
            links += 1
            if links > MAX_LINKS:
                raise ConfigError(f"{path} goes through more than {MAX_LINKS} symbolic links")
            target = step.readlink()
            here = Path("/") if target.is_absolute() else here
            todo.extend(reversed([p for p in target.parts if p != "/"]))
            continue
        if todo:
            check_directory(step, facts)
        here = step


def check_directory(path: Path, facts: os.stat_result) -> None:
    """
    Refuse a directory in which others could put another file in the place of ours.

    A sticky one (`/tmp`, a Kubernetes volume) is fine: there only the owner of a file can replace it, and the
    owner of the file is checked too. Raises `ConfigError`.
    """
    _check_owner(path, facts)
    if facts.st_mode & 0o022 and not facts.st_mode & stat.S_ISVTX:
        raise ConfigError(f"{path} is a directory that others can write", hint=f"chmod go-w {path}")
