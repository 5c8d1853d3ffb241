"""
What a test run sees of the machine that it runs on: its programs, and nothing that somebody has configured there.

This is the one place that decides it. `leave` is called once in a process of pytest, before any test is imported;
`environment` is what each test begins with. Programs that the tests start inherit both.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

import peers
import pytest

KEPT = ("PATH", "TMPDIR", "USER", "LOGNAME", "VIRTUAL_ENV", "JAVA_HOME", *peers.VARIABLES)
KEPT_PREFIXES = ("PYTEST_", "COVERAGE_", "COV_")

SOCKETS = Path("/var/run/authagent")
"""Where an agent of the machine's listens. Where it is there, even if empty, a pod waits for a socket in it."""

OURS = (SOCKETS, Path("/etc/flyte"), Path("/etc/authagent"), Path("/var/run/secrets/authagent"))
"""Where this package looks on every machine. A test must meet none of them."""

OTHERS = (
    *(Path(pwd.getpwuid(os.geteuid()).pw_dir, name) for name in (".flyte", ".config", ".local/share/python_keyring")),
    Path("/var/run/secrets/kubernetes.io"),
)
"""Where a program without `HOME` finds the logins of whoever runs the tests, and a pod its cluster."""

FOUND = dict(os.environ)
"""The whole environment of the machine, for what has to use its network: installing packages."""

_CLONE_NEWNS = 0x00020000


def environment(home: Path) -> dict[str, str]:
    """An environment with the machine's programs, and `home`."""
    kept = {name: text for name, text in FOUND.items() if name in KEPT or name.startswith(KEPT_PREFIXES)}
    return kept | {"HOME": str(home), "LANG": "C.UTF-8", "TZ": "UTC"}


def leave() -> None:
    """
    Leave the machine's environment and files behind.

    Files are hidden in a mount namespace of this process, for which root is needed. Without root, a run that would
    meet an agent or a configuration of this package's ends here.
    """
    home = Path(tempfile.mkdtemp(prefix="aa-home-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    os.environ.clear()
    os.environ.update(environment(home))
    os.umask(0o022)
    _hide()


def _hide() -> None:
    found = [path for path in (*OURS, *OTHERS) if path.exists()]
    if not found:
        return
    if ctypes.CDLL(None).unshare(_CLONE_NEWNS) == 0:
        _mount("--make-rprivate", "/")
        for path in found:
            if path == SOCKETS:
                _remove(path.resolve())
            else:
                _mount("-t", "tmpfs", "tmpfs", str(path))
    elif met := [str(path) for path in found if path in OURS]:
        pytest.exit(
            f"the tests would meet {' and '.join(met)} of this machine, which only root can hide from them: run them as"
            " root, or in the image of Dockerfile.test",
            returncode=pytest.ExitCode.USAGE_ERROR,
        )


def _remove(path: Path) -> None:
    """Put a copy of the directory of `path` in its place, with everything but `path`."""
    directory, aside = path.parent, Path(tempfile.mkdtemp(prefix="aa-mount-"))
    _mount("--rbind", str(directory), str(aside))
    _mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", str(directory))
    for entry in aside.iterdir():
        copy = directory / entry.name
        if entry.is_symlink():
            copy.symlink_to(entry.readlink())
        elif entry.name != path.name:
            copy.mkdir(exist_ok=True) if entry.is_dir() else copy.touch()  # `mount` makes one itself
            _mount("--rbind", str(entry), str(copy))
    subprocess.run(["umount", "--lazy", str(aside)], check=True)
    aside.rmdir()


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)
