"""The authorization code grant, with a proof key (RFC 6749 section 4.1, RFC 7636)."""

from __future__ import annotations

import re
from typing import Any

from authlib.oauth2.rfc6749 import InvalidGrantError, InvalidRequestError, grants
from authlib.oauth2.rfc7636 import CodeChallenge

from flytekitplugins.authagent.sandbox.authorization_codes import AuthorizationCode
from flytekitplugins.authagent.sandbox.client import Client
from flytekitplugins.authagent.sandbox.grants.client_authentication import ANY
from flytekitplugins.authagent.sandbox.token_request import TokenRequest

DEAD = "The code is unknown, expired or used"

_SHA256 = re.compile(r"[A-Za-z0-9_-]{43}")


class S256Only(CodeChallenge):  # type: ignore[misc] # authlib has no types
    """PKCE as RFC 9700 section 2.1.1 wants it: always S256, and never left out by a public client."""

    def validate_code_challenge(self, grant: Any, redirect_uri: str) -> None:
        """Called by authlib for the authorization request. Raises `InvalidRequestError`."""
        sent = grant.request.payload.data
        challenge, method = sent.get("code_challenge"), sent.get("code_challenge_method")
        if challenge is None and method is None and not grant.request.client.public:
            return
        if challenge is None:
            raise InvalidRequestError("There is no code_challenge, which a public client needs")
        if method != "S256":
            raise InvalidRequestError("The code_challenge_method must be S256")
        if not _SHA256.fullmatch(challenge):
            raise InvalidRequestError("The code_challenge is no SHA-256")


class AuthorizationCodeGrant(grants.AuthorizationCodeGrant):  # type: ignore[misc] # authlib has no types
    """A token of somebody who signed in with a browser."""

    TOKEN_ENDPOINT_AUTH_METHODS = ANY

    def validate_requested_scope(self) -> None:
        """Called by authlib for the authorization request. Raises `InvalidScopeError`."""
        client, payload = self.request.client, self.request.payload
        client.check_scope(payload.scope)
        if payload.scope is None:
            self.request.payload.data["scope"] = self.server.issuer.dialect.default_scope

    def generate_authorization_code(self) -> str:
        """Called by authlib when the user agreed: the code, with all that belongs to it."""
        issuer, request = self.server.issuer, self.request
        code: AuthorizationCode = issuer.authorization_codes.issue(
            request.client.id,
            request.user,
            request.payload.scope or "",
            redirect_uri=request.payload.redirect_uri,
            code_challenge=request.payload.data.get("code_challenge"),
            nonce=request.payload.data.get("nonce"),
            now=issuer.now(),
            audience=self.server.asked(request),
        )
        return code.text

    def save_authorization_code(self, code: str, request: TokenRequest) -> None:
        """Done in `generate_authorization_code`."""

    def query_authorization_code(self, code: str, client: Client) -> AuthorizationCode:
        """The code, if `client` can use it. Raises `InvalidGrantError`."""
        issuer = self.server.issuer
        found: AuthorizationCode | None = issuer.authorization_codes.find(code, client.id, now=issuer.now())
        if found is None:
            raise InvalidGrantError(DEAD)
        return found

    def authenticate_user(self, authorization_code: AuthorizationCode) -> str:
        """Whom it speaks for. The code is spent here: of two who use it at once, one wins, and loses what it got."""
        if not self.server.issuer.authorization_codes.spend(authorization_code):
            raise InvalidGrantError(DEAD)
        return authorization_code.user

    def generate_token(self, user: str, scope: str, **_: Any) -> dict[str, Any]:
        """What the client gets."""
        code: AuthorizationCode = self.request.authorization_code
        client = self.request.client
        self.server.counts.note("codes", client.id)
        token: dict[str, Any] = self.server.sign_in(
            client,
            user,
            scope,
            family=code.family,
            audience=self.server.asked(self.request) or code.audience,
            nonce=code.nonce,
            auth_time=code.auth_time,
        )
        return token

    def delete_authorization_code(self, authorization_code: AuthorizationCode) -> None:
        """Done in `authenticate_user`."""
