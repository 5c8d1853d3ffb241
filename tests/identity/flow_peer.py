"""An identity provider as the flow suite sees it, whichever it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from identity_provider import Client

FLOWS = {
    "client_secret_basic": "client credentials, secret by Basic, odd characters in it",
    "client_secret_post": "client credentials, secret in the body",
    "client_secret_jwt": "client credentials, secret signs",
    "private_key_jwt": "client credentials, private key signs",
    "federated": "client credentials, a pod's projected token as assertion: no secret anywhere",
    "pkce": "login in a browser (code, PKCE)",
    "device": "login by a code on another device",
    "refresh": "refresh with rotation, spent once by 8 threads and 8 processes",
    "revocation": "logout revokes the login",
    "userinfo": "userinfo",
    "exchange": "token exchange",
    "actor": "token exchange records the actor (`act`)",
    "jwt_bearer": "JWT grant from a pod's projected token",
}
"""The rows of the table in docs/identity-providers.md."""


@dataclass
class Peer:
    """
    `offered` are the flows that it has; `not_offered` says why it has not each of the others.

    `approve(url, redirect)` is somebody who logs in at its pages: the address that their browser ends at, or the text
    of the last page. `projected(audience)` is a pod's token that it trusts.
    """

    name: str
    issuer: str
    audience: str | list[str]
    clients: dict[str, Client]
    approve: Callable[..., str]
    projected: Callable[[str], str]
    directory: Path
    not_offered: dict[str, str] = field(default_factory=dict)
    offline: str = "offline_access"
    exchange_scopes: tuple[str, ...] = ()
    subject_of: Callable[[str], str] = lambda client: client

    @property
    def offered(self) -> set[str]:
        return set(FLOWS) - set(self.not_offered)

    def file(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.write_text(text)
        path.chmod(0o600)
        return path

    def client(self, name: str, **more: Any) -> dict[str, Any]:
        """The options of a spec that is this client."""
        client = self.clients[name]
        options: dict[str, Any] = {"issuer": self.issuer, "client_id": client.id}
        if client.secret:
            options["client_secret_file"] = self.file(f"{name}.secret", client.secret)
            options["client_authentication"] = client.method
        if client.key:
            pem = client.key.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            options["private_key_file"] = self.file(f"{name}.key", pem.decode())
            options["key_id"] = client.key.kid
        return options | more
