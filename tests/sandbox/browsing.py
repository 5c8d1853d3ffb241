"""A browser, as far as the provider's pages need one: it keeps cookies, fills in forms and follows nothing."""

from __future__ import annotations

import base64
import hashlib
from html.parser import HTMLParser
from urllib.parse import parse_qs, urlencode, urlsplit

from running_provider import FORM, Reply, Running, send

CALLBACK = "http://127.0.0.1:45454/callback"
VERIFIER = "a-verifier-that-is-long-enough-for-rfc-7636-to-take-it"


def challenge(verifier: str = VERIFIER) -> str:
    """S256 of RFC 7636 section 4.2."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")


class _Form(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        values = dict(attrs)
        if tag == "input" and values.get("type") == "hidden":
            self.fields[str(values["name"])] = str(values["value"])


def form(reply: Reply) -> dict[str, str]:
    """The hidden fields of a page."""
    parser = _Form()
    parser.feed(reply.body.decode())
    return parser.fields


def tags(reply: Reply) -> list[str]:
    """Every element of a page."""
    parser = _Form()
    parser.feed(reply.body.decode())
    return parser.tags


class Browser:
    """One browser with its cookies."""

    def __init__(self) -> None:
        self.cookie = ""

    def get(self, url: str) -> Reply:
        reply = send("GET", url, headers={"Cookie": self.cookie} if self.cookie else {})
        if "set-cookie" in reply.headers:
            self.cookie = reply.headers["set-cookie"].partition(";")[0]
        return reply

    def post(self, url: str, fields: dict[str, str], **headers: str) -> Reply:
        headers = {"Content-Type": FORM, **({"Cookie": self.cookie} if self.cookie else {}), **headers}
        return send("POST", url, urlencode(fields), headers)

    def decide(self, url: str, user: str = "alice", decision: str = "allow") -> Reply:
        """Load the page, choose a user, and press a button."""
        page = self.get(url)
        assert page.status == 200, page.body
        origin = "{0.scheme}://{0.netloc}".format(urlsplit(url))
        return self.post(url, form(page) | {"user": user, "decision": decision}, Origin=origin)


def asking(provider: Running, **changed: str | None) -> str:
    """The URL that a command-line tool opens; a parameter of `None` is left out."""
    parameters: dict[str, str | None] = {
        "response_type": "code",
        "client_id": "flytectl",
        "redirect_uri": CALLBACK,
        "scope": "all offline",
        "state": "a state",
        "code_challenge": challenge(),
        "code_challenge_method": "S256",
    }
    parameters |= changed
    kept = {name: value for name, value in parameters.items() if value is not None}
    return f"{provider.issuer.authorization_endpoint}?{urlencode(kept)}"


def answer(reply: Reply) -> dict[str, str]:
    """What a redirect tells the client."""
    assert reply.status == 303, (reply.status, reply.body)
    return {name: value for name, (value,) in parse_qs(urlsplit(reply.headers["location"]).query).items()}


def code(provider: Running, user: str = "alice", **changed: str | None) -> str:
    """An authorization code for `user`."""
    return answer(Browser().decide(asking(provider, **changed), user))["code"]


def redeem(provider: Running, text: str, **changed: str | None) -> Reply:
    """What the token endpoint gives for a code."""
    fields: dict[str, str | None] = {
        "grant_type": "authorization_code",
        "code": text,
        "client_id": "flytectl",
        "redirect_uri": CALLBACK,
        "code_verifier": VERIFIER,
    }
    fields |= changed
    return provider.ask({name: value for name, value in fields.items() if value is not None})
