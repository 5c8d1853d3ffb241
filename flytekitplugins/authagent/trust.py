"""Whether a file can be trusted: who may have written it, and who may read it."""

from __future__ import annotations

import functools
import grp
import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flytekitplugins.authagent.errors import ConfigError

MAX_LINKS = 40
"""Symbolic links followed on the way to one file, as Linux does."""

_PIDS_OF_THE_MACHINE = "pid:[4026531836]"
"""The first namespace of process ids (PROC_PID_INIT_INO of the kernel), which no container has for its own."""


def read(path: Path, *, secret: bool, limit: int) -> bytes:
    """
    The content of a file that nobody but root and us can have written.

    `secret`: it must not be readable by others either, which a pod (whose only user is us) does not need. The
    check and the reading use one open file, so what was checked is what is read.

    Raises `FileNotFoundError` if it is not there, `ConfigError` if it is loose, no file, unreadable or over `limit`
    bytes.
    """
    with _explained(path):
        if not stat.S_ISREG(_walk(path).st_mode):  # opening a device or a FIFO does things
            raise ConfigError(f"{path} is not a regular file")
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor has no Path
            _check_file(path, os.fstat(descriptor), _is_fixed(descriptor), secret=secret)
            content = file.read(limit + 1) or b""
    if len(content) > limit:
        raise ConfigError(f"{path} is larger than {limit} bytes")
    return content


def read_named(path: Path, name: str, *, secret: bool, limit: int) -> bytes:
    """
    As `read`, for a file that a person names by `name`: a variable, a key or an option.

    Raises `ConfigError` naming it for everything that keeps the file from being used. One that is empty is no use.
    """
    try:
        content = read(path, secret=secret, limit=limit)
    except FileNotFoundError:
        raise ConfigError(f"{name} names {path}, which is not there", hint=f"correct {name}") from None
    except ConfigError as wrong:
        raise ConfigError(f"{name}: {wrong.args[0]}", hint=wrong.hint) from None
    if not content.strip():
        raise ConfigError(f"{name} names {path}, which is empty")
    return content


def check_parents(path: Path) -> None:
    """
    Refuse a path in whose place others could put something else, whether it is there already or not.

    Raises `FileNotFoundError` if its directory is not there, `ConfigError`.
    """
    with _explained(path.parent):
        _walk(path.parent)
        check_directory(path.parent, path.parent.stat())


def check_directory(path: Path, facts: os.stat_result) -> None:
    """
    Refuse a directory in which others could put another file in the place of ours.

    A sticky one (`/tmp`, a Kubernetes volume) is fine: there only the owner of a file can replace it, and the
    owner of the file is checked too. So is the top of a volume in a container (an emptyDir has mode 0777): who shares
    it with us stands in the pod, and the owner of the file is checked there too. Raises `ConfigError`.
    """
    _check_owner(path, facts)
    if not _open_to_others(facts) & 0o022 or facts.st_mode & stat.S_ISVTX:
        return
    if _is_fixed(path) or (in_container() and path.is_mount()):
        return
    raise ConfigError(f"{path} is a directory that others can write", hint=_remedy(path, facts, "go-w"))


@functools.cache
def in_container() -> bool:
    """Whether this is a container: its processes have ids of their own, or Kubernetes has told it where it is."""
    try:
        pids = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return False
    return pids != _PIDS_OF_THE_MACHINE or "KUBERNETES_SERVICE_HOST" in os.environ


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """What the system raises, as this module's callers expect it."""
    try:
        yield
    except FileNotFoundError:
        raise
    except NotADirectoryError as missing:
        raise FileNotFoundError(*missing.args) from None
    except PermissionError:
        raise ConfigError(f"{path} cannot be read by uid {os.geteuid()}", hint="check its owner and mode") from None
    except OSError as failed:
        raise ConfigError(f"{path} cannot be read: {failed.strerror or type(failed).__name__}") from None
    except ValueError:
        raise ConfigError(f"{str(path)!r} is not the name of a file: it has a NUL") from None


def _check_file(path: Path, facts: os.stat_result, fixed: bool, *, secret: bool) -> None:
    if not stat.S_ISREG(facts.st_mode):
        raise ConfigError(f"{path} is not a regular file")
    _check_owner(path, facts)
    others = 0 if fixed else _open_to_others(facts)
    if others & 0o022:
        raise ConfigError(f"{path} can be written by others", hint=_remedy(path, facts, "go-w"))
    # A file of root's that we read at all is read through its group: that is how daemons get their secrets.
    readers = 0o004 if facts.st_uid == 0 != os.geteuid() else 0o044
    if secret and others & readers:
        raise ConfigError(f"{path} holds a secret and can be read by others", hint=_remedy(path, facts, "600"))


def _check_owner(path: Path, facts: os.stat_result) -> None:
    if facts.st_uid in (0, os.geteuid()):
        return
    remedy = "chown it, or keep it in a directory of your own"
    if in_container():
        remedy = f"let this container run as its owner (runAsUser: {facts.st_uid}), or let uid {os.geteuid()} write it"
    raise ConfigError(
        f"{path} belongs to uid {facts.st_uid}, who is neither root nor us (uid {os.geteuid()})", hint=remedy
    )


def _open_to_others(facts: os.stat_result) -> int:
    """The permission bits by which somebody besides root and us gets in: those of a group that is only us are none."""
    bits = stat.S_IMODE(facts.st_mode) & 0o077
    return bits & 0o007 if bits & 0o070 and _is_only_us(facts.st_gid) else bits


def _is_only_us(gid: int) -> bool:
    """
    Whether nobody else is in the group.

    In a container group 0 is that of an image for any user (OpenShift): every user of the container is in it, and we
    are the only one. Elsewhere it is the group that a user has for itself (umask 002).
    """
    if os.geteuid() == 0:
        return False
    if gid == 0:
        return in_container() and 0 in (os.getegid(), *os.getgroups())
    try:
        us, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(gid)
    except KeyError:
        return False
    if us.pw_gid != gid or us.pw_name != group.gr_name or set(group.gr_mem) - {us.pw_name}:
        return False
    return not any(other.pw_gid == gid and other.pw_uid != us.pw_uid for other in pwd.getpwall())


def _is_fixed(file: int | Path) -> bool:
    """
    Whether it is on a volume that a container has read-only, as Kubernetes mounts ConfigMaps and Secrets.

    Nobody in the container can write there, whatever the modes say, and nobody in it but us reads. Outside of one the
    same files may be writable in another place: systemd shows a service the machine's own files read-only.
    """
    if not in_container() or os.stat(file).st_dev == Path("/").stat().st_dev:  # noqa: PTH116 - or a descriptor
        return False
    return bool(os.statvfs(file).f_flag & os.ST_RDONLY)


def _remedy(path: Path, facts: os.stat_result, mode: str) -> str:
    """What makes it good: a command where we can run it, else who can."""
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        return f"it is on a read-only mount: chmod {mode} it where the mount comes from"
    if os.geteuid() in (0, facts.st_uid):
        return f"chmod {mode} {path}"
    if in_container():
        return f"let the container that makes it run chmod {mode} {path}, or mount it read-only"
    return f"let its owner (uid {facts.st_uid}) run chmod {mode} {path}"


def _walk(path: Path) -> os.stat_result:
    """
    Check every directory and link on the way: whoever may replace one of them decides what we read.

    What stands at the end, which is no link.
    """
    todo = list(reversed(Path(os.path.abspath(path)).parts[1:]))  # noqa: PTH100 - resolve() would follow links
    here, links = Path("/"), 0
    facts = here.lstat()
    while todo:
        part = todo.pop()
        if part == "..":
            here = here.parent
            facts = here.lstat()
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
    return facts
