"""A forward proxy on loopback that writes down what goes through it, and which of it is secret."""

from __future__ import annotations

import base64
import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, unquote_plus, urlsplit

PUBLIC = frozenset(
    {
        "actor_token_type", "audience", "client_assertion_type", "client_id", "expires_in", "grant_type", "interval",
        "issued_token_type", "redirect_uri", "refresh_expires_in", "requested_token_type", "resource", "scope",
        "subject_token_type", "token_type", "token_type_hint", "user_code", "verification_uri",
        "verification_uri_complete",
    }
)  # fmt: skip
"""Fields of requests and answers that may be shown: everything else may not."""


@dataclass
class Recorded:
    """`requests` are lines such as `POST /token`; `secrets` all values that must never be shown."""

    url: str = ""
    requests: list[str] = field(default_factory=list)
    secrets: set[str] = field(default_factory=set)

    def request(self, line: str, authorization: str, body: bytes) -> None:
        self.requests.append(line)
        scheme, _, value = authorization.partition(" ")
        if scheme == "Basic":
            self.secrets |= {value, unquote_plus(base64.b64decode(value).decode().partition(":")[2])}
        elif value:
            self.secrets.add(value)
        self._fields(dict(parse_qsl(body.decode())))

    def answer(self, body: bytes) -> None:
        try:
            found = json.loads(body)
        except ValueError:
            return
        if isinstance(found, dict) and "error" not in found and "issuer" not in found and "sub" not in found:
            self._fields({name: value for name, value in found.items() if isinstance(value, str)})

    def _fields(self, fields: dict[str, str]) -> None:
        self.secrets |= {value for name, value in fields.items() if name not in PUBLIC and len(value) > 8}


@contextmanager
def recording() -> Iterator[Recorded]:
    """The proxy, until the end of the block."""
    recorded = Recorded()

    class Handler(BaseHTTPRequestHandler):
        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            where = urlsplit(self.path)
            target = where.path + (f"?{where.query}" if where.query else "")
            recorded.request(f"{self.command} {where.path}", self.headers.get("Authorization", ""), body)
            connection = http.client.HTTPConnection(where.netloc, timeout=20)
            headers = {name: value for name, value in self.headers.items() if not name.lower().startswith("proxy-")}
            connection.request(self.command, target, body or None, headers)
            answer = connection.getresponse()
            content = answer.read()
            recorded.answer(content)
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "content-length", "connection", "date", "server"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _pass_on

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    recorded.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield recorded
    finally:
        server.shutdown()
        server.server_close()
