"""Assertions that a client signs for itself."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey

from flytekitplugins.authagent.credential import Secret
from flytekitplugins.authagent.errors import ConfigError
from flytekitplugins.authagent.oauth.client_authentication import JWT_BEARER, METHODS, Added, Proof

NOW = 1_700_000_000.7


def claims_of(added: Added, key: object, algorithm: str) -> jwt.Token:
    fields, headers = dict(added[0]), added[1]
    assert headers == ()
    assert fields["client_assertion_type"] == JWT_BEARER
    return jwt.decode(fields["client_assertion"], key, algorithms=[algorithm])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (RSAKey.generate_key(2048), "RS256"),
        (ECKey.generate_key("P-256"), "ES256"),
        (ECKey.generate_key("P-384"), "ES384"),
        (ECKey.generate_key("P-521"), "ES512"),
    ],
    ids=["RSA", "P-256", "P-384", "P-521"],
)
def test_a_private_key_signs_for_the_issuer_and_for_a_minute(key: RSAKey, algorithm: str) -> None:
    pem = key.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    proof = Proof(Secret(pem), audience="https://idp", now=NOW, key_id="k1")
    one = claims_of(METHODS["private_key_jwt"]("me", proof), key, algorithm)
    other = claims_of(METHODS["private_key_jwt"]("me", proof), key, algorithm)

    assert one.header == {"alg": algorithm, "typ": "JWT", "kid": "k1"}
    expected = {"iss": "me", "sub": "me", "aud": "https://idp", "iat": 1_700_000_000, "exp": 1_700_000_060}
    assert one.claims.items() >= expected.items()
    assert one.claims["jti"] != other.claims["jti"]


def test_a_secret_signs_and_does_not_travel() -> None:
    secret = "a secret that is long enough to sign with"
    added = METHODS["client_secret_jwt"]("me", Proof(Secret(secret), audience="https://idp", now=NOW))
    assert claims_of(added, OctKey.import_key(secret), "HS256").claims["iss"] == "me"
    assert secret not in str(added)


def public_half() -> str:
    return ECKey.generate_key("P-256").public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


PEM = "-----{} {} KEY-----\n"


@pytest.mark.parametrize(
    "text",
    ["pl4nted", PEM.format("BEGIN", "PRIVATE") + "pl4nted\n" + PEM.format("END", "PRIVATE"), public_half()],
)
def test_what_is_no_private_key_is_an_error_that_does_not_show_it(text: str) -> None:
    with pytest.raises(ConfigError, match="private key cannot be read") as caught:
        METHODS["private_key_jwt"]("me", Proof(Secret(text), audience="https://idp"))
    assert "pl4nted" not in str(caught.value)


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"none"}))
def test_without_a_proof_nobody_can_be_convinced(method: str) -> None:
    with pytest.raises(ConfigError, match="there is none"):
        METHODS[method]("me", Proof())
