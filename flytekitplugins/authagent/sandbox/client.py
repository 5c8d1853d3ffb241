"""The OAuth clients that the sandbox knows (RFC 6749 section 2)."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field

from authlib.oauth2.rfc6749 import ClientMixin, InvalidScopeError
from joserfc.jwk import KeySet

from flytekitplugins.authagent.credential import Secret
from flytekitplugins.authagent.sandbox import redirection

AGENT = "flyte-agent"
"""Whom the sandbox's own agent speaks as."""

HUB = "hub"
"""Whom the sandbox's hub speaks as."""

HUB_CALLBACK = "http://127.0.0.1/consent/callback"
"""Where the hub waits for an authorization code, on any port of loopback."""

FLYTECTL = "flytectl"
"""The public client through which people sign in."""

CALLBACK = "http://localhost:53593/callback"
"""Where the command-line tools of Flyte wait for an authorization code; any other port of loopback does too."""

CONFIDENTIAL = (AGENT, "batch", "ci", "night:ly +job")
"""The last two have a secret, and one an id, that break a client which does not encode (RFC 6749 section 2.3.1)."""

ODD = " +/%41:&=é"

TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105 - a name of RFC 8693
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"

OF_SERVICES = frozenset({"client_credentials", "refresh_token", TOKEN_EXCHANGE, JWT_BEARER})
OF_PEOPLE = frozenset({"authorization_code", "refresh_token", DEVICE_CODE})
OF_THE_HUB = OF_SERVICES | {"authorization_code"}
"""It speaks for itself, and for people who agreed on a page, or whose tokens were shown to it."""

HUB_SCOPES = frozenset({"all", "offline", "offline_access", "openid"})


@dataclass(frozen=True)
class Client(ClientMixin):  # type: ignore[misc] # authlib has no types
    """
    A client, as authlib asks about it.

    One with neither a `secret` nor public `keys` (for private_key_jwt) is a public one.
    """

    id: str
    secret: Secret | None
    grant_types: frozenset[str]
    scopes: frozenset[str] = frozenset({"all", "offline"})
    redirect_uris: tuple[str, ...] = ()
    keys: KeySet | None = field(default=None, repr=False, compare=False)

    @property
    def public(self) -> bool:
        """Whether it has nothing to show who it is with."""
        return self.secret is None and self.keys is None

    def get_client_id(self) -> str:
        """See authlib."""
        return self.id

    def check_client_secret(self, client_secret: str) -> bool:
        """Whether this is its secret, in constant time."""
        known = self.secret.reveal() if self.secret else ""
        return hmac.compare_digest(known.encode(), client_secret.encode()) and bool(known)

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        """Whether it may authenticate so: a public client with nothing, another with its secret (section 2.3)."""
        return (method == "none") == self.public

    def check_grant_type(self, grant_type: str) -> bool:
        """Whether it may use this grant."""
        return grant_type in self.grant_types

    def check_response_type(self, response_type: str) -> bool:
        """Whether it may ask for this at the authorization endpoint."""
        return response_type == "code" and "authorization_code" in self.grant_types

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        """Whether browsers may be sent there with its answers."""
        return any(redirection.allowed(registered, redirect_uri) for registered in self.redirect_uris)

    def get_default_redirect_uri(self) -> str | None:
        """Where browsers are sent if the request does not say: to its only address, if it has but one."""
        return self.redirect_uris[0] if len(self.redirect_uris) == 1 else None

    def check_scope(self, asked: str | None) -> None:
        """Raises `InvalidScopeError` unless it may have every scope of `asked`, joined by spaces."""
        if asked and not self.scopes.issuperset(asked.split()):
            raise InvalidScopeError("The client may not have this scope")

    def get_allowed_scope(self, scope: str | None) -> str:
        """What of `scope` it may have."""
        return " ".join(word for word in (scope or "").split() if word in self.scopes)


def made_for_this_run(scopes: Iterable[str]) -> dict[str, Client]:
    """
    The sandbox's clients by id, each confidential one with a secret that nobody had before.

    `scopes` are those of the server: the public one may have them all, and the hub those that it has a use for.
    """
    clients = {id: Client(id, Secret(secrets.token_urlsafe(24)), OF_SERVICES) for id in (AGENT, "batch")}
    clients |= {
        id: Client(id, Secret(secrets.token_urlsafe(24) + ODD), OF_SERVICES) for id in CONFIDENTIAL if id not in clients
    }
    ours = frozenset(scopes)
    clients[HUB] = Client(HUB, Secret(secrets.token_urlsafe(24)), OF_THE_HUB, HUB_SCOPES & ours, (HUB_CALLBACK,))
    clients[FLYTECTL] = Client(FLYTECTL, None, OF_PEOPLE, ours, (CALLBACK,))
    return clients
