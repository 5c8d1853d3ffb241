"""OAuth requests as bytes on the wire, written without the package: what the peers are tried with."""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
import uuid
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, quote_plus, urlencode, urlsplit

import requests
from identity_provider import Client, IdentityProvider
from joserfc import jwt
from joserfc.jwk import OctKey

JWT_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def post(url: str, form: dict[str, Any], headers: dict[str, str] | None = None) -> requests.Response:
    """One form, to loopback."""
    return requests.post(url, data=form, headers=headers, timeout=20, allow_redirects=False)


def authentication(provider: IdentityProvider, client: Client) -> tuple[dict[str, str], dict[str, str]]:
    """How `client` authenticates at the token endpoint: fields of the form, and headers."""
    match client.method:
        case "none":
            return {"client_id": client.id}, {}
        case "client_secret_basic":
            pair = f"{quote_plus(client.id)}:{quote_plus(client.secret or '')}"
            return {}, {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
        case "client_secret_post":
            return {"client_id": client.id, "client_secret": client.secret or ""}, {}
        case _:
            return {"client_assertion": assertion(provider, client), "client_assertion_type": JWT_ASSERTION}, {}


def assertion(provider: IdentityProvider, client: Client) -> str:
    """RFC 7523 section 3, with the issuer as the only audience."""
    now = int(time.time())
    claims = {
        "iss": client.id,
        "sub": client.id,
        "aud": provider.issuer,
        "jti": str(uuid.uuid4()),
        "iat": now,
        "exp": now + 60,
    }
    if client.key:
        return jwt.encode({"alg": "ES256", "kid": client.key.kid}, claims, client.key)
    return jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(client.secret or ""))


def token(provider: IdentityProvider, client: Client, **form: Any) -> requests.Response:
    """A request to the token endpoint; `form` is sent as it is."""
    fields, headers = authentication(provider, client)
    return post(provider.token_endpoint, fields | form, headers)


def claims(provider: IdentityProvider, access_token: str) -> dict[str, Any]:
    """The claims of a token whose signature is the provider's, and which is not over."""
    decoded = jwt.decode(access_token, provider.keys(), algorithms=["RS256"])
    jwt.JWTClaimsRegistry(exp={"essential": True}, iss={"essential": True, "value": provider.issuer}).validate(
        decoded.claims
    )
    return dict(decoded.claims)


@dataclass(frozen=True)
class CodeRequest:
    """An authorization request with PKCE (RFC 7636): where a browser goes, and what redeems the code that it gets."""

    url: str
    client: Client
    redirect: str
    state: str
    verifier: str = field(repr=False)

    def redeem(self, provider: IdentityProvider, returned: str) -> requests.Response:
        """Exchange the code in `returned`, the URL that the browser was sent to."""
        query = {name: values[0] for name, values in parse_qs(urlsplit(returned).query).items()}
        assert query.get("state") == self.state, query
        form = {"code": query["code"], "redirect_uri": self.redirect, "code_verifier": self.verifier}
        return token(provider, self.client, grant_type="authorization_code", **form)


def code_request(provider: IdentityProvider, client: Client, *, redirect: str, scope: str) -> CodeRequest:
    """A login for `client`, which is to end at `redirect`."""
    verifier, state = secrets.token_urlsafe(48), secrets.token_urlsafe(16)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    query = {
        "response_type": "code",
        "client_id": client.id,
        "redirect_uri": redirect,
        "scope": scope,
        "state": state,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    return CodeRequest(f"{provider.authorization_endpoint}?{urlencode(query)}", client, redirect, state, verifier)
