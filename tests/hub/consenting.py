"""What people do in a browser with the link to the hub's page, over plain HTTP; it follows nothing by itself."""

from __future__ import annotations

import html
import re
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from browsing import Browser, form
from running_hub import Hub
from running_provider import FORM, Reply, send

_ONWARD = re.compile(r'<a class="button allow" href="([^"]+)"')
_TITLE = re.compile(r"<h1>(.*?)</h1>")


class Surfer:
    """Somebody's browser: what it keeps for the hub, and what for the provider."""

    def __init__(self) -> None:
        self.hub, self.provider = Browser(), Browser()

    def begin(self, link: str) -> str:
        """Allow it on the hub's page; where the hub sends the browser to sign in."""
        reply = self.hub.decide(link)
        assert reply.status == 200, reply.body
        return onward(reply)

    def sign_in(self, url: str, user: str, decision: str = "allow") -> str:
        """Sign in at the sandbox's provider; where it sends the browser back to, which is not gone to."""
        reply = self.provider.decide(url, user, decision)
        assert reply.status == 303, reply.body
        return reply.headers["location"]

    def consent(self, link: str, user: str) -> Reply:
        """All of it; the last page."""
        return self.hub.get(self.sign_in(self.begin(link), user))

    def post(self, link: str, proof: str, **headers: str) -> Reply:
        """The form of the page, as a test would have it sent."""
        cookie = {"Cookie": self.hub.cookie} if self.hub.cookie else {}
        return send(
            "POST", link, urlencode({"proof": proof, "decision": "allow"}), {"Content-Type": FORM} | cookie | headers
        )


def onward(reply: Reply) -> str:
    """Where a page of the hub sends people to sign in."""
    found = _ONWARD.search(reply.body.decode())
    assert found, reply.body
    return html.unescape(found[1])


def title(reply: Reply) -> str:
    """What a page of the hub says first."""
    found = _TITLE.search(reply.body.decode())
    assert found, reply.body
    return html.unescape(found[1])


def proof(reply: Reply) -> str:
    """What the form of a page brings back."""
    return form(reply)["proof"]


def query(url: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def changed(url: str, **fields: str | None) -> str:
    """`url` with other fields in its query; one that is `None` is left out."""
    kept = {name: value for name, value in (query(url) | fields).items() if value is not None}
    return urlsplit(url)._replace(query=urlencode(kept)).geturl()


def asked(hub: Hub, token: str, execution: str, **fields: str) -> dict[str, Any]:
    """A grant that waits for its person, with the link to the page."""
    reply = hub.deposit(token, execution, **fields)
    assert (reply.status, reply.json()["status"]) == (202, "pending"), reply.body
    return dict(reply.json())
