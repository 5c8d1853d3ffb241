"""A command with a real terminal at any of its standard streams."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).parent.parent
AUTHAGENT = (sys.executable, "-m", "flytekitplugins.authagent")


@dataclass(frozen=True)
class Done:
    """`shown` is what stood on the terminal, `printed` what went to a standard output that was none."""

    status: int
    shown: str
    printed: str


def run(
    command: Sequence[str],
    environ: Mapping[str, str],
    *,
    terminal: Sequence[str] = ("stdin", "stdout", "stderr"),
    seconds: float = 60.0,
) -> Done:
    """
    Run `command` to its end, with a terminal at the streams that `terminal` names.

    The other streams are /dev/null, and a pipe for standard output. The terminal controls the command, as one does.
    """
    leader, follower = pty.openpty()
    streams = {name: follower if name in terminal else subprocess.DEVNULL for name in ("stdin", "stdout", "stderr")}
    if "stdout" not in terminal:
        streams["stdout"] = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "-c", _CONTROLLED, os.ttyname(follower), *command],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{TESTS.parent}:{TESTS}", **environ},
        text=True,
        start_new_session=True,
        **streams,  # type: ignore[call-overload]
    )
    os.close(follower)
    try:
        shown, deadline = b"", time.monotonic() + seconds
        while time.monotonic() < deadline:
            ended = process.poll() is not None
            try:
                while select.select([leader], [], [], 0 if ended else 0.1)[0] and (piece := os.read(leader, 65536)):
                    shown += piece
            except OSError:  # nobody has the terminal open any more
                break
            if ended:
                break
        printed, _ = process.communicate(timeout=max(deadline - time.monotonic(), 1))
    finally:
        process.kill()
        process.wait()
        os.close(leader)
    return Done(process.returncode, shown.decode().replace("\r", ""), printed or "")


_CONTROLLED = """
import fcntl, os, sys, termios
terminal = os.open(sys.argv[1], os.O_RDWR)
fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[2], sys.argv[2:])
"""
