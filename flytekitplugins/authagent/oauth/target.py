"""What a token is to be for, in the words of a token request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flytekitplugins.authagent.oauth.client_authentication import Added
from flytekitplugins.authagent.oauth.message import Request


@dataclass(frozen=True)
class Target:
    """
    `scopes` (RFC 6749 section 3.3), `resource` (RFC 8707 section 2) and `audience`.

    `audience` is RFC 8693's, and the dialect of Auth0 and flytekit for the other grants, where no RFC names it.
    Each is sent only where it is set.
    """

    scopes: tuple[str, ...] = ()
    audience: str | None = None
    resource: str | None = None

    def fields(self) -> list[tuple[str, str]]:
        """The form fields that say so."""
        named = (("scope", " ".join(self.scopes)), ("audience", self.audience), ("resource", self.resource))
        return [(name, value) for name, value in named if value]


def token_request(
    token_endpoint: str, client: Added, grant: Sequence[tuple[str, str]], target: Target | None = None
) -> Request:
    """A request to a token endpoint: the fields of `grant`, what proves the client, and what the token is for."""
    fields, headers = client
    form = [*grant, *fields, *(target.fields() if target else ())]
    return Request(token_endpoint, tuple(form), (*headers, ("Accept", "application/json")))
