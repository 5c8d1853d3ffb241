"""Where a browser comes back to after a login: a server on loopback that waits for one answer (RFC 8252)."""

from __future__ import annotations

import html
import socket
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from flytekitplugins.authagent.errors import ConfigError, ProviderUnavailable

CONNECTION_SECONDS = 5.0
"""For a browser to say what it wants: some open connections that they never use."""

BUSY_SECONDS = 3.0
"""To wait for a port that is in use: where the server names one there is no other."""

OUTCOME_SECONDS = 30.0
"""How long the page waits to hear what came of the login."""

Query = Mapping[str, str]


class Callback:
    """
    Listens at `redirect_uri` while it is open. A port of 0, or none, is one that is free: see `redirect_uri` then.

    `is_answer` says which requests are the answer that is waited for, none until it is set; all others are turned away,
    and it goes on waiting. Nothing that it is sent is logged: the query holds the code.
    """

    def __init__(self, redirect_uri: str, is_answer: Callable[[Query], bool] = lambda query: False) -> None:
        parts = urlsplit(redirect_uri)
        try:
            port = parts.port or 0
        except ValueError:
            port = -1
        if parts.scheme != "http" or parts.hostname not in ("127.0.0.1", "localhost", "::1") or port < 0:
            raise ConfigError(
                f"a login cannot come back to {redirect_uri!r}", hint="the redirect address must be http on loopback"
            )
        self._path = parts.path or "/"
        self.is_answer = is_answer
        self._lock = threading.Lock()
        self._answer: Future[Query] = Future()
        self._outcome: Future[str | None] = Future()
        self._pages: set[threading.Event] = set()
        self._servers = _listen(parts.hostname, port, self)
        host = f"[{parts.hostname}]" if parts.hostname == "::1" else parts.hostname
        self.redirect_uri = f"http://{host}:{self._servers[0].server_address[1]}{self._path}"

    def __enter__(self) -> Callback:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.1,), name="authagent-callback", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.tell(None if error is None else "Look at the terminal for the reason.")
        for shown in list(self._pages):  # who logged in is looking at a page that is about to be sent
            shown.wait(CONNECTION_SECONDS)
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def wait(self, seconds: float) -> Query:
        """The query of the answer. Raises `TimeoutError`, of `concurrent.futures`, after that many seconds."""
        return self._answer.result(seconds)

    def offer(self, query: Query) -> bool:
        """Take `query` for the answer if it is one; whether it was."""
        if not self.is_answer(query):
            return False
        with self._lock:
            if not self._answer.done():  # a browser that comes twice changes nothing
                self._answer.set_result(query)
        return True

    def tell(self, failure: str | None) -> None:
        """What came of it, for the page that the person is looking at: `None` is success."""
        with self._lock:
            if not self._outcome.done():
                self._outcome.set_result(failure)

    def _page(self, target: str, shown: threading.Event) -> tuple[int, str]:
        """The status and the page for a request of `target`; `shown` is set once it has been sent."""
        parts = urlsplit(target)
        if parts.path != self._path:
            return 404, page("Nothing here", "This address only waits for a login to come back.")
        try:
            query = dict(parse_qsl(parts.query, max_num_fields=32))
        except ValueError:
            query = {}
        if not self.offer(query):
            return 400, page("Not this login", "This is not the answer to the login that is going on. It still waits.")
        self._pages.add(shown)
        try:
            failure = self._outcome.result(OUTCOME_SECONDS)
        except Exception:  # whatever became of it, the person looks at a page
            failure = "The terminal has not said how it went. Look there."
        if failure is None:
            return 200, page("You are logged in", "You can close this window, and go back to the terminal.")
        return 400, page("The login did not succeed", failure)


def _listen(host: str, port: int, callback: Callback) -> list[ThreadingHTTPServer]:
    """A server, or two: a browser may take `localhost` for either loopback address."""
    handler = type("Handler", (_Handler,), {"callback": callback})
    servers: list[ThreadingHTTPServer] = [_first(host, port, handler, deadline=time.monotonic() + BUSY_SECONDS)]
    if host == "localhost":
        with suppress(OSError):  # no IPv6 here, or the port is somebody else's there
            servers.append(_Server6(("::1", servers[0].server_address[1]), handler))
    return servers


def _first(host: str, port: int, handler: type[BaseHTTPRequestHandler], deadline: float) -> ThreadingHTTPServer:
    """A server on a port that another login may be about to leave."""
    kind, address = (_Server6, "::1") if host == "::1" else (_Server, "127.0.0.1")
    while True:
        try:
            return kind((address, port), handler)
        except OSError:
            if time.monotonic() > deadline:
                raise ProviderUnavailable(
                    f"port {port}, where the login comes back to, is in use",
                    hint="is another login going on? Wait for it, or use `authagent login --device`",
                ) from None
            time.sleep(0.1)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 16

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away is no news."""


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(BaseHTTPRequestHandler):
    callback: Callback
    timeout = CONNECTION_SECONDS
    server_version, sys_version = "authagent", ""

    def do_GET(self) -> None:
        shown = threading.Event()
        try:
            self._show(*self.callback._page(self.path, shown))
        finally:
            shown.set()

    def _show(self, status: int, content: str) -> None:
        body = content.encode()
        self.send_response(status)
        for name, value in {
            "Content-Type": "text/html; charset=utf-8",
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "Connection": "close",
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Nothing: the first line of a request holds the code."""


def page(title: str, text: str) -> str:
    """A page for people, without anything from elsewhere."""
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{html.escape(title)}</title>
<style>
body {{ font: 1.1rem/1.5 system-ui, sans-serif; display: grid; place-content: center; min-height: 90vh; margin: 0;
       padding: 1rem; color: #222; background: #f6f5fa; }}
main {{ max-width: 32rem; padding: 2rem 2.5rem; background: #fff; border-radius: .8rem; box-shadow: 0 1px 6px #0002; }}
h1 {{ margin: 0 0 .5rem; font-size: 1.5rem; }} p {{ margin: 0; overflow-wrap: anywhere; }}
@media (prefers-color-scheme: dark) {{ body {{ background: #16151a; color: #ddd; }} main {{ background: #222127; }} }}
</style>
<main><h1>{html.escape(title)}</h1><p>{html.escape(text)}</p></main></html>
"""
