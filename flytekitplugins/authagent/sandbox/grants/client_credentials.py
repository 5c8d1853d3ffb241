"""The client credentials grant (RFC 6749 section 4.4)."""

from __future__ import annotations

from typing import Any

from authlib.oauth2.rfc6749 import grants

from flytekitplugins.authagent.sandbox.grants.client_authentication import CONFIDENTIAL


class ClientCredentials(grants.ClientCredentialsGrant):  # type: ignore[misc] # authlib has no types
    """A token of the client itself."""

    TOKEN_ENDPOINT_AUTH_METHODS = CONFIDENTIAL

    def validate_requested_scope(self) -> None:
        """Called by authlib once the client is known. Raises `InvalidScopeError`."""
        self.request.client.check_scope(self.request.payload.scope)

    def generate_token(self, *, scope: str | None = None, **_: Any) -> dict[str, Any]:
        """Called by authlib: what the client gets."""
        server = self.server
        wanted = scope or server.issuer.dialect.default_scope
        token: dict[str, Any] = server.mint(self.request.client, None, wanted, audience=server.asked(self.request))
        return token
