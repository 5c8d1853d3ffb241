"""An identity provider that publishes keys and answers about tokens, on loopback, and counts what it was asked."""

from __future__ import annotations

import base64
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs

from joserfc.jwk import ECKey, Key, KeySet, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from flytekitplugins.authagent.sandbox.exchange import Answer, Call, json_answer
from flytekitplugins.authagent.sandbox.loopback import LoopbackServer

HUB, CLI, ALICE = "authagent-hub", "authagent-cli", "alice"
FLYTE = "https://flyte.example.com"
INTROSPECTOR = "authagent-introspector"

RSA = RSAKey.generate_key(2048, {"kid": "rsa"})
EC = ECKey.generate_key("P-256", {"kid": "ec"})
KEYS: tuple[Key, ...] = (
    RSA,
    EC,
    ECKey.generate_key("P-384", {"kid": "ec-384"}),
    ECKey.generate_key("P-521", {"kid": "ec-521"}),
    OKPKey.generate_key("Ed25519", {"kid": "ed"}),
)
OTHER = ECKey.generate_key("P-256", {"kid": "ec"})
"""Another key under the same name."""
UNKNOWN = ECKey.generate_key("P-256", {"kid": "unknown"})

_USUAL = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}


class SmallIssuer:
    """`answers` may be replaced by path; `tokens` are what is known of opaque ones; `asked` counts by path."""

    def __init__(self, keys: tuple[Key, ...] = KEYS) -> None:
        self.published = list(keys)
        self.tokens: dict[str, Any] = {}
        self.shown: list[tuple[str, ...]] = []
        self.asked: Counter[str] = Counter()
        self.answers: dict[str, Callable[[Call], Answer | None]] = {
            "/.well-known/openid-configuration": lambda call: json_answer(200, self.document()),
            "/jwks": lambda call: json_answer(200, KeySet(self.published).as_dict(private=False)),
            "/introspect": self._introspect,
        }
        self._server = LoopbackServer("issuer", self._answer)
        self.url = self._server.url
        self._server.start()
        self.stop = self._server.stop

    def document(self) -> dict[str, Any]:
        return {
            "issuer": self.url,
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/jwks",
            "introspection_endpoint": f"{self.url}/introspect",
        }

    def claims(self, **changed: Any) -> dict[str, Any]:
        """Those of a good token; `None` takes one away."""
        now = int(time.time())
        usual = {"iss": self.url, "aud": HUB, "sub": ALICE, "client_id": CLI, "iat": now, "exp": now + 300}
        return {name: value for name, value in (usual | changed).items() if value is not None}

    def token(self, key: Key = EC, alg: str | None = None, header: dict[str, Any] | None = None, **claims: Any) -> str:
        """A token signed with `key`; a header parameter of `None` is left out."""
        return signed(self.claims(**claims), key, alg, header)

    def _introspect(self, call: Call) -> Answer:
        form = {name: values[0] for name, values in parse_qs(call.body.decode()).items()}
        self.shown.append((form["token"], form["token_type_hint"], call.headers.get("authorization", "")))
        return json_answer(200, self.tokens.get(form["token"], {"active": False}))

    def _answer(self, call: Call) -> Answer | None:
        self.asked[call.path] += 1
        answer = self.answers.get(call.path)
        return answer(call) if answer else Answer(404)


def signed(claims: dict[str, Any], key: Key, alg: str | None = None, header: dict[str, Any] | None = None) -> str:
    """A JWT, whatever its header says; `alg` is what signs."""
    algorithm = alg or {"P-384": "ES384", "P-521": "ES512"}.get(str(key.get("crv")), _USUAL[key.key_type])
    whole = {"alg": algorithm, "typ": "at+jwt", "kid": key.kid} | (header or {})
    kept = {name: value for name, value in whole.items() if value is not None}
    content = f"{encoded(kept)}.{encoded(claims)}"
    signature = JWSRegistry.algorithms[algorithm].sign(content.encode(), key)
    return f"{content}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def encoded(part: Any) -> str:
    """A part of a JWT."""
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


@contextmanager
def issuing(keys: tuple[Key, ...] = KEYS) -> Iterator[SmallIssuer]:
    """An issuer that answers, until the end of the block."""
    it = SmallIssuer(keys)
    try:
        yield it
    finally:
        it.stop()


class Clock:
    """A steady clock that a test turns."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now
