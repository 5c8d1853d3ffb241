"""An access token that is a signed JWT (RFC 7515, RFC 9068): from its text to claims that its issuer has signed."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Collection, Sequence
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import Key
from joserfc.jws import CompactSignature, JWSRegistry

from flytekitplugins.authagent.credential import MAX_TOKEN
from flytekitplugins.authagent.hub.person import refused

Find = Callable[[str | None, str], Sequence[Key]]
"""The issuer's keys that fit a `kid`, or `None`, and an algorithm."""

MAX_KID = 256
"""Characters of a key's name."""


class _Registry(JWSRegistry):
    """The library's, with limits that real issuers fit into; parameters that nobody knows are ignored, as RFC 7515
    section 4 says: those that must not be are in `crit`, and a token that has that is refused."""

    max_header_length = 8192
    max_payload_length = MAX_TOKEN
    max_signature_length = 2048

    def get_alg(self, name: str) -> Any:
        """Without the library's warning that EdDSA has new names (RFC 9864): it is for issuers to follow them."""
        return self.algorithms[name]


_REGISTRY = _Registry(strict_check_header=False)


def is_jwt(text: str) -> bool:
    """
    Whether `text` says of itself that it is a JWT: three parts, the first of them JSON.

    Read more leniently than it is verified. What passes for one anywhere is judged as one and as nothing else.
    """
    parts = text.split(".")
    if len(parts) != 3:
        return False
    try:
        json.loads(base64.urlsafe_b64decode(parts[0] + "=" * (-len(parts[0]) % 4)))
    except (ValueError, RecursionError):
        return False
    return True


def claims(
    text: str, find: Find, *, issuer: str, types: Collection[str], algorithms: Collection[str]
) -> dict[str, Any]:
    """
    What `issuer` has signed. `types` are lower-case and without `application/`.

    Nothing is asked of `find` for a token that is refused without it. Raises `Refusal`, and what `find` raises.
    """
    token, said = _read(text)
    header = token.headers()
    algorithm, kid = _checked(header, types, algorithms)
    if said.get("iss") != issuer:
        raise refused("the token is from another issuer")
    keys = find(kid, algorithm)
    if not keys:
        raise refused("the token is signed with a key that the issuer does not have")
    if kid is None and len(keys) > 1:
        raise refused("the token does not say which of the issuer's keys has signed it")
    if not any(_is_signed_by(token, key) for key in keys):
        raise refused("the signature of the token is wrong")
    return said


def _read(text: str) -> tuple[CompactSignature, dict[str, Any]]:
    """The token and what it claims, before anything is proven."""
    try:
        token = jws.extract_compact(text.encode(), registry=_REGISTRY)
        said = json.loads(token.payload)
    except (JoseError, ValueError, TypeError, AttributeError, RecursionError):
        raise refused("the token is a JWT that cannot be read") from None
    if not isinstance(token.headers(), dict) or not isinstance(said, dict):
        raise refused("the token is a JWT that cannot be read")
    return token, said


def _checked(header: dict[str, Any], types: Collection[str], algorithms: Collection[str]) -> tuple[str, str | None]:
    """The algorithm and the `kid` that `header` names."""
    algorithm, kid, kind = header.get("alg"), header.get("kid"), header.get("typ")
    if not isinstance(algorithm, str) or algorithm not in algorithms:
        raise refused("the token is signed in a way that is not allowed")
    if "crit" in header or "b64" in header:
        raise refused("the token has a header parameter that must be understood, and is not (RFC 7515 section 4.1.11)")
    if not isinstance(kind, str) or kind.lower().removeprefix("application/") not in types:
        raise refused("the token does not say in its header that it is an access token (RFC 9068 section 2.1)")
    if kid is not None and (not isinstance(kid, str) or len(kid) > MAX_KID):
        raise refused("the token names a key in a way that is none")
    return algorithm, kid


def _is_signed_by(token: CompactSignature, key: Key) -> bool:
    try:
        return bool(jws.validate_compact(token, key, registry=_REGISTRY))
    except (JoseError, ValueError, TypeError):
        return False
