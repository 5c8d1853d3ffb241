"""A provider on loopback, and a client that sends it exactly what a test says."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus, urlencode, urlsplit

from joserfc import jwt

from flytekitplugins.authagent.sandbox.counts import Counts
from flytekitplugins.authagent.sandbox.dialect import DIALECTS
from flytekitplugins.authagent.sandbox.faults import Faults
from flytekitplugins.authagent.sandbox.provider import Provider

FORM = "application/x-www-form-urlencoded"


@dataclass
class Reply:
    """What came back, as it was on the wire."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def send(method: str, url: str, body: bytes | str | None = None, headers: dict[str, str] | None = None) -> Reply:
    """One request on a connection of its own."""
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.netloc, timeout=10)
    try:
        target = f"{where.path}?{where.query}" if where.query else where.path
        connection.request(method, target, body, headers or {})
        response = connection.getresponse()
        return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
    finally:
        connection.close()


def basic(client_id: str, secret: str) -> dict[str, str]:
    """RFC 6749 section 2.3.1: both halves form-encoded."""
    pair = f"{quote_plus(client_id)}:{quote_plus(secret)}"
    return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}


class Running:
    """A provider, with what it counts and what spoils it."""

    def __init__(self, posture: str, **settings: Any) -> None:
        self.posture = posture
        self.counts, self.faults = Counts(), Faults()
        self.provider = Provider(DIALECTS[posture], self.counts, self.faults, **settings)
        self.issuer = self.provider.issuer

    def secret(self, client_id: str) -> str:
        return self.issuer.clients[client_id].secret.reveal()

    def ask(self, form: dict[str, str], headers: dict[str, str] | None = None) -> Reply:
        """POST `form` to the token endpoint."""
        return send("POST", self.issuer.token_endpoint, urlencode(form), {"Content-Type": FORM, **(headers or {})})

    def ask_at(self, endpoint: str, form: dict[str, str], headers: dict[str, str] | None = None) -> Reply:
        """POST `form` to another endpoint, by its name in RFC 8414."""
        url = self.issuer.metadata()[endpoint]
        return send("POST", url, urlencode(form), {"Content-Type": FORM, **(headers or {})})

    def own_token(self, client_id: str = "batch", **more: str) -> Reply:
        """A token of the client itself, by Basic."""
        form = {"grant_type": "client_credentials", **more}
        return self.ask(form, basic(client_id, self.secret(client_id)))

    def refresh(self, token: str, client_id: str = "flytectl", **more: str) -> Reply:
        """A further token of somebody who signed in."""
        return self.ask({"grant_type": "refresh_token", "refresh_token": token, "client_id": client_id, **more})

    def read(self, token: str) -> jwt.Token:
        """The token, its signature checked with the published keys."""
        return jwt.decode(token, self.issuer.keys())


@contextmanager
def running(posture: str = "internal", **settings: Any) -> Iterator[Running]:
    """A provider that answers, until the end of the block."""
    it = Running(posture, **settings)
    it.provider.start()
    try:
        yield it
    finally:
        it.provider.stop()
