"""What a test has to know of a real identity provider, whichever it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import requests
from joserfc.jwk import ECKey, KeySet
from peer_process import PeerProcess

FLYTE = "https://flyte.example.com"
"""The audience of Flyte: what every access token is for, unless another `resource` is asked for."""

REDIRECT = "http://127.0.0.1/callback"
"""Registered for public clients; any port of it is accepted (RFC 8252 section 7.3)."""


@dataclass(frozen=True)
class Client:
    """`method` is the name of RFC 7591's `token_endpoint_auth_method`; `none` is a public client."""

    id: str
    method: str
    secret: str | None = field(default=None, repr=False)
    key: ECKey | None = field(default=None, repr=False)


@dataclass(frozen=True)
class User:
    """Somebody who can log in."""

    name: str
    password: str = field(repr=False)


@dataclass
class IdentityProvider:
    """
    A running provider.

    `clients` by what they are for: `basic`, `post`, `secret_jwt` and `key_jwt` are confidential and have
    `client_credentials`, each with its own authentication; `app` (code with PKCE) and `device` are public.
    `users` by name. `metadata` is what discovery says.
    """

    issuer: str
    clients: dict[str, Client]
    users: dict[str, User]
    process: PeerProcess
    audience: str = FLYTE
    metadata: dict[str, Any] = field(default_factory=dict)

    def discover(self) -> None:
        """Read `metadata` (OpenID Connect Discovery, section 4)."""
        url = f"{self.issuer}/.well-known/openid-configuration"
        self.metadata = requests.get(url, timeout=10).json()

    @property
    def token_endpoint(self) -> str:
        return str(self.metadata["token_endpoint"])

    @property
    def authorization_endpoint(self) -> str:
        return str(self.metadata["authorization_endpoint"])

    @property
    def device_authorization_endpoint(self) -> str:
        return str(self.metadata["device_authorization_endpoint"])

    @property
    def introspection_endpoint(self) -> str:
        return str(self.metadata["introspection_endpoint"])

    @property
    def revocation_endpoint(self) -> str:
        return str(self.metadata["revocation_endpoint"])

    @property
    def userinfo_endpoint(self) -> str:
        return str(self.metadata["userinfo_endpoint"])

    def keys(self) -> KeySet:
        """The keys that it signs with, as they are now."""
        return KeySet.import_key_set(requests.get(self.metadata["jwks_uri"], timeout=10).json())
