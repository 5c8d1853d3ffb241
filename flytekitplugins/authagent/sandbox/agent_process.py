"""The sandbox's agent: `authagent serve` in a process of its own, configured by files that only we can read."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import yaml

from flytekitplugins.authagent.errors import ProviderUnavailable
from flytekitplugins.authagent.sandbox import client, environment, private
from flytekitplugins.authagent.sandbox.issuer import Issuer

START_SECONDS = 30.0
STOP_SECONDS = 10.0

LAST_WORDS = 2000
"""Bytes of what the agent said that are repeated when it does not start."""

# prctl(PR_SET_PDEATHSIG, SIGTERM): an agent that outlived a killed sandbox would serve its socket for ever.
_SERVE = """
import ctypes, os, runpy, sys
ctypes.CDLL(None).prctl(1, 15)
if os.getppid() == int(sys.argv.pop(1)):
    runpy.run_module("flytekitplugins.authagent", run_name="__main__", alter_sys=True)
"""


class AgentProcess:
    """Serves `socket`, in `directory`, with tokens of `issuer`."""

    def __init__(self, directory: Path, issuer: Issuer) -> None:
        self.socket = directory / "agent.sock"
        self._directory, self._log = directory, directory / "agent.log"
        self._issuer = issuer
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, endpoint: str, interrupted: Callable[[], bool] = lambda: False) -> None:
        """
        Start it and wait until it answers, or until `interrupted`. It tells those who ask that Flyte is at `endpoint`.

        Raises `ProviderUnavailable` with its last words where it ends instead, or takes longer than 30 seconds.
        """
        configuration = self._configuration(endpoint)
        command = [sys.executable, "-c", _SERVE, str(os.getpid()), "serve", "--config", str(configuration)]
        with private.opened(self._log) as log:
            process = self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._directory,
                env=environment.cleaned(os.environ),
                start_new_session=True,  # a Ctrl-C is for us: the agent goes last
            )
        deadline = time.monotonic() + START_SECONDS
        while not _answers(self.socket) and not interrupted():
            if process.poll() is not None:
                raise ProviderUnavailable(f"the agent ended with status {process.returncode}: {self._last_words()}")
            if time.monotonic() > deadline:
                raise ProviderUnavailable(f"the agent did not answer in {START_SECONDS:g} s: {self._last_words()}")
            time.sleep(0.05)

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

    def _configuration(self, endpoint: str) -> Path:
        """`agent.yaml`, written beside the secret that it names: one upstream, one rule, for us alone."""
        secret = self._issuer.clients[client.AGENT].secret
        secret_file = private.write(self._directory / "client_secret", secret.reveal() if secret else "")
        upstream = {
            "kind": "client_credentials",
            "token_endpoint": self._issuer.token_endpoint,
            "client_id": client.AGENT,
            "client_secret_file": str(secret_file),
            "scopes": ["all"],
        }
        rule = {"name": "you", "who": {"uid": [os.getuid()]}, "give": {"upstream": "flyte", "scopes": ["all"]}}
        content = {
            "socket": str(self.socket),
            "audit": str(self._directory / "audit.jsonl"),
            "upstreams": {"flyte": upstream},
            "rules": [rule],
            "flyte": {"endpoint": endpoint, "insecure": True},
        }
        return private.write(self._directory / "agent.yaml", yaml.safe_dump(content, sort_keys=False))

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
