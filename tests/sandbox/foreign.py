"""Somebody else who signs JWTs: a Kubernetes cluster, say."""

from __future__ import annotations

import base64
import hmac
import json
import time
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OctKey, RSAKey

from flytekitplugins.authagent.sandbox.trusted_issuer import TrustedIssuer

CLUSTER = "https://kubernetes.example"
RUNNER = "system:serviceaccount:flyte:runner"
PERSON = "person-7"
STRANGER = "system:serviceaccount:flyte:stranger"

EC = ECKey.generate_key("P-256", {"kid": "cluster"})
RSA = RSAKey.generate_key(2048, {"kid": "cluster-rsa"})
OTHER = ECKey.generate_key("P-256", {"kid": "cluster"})
"""Another key under the same name."""


class Cluster:
    """Keys that can be away, and tokens signed by them."""

    def __init__(self) -> None:
        self.reachable = True

    def keys(self) -> KeySet:
        if not self.reachable:
            raise ConnectionRefusedError
        return KeySet([RSA, EC])

    def trusted(self) -> TrustedIssuer:
        return TrustedIssuer(CLUSTER, self.keys, {RUNNER: "batch", PERSON: "bob"})


def signed(
    claims: dict[str, Any], key: Any = EC, *, without: tuple[str, ...] = (), kid: bool = True, alg: str | None = None
) -> str:
    """A JWT of these claims that lives a minute, unless they say otherwise."""
    now = int(time.time())
    algorithm = alg or {ECKey: "ES256", RSAKey: "RS256", OctKey: "HS256"}[type(key)]
    whole = {"iat": now, "exp": now + 60} | claims
    kept = {name: value for name, value in whole.items() if name not in without}
    header = {"alg": algorithm} | ({"kid": key.kid} if kid and key.kid else {})
    return jwt.encode(header, kept, key, algorithms=[algorithm])


def projected(audience: object, subject: str = RUNNER, key: Any = EC, **claims: Any) -> str:
    """What the kubelet puts into a pod: for one audience, about its service account."""
    _, _, namespace, name = (subject.split(":") + [""] * 4)[:4]
    about = {"namespace": namespace, "serviceaccount": {"name": name, "uid": "1"}, "pod": {"name": "p", "uid": "2"}}
    whole = {"iss": CLUSTER, "sub": subject, "aud": audience, "nbf": int(time.time()), "kubernetes.io": about} | claims
    return signed({name: value for name, value in whole.items() if value is not None}, key)


def tampered(token: str, **claims: Any) -> str:
    """The same signature over other claims."""
    header, payload, signature = token.split(".")
    content = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))) | claims
    return f"{header}.{_encoded(content)}.{signature}"


def unsigned(claims: dict[str, Any]) -> str:
    """A JWT with `alg: none`."""
    return ".".join([_encoded({"alg": "none"}), _encoded(claims), ""])


def signed_with_bytes(claims: dict[str, Any], secret: bytes, kid: str) -> str:
    """A JWT by HS256 with any bytes as its secret, a public key's too, which no library would do."""
    content = f"{_encoded({'alg': 'HS256', 'kid': kid})}.{_encoded(claims)}"
    signature = base64.urlsafe_b64encode(hmac.digest(secret, content.encode(), "sha256")).decode().rstrip("=")
    return f"{content}.{signature}"


def _encoded(part: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
