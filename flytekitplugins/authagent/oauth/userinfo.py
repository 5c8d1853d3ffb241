"""Who a token speaks for, as its issuer says (OpenID Connect Core section 5.3)."""

from __future__ import annotations

from dataclasses import dataclass

from flytekitplugins.authagent.credential import Secret
from flytekitplugins.authagent.errors import Denied, ProviderError, ProviderUnavailable
from flytekitplugins.authagent.oauth import echo
from flytekitplugins.authagent.oauth.message import Request, Response

LONGEST = 256
"""Characters of a name that are worth showing."""


@dataclass(frozen=True)
class Person:
    """`subject` identifies, the others are for people; `None` where the issuer does not say."""

    subject: str | None = None
    name: str | None = None
    email: str | None = None


def request(userinfo_endpoint: str, token: Secret) -> Request:
    """Ask about the subject of `token`."""
    headers = (("Authorization", f"Bearer {token.reveal()}"), ("Accept", "application/json"))
    return Request(userinfo_endpoint, headers=headers)


def read(response: Response, sent: Request | None = None) -> Person:
    """
    The person in `response`, which answers `sent`.

    Raises `Denied` where the token is not for that (it needs the scope `openid`), `ProviderUnavailable` and
    `ProviderError` where there is no answer to read.
    """
    if response.status in (401, 403) or (response.is_success and response.is_refusal):
        raise Denied(f"{response.url} answered {response.status}", hint="log in with the scope openid")
    if response.is_refusal:
        kind = ProviderUnavailable if response.status >= 500 or response.status == 429 else ProviderError
        raise kind(f"{response.url} answered {response.status}")
    found = person(response.json())
    if sent is not None:
        echo.check([found.subject, found.name, found.email], sent, response.url)
    return found


def person(claims: dict[str, object]) -> Person:
    """The person that claims describe: of `userinfo`, or of a token of ours (sections 5.1 and 5.4)."""

    def text(*names: str) -> str | None:
        for name in names:
            value = claims.get(name)
            if isinstance(value, str) and value:
                return "".join(c if c.isprintable() else " " for c in value)[:LONGEST]
        return None

    return Person(text("sub"), text("name", "preferred_username", "nickname"), text("email"))
