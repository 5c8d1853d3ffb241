"""The OAuth clients that the sandbox knows (RFC 6749 section 2)."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass

from authlib.oauth2.rfc6749 import ClientMixin, InvalidScopeError

from flytekitplugins.authagent.credential import Secret

AGENT = "flyte-agent"
"""Whom the sandbox's own agent speaks as."""

FLYTECTL = "flytectl"
"""The public client through which people sign in."""

CONFIDENTIAL = (AGENT, "batch", "ci", "night:ly +job")
"""The last two have a secret, and one an id, that break a client which does not encode (RFC 6749 section 2.3.1)."""

ODD = " +/%41:&=é"


@dataclass(frozen=True)
class Client(ClientMixin):  # type: ignore[misc] # authlib has no types
    """A client, as authlib asks about it. `secret` is `None` for a public one."""

    id: str
    secret: Secret | None
    grant_types: frozenset[str]
    scopes: frozenset[str] = frozenset({"all", "offline"})

    def check_client_secret(self, client_secret: str) -> bool:
        """Whether this is its secret, in constant time."""
        known = self.secret.reveal() if self.secret else ""
        return hmac.compare_digest(known.encode(), client_secret.encode()) and bool(known)

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        """Whether it may authenticate so: a public client with nothing, another with its secret (section 2.3)."""
        return (method == "none") == (self.secret is None)

    def check_grant_type(self, grant_type: str) -> bool:
        """Whether it may use this grant."""
        return grant_type in self.grant_types

    def check_scope(self, asked: str | None) -> None:
        """Raises `InvalidScopeError` unless it may have every scope of `asked`, joined by spaces."""
        if asked and not self.scopes.issuperset(asked.split()):
            raise InvalidScopeError("The client may not have this scope")


def made_for_this_run() -> dict[str, Client]:
    """The sandbox's clients by id, each confidential one with a secret that nobody had before."""
    own = frozenset({"client_credentials", "refresh_token"})
    clients = {id: Client(id, Secret(secrets.token_urlsafe(24)), own) for id in (AGENT, "batch")}
    clients |= {
        id: Client(id, Secret(secrets.token_urlsafe(24) + ODD), own) for id in CONFIDENTIAL if id not in clients
    }
    clients[FLYTECTL] = Client(FLYTECTL, None, frozenset({"refresh_token"}))
    return clients
