"""
Recorded shapes of Okta, Entra ID, Google and Auth0, which tests cannot reach.

These are not their servers. Each answers one request with what their public documentation shows for it, and keeps what
it was asked; nothing here verifies anything. What holds against them is that the package speaks their dialect, no more.
"""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

Answer = tuple[int, Any]
Form = dict[str, str]


@dataclass
class Recorded:
    """`base` is where it listens; `routes` say what is answered to the form that is posted to a path."""

    base: str = ""
    routes: dict[str, Callable[[Form], Answer]] = field(default_factory=dict)
    asked: list[tuple[str, Form]] = field(default_factory=list)

    def forms(self, path: str) -> list[Form]:
        return [form for asked, form in self.asked if asked == path]


@contextmanager
def answering(routes: Callable[[str], dict[str, Callable[[Form], Answer]]]) -> Iterator[Recorded]:
    """A server whose routes are made for the address that it listens at."""
    recorded = Recorded()

    class Handler(http.server.BaseHTTPRequestHandler):
        def _answer(self) -> None:
            path = urlsplit(self.path).path
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            form = dict(parse_qsl(body.decode()))
            recorded.asked.append((path, form))
            status, content = recorded.routes.get(path, lambda _: (404, {"error": "not_found"}))(form)
            answer = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = _answer

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    recorded.base = f"http://127.0.0.1:{server.server_port}"
    recorded.routes = routes(recorded.base)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield recorded
    finally:
        server.shutdown()
        server.server_close()


def always(status: int, content: Any) -> Callable[[Form], Answer]:
    return lambda _: (status, content)
