"""A hub of a test's own: the wire of a real one, with a knob for everything that may go wrong."""

from __future__ import annotations

import json
import secrets
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

TOKEN = "the-token-of-a-person"


@dataclass
class Hub:
    """
    `answers`: what to say at a path instead, as (status, headers, body); `None` as the status hangs.

    `consent`: how many looks at a pending grant until it is active, `None` where none is asked for. `launches`: the
    file in which a launcher writes the names that it launches with. `ends`: what a grant ended with, once launched.
    `foreign` ends one that was not launched, as the hub sees that somebody else launched its execution.
    `longest`: seconds that a grant may last. `listed`: how many are listed, those that live first. `stuck`: ids of
    grants that do not end. `patience`: how many requests are answered until the token is no good any more.
    """

    url: str = ""
    token: str | None = TOKEN
    issuer: str = "https://idp.example.com"
    audience: str = "authagent-hub"
    longest: int = 24 * 3600
    listed: int = 200
    stuck: set[str] = field(default_factory=set)
    patience: int | None = None
    consent: int | None = None
    declines: bool = False
    consent_uri: str | None = None
    launches: Path | None = None
    ends: str | None = None
    changes: dict[str, Any] = field(default_factory=dict)
    answers: dict[str, tuple[int | None, dict[str, str], bytes]] = field(default_factory=dict)
    grants: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: Counter[str] = field(default_factory=Counter)
    forms: list[dict[str, str]] = field(default_factory=list)
    authorizations: set[str] = field(default_factory=set)
    stopped: threading.Event = field(default_factory=threading.Event)

    def give(self, execution: str, *, status: str = "active", launched: bool = True) -> dict[str, Any]:
        """A grant that is there already."""
        return self._new(execution, 3600, "all", status=status, launched=launched)

    def only(self) -> dict[str, Any]:
        """The one grant that was ever given."""
        (grant,) = self.grants.values()
        return grant

    def _new(self, execution: str, seconds: int, scope: str, *, status: str, launched: bool) -> dict[str, Any]:
        now = int(time.time())
        grant = {
            "id": secrets.token_urlsafe(12),
            "execution": execution,
            "subject": "alice",
            "scope": scope,
            "status": status,
            "reason": "",
            "created_at": now,
            "expires_at": now + seconds,
            "launched": launched,
            "children": 0,
            "revocation": "none",
        }
        self.grants[grant["id"]] = grant
        return grant

    def answer(  # noqa: PLR0911 - one for each request
        self, method: str, path: str, form: dict[str, str], authorization: str
    ) -> tuple[int, Any]:
        if path == "/.well-known/oauth-protected-resource":
            return 200, {"resource": self.audience, "authorization_servers": [self.issuer]}
        if self.token is not None and authorization != f"Bearer {self.token}":
            return 401, {"error": "invalid_token", "error_description": "the token is for somebody else"}
        if self.patience is not None and sum(self.requests.values()) > self.patience:
            return 401, {"error": "invalid_token", "error_description": "the token has expired"}
        if (method, path) == ("POST", "/grants"):
            return self._deposit(form)
        if (method, path) == ("GET", "/grants"):
            newest = list(self.grants.values())[::-1]
            listed = sorted(newest, key=lambda grant: grant["status"] == "ended")[: self.listed]
            return 200, {"grants": [grant for grant in newest if grant in listed]}
        if (method, path) == ("POST", "/grants/revoke"):
            found = [g for g in self.grants.values() if form in ({"id": g["id"]}, {"execution": g["execution"]})]
            if not found:
                return 404, {"error": "not_found", "error_description": "you have no such grant"}
            if found[0]["id"] in self.stuck:
                return 503, {"error": "temporarily_unavailable", "error_description": "not that one"}
            if found[0]["status"] != "ended":
                found[0] |= {"status": "ended", "reason": "revoked", "revocation": "pending"}
            return 200, found[0] | self.changes
        grant = self.grants.get(path.removeprefix("/grants/"))
        if grant is None:
            return 404, {"error": "not_found", "error_description": "you have no such grant"}
        self._look(grant)
        return 200, grant | self.changes

    def _deposit(self, form: dict[str, str]) -> tuple[int, Any]:
        seconds = int(form.get("expires_in", min(8 * 3600, self.longest)))
        if seconds > self.longest:
            words = f"a grant lasts {self.longest // 3600}h at most"
            return 400, {"error": "invalid_request", "error_description": words}
        for there in self.grants.values():
            if there["execution"] == form["execution"] and there["status"] == "active":
                there["expires_at"] = max(there["expires_at"], int(time.time()) + seconds)
                return 200, there | self.changes
        waits = self.consent is not None
        grant = self._new(
            form["execution"],
            seconds,
            form.get("scope", ""),
            status="pending" if waits else "active",
            launched=form.get("launch") != "later",
        )
        page = {"consent_uri": self.consent_uri or f"{self.url}/consent/{grant['id']}", "interval": 1}
        return (202 if waits else 201), grant | (page if waits else {}) | self.changes

    def _look(self, grant: dict[str, Any]) -> None:
        if grant["status"] == "pending":
            self.consent = (self.consent or 0) - 1
            if self.consent <= 0:
                grant |= {"status": "ended", "reason": "declined"} if self.declines else {"status": "active"}
        if self.launches and self.launches.exists():
            grant["launched"] = grant["launched"] or grant["execution"] in self.launches.read_text().split()
        if self.ends and (grant["launched"] or self.ends == "foreign") and grant["status"] == "active":
            grant |= {"status": "ended", "reason": self.ends}


@contextmanager
def running(tls: ssl.SSLContext | None = None, **knobs: Any) -> Iterator[Hub]:
    """A hub on loopback, under the name `localhost` where it speaks TLS."""
    hub = Hub(**knobs)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._serve("GET", {})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            self._serve("POST", {name: values[-1] for name, values in parse_qs(body).items()})

        def _serve(self, method: str, form: dict[str, str]) -> None:
            kind = "/grants/ID" if self.path.removeprefix("/grants/") in hub.grants else self.path
            hub.requests[f"{method} {kind}"] += 1
            hub.authorizations.add(self.headers.get("authorization", ""))
            if form:
                hub.forms.append(form)
            status, headers, content = hub.answers.get(f"{method} {kind}", (0, {}, b""))
            if status is None:
                hub.stopped.wait(30)
                return
            if not status:
                status, said = hub.answer(method, self.path, form, self.headers.get("authorization", ""))
                headers, content = {"content-type": "application/json"}, json.dumps(said).encode()
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        hub.url = f"http://127.0.0.1:{server.server_address[1]}"
        if tls:
            hub.url = f"https://localhost:{server.server_address[1]}"
            server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield hub
        finally:
            hub.stopped.set()
            server.shutdown()
