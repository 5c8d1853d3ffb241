"""Other agents of a machine, as they are installed: OpenSSH's and oidc-agent, for the agent's benchmark."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Other:
    """Where it listens, what it is asked, how its answer begins, and its length; `enough` 0: until it closes."""

    socket: Path
    request: bytes
    enough: int
    start: str


@contextmanager
def ssh_agent(directory: Path) -> Iterator[Other | None]:
    """It lists its keys, of which it has none: the least that it can do."""
    program = shutil.which("ssh-agent")
    if program is None:
        yield None
        return
    path = directory / "ssh.sock"
    process = subprocess.Popen([program, "-D", "-a", path], stdout=subprocess.DEVNULL)
    try:
        _wait(path)
        # Five bytes: length, SSH_AGENTC_REQUEST_IDENTITIES. Its answer begins with a zero, so no start can be compared.
        yield Other(path, b"\0\0\0\1\x0b", 9, "")
    finally:
        process.kill()
        process.wait()


@contextmanager
def oidc_agent(directory: Path) -> Iterator[Other | None]:
    """
    It lists the accounts that are loaded, of which there are none: less than a token would cost it.

    Unencrypted, as it answers too; its own clients agree on a key first.
    """
    program = shutil.which("oidc-agent")
    if program is None:
        yield None
        return
    environ = {**os.environ, "HOME": str(directory), "TMPDIR": str(directory)}
    started = subprocess.run([program], env=environ, capture_output=True, text=True, check=True).stdout
    path, pid = re.search(r"OIDC_SOCK=([^;]+)", started), re.search(r"OIDCD_PID=(\d+)", started)
    assert path and pid, started
    try:
        answer = b'{"status":"success","info":[]}'
        yield Other(Path(path[1]), b'{"request":"loaded_accounts"}', len(answer), '{"status":"success"')
    finally:
        os.kill(int(pid[1]), 15)


def _wait(path: Path) -> None:
    deadline = time.monotonic() + 10
    while not path.exists():
        assert time.monotonic() < deadline, path
        time.sleep(0.01)
