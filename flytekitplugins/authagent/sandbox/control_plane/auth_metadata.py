"""`AuthMetadataService`: how a client of the sandbox logs in."""

from __future__ import annotations

from typing import Any

from flyteidl.service import auth_pb2

from flytekitplugins.authagent.sandbox.control_plane.offered import Offered
from flytekitplugins.authagent.sandbox.posture import Issuer, Posture


class AuthMetadata(Offered):
    """The two calls that flyteadmin answers to anyone."""

    def __init__(self, issuer: Issuer, posture: Posture) -> None:
        self._issuer = issuer
        self._posture = posture

    def GetOAuth2Metadata(self, _request: Any, _context: Any) -> auth_pb2.OAuth2MetadataResponse:
        """The provider's metadata (RFC 8414); of an external one only what every provider says."""
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
        if self._posture.issuer == "internal":
            answer.response_types_supported.extend(["token", "code token"])
        return answer

    def GetPublicClientConfig(self, _request: Any, _context: Any) -> auth_pb2.PublicClientAuthConfigResponse:
        """The public client of command-line tools, and the header that a token belongs into."""
        return auth_pb2.PublicClientAuthConfigResponse(
            client_id="flytectl",
            redirect_uri="http://localhost:53593/callback",
            scopes=["all", "offline"],
            authorization_metadata_key="flyte-authorization",
        )
