"""The refresh grant (RFC 6749 section 6)."""

from __future__ import annotations

from typing import Any

from authlib.oauth2.rfc6749 import grants

from flytekitplugins.authagent.sandbox.grants.client_authentication import ANY
from flytekitplugins.authagent.sandbox.refresh_tokens import RefreshToken


class Refresh(grants.RefreshTokenGrant):  # type: ignore[misc] # authlib has no types
    """A further token of somebody who signed in before."""

    TOKEN_ENDPOINT_AUTH_METHODS = ANY

    def authenticate_refresh_token(self, refresh_token: str) -> RefreshToken:
        """The token, if it can be used. Raises what the dialect says of one that cannot."""
        issuer = self.server.issuer
        found: RefreshToken | None = issuer.refresh_tokens.find(refresh_token, now=issuer.now())
        if found is None:
            raise issuer.dialect.dead_refresh_token()
        return found

    def authenticate_user(self, refresh_token: RefreshToken) -> str:
        """Whom it speaks for."""
        return refresh_token.user

    def issue_token(self, user: str, refresh_token: RefreshToken) -> dict[str, Any]:
        """The old token is spent here, in one step with making the new one: of two who use it at once, one wins."""
        issuer = self.server.issuer
        successor = issuer.refresh_tokens.rotate(refresh_token, now=issuer.now())
        if successor is None:
            raise issuer.dialect.dead_refresh_token()
        wanted = self.request.payload.scope or refresh_token.scope
        client = self.request.client
        token: dict[str, Any] = self.server.mint(
            client,
            user,
            wanted,
            spared=refresh_token.spared,
            family=refresh_token.family,
            audience=self.server.asked(self.request) or refresh_token.audience,
            actor=refresh_token.actor,
            signed_in_at=refresh_token.signed_in_at,
        )
        token["refresh_token"] = successor.text
        self.server.identify(token, client, user)
        self.server.counts.note("refreshes", client.id)
        return token

    def revoke_old_credential(self, refresh_token: RefreshToken) -> None:
        """Done in `issue_token`."""
