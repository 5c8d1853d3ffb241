"""The JWT bearer grant (RFC 7523 section 2.1). authlib's own maps an issuer to one client; here subjects are mapped."""

from __future__ import annotations

from typing import Any

from authlib.oauth2.rfc6749 import InvalidGrantError, InvalidRequestError, UnauthorizedClientError
from authlib.oauth2.rfc6749.grants import BaseGrant, TokenEndpointMixin

from flytekitplugins.authagent.sandbox.assertion import BadAssertion
from flytekitplugins.authagent.sandbox.client import JWT_BEARER
from flytekitplugins.authagent.sandbox.grants.client_authentication import CONFIDENTIAL
from flytekitplugins.authagent.sandbox.trusted_issuer import issuer_of


class JwtBearer(BaseGrant, TokenEndpointMixin):  # type: ignore[misc] # authlib has no types
    """
    A token for whom a trusted issuer's JWT is about.

    Where that is one of our clients, the JWT is enough; for a user a client must show who it is.
    """

    GRANT_TYPE = JWT_BEARER
    TOKEN_ENDPOINT_AUTH_METHODS = CONFIDENTIAL

    def validate_token_request(self) -> None:
        """Called by authlib. Raises `InvalidGrantError` for a JWT that cannot be used (section 3.1)."""
        form, clients = self.request.form, self.server.issuer.clients
        if "assertion" not in form:
            raise InvalidRequestError("There is no assertion")
        shows = bool(self.request.headers) or not form.keys().isdisjoint({"client_secret", "client_assertion"})
        client = self.authenticate_token_endpoint_client() if shows else None
        self._subject = self._mapped(form["assertion"])
        client = client or clients.get(self._subject) or self.authenticate_token_endpoint_client()
        self.request.client = client
        if client.public or not client.check_grant_type(self.GRANT_TYPE):
            raise UnauthorizedClientError("The client may not use a JWT as a grant")
        if form.get("client_id", client.id) != client.id:
            raise InvalidRequestError("The client_id is of another client")
        self._audience = self.server.asked(self.request)
        client.check_scope(self.request.payload.scope)

    def create_token_response(self) -> tuple[int, Any, list[tuple[str, str]]]:
        """Called by authlib. There is no refresh token: who has the next JWT asks again."""
        client = self.request.client
        user = None if self._subject == client.id else self._subject
        scope = self.request.payload.scope or self.server.issuer.dialect.default_scope
        token = self.server.mint(client, user, scope, audience=self._audience)
        self.save_token(token)
        self.server.counts.note("assertions", client.id)
        return 200, token, self.TOKEN_RESPONSE_HEADER

    def _mapped(self, text: str) -> str:
        """The client or user whom a trusted issuer's JWT is about."""
        issuer = self.server.issuer
        try:
            other = issuer_of(text, issuer.trusted)
            audiences = (issuer.issuer, issuer.token_endpoint)
            subject = other.read(text, audiences=audiences, now=issuer.now())[0] if other else None
        except BadAssertion as wrong:
            raise InvalidGrantError(f"The assertion cannot be used: {wrong}") from None
        if subject is None:
            raise InvalidGrantError("Nobody trusts the issuer of the assertion")
        return str(subject)
