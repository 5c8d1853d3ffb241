"""authlib's authorization server, over the sandbox's issuer."""

from __future__ import annotations

from typing import Any

from authlib.oauth2 import AuthorizationServer as AuthlibServer
from authlib.oauth2.rfc6749 import InvalidClientError

from flytekitplugins.authagent.sandbox.client import Client
from flytekitplugins.authagent.sandbox.client_assertion import ClientAssertion
from flytekitplugins.authagent.sandbox.counts import Counts
from flytekitplugins.authagent.sandbox.exchange import Answer, json_answer
from flytekitplugins.authagent.sandbox.faults import Faults
from flytekitplugins.authagent.sandbox.grants.authorization_code import AuthorizationCodeGrant, S256Only
from flytekitplugins.authagent.sandbox.grants.client_credentials import ClientCredentials
from flytekitplugins.authagent.sandbox.grants.device_code import DeviceCodeGrant
from flytekitplugins.authagent.sandbox.grants.jwt_bearer import JwtBearer
from flytekitplugins.authagent.sandbox.grants.refresh_token import Refresh
from flytekitplugins.authagent.sandbox.grants.token_exchange import TokenExchange
from flytekitplugins.authagent.sandbox.issuer import Issuer
from flytekitplugins.authagent.sandbox.token_request import TokenRequest, client_secret_basic

GRANTS = (ClientCredentials, Refresh, AuthorizationCodeGrant, DeviceCodeGrant, TokenExchange, JwtBearer)
"""All that the token endpoint can do, of which each dialect does some."""

OFFLINE = frozenset({"offline", "offline_access"})
"""Scopes that bring a refresh token: flyteadmin's word, and OpenID Connect's."""


class TokenAnswer(dict[str, Any]):
    """A token response (RFC 6749 section 5.1) that does not show itself: authlib logs what it issues."""

    def __repr__(self) -> str:
        return f"TokenAnswer({', '.join(self)})"


class NotAuthenticated(InvalidClientError):  # type: ignore[misc] # authlib has no types
    """One answer for an unknown client, a wrong secret and none at all, so that nobody learns which it was."""

    def __init__(self) -> None:
        super().__init__("The client did not show who it is", status_code=401)

    def get_headers(self) -> list[tuple[str, str]]:
        """RFC 7617 wants a realm, which authlib leaves out."""
        others = [header for header in super().get_headers() if header[0] != "WWW-Authenticate"]
        return [*others, ("WWW-Authenticate", 'Basic realm="authagent sandbox", charset="UTF-8"')]


class AuthorizationServer(AuthlibServer):  # type: ignore[misc] # authlib has no types
    """Answers OAuth requests. Safe to use from any thread: all that it keeps is kept by `issuer` and `_last`."""

    def __init__(self, issuer: Issuer, counts: Counts, faults: Faults) -> None:
        super().__init__()
        self.issuer, self.counts, self.faults = issuer, counts, faults
        self._last: dict[tuple[str, str | None, str | None, frozenset[str]] | None, TokenAnswer] = {}
        self.register_client_auth_method("client_secret_basic", client_secret_basic)
        self.register_client_auth_method("client_assertion", ClientAssertion(issuer))
        for grant in GRANTS:
            if grant.GRANT_TYPE in issuer.dialect.grant_types:
                self.register_grant(grant, [S256Only()] if grant is AuthorizationCodeGrant else None)

    def mint(self, client: Client, user: str | None, scope: str, *, spared: bool = False, **more: Any) -> TokenAnswer:
        """
        A token for `scope`, joined by spaces, as RFC 6749 section 5.1 hands it out.

        `more` is what `Issuer.sign` takes. The faults that spoil tokens strike here, unless the request is `spared`;
        what comes of an exchange, or names an actor, is not handed out again.
        """
        take = _nothing if spared else self.faults.take
        scopes = scope.split()
        again = "until" not in more and not more.get("actor")
        kind = (client.id, user, more.get("audience"), frozenset(scopes)) if again else None
        if kind in self._last and take("same_token"):
            return TokenAnswer(self._last[kind])
        text, expires_in = self.issuer.sign(client.id, user, scopes, ahead=take("clock_skew_s") or 0, **more)
        answer = TokenAnswer(
            access_token=text, token_type=self.issuer.dialect.token_type, expires_in=expires_in, scope=scope
        )
        if kind:
            self._last[kind] = TokenAnswer(answer)
        if take("no_expires_in"):
            del answer["expires_in"]
        return answer

    def sign_in(
        self, client: Client, user: str, scope: str, *, family: str, audience: str | None, **of_sign_in: Any
    ) -> TokenAnswer:
        """
        What `client` gets once `user` signed in: a token, a refresh token where `scope` says offline, and an ID token
        where it says openid. `of_sign_in` is what `Issuer.sign_id_token` takes.
        """
        answer = self.mint(client, user, scope, family=family, audience=audience)
        if OFFLINE.intersection(scope.split()) and client.check_grant_type("refresh_token"):
            refresh = self.issuer.refresh_tokens.issue(
                client.id, user, scope, now=self.issuer.now(), family=family, audience=audience
            )
            answer["refresh_token"] = refresh.text
        self.identify(answer, client, user, **of_sign_in)
        return answer

    def identify(self, answer: TokenAnswer, client: Client, user: str, **of_sign_in: Any) -> None:
        """Put an ID token beside the access token, where its scope says openid."""
        if "openid" in answer["scope"].split():
            answer["id_token"] = self.issuer.sign_id_token(client.id, user, answer["access_token"], **of_sign_in)

    def authenticate_client(self, request: TokenRequest, methods: list[str], endpoint: str = "token") -> Client:
        """
        The client that `request` proves, which is `request.client` from then on.

        Raises `NotAuthenticated`, or what the dialect says of a parameter that this server does not take.
        """
        try:
            client: Client = super().authenticate_client(request, methods, endpoint)
        except InvalidClientError:
            raise NotAuthenticated from None
        self.asked(request)
        request.client = client
        return client

    def asked(self, request: TokenRequest) -> str | None:
        """The audience that `request` asks for, if it does. Raises what the dialect says of one that is not served."""
        return self.issuer.dialect.asked(request.form)

    def query_client(self, client_id: str) -> Client | None:
        """See authlib."""
        return self.issuer.clients.get(client_id)

    def save_token(self, token: TokenAnswer, request: TokenRequest) -> None:
        """Called by authlib for each token that it hands out."""
        self.counts.mint(request.client.id)

    def create_oauth2_request(self, request: TokenRequest) -> TokenRequest:
        """See authlib; it is one already."""
        return request

    def handle_response(self, status: int, body: Any, headers: list[tuple[str, str]]) -> Answer:
        """See authlib."""
        return json_answer(status, body, *headers)

    def send_signal(self, name: str, *args: Any, **kwargs: Any) -> None:
        """See authlib; nobody listens."""


def _nothing(name: str) -> None:
    """The faults of a request that is spared."""
    return
