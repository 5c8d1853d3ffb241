"""Token exchange (RFC 8693), which authlib does not have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from authlib.oauth2.rfc6749 import InvalidRequestError, InvalidScopeError, UnauthorizedClientError
from authlib.oauth2.rfc6749.grants import BaseGrant, TokenEndpointMixin

from flytekitplugins.authagent.sandbox import assertion
from flytekitplugins.authagent.sandbox.assertion import BadAssertion
from flytekitplugins.authagent.sandbox.client import TOKEN_EXCHANGE, Client
from flytekitplugins.authagent.sandbox.dialect import AUDIENCE_OF
from flytekitplugins.authagent.sandbox.families import new_family
from flytekitplugins.authagent.sandbox.grants.client_authentication import CONFIDENTIAL
from flytekitplugins.authagent.sandbox.trusted_issuer import issuer_of
from flytekitplugins.authagent.sandbox.users import USERS

ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - a name of RFC 8693
REFRESH_TOKEN = "urn:ietf:params:oauth:token-type:refresh_token"  # noqa: S105 - as above
JWT = "urn:ietf:params:oauth:token-type:jwt"

MOST_ACTORS = 5
"""How many may act for one another."""


@dataclass(frozen=True)
class _Party:
    """Whom a subject or actor token is about. `scopes` is `None` where the token names none."""

    issuer: str
    subject: str
    scopes: frozenset[str] | None
    expires_at: float
    family: str
    claims: Mapping[str, Any]


class TokenExchange(BaseGrant, TokenEndpointMixin):  # type: ignore[misc] # authlib has no types
    """
    A token for one who is named by another token, and where an actor shows one too, of the actor acting for them.

    An application to which people show tokens, as the hub is, may exchange such a token for a refresh token of its
    own. That is a sign-in of its own too: it outlives the token that was shown and the sign-in which that came from,
    and revoking it ends nothing else. As with Keycloak the answer holds an access token beside it.
    """

    GRANT_TYPE = TOKEN_EXCHANGE
    TOKEN_ENDPOINT_AUTH_METHODS = CONFIDENTIAL

    def validate_token_request(self) -> None:
        """
        Called by authlib. A token that cannot be used is `invalid_request` (section 2.2.2), another audience is
        `invalid_target`.
        """
        client = self.authenticate_token_endpoint_client()
        if not client.check_grant_type(self.GRANT_TYPE):
            raise UnauthorizedClientError("The client may not exchange tokens")
        self._check_requested(client)
        subject, actor = self._party("subject"), self._party("actor")
        if subject is None:
            raise InvalidRequestError("There is no subject_token")
        if self._wanted == REFRESH_TOKEN:
            _check_shown_to(client, subject)
        self._subject, self._until = subject, min(subject.expires_at, actor.expires_at if actor else subject.expires_at)
        self._actor = self._acting(subject, actor)
        self._scope = self._granted(subject)

    def create_token_response(self) -> tuple[int, Any, list[tuple[str, str]]]:
        """Called by authlib: the answer of section 2.2.1."""
        signed_in = self._wanted == REFRESH_TOKEN
        token = self._signed_in() if signed_in else self._mint(until=self._until, family=self._subject.family)
        token["issued_token_type"] = self._wanted
        self.save_token(token)
        self.server.counts.note("exchanges", self.request.client.id)
        return 200, token, self.TOKEN_RESPONSE_HEADER

    def _check_requested(self, client: Client) -> None:
        """Note what kind of token is wanted. Raises `InvalidRequestError` for one that `client` cannot have."""
        self._wanted: str = self.request.form.get("requested_token_type", ACCESS_TOKEN)
        issued = {ACCESS_TOKEN, JWT} | ({REFRESH_TOKEN} if client.id in AUDIENCE_OF else set())
        if self._wanted not in issued:
            raise InvalidRequestError("Only access tokens are issued here")

    def _mint(self, **more: Any) -> dict[str, Any]:
        audience = self.server.asked(self.request)
        token: dict[str, Any] = self.server.mint(
            self.request.client, self._subject.subject, self._scope, actor=self._actor, audience=audience, **more
        )
        return token

    def _signed_in(self) -> dict[str, Any]:
        """An access token, and a refresh token that brings others like it."""
        issuer, family = self.server.issuer, new_family()
        token = self._mint(family=family)
        refresh = issuer.refresh_tokens.issue(
            self.request.client.id,
            self._subject.subject,
            self._scope,
            now=issuer.now(),
            family=family,
            audience=self.server.asked(self.request),
            actor=self._actor,
        )
        token["refresh_token"] = refresh.text
        return token

    def _party(self, role: str) -> _Party | None:
        """Who the token of this role is about. Raises `InvalidRequestError` for one that cannot be used."""
        form = self.request.form
        text, kind = form.get(f"{role}_token"), form.get(f"{role}_token_type")
        if text is None and kind is None:
            return None
        if text is None or kind not in (ACCESS_TOKEN, JWT):
            raise InvalidRequestError(f"The {role}_token and its {role}_token_type do not go together")
        try:
            return self._read(text, kind)
        except BadAssertion as wrong:
            raise InvalidRequestError(f"The {role}_token cannot be used: {wrong}") from None

    def _read(self, text: str, kind: str) -> _Party:
        issuer = self.server.issuer
        other = issuer_of(text, issuer.trusted)
        if other is None:
            token, claims = issuer.read(text)
            subject = token.user or token.client_id
            return _Party(issuer.issuer, subject, token.scopes, claims["exp"], token.family, claims)
        if kind != JWT:
            raise BadAssertion("it is no access token of ours")
        subject, claims = other.read(text, audiences=(issuer.issuer, issuer.token_endpoint), now=issuer.now())
        return _Party(other.issuer, subject, None, claims["exp"], new_family(), claims)

    def _acting(self, subject: _Party, actor: _Party | None) -> dict[str, Any] | None:
        """
        The `act` claim: the actor outermost, those who acted before inside (section 4.1).

        Raises `InvalidRequestError` where the subject token says that somebody else may act (section 4.4), whether
        there is an actor or not: else leaving the actor out would lift the restriction.
        """
        before, permitted = subject.claims.get("act"), subject.claims.get("may_act")
        claims = actor.claims if actor else {"iss": self.server.issuer.issuer, "sub": self.request.client.id}
        if permitted is not None and not (
            isinstance(permitted, dict)
            and permitted.get("sub") == claims.get("sub")
            and permitted.get("iss", claims.get("iss")) == claims.get("iss")
        ):
            raise InvalidRequestError("The subject_token says that somebody else may act")
        if actor is None:
            return before if isinstance(before, dict) else None
        acting: dict[str, Any] = {"iss": actor.issuer, "sub": claims["sub"]}
        if isinstance(before, dict):
            acting["act"] = before
        if _depth(acting) > MOST_ACTORS:
            raise InvalidRequestError("Too many act for one another")
        return acting

    def _granted(self, subject: _Party) -> str:
        """The scopes of the new token: what was asked for, of what the subject token has and the client may have."""
        asked = self.request.payload.scope
        self.request.client.check_scope(asked)
        had = subject.scopes
        if asked:
            if had is not None and not had.issuperset(asked.split()):
                raise InvalidScopeError("The subject_token does not have this scope")
            return str(asked)
        default = self.server.issuer.dialect.default_scope if had is None else " ".join(sorted(had))
        return str(self.request.client.get_allowed_scope(default))


def _check_shown_to(client: Client, subject: _Party) -> None:
    """Raises `InvalidRequestError` unless the subject token is a person's, and was made to be shown to `client`."""
    if subject.subject not in USERS:
        raise InvalidRequestError("The subject_token is not a person's")
    try:
        assertion.check_audience(dict(subject.claims), (AUDIENCE_OF[client.id],))
    except BadAssertion:
        raise InvalidRequestError("The subject_token is not for the client that shows it") from None


def _depth(acting: Any) -> int:
    depth = 0
    while isinstance(acting, dict):
        depth, acting = depth + 1, acting.get("act")
    return depth
