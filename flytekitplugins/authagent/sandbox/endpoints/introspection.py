"""The introspection endpoint (RFC 7662)."""

from __future__ import annotations

from typing import Any

from authlib.consts import default_json_headers
from authlib.oauth2.rfc6749 import InvalidRequestError, TokenEndpoint

from flytekitplugins.authagent.sandbox.assertion import BadAssertion
from flytekitplugins.authagent.sandbox.grants.client_authentication import CONFIDENTIAL


class Introspection(TokenEndpoint):  # type: ignore[misc] # authlib has no types
    """
    Tells a confidential client whether a token is good, and what it says.

    authlib's own endpoint wants tokens that know when they end; ours are verified anew each time.
    """

    ENDPOINT_NAME = "introspection"
    CLIENT_AUTH_METHODS = CONFIDENTIAL

    def create_endpoint_response(self, request: Any) -> tuple[int, Any, Any]:
        """Called by authlib: the answer of section 2.2. Of a token that is not good it says nothing else."""
        client = self.authenticate_endpoint_client(request)
        if "token" not in request.form:
            raise InvalidRequestError("There is no token")
        self.server.counts.note("introspections", client.id)
        return (
            200,
            self._refresh_token(request.form["token"]) or self._access_token(request.form["token"]),
            (default_json_headers),
        )

    def _access_token(self, text: str) -> dict[str, Any]:
        issuer = self.server.issuer
        try:
            token, claims = issuer.read(text)
        except BadAssertion:
            return {"active": False}
        said = {
            name: claims[name] for name in ("iss", "sub", "aud", "exp", "iat", "nbf", "jti", "act") if name in claims
        }
        return {
            "active": True,
            "token_type": issuer.dialect.token_type,
            "client_id": token.client_id,
            "scope": " ".join(sorted(token.scopes)),
            **({"username": token.user} if token.user else {}),
            **said,
        }

    def _refresh_token(self, text: str) -> dict[str, Any] | None:
        issuer = self.server.issuer
        token = issuer.refresh_tokens.look(text)
        if token is None or issuer.now() >= token.expires_at:
            return None
        return {
            "active": True,
            "client_id": token.client_id,
            "scope": token.scope,
            "sub": token.user,
            "username": token.user,
            "exp": int(token.expires_at),
        }
