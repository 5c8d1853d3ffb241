"""An agent that says what a test lets it say, on a real Unix socket, and writes down what it was asked."""

from __future__ import annotations

import json
import os
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

Answer = tuple[int, Any]
"""A status, and a body: bytes as they are, everything else as JSON."""

UNGRANTED: Answer = (
    400,
    {"error": "unauthorized_client", "error_description": "no grant covers the execution that asks"},
)
LATER: Answer = (503, {"error": "temporarily_unavailable", "error_description": "pods cannot be attested for now"})


class Asked(NamedTuple):
    """One request."""

    method: str
    path: str
    form: dict[str, str]
    authorization: str
    body: bytes


class ScriptedAgent:
    """
    Serves `token()` for Flyte at `endpoint`. `identity` is its answer to `GET /identity`, and may be changed.

    `answers` has what it says to a request of the given path instead; a function is given the request.
    """

    def __init__(self, path: Path, token: Callable[[], str], endpoint: str, **identity: Any) -> None:
        self.path, self.token = path, token
        self.identity: dict[str, Any] = {
            "uid": os.geteuid(),
            "gid": os.getegid(),
            "attestor": "kubernetes",
            "flyte": {"endpoint": endpoint, "insecure": True},
            **identity,
        }
        self.answers: dict[str, Answer | Callable[[Asked], Answer]] = {}
        self.asked: list[Asked] = []
        self.over = threading.Event()
        self._server = _Server(str(path), _handler(self))
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        """It hangs up on whoever waits."""
        self.over.set()
        self._server.shutdown()
        self._server.server_close()
        self.path.unlink(missing_ok=True)

    def hang(self, _asked: Asked) -> Answer:
        """An answer that does not come while a test lasts."""
        self.over.wait(60)
        return LATER

    def requests(self, path: str) -> list[Asked]:
        """Those for `path`."""
        return [asked for asked in self.asked if asked.path == path]

    @property
    def children(self) -> list[str]:
        """The executions that it was told of, in order."""
        return [asked.form["execution"] for asked in self.requests("/grants/children")]

    def counts(self) -> dict[str, int]:
        """How often each path was asked for."""
        paths = [asked.path for asked in self.asked]
        return {path: paths.count(path) for path in sorted(set(paths))}

    def answer(self, asked: Asked) -> Answer:
        """What is said to `asked`."""
        scripted = self.answers.get(asked.path)
        if scripted is not None:
            return scripted(asked) if callable(scripted) else scripted
        match asked.path:
            case "/identity":
                return 200, self.identity
            case "/token":
                return 200, {"access_token": self.token(), "token_type": "Bearer", "expires_in": 300}
            case "/grants/children":
                return 200, {"execution": asked.form["execution"], "expires_at": 1}
            case _:
                return 404, b"there is nothing here"


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads, block_on_close, request_queue_size = True, False, 64


def _handler(agent: ScriptedAgent) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(b"")

        def do_POST(self) -> None:
            self._answer(self.rfile.read(int(self.headers["Content-Length"])))

        def _answer(self, body: bytes) -> None:
            form = dict(parse_qsl(body.decode()))
            asked = Asked(self.command, self.path, form, self.headers.get("Authorization", ""), body)
            agent.asked.append(asked)
            status, content = agent.answer(asked)
            raw = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_: Any) -> None:
            """A test looks at `asked`."""

    return Handler


@contextmanager
def answering(path: Path, token: Callable[[], str], endpoint: str = "", **identity: Any) -> Iterator[ScriptedAgent]:
    """One that answers while this is open."""
    agent = ScriptedAgent(path, token, endpoint, **identity)
    try:
        yield agent
    finally:
        agent.close()
