"""Somebody with a hub and a token for it: a home, commands with and without a terminal, launchers."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flyte_on_a_laptop import TESTS, Terminal
from scripted_hub import TOKEN, Hub

LAUNCHER = """\
#!{python}
import json, os, signal, sys, time
home = {home!r}
note = lambda name, text: open(os.path.join(home, name), "a").write(text + "\\n")
arguments = sys.argv[1:]
note("started", json.dumps({{"argv": sys.argv, "environ": dict(os.environ)}}))
def launch():
    of = [os.environ.get("AUTHAGENT_EXECUTION" + part) for part in ("_PROJECT", "_DOMAIN", "")]
    if "--name" in arguments:
        said = dict(zip(arguments, arguments[1:]))
        of = [said.get("-p", "flytesnacks"), said.get("-d", "development"), said["--name"]]
    note("launches", ":".join(of))
if "nothing" not in arguments: launch()
if "later" in arguments:
    print("ready", file=sys.stderr, flush=True)
    time.sleep(1)
if "echo" in arguments: print("said: " + sys.stdin.readline().strip(), flush=True)
if "wait" in arguments:
    def came(number, frame):
        note("signals", signal.Signals(number).name)
        signals.append(number)
    signals = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP): signal.signal(number, came)
    print("ready", file=sys.stderr, flush=True)
    ends = time.monotonic() + 20
    while not signals and time.monotonic() < ends: time.sleep(0.05)
    time.sleep(0.5)
    sys.exit(9)
if "die" in arguments: os.kill(os.getpid(), signal.SIGKILL)
print("launched", flush=True)
sys.exit(int(arguments[-1]) if arguments and arguments[-1].isdigit() else 0)
"""

TAKE_THE_TERMINAL = """\
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


@dataclass
class Person:
    """`environ` is all that their commands have in their environment."""

    home: Path
    hub: Hub
    environ: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        token = self.home / "token"
        token.write_text(TOKEN + "\n")
        token.chmod(0o600)
        self.environ |= {
            "HOME": str(self.home),
            "PATH": f"{self.home}:{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join(filter(None, (str(TESTS), os.environ.get("PYTHONPATH")))),
            "PYTHON_KEYRING_BACKEND": "session_servers.HomeKeyring",
            "AUTHAGENT_HUB": self.hub.url,
            "AUTHAGENT_HUB_TOKEN_FILE": str(token),
        }
        for name in ("launcher", "pyflyte"):
            program = self.home / name
            program.write_text(LAUNCHER.format(python=sys.executable, home=str(self.home)))
            program.chmod(0o755)
        self.hub.launches = self.home / "launches"

    def lines(self, name: str) -> list[str]:
        """What a launcher noted."""
        file = self.home / name
        return file.read_text().splitlines() if file.exists() else []

    def run(self, *arguments: str, input: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
        """`authagent ...` without a terminal."""
        return subprocess.run(
            self._command(arguments),
            env=self.environ | environ,
            input=input,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    @contextmanager
    def started(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """The same, not waited for."""
        process = subprocess.Popen(
            self._command(arguments),
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    @contextmanager
    def typing(self, *arguments: str, controlling: bool = False, **environ: str) -> Iterator[Terminal]:
        """`authagent ...` at a terminal; its standard output goes elsewhere. `controlling`: Ctrl-C works there."""
        leader, follower = pty.openpty()
        command: list[Any] = self._command(arguments)
        if controlling:
            command = [sys.executable, "-c", TAKE_THE_TERMINAL, *command]
        process = subprocess.Popen(
            command,
            env=self.environ | environ,
            stdin=follower,
            stderr=follower,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        os.close(follower)
        terminal = Terminal(process, leader)
        try:
            yield terminal
        finally:
            process.kill()
            process.communicate()
            os.close(leader)

    def _command(self, arguments: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-m", "flytekitplugins.authagent", *arguments]
