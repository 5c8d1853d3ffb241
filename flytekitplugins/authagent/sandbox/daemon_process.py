"""`authagent serve` in a process of its own, configured by files that only we can read."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from flytekitplugins.authagent.errors import ProviderUnavailable
from flytekitplugins.authagent.sandbox import environment, private

START_SECONDS = 30.0
STOP_SECONDS = 10.0

LAST_WORDS = 2000
"""Bytes of what the daemon said that are repeated when it does not start."""

# prctl(PR_SET_PDEATHSIG, SIGTERM): a daemon that outlived a killed sandbox would serve its socket for ever.
_SERVE = """
import ctypes, os, runpy, sys
ctypes.CDLL(None).prctl(1, 15)
if os.getppid() == int(sys.argv.pop(1)):
    runpy.run_module("flytekitplugins.authagent", run_name="__main__", alter_sys=True)
"""


class DaemonProcess:
    """Serves `socket`, and keeps its files in `directory`. `name` is what it and they are called."""

    def __init__(self, name: str, directory: Path) -> None:
        self.socket = directory / f"{name}.sock"
        self._name, self._directory, self._log = name, directory, directory / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def stop(self) -> None:
        """Ask it to end, and see to it that it does."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(timeout=STOP_SECONDS)

    def _serve(self, configuration: dict[str, Any], interrupted: Callable[[], bool]) -> None:
        """
        Start it with this `configuration`, and wait until it answers, or until `interrupted`.

        Raises `ProviderUnavailable` with its last words where it ends instead, or takes longer than 30 seconds.
        """
        content = yaml.safe_dump({"socket": str(self.socket), **configuration}, sort_keys=False)
        file = private.write(self._directory / f"{self._name}.yaml", content)
        command = [sys.executable, "-c", _SERVE, str(os.getpid()), "serve", "--config", str(file)]
        with private.opened(self._log) as log:
            process = self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._directory,
                env=environment.cleaned(os.environ),
                start_new_session=True,  # a Ctrl-C is for us: it goes last
            )
        deadline = time.monotonic() + START_SECONDS
        while not _answers(self.socket) and not interrupted():
            what = f"the {self._name}"
            if process.poll() is not None:
                raise ProviderUnavailable(f"{what} ended with status {process.returncode}: {self._last_words()}")
            if time.monotonic() > deadline:
                raise ProviderUnavailable(f"{what} did not answer in {START_SECONDS:g} s: {self._last_words()}")
            time.sleep(0.05)

    def _last_words(self) -> str:
        return self._log.read_bytes()[-LAST_WORDS:].decode(errors="replace").strip() or "it said nothing"


def _answers(path: Path) -> bool:
    """Whether somebody answers `GET /livez` there, which costs no token."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1)
        try:
            connection.connect(str(path))
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return connection.recv(32).startswith(b"HTTP/1.1 200")
        except OSError:
            return False
