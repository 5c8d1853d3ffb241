"""The revocation endpoint (RFC 7009)."""

from __future__ import annotations

from typing import Any

from authlib.oauth2 import rfc7009
from authlib.oauth2.rfc6749 import InvalidRequestError

from flytekitplugins.authagent.sandbox.access_tokens import AccessToken
from flytekitplugins.authagent.sandbox.assertion import BadAssertion
from flytekitplugins.authagent.sandbox.grants.client_authentication import ANY
from flytekitplugins.authagent.sandbox.refresh_tokens import RefreshToken


class Revocation(rfc7009.RevocationEndpoint):  # type: ignore[misc] # authlib has no types
    """Ends a token: an access token alone, a refresh token with all that came from the same sign-in."""

    CLIENT_AUTH_METHODS = ANY

    def check_params(self, request: Any, client: Any) -> None:
        """Called by authlib, whose own refuses hints that it does not know; section 2.1 wants them ignored."""
        if "token" not in request.form:
            raise InvalidRequestError("There is no token")

    def query_token(self, token_string: str, token_type_hint: str | None) -> RefreshToken | AccessToken | None:
        """The token, or `None` for one that is dead or was never there, which is an answer of 200 all the same."""
        issuer = self.server.issuer
        refresh: RefreshToken | None = issuer.refresh_tokens.look(token_string)
        if refresh:
            return refresh
        try:
            access: AccessToken = issuer.read(token_string)[0]
        except BadAssertion:
            return None
        return access

    def revoke_token(self, token: RefreshToken | AccessToken, request: Any) -> None:
        """See the class."""
        issuer = self.server.issuer
        if isinstance(token, RefreshToken):
            issuer.families.revoke(token.family)
        else:
            issuer.access_tokens.revoke(token.jti)
        self.server.counts.note("revocations", request.client.id)
