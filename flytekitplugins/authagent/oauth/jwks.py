"""The public keys that an issuer signs with (RFC 7517 section 5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey
from joserfc.jws import JWSRegistry
from joserfc.util import base64_to_int

from flytekitplugins.authagent.errors import ProviderError, ProviderUnavailable
from flytekitplugins.authagent.oauth.message import Request, Response

MAX_KEYS = 64
"""Keys in a document. Issuers publish two or three for each algorithm."""

RSA_BITS = range(2048, 8193)
"""Of an RSA key: NIST SP 800-131A wants 2048, and what is much larger only costs time."""

CURVES = frozenset({"P-256", "P-384", "P-521", "Ed25519", "Ed448"})
"""Those with a signature algorithm that may be allowed here."""

_KINDS: dict[object, Any] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}  # never "oct": who checks could sign too


def request(jwks_uri: str) -> Request:
    """Ask for the document."""
    return Request(jwks_uri, headers=(("Accept", "application/jwk-set+json, application/json"),))


def read(response: Response) -> tuple[Key, ...]:
    """
    The keys of the document that check signatures. Others are passed over, as section 5 says: those of another use or
    kind, symmetric and private ones, weak ones, and what is no key at all.

    Raises `ProviderUnavailable` where the document cannot be had for now, `ProviderError` where it is none, holds more
    than `MAX_KEYS` or none that can be used.
    """
    if response.is_refusal:
        kind = ProviderUnavailable if response.status == 429 or response.status >= 500 else ProviderError
        raise kind(f"{response.url} answered {response.status} where the issuer's keys should be")
    listed = response.json().get("keys")
    if not isinstance(listed, list):
        raise ProviderError(f"{response.url} answered without keys (RFC 7517 section 5)")
    if len(listed) > MAX_KEYS:
        raise ProviderError(f"{response.url} holds {len(listed)} keys; {MAX_KEYS} are read at most")
    keys = tuple(key for entry in listed if (key := _key(entry)) is not None)
    if not keys:
        raise ProviderError(f"{response.url} holds no key that can be used to check a signature")
    return keys


def fitting(keys: Sequence[Key], kid: str | None, algorithm: str) -> tuple[Key, ...]:
    """
    Those of `keys` that can have signed with `algorithm` under the name `kid`; with `None`, under any.

    An unknown algorithm, and one of a shared secret, has none.
    """
    known = JWSRegistry.algorithms.get(algorithm)
    if known is None:
        return ()
    return tuple(key for key in keys if kid in (None, key.kid) and _fits(key, known))


def _fits(key: Key, algorithm: Any) -> bool:
    """Whether its kind, its curve, and the `use` and `alg` that its issuer gave it allow that."""
    try:
        algorithm.check_key(key)
    except JoseError:
        return False
    return True


def _key(entry: object) -> Key | None:
    if not isinstance(entry, dict) or not isinstance(kty := entry.get("kty"), str) or "d" in entry:
        return None
    operations = entry.get("key_ops", ["verify"])
    if entry.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        return None
    try:
        if (kty == "RSA" and not _is_strong(entry)) or (kty != "RSA" and entry.get("crv") not in CURVES):
            return None
        key: Key = _KINDS[kty].import_key(entry)
    except (JoseError, ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return None
    return key


def _is_strong(entry: dict[str, Any]) -> bool:
    """Asked before the key is made: the library would only warn of a small one."""
    return base64_to_int(entry["n"]).bit_length() in RSA_BITS
