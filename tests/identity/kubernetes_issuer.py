"""
Tokens as a Kubernetes cluster projects them into pods, from an issuer on loopback with discovery and keys.

What a relying party sees is that of the API server (service account issuer discovery); there is no cluster.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from joserfc import jwt
from joserfc.jwk import RSAKey


class KubernetesIssuer:
    """`url` is the issuer; `token` makes what a pod would be given."""

    def __init__(self) -> None:
        self._key = RSAKey.generate_key(2048, parameters={"use": "sig", "alg": "RS256"}, auto_kid=True)
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def token(self, audience: str, *, namespace: str = "flyte", service_account: str = "agent", **changed: Any) -> str:
        """
        A bound service account token for `audience`, good for an hour.

        `changed` replaces claims; one that is None is left out.
        """
        now = int(time.time())
        claims = {
            "iss": self.url,
            "sub": f"system:serviceaccount:{namespace}:{service_account}",
            "aud": [audience],
            "iat": now,
            "nbf": now,
            "exp": now + 3600,
            "jti": str(uuid.uuid4()),
            "kubernetes.io": {
                "namespace": namespace,
                "node": {"name": "node-1", "uid": str(uuid.uuid4())},
                "pod": {"name": f"{service_account}-0", "uid": str(uuid.uuid4())},
                "serviceaccount": {"name": service_account, "uid": str(uuid.uuid4())},
                "warnafter": now + 3607,
            },
        } | changed
        kept = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode({"alg": "RS256", "kid": self._key.kid}, kept, self._key)

    def private_key(self) -> tuple[bytes, str]:
        """What it signs with, for somebody else who is to be taken for it: the key in PEM, and its id."""
        return self._key.as_pem(private=True), str(self._key.kid)

    def project(self, file: Path, audience: str, **claims: Any) -> str:
        """
        Write a token into `file` as kubelet does: readable by its owner, and replaced whole.

        kubelet projects again at 80 % of the lifetime; call this again for that. Returns the token.
        """
        token = self.token(audience, **claims)
        new = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
        new.touch(mode=0o600)
        new.write_text(token)
        new.replace(file)
        return token

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        issuer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                documents = {
                    "/.well-known/openid-configuration": {
                        "issuer": issuer.url,
                        "jwks_uri": f"{issuer.url}/openid/v1/jwks",
                        "response_types_supported": ["id_token"],
                        "subject_types_supported": ["public"],
                        "id_token_signing_alg_values_supported": ["RS256"],
                    },
                    "/openid/v1/jwks": {"keys": [issuer._key.as_dict(private=False)]},
                }
                document = documents.get(self.path)
                body = json.dumps(document or {"error": "not found"}).encode()
                self.send_response(200 if document else 404)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler


@contextlib.contextmanager
def kubernetes_issuer() -> Iterator[KubernetesIssuer]:
    """An issuer with a key of its own."""
    issuer = KubernetesIssuer()
    issuer.start()
    try:
        yield issuer
    finally:
        issuer.stop()
