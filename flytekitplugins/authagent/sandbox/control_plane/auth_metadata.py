"""`AuthMetadataService`: how a client of the sandbox logs in."""

from __future__ import annotations

from typing import Any

import grpc
from flyteidl.service import auth_pb2

from flytekitplugins.authagent.sandbox.client import CALLBACK, FLYTECTL
from flytekitplugins.authagent.sandbox.control_plane.offered import Offered
from flytekitplugins.authagent.sandbox.posture import Issuer, Posture
from flytekitplugins.authagent.sandbox.refusal import Refusal

SAID = (
    "authorization_endpoint", "device_authorization_endpoint", "issuer", "jwks_uri", "token_endpoint",
)  # fmt: skip
LISTED = (
    "code_challenge_methods_supported", "grant_types_supported", "response_types_supported", "scopes_supported",
    "token_endpoint_auth_methods_supported",
)  # fmt: skip
"""What of RFC 8414 flyteidl has a field for."""


class AuthMetadata(Offered):
    """The two calls that flyteadmin answers to anyone."""

    def __init__(self, issuer: Issuer, posture: Posture) -> None:
        self._issuer = issuer
        self._posture = posture

    def GetOAuth2Metadata(self, _request: Any, _context: Any) -> auth_pb2.OAuth2MetadataResponse:
        """The provider's metadata (RFC 8414): flyteadmin knows its own, and asks another's server each time."""
        if self._posture.issuer == "external":
            return self._asked()
        answer = auth_pb2.OAuth2MetadataResponse(
            issuer=self._issuer.issuer,
            authorization_endpoint=self._issuer.authorization_endpoint,
            token_endpoint=self._issuer.token_endpoint,
            jwks_uri=self._issuer.jwks_uri,
            response_types_supported=["code"],
            grant_types_supported=["client_credentials", "refresh_token", "authorization_code"],
            scopes_supported=["all"],
            token_endpoint_auth_methods_supported=["client_secret_basic"],
            code_challenge_methods_supported=["S256"],
        )
        answer.response_types_supported.extend(["token", "code token"])
        return answer

    def _asked(self) -> auth_pb2.OAuth2MetadataResponse:
        try:
            document = self._issuer.metadata()
        except OSError as error:
            raise Refusal(grpc.StatusCode.UNKNOWN, f"the issuer's metadata cannot be had: {error}") from error
        answer = auth_pb2.OAuth2MetadataResponse()
        for name in SAID:
            setattr(answer, name, str(document.get(name) or ""))
        for name in LISTED:
            listed = document.get(name)
            getattr(answer, name).extend(map(str, listed) if isinstance(listed, list) else ())
        return answer

    def GetPublicClientConfig(self, _request: Any, _context: Any) -> auth_pb2.PublicClientAuthConfigResponse:
        """The public client of command-line tools, and the header that a token belongs into."""
        return auth_pb2.PublicClientAuthConfigResponse(
            client_id=FLYTECTL,
            redirect_uri=CALLBACK,
            scopes=["all", "offline"],
            authorization_metadata_key="flyte-authorization",
        )
