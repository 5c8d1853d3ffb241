"""A control plane for tests, with an issuer of its own that mints whatever token a test wants to show."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
from flyteidl.service import (
    admin_pb2_grpc,
    auth_pb2_grpc,
    dataproxy_pb2_grpc,
    identity_pb2_grpc,
    signal_pb2_grpc,
)
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey

from flytekitplugins.authagent.sandbox.control_plane import ControlPlane
from flytekitplugins.authagent.sandbox.counts import Counts
from flytekitplugins.authagent.sandbox.faults import Faults
from flytekitplugins.authagent.sandbox.posture import Posture

AUDIENCE = "http://flyte.test"
STRANGER = RSAKey.generate_key(2048, {"kid": "stranger"})


class Issuer:
    """Keys, and tokens signed by them. `clients` says which client a `jti` was minted for."""

    issuer = "http://127.0.0.1:1"
    token_endpoint = "http://127.0.0.1:1/token"
    authorization_endpoint = "http://127.0.0.1:1/authorize"
    jwks_uri = "http://127.0.0.1:1/jwks"
    audience = AUDIENCE

    def __init__(self) -> None:
        self.rsa = RSAKey.generate_key(2048, {"kid": "rsa"})
        self.ec = ECKey.generate_key("P-256", {"kid": "ec"})
        self.clients: dict[str, str] = {}
        self.unreachable = False

    def keys(self) -> KeySet:
        if self.unreachable:
            raise ConnectionRefusedError("connection refused")
        return KeySet([self.rsa, self.ec])

    def metadata(self) -> dict[str, Any]:
        if self.unreachable:
            raise ConnectionRefusedError("connection refused")
        return {
            "issuer": self.issuer,
            "authorization_endpoint": self.authorization_endpoint,
            "token_endpoint": self.token_endpoint,
            "jwks_uri": self.jwks_uri,
            "device_authorization_endpoint": "http://127.0.0.1:1/device",
            "grant_types_supported": ["client_credentials", "authorization_code"],
            "response_types_supported": ["code"],
            "scopes_supported": "all",
            "token_endpoint_auth_methods_supported": ["client_secret_post"],
        }

    def client_of(self, jti: str) -> str | None:
        return self.clients.get(jti)

    def token(self, *, signed_by: Any = None, without: tuple[str, ...] = (), **claims: Any) -> str:
        """
        A token as flyteadmin's own server mints it for client credentials, changed by `claims`.

        It lives an hour; `without` takes claims away.
        """
        now = int(time.time())
        all_claims = {"aud": [AUDIENCE], "scp": ["all"], "client_id": "", "iat": now - 1, "exp": now + 3600}
        all_claims |= {"jti": f"token-{len(self.clients)}"} | claims
        key = signed_by or self.rsa
        header = {"alg": "ES256" if isinstance(key, ECKey) else "RS256", "kid": key.kid}
        kept = {name: value for name, value in all_claims.items() if name not in without}
        return jwt.encode(header, kept, key, algorithms=["RS256", "ES256"])


class Stubs:
    """The gRPC services of a control plane, called with the given metadata unless a call has its own."""

    def __init__(self, endpoint: str, metadata: Mapping[str, str] | None = None) -> None:
        self.channel = grpc.insecure_channel(endpoint)
        self.metadata = tuple((metadata or {}).items())
        self.admin = _Calls(admin_pb2_grpc.AdminServiceStub(self.channel), self.metadata)
        self.data = _Calls(dataproxy_pb2_grpc.DataProxyServiceStub(self.channel), self.metadata)
        self.identity = _Calls(identity_pb2_grpc.IdentityServiceStub(self.channel), self.metadata)
        self.signals = _Calls(signal_pb2_grpc.SignalServiceStub(self.channel), self.metadata)
        self.auth = _Calls(auth_pb2_grpc.AuthMetadataServiceStub(self.channel), self.metadata)


class _Calls:
    def __init__(self, stub: Any, metadata: tuple[tuple[str, str], ...]) -> None:
        self._stub = stub
        self._metadata = metadata

    def __getattr__(self, method: str) -> Any:
        call = getattr(self._stub, method)
        return lambda request, metadata=None: call(
            request, metadata=self._metadata if metadata is None else metadata, timeout=10
        )


class Running:
    """A control plane that runs, what it counts, and ways to call it."""

    def __init__(self, directory: Path, posture: Posture, environment: Mapping[str, str], slots: int) -> None:
        self.issuer = Issuer()
        self.counts = Counts()
        self.faults = Faults()
        self.directory = directory
        self.posture = posture
        self.plane = ControlPlane(
            issuer=self.issuer,
            counts=self.counts,
            faults=self.faults,
            posture=posture,
            directory=directory,
            task_environment=environment,
            slots=slots,
        )
        self.plane.start()

    def stubs(self, token: str | None = None) -> Stubs:
        """Stubs of somebody with this token, a good one by default; an empty one is sent as no header."""
        token = self.issuer.token() if token is None else token
        return Stubs(self.plane.endpoint, {"authorization": f"Bearer {token}"} if token else {})


@contextlib.contextmanager
def running(
    directory: Path,
    posture: Posture = Posture(),  # noqa: B008  # frozen
    environment: Mapping[str, str] | None = None,
    slots: int = 2,
) -> Iterator[Running]:
    """A control plane that runs while this is open."""
    control_plane = Running(directory, posture, {} if environment is None else environment, slots)
    try:
        yield control_plane
    finally:
        control_plane.plane.stop()
