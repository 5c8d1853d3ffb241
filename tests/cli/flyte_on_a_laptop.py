"""A laptop: a Flyte and its identity provider, a home with Flyte's configuration, a terminal, a keyring."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import running_provider
import yaml
from running_provider import Running

from flytekitplugins.authagent.sandbox.control_plane import ControlPlane
from flytekitplugins.authagent.sandbox.posture import Posture

TESTS = Path(__file__).parent.parent


@dataclass
class Laptop:
    """`endpoint` is the Flyte's. Commands run in `home`, with nothing else of this machine's environment."""

    home: Path
    provider: Running
    flyte: ControlPlane
    environ: dict[str, str] = field(default_factory=dict)

    def configure(self, **admin: object) -> None:
        """Write `~/.flyte/config.yaml`."""
        file = self.home / ".flyte" / "config.yaml"
        file.parent.mkdir(mode=0o700, exist_ok=True)
        file.write_text(yaml.safe_dump({"admin": {"endpoint": self.flyte.endpoint, "insecure": True, **admin}}))
        file.chmod(0o600)

    def run(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """`authagent ...` without a terminal."""
        return self.start([sys.executable, "-m", "flytekitplugins.authagent", *arguments], **environ)

    def start(self, command: list[str], **environ: str) -> subprocess.CompletedProcess[str]:
        """Any program, likewise, in the directory of the project."""
        return subprocess.run(
            command,
            cwd=TESTS.parent,
            env=self._environ(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    @contextmanager
    def typing(self, *arguments: str, **environ: str) -> Iterator[Terminal]:
        """`authagent ...` at a terminal; its standard output goes elsewhere."""
        leader, follower = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "flytekitplugins.authagent", *arguments],
            env=self._environ(environ),
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
            process.wait()
            os.close(leader)

    def _environ(self, more: dict[str, str]) -> dict[str, str]:
        own = {
            "HOME": str(self.home),
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(filter(None, (str(TESTS), os.environ.get("PYTHONPATH")))),
            "PYTHON_KEYRING_BACKEND": "session_servers.HomeKeyring",
        }
        return own | self.environ | more


@dataclass
class Terminal:
    """What a command shows, and what is typed."""

    process: subprocess.Popen[str]
    leader: int
    shown: str = ""

    def wait_for(self, pattern: str, seconds: float = 30.0) -> re.Match[str]:
        """The first place in what is shown that matches."""
        deadline = time.monotonic() + seconds
        while not (found := re.search(pattern, self.shown)):
            left = deadline - time.monotonic()
            assert left > 0, f"{pattern!r} is not in {self.shown!r}"
            if select.select([self.leader], [], [], min(left, 0.2))[0]:
                with suppress(OSError):
                    self.shown += os.read(self.leader, 65536).decode()
            assert self.process.poll() is None or re.search(pattern, self.shown), self.shown
        return found

    def type(self, line: str) -> None:
        os.write(self.leader, line.encode() + b"\n")

    def end(self) -> tuple[int, str]:
        """The exit code and what was printed, once it has ended."""
        out, _ = self.process.communicate(timeout=30)
        try:
            while select.select([self.leader], [], [], 0)[0] and (piece := os.read(self.leader, 65536)):
                self.shown += piece.decode()
        except OSError:
            pass
        return self.process.returncode, out


@contextmanager
def laptop(home: Path, posture: Posture | None = None) -> Iterator[Laptop]:
    """A laptop whose Flyte trusts an ordinary identity provider."""
    posture = posture or Posture(issuer="external")
    with running_provider.running(posture.issuer) as provider:
        flyte = ControlPlane(
            issuer=provider.issuer,
            counts=provider.counts,
            faults=provider.faults,
            posture=posture,
            directory=home / "flyte",
            task_environment={},
        )
        flyte.start()
        try:
            yield Laptop(home, provider, flyte)
        finally:
            flyte.stop()
