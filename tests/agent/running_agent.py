"""A real agent in a process of its own, in front of a real provider, and bytes to send to it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import running_provider
import yaml
from running_provider import FORM, Reply


def reply(raw: bytes) -> Reply:
    """One answer, read as plainly as possible."""
    head, _, body = raw.partition(b"\r\n\r\n")
    start, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Reply(int(start.split(" ")[1]), headers, body[: int(headers["content-length"])])


def request(method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: agent", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


class Agent:
    """What the tests hold of it."""

    def __init__(
        self,
        directory: Path,
        provider: running_provider.Running,
        configuration: dict[str, Any],
        environ: dict[str, str] | None = None,
    ) -> None:
        self.environ = {**os.environ, **(environ or {})}
        self.directory, self.provider = directory, provider
        self.socket = Path(configuration["socket"])
        self.audit = directory / "audit.jsonl"
        self.file = directory / "agent.yaml"
        self.log = directory / "agent.log"
        self.file.write_text(yaml.safe_dump(configuration))
        self.file.chmod(0o600)
        self.process = self._started()

    def _started(self) -> subprocess.Popen[bytes]:
        with self.log.open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "flytekitplugins.authagent", "serve", "--config", str(self.file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environ,
            )

    def wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + 20
        while True:
            try:
                if self.get("/livez").status == 200:
                    return
            except OSError:
                assert self.process.poll() is None, self.log.read_text()
                assert time.monotonic() < deadline, self.log.read_text()
                time.sleep(0.02)

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(40)
        deadline = time.monotonic() + 10
        while True:
            try:
                connection.connect(str(self.socket))
            except BlockingIOError:  # a full backlog (unix(7)): its length is the machine's to say
                assert time.monotonic() < deadline
                time.sleep(0.01)
            else:
                return connection

    def say(self, raw: bytes) -> bytes:
        """Everything that comes back for `raw`, until the agent closes."""
        with self.connect() as connection:
            with contextlib.suppress(BrokenPipeError):  # refused before the end of what we had to say
                connection.sendall(raw)
            return read_all(connection)

    def get(self, path: str) -> Reply:
        return reply(self.say(request("GET", path)))

    def ask(self, fields: Any = (), headers: dict[str, str] | None = None) -> Reply:
        """A token, with `fields` beside the grant."""
        form = [("grant_type", "client_credentials"), *(fields.items() if isinstance(fields, dict) else fields)]
        return self.post(urlencode(form).encode(), headers)

    def post(self, body: bytes, headers: dict[str, str] | None = None) -> Reply:
        return reply(self.say(request("POST", "/token", body, {"Content-Type": FORM, **(headers or {})})))

    @property
    def mints(self) -> int:
        return sum(self.provider.counts.snapshot()["mints"].values())

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.audit.read_text().splitlines()]


def read_all(connection: socket.socket) -> bytes:
    collected = b""
    try:
        while piece := connection.recv(65536):
            collected += piece
    except ConnectionResetError:
        pass
    return collected


def configuration(
    directory: Path, provider: running_provider.Running, *, upstream_scopes: tuple[str, ...] = ("all",), **changed: Any
) -> dict[str, Any]:
    """An `agent.yaml` with one upstream and one rule for ourselves; `changed` replaces keys of it."""
    secret = directory / "client_secret"
    secret.write_text(provider.secret("flyte-agent"))
    secret.chmod(0o600)
    upstream = {
        "kind": "client_credentials",
        "token_endpoint": provider.issuer.token_endpoint,
        "client_id": "flyte-agent",
        "client_secret_file": str(secret),
        "scopes": list(upstream_scopes),
    }
    return {
        "socket": str(directory / "run" / "agent.sock"),
        "audit": str(directory / "audit.jsonl"),
        "upstreams": {"flyte": upstream},
        "rules": [rule("ours")],
        **changed,
    }


def rule(name: str, *, uid: int | None = None, **changed: Any) -> dict[str, Any]:
    who = {"uid": [os.geteuid() if uid is None else uid]}
    return {"name": name, "who": who, "give": {"upstream": "flyte", "scopes": ["all"]}, **changed}


@contextmanager
def running(
    provider: running_provider.Running, *, environ: dict[str, str] | None = None, **changed: Any
) -> Iterator[Agent]:
    """An agent that answers. A socket's path is short, so it does not live in pytest's own directories."""
    with tempfile.TemporaryDirectory(prefix="aa-") as name:
        directory = Path(name)
        agent = Agent(directory, provider, configuration(directory, provider, **changed), environ)
        try:
            agent.wait_until_it_answers()
            yield agent
        finally:
            agent.process.terminate()
            try:
                agent.process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                agent.process.kill()
                agent.process.wait(timeout=10)
