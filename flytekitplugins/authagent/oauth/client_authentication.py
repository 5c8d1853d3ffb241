"""How a client shows who it is at a token endpoint (RFC 6749 section 2.3, RFC 7523 section 2.2)."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote_plus

from flytekitplugins.authagent.credential import Secret
from flytekitplugins.authagent.errors import ConfigError

if TYPE_CHECKING:
    from joserfc.jwk import Key

Added = tuple[tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]]
"""Form fields and headers to add to a request."""

JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

ASSERTION_LIFETIME = 60
"""Seconds for which an assertion of ours is good: it is sent at once, and used once."""


@dataclass(frozen=True)
class Proof:
    """
    What a client has to show, and for whom it is meant.

    `secret` is the client's secret, its private key (PEM) or an assertion that somebody else signed, as the method
    needs; `None` for a public client. `audience` is whom an assertion is addressed to: the issuer, as
    draft-ietf-oauth-rfc7523bis wants, or the token endpoint where no issuer is known. `now` is in seconds since the
    epoch; `key_id` goes into the header of an assertion of ours.
    """

    secret: Secret | None = None
    audience: str = ""
    now: float = 0.0
    key_id: str | None = None

    def reveal(self) -> str:
        """The secret's text. Raises `ConfigError` where there is none."""
        if self.secret is None:
            raise ConfigError("this client authentication needs a secret, a key or an assertion, and there is none")
        return self.secret.reveal()


def none(client_id: str | None, proof: Proof) -> Added:
    """A public client says which one it is, and proves nothing (section 3.2.1)."""
    return (("client_id", client_id or ""),), ()


def client_secret_basic(client_id: str | None, proof: Proof) -> Added:
    """RFC 6749 section 2.3.1: both halves are form-encoded before they are joined, or odd characters are refused."""
    pair = f"{quote_plus(client_id or '')}:{quote_plus(proof.reveal())}"
    return (), (("Authorization", "Basic " + base64.b64encode(pair.encode()).decode()),)


def client_secret_basic_raw(client_id: str | None, proof: Proof) -> Added:
    """The same without the encoding, for servers that do not undo it."""
    pair = f"{client_id or ''}:{proof.reveal()}"
    return (), (("Authorization", "Basic " + base64.b64encode(pair.encode()).decode()),)


def client_secret_post(client_id: str | None, proof: Proof) -> Added:
    """RFC 6749 section 2.3.1, in the body, for servers that take nothing else."""
    return (("client_id", client_id or ""), ("client_secret", proof.reveal())), ()


def client_secret_jwt(client_id: str | None, proof: Proof) -> Added:
    """OpenID Connect Core section 9: the secret signs, and does not travel."""
    from joserfc.jwk import OctKey

    return _assertion(client_id, _signed(client_id or "", proof, OctKey.import_key(proof.reveal()), "HS256"))


def private_key_jwt(client_id: str | None, proof: Proof) -> Added:
    """
    OpenID Connect Core section 9: a key signs whose public half the server knows. RSA and EC keys in PEM.

    Raises `ConfigError` for what is no private key.
    """
    key, algorithm = _private_key(proof.reveal(), "the client's private key")
    return _assertion(client_id, _signed(client_id or "", proof, key, algorithm))


def signed(claims: dict[str, object], pem: Secret, key_id: str | None) -> str:
    """A JWT of `claims`, signed with a private RSA or EC key in PEM. Raises `ConfigError` for what is none."""
    key, algorithm = _private_key(pem.reveal(), "the private key for assertions")
    return _encoded(claims, key, algorithm, key_id)


def _private_key(pem: str, what: str) -> tuple[Key, str]:
    from joserfc.errors import JoseError
    from joserfc.jwk import ECKey, RSAKey

    algorithms = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
    for kind in (RSAKey, ECKey):
        try:
            key = kind.import_key(pem)
            algorithm = "RS256" if kind is RSAKey else algorithms[key.curve_name]
        except (ValueError, TypeError, KeyError, AttributeError, JoseError):
            continue
        if key.is_private:
            return key, algorithm
    raise ConfigError(f"{what} cannot be read", hint="it must be an RSA or EC key in PEM, unencrypted")


def federated(client_id: str | None, proof: Proof) -> Added:
    """
    RFC 7523 section 2.2 with an assertion that somebody else signed: a Kubernetes projected token, for example.

    The server knows from its issuer and subject whose it is, so there may be no `client_id`.
    """
    return _assertion(client_id, proof.reveal())


def _assertion(client_id: str | None, assertion: str) -> Added:
    fields = (("client_assertion_type", JWT_BEARER), ("client_assertion", assertion))
    return ((("client_id", client_id), *fields) if client_id else fields), ()


def _signed(client_id: str, proof: Proof, key: Key, algorithm: str) -> str:
    from uuid import uuid4

    issued_at = int(proof.now)
    claims: dict[str, object] = {
        "iss": client_id,
        "sub": client_id,
        "aud": proof.audience,
        "iat": issued_at,
        "exp": issued_at + ASSERTION_LIFETIME,
        "jti": uuid4().hex,
    }
    return _encoded(claims, key, algorithm, proof.key_id)


def _encoded(claims: dict[str, object], key: Key, algorithm: str, key_id: str | None) -> str:
    from joserfc import jwt

    header = {"alg": algorithm, "typ": "JWT"} | ({"kid": key_id} if key_id else {})
    return str(jwt.encode(header, claims, key, algorithms=[algorithm]))


METHODS: dict[str, Callable[[str | None, Proof], Added]] = {
    "none": none,
    "client_secret_basic": client_secret_basic,
    "client_secret_basic_raw": client_secret_basic_raw,
    "client_secret_post": client_secret_post,
    "client_secret_jwt": client_secret_jwt,
    "private_key_jwt": private_key_jwt,
    "federated": federated,
}
"""By the names of the IANA registry (RFC 8414 section 2); `client_secret_basic_raw` and `federated` are our own."""
