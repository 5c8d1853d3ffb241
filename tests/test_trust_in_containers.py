"""
Files on volumes: what a container's mounts, groups and umask change about whom a file can be written by.

Each row is made for real, on mounts of its own, and read by a user who is not root. What is accepted in a container is
refused on a machine that others use, unless the row says otherwise.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from peers import need

from flytekitplugins.authagent import trust
from flytekitplugins.authagent.errors import ConfigError

ALICE = 12345
"""Our uid. `alice`, with a group of her own, where the row says so."""

MALLORY = 23456

CLONE_NEWNS = 0x00020000
VOLUME = 'mkdir "$1/v" && mount -t tmpfs -o mode=0777 tmpfs "$1/v"'
READ_ONLY = 'mount -o remount,bind,ro "$1/v"'
WRITE = 'echo content >"$1/v/file"'
PASSWD = f'echo "alice:x:{ALICE}:{ALICE}::/:/bin/sh" >>"$1/passwd" && mount --bind "$1/passwd" /etc/passwd'
GROUP = f'echo "alice:x:{ALICE}:" >>"$1/group" && mount --bind "$1/group" /etc/group'
MAKE = f'mkdir "$1/v" && {WRITE} && chown -R {ALICE}:{ALICE} "$1/v"'


@dataclass(frozen=True)
class Row:
    """
    `makes` makes `$1/v/file`. A part of what is said of it `in_container`, and `on_machine`; empty where it is read.

    `hint` is a part of the remedy that is named in a container.
    """

    makes: tuple[str, ...]
    in_container: str = ""
    on_machine: str = "others"
    gid: int = ALICE
    secret: bool = True
    hint: str = ""


ROWS = {
    "a ConfigMap, root's 0644 in a directory 0777, read-only": Row((VOLUME, WRITE, READ_ONLY)),
    "root's 0666 on a read-only mount": Row((VOLUME, WRITE, 'chmod 666 "$1/v/file"', READ_ONLY), secret=False),
    "the same, where the directory is good": Row(
        (VOLUME, 'chmod 755 "$1/v"', WRITE, 'chmod 666 "$1/v/file"', READ_ONLY),
        on_machine="(hint: it is on a read-only mount: chmod go-w it where the mount comes from)",
    ),
    "the same, writable": Row(
        (VOLUME, WRITE, 'chmod 666 "$1/v/file"'),
        in_container="can be written by others",
        secret=False,
        hint="let the container that makes it run chmod go-w",
    ),
    "somebody else's on a read-only mount": Row(
        (VOLUME, WRITE, f'chown {MALLORY} "$1/v/file"', READ_ONLY),
        in_container=f"belongs to uid {MALLORY}",
        secret=False,
        hint=f"runAsUser: {MALLORY}",
    ),
    "a read-only mount of somebody else's": Row(
        (VOLUME, WRITE, f'chown {MALLORY} "$1/v"', READ_ONLY), f"belongs to uid {MALLORY}", f"belongs to uid {MALLORY}"
    ),
    "an emptyDir, with a file of ours": Row(
        (VOLUME, WRITE, f'chmod 600 "$1/v/file"; chown {ALICE} "$1/v/file"'), secret=True
    ),
    "an emptyDir, with a file of somebody else's": Row(
        (VOLUME, WRITE, f'chown {MALLORY} "$1/v/file"'), in_container=f"belongs to uid {MALLORY}"
    ),
    "a directory 0777 that is no volume": Row(
        (f'mkdir "$1/v"; {WRITE}; chmod 777 "$1/v"',),
        in_container="is a directory that others can write",
        secret=False,
        hint="let the container that makes it run chmod go-w",
    ),
    "OpenShift's HOME, root's of group 0, 0770": Row(
        (f'mkdir "$1/v"; {WRITE}; chown {ALICE}:0 "$1/v/file"; chmod 660 "$1/v/file"; chmod 770 "$1/v"',), gid=0
    ),
    "the same, where we are not in group 0": Row(
        (f'mkdir "$1/v"; {WRITE}; chown {ALICE}:0 "$1/v/file"; chmod 775 "$1/v"',), in_container="others can write"
    ),
    "OpenShift's HOME, and everybody may write": Row(
        (f'mkdir "$1/v"; {WRITE}; chmod 777 "$1/v"',), in_container="others can write", gid=0, secret=False
    ),
    "umask 002, in a group of our own": Row(
        (MAKE, 'chmod 775 "$1/v"; chmod 664 "$1/v/file"', PASSWD, GROUP), on_machine="", secret=False
    ),
    "the same, a secret 0660": Row((MAKE, 'chmod 775 "$1/v"; chmod 660 "$1/v/file"', PASSWD, GROUP), on_machine=""),
    "umask 002, and mallory is in our group": Row(
        (MAKE, 'chmod 664 "$1/v/file"', PASSWD, GROUP.replace(':"', ':mallory"')),
        in_container="can be written by others",
        secret=False,
        hint="chmod go-w /",
    ),
    "umask 002, and our group is mallory's first one": Row(
        (MAKE, 'chmod 664 "$1/v/file"', f'echo "m:x:{MALLORY}:{ALICE}::/:" >>"$1/passwd"', PASSWD, GROUP),
        in_container="can be written by others",
        secret=False,
    ),
    "umask 002, and nobody knows whose group it is": Row(
        (MAKE, 'chmod 664 "$1/v/file"'), in_container="can be written by others", secret=False
    ),
    "umask 000": Row(
        (MAKE, 'chmod 666 "$1/v/file"', PASSWD, GROUP), in_container="can be written by others", secret=False
    ),
}


def outcome(row: Row, directory: Path, *, container: bool) -> str:
    """What `trust.read` says to `ALICE`, in a process with mounts of its own; empty where it reads the file."""
    for name in ("passwd", "group"):
        (directory / name).write_text(Path("/etc", name).read_text())
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        said = "it did not get so far"
        try:
            said = _as_alice(row, directory, container=container)
        except BaseException as failed:
            said = repr(failed)
        finally:
            os.write(writing, json.dumps(said).encode())
            os._exit(0)
    os.close(writing)
    with open(reading) as pipe:  # noqa: PTH123 - a descriptor has no Path
        answer = pipe.read()
    os.waitpid(pid, 0)
    return json.loads(answer)


def _as_alice(row: Row, directory: Path, *, container: bool) -> str:
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS):
        return os.strerror(ctypes.get_errno())
    script = "\n".join(("set -eu", "mount --make-rprivate /", *row.makes))
    subprocess.run(["sh", "-c", script, "sh", directory], check=True, timeout=30)
    os.setgroups([])
    os.setresgid(row.gid, row.gid, row.gid)
    os.setresuid(ALICE, ALICE, ALICE)
    trust.in_container = lambda: container
    try:
        assert trust.read(directory / "v" / "file", secret=row.secret, limit=100) == b"content\n"
    except ConfigError as wrong:
        return str(wrong)
    return ""


@pytest.fixture
def directory() -> Path:
    """Below root's own directories: those of pytest may not be looked into by others."""
    import tempfile

    need("root, who can mount", os.geteuid() == 0)
    with tempfile.TemporaryDirectory(prefix="aa-", dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.peer
@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("container", [True, False], ids=["container", "machine"])
def test_what_is_read_and_what_is_refused(name: str, container: bool, directory: Path) -> None:
    row = ROWS[name]
    expected = row.in_container if container else row.on_machine

    said = outcome(row, directory, container=container)

    assert (expected in said) if expected else (said == ""), said
    if container:
        assert row.hint in said


@pytest.mark.peer
def test_a_container_is_known_by_its_process_ids_and_a_services_read_only_view_is_none() -> None:
    need("root, who can make namespaces", os.geteuid() == 0)
    ask = [sys.executable, "-c", "from flytekitplugins.authagent import trust; print(trust.in_container())"]
    environ = {name: value for name, value in os.environ.items() if name != "KUBERNETES_SERVICE_HOST"}

    def said(*before: str, **more: str) -> str:
        command = [*before, *ask]
        done = subprocess.run(command, env=environ | more, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout.strip()

    machine = str(Path("/proc/self/ns/pid").readlink()) != trust._PIDS_OF_THE_MACHINE
    assert said("unshare", "--pid", "--fork", "--mount-proc") == "True"
    assert said("unshare", "--mount", "sh", "-c", 'mount -o remount,bind,ro / && exec "$@"', "sh") == str(machine)
    assert said(KUBERNETES_SERVICE_HOST="10.0.0.1") == "True"
