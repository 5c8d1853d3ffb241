"""An identity provider on loopback that gives back what was sent to it, in a form and at a place that a test names."""

from __future__ import annotations

import base64
import html
import json
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, quote, quote_plus, unquote_plus, urlsplit

Answer = tuple[int, dict[str, str], bytes]

PUBLIC = frozenset(
    {"actor_token_type", "audience", "client_assertion_type", "client_id", "grant_type", "redirect_uri"}
    | {"requested_token_type", "resource", "scope", "subject_token_type", "token_type_hint"}
)

FORMS: dict[str, Callable[[str], list[str]]] = {
    "raw": lambda secret: [secret],
    "in a sentence": lambda secret: [f"Invalid client secret provided: {secret}. AADSTS7000215 expired audience"],
    "upper case": lambda secret: [secret.upper()],
    "base64": lambda secret: [base64.b64encode(secret.encode()).decode()],
    "base64 in a pair": lambda secret: [base64.b64encode(f"batch:{secret}".encode()).decode()],
    "base64url without padding": lambda secret: [base64.urlsafe_b64encode(secret.encode()).decode().rstrip("=")],
    "base16": lambda secret: [secret.encode().hex()],
    "percent": lambda secret: [
        "".join(f"%{byte:02X}" for byte in secret.encode()),
        quote(secret, ""),
        quote_plus(secret),
    ],
    "JSON escapes": lambda secret: ["".join(f"\\u{ord(char):04x}" for char in secret)],
    "entities": lambda secret: ["".join(f"&#{ord(char)};" for char in secret), html.escape(secret)],
    "backwards": lambda secret: [secret[::-1]],
    "halves": lambda secret: [secret[: len(secret) // 2], secret[len(secret) // 2 :]],
    "eights": lambda secret: [secret[i : i + 8] for i in range(0, len(secret), 8)],
}
"""What a peer may make of a secret: one line for a form."""


def _json(status: int, **content: object) -> Answer:
    return status, {"Content-Type": "application/json"}, json.dumps(content).encode()


GOOD = {"access_token": "a-good-token", "token_type": "Bearer", "expires_in": 3600}

PLACES: dict[str, Callable[[list[str]], Answer]] = {
    "error_description": lambda said: _json(401, error="invalid_client", error_description=" ".join(said)),
    "the error code": lambda said: _json(400, error=said[0], error_description=said[-1]),
    "error_uri": lambda said: _json(400, error="invalid_grant", error_uri=f"https://idp.example.com/{said[0]}"),
    "several fields": lambda said: _json(
        400, error="invalid_scope", **{f"field{n}": text for n, text in enumerate(said)}
    ),
    "an error that is an object": lambda said: _json(400, error={"message": said}),
    "Okta's fields": lambda said: _json(403, errorCode=said[0], errorSummary=" ".join(said)),
    "an error in 200": lambda said: _json(200, error=said[0], error_description=said),
    "an error in 500": lambda said: _json(500, error="server_error", error_description=said),
    "an error in 503": lambda said: _json(503, error=said[0]),
    "headers": lambda said: (
        401,
        {"WWW-Authenticate": f'Basic realm="{said[0]}", error="{said[-1]}"', "Retry-After": said[0], "Server": said[0]},
        b"{}",
    ),
    "Location": lambda said: (302, {"Location": f"https://idp.example.com/{said[0]}?x={said[-1]}"}, b""),
    "a page": lambda said: (502, {"Content-Type": "text/html"}, f"<html>{' '.join(said)}".encode()),
    "plain text": lambda said: (400, {"Content-Type": f"text/plain; charset={said[0]}"}, " ".join(said).encode()),
    "token_type": lambda said: _json(200, **GOOD | {"token_type": said[0]}),
    "expires_in": lambda said: _json(200, **GOOD | {"expires_in": said[0]}),
    "scope": lambda said: _json(200, **GOOD | {"scope": " ".join(said)}),
    "the header's name": lambda said: _json(200, **GOOD | {"authorization_metadata_key": said[0]}),
    "issued_token_type": lambda said: _json(200, **GOOD | {"issued_token_type": said[0]}),
}
"""Where a peer may put it: one line for a place."""


@dataclass
class QuotingPeer:
    """
    `form` and `place` say how the secrets of a request come back. Grants in `good` are answered well.

    `secrets` are those that came; `quoted` counts the answers that held one.
    """

    url: str = ""
    form: str = "raw"
    place: str = "error_description"
    good: set[str] = field(default_factory=set)
    secrets: set[str] = field(default_factory=set)
    quoted: int = 0

    def answer(self, path: str, form: dict[str, str], authorization: str) -> Answer:
        """What is said to a request."""
        if path == "/.well-known/openid-configuration":
            names = {
                "authorization_endpoint": "/authorize",
                "token_endpoint": "/token",
                "userinfo_endpoint": "/userinfo",
            }
            names |= {"device_authorization_endpoint": "/device", "revocation_endpoint": "/revoke"}
            return _json(200, issuer=self.url, **{name: self.url + where for name, where in names.items()})
        came = self._secrets(form, authorization)
        self.secrets |= set(came)
        if path == "/device" and "device" in self.good:
            code = secrets.token_urlsafe(24)
            return _json(
                200, device_code=code, user_code="ABCD", verification_uri=self.url, expires_in=60, interval=0.1
            )
        if form.get("grant_type") in self.good:
            soon = {"access_token": "a-short-token", "expires_in": 1, "refresh_token": secrets.token_urlsafe(24)}
            return _json(200, token_type="bearer", **soon)
        self.quoted += bool(came)
        texts = [text for secret in came for text in FORMS[self.form](secret)]
        return PLACES[self.place](texts or ["nothing"])

    def _secrets(self, form: dict[str, str], authorization: str) -> list[str]:
        scheme, _, value = authorization.partition(" ")
        found = [text for name, text in form.items() if name not in PUBLIC]
        if scheme == "Basic":
            found += [unquote_plus(base64.b64decode(value).decode().partition(":")[2]), value]
        return found + [value] * (scheme == "Bearer")


@contextmanager
def quoting() -> Iterator[QuotingPeer]:
    """It, while this is open."""
    peer = QuotingPeer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            form, authorization = dict(parse_qsl(body)), self.headers.get("Authorization", "")
            status, headers, content = peer.answer(urlsplit(self.path).path, form, authorization)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    peer.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield peer
    finally:
        server.shutdown()
        server.server_close()
