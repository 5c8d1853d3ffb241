"""
The three ways to hold a person's consent, and to mint from it.

`exchange`: the token that the person shows becomes a refresh token of the hub's own client (RFC 8693). `page`: the
person signs in to that client in a browser. `on_behalf_of`: nothing is kept but the consent; each time the hub signs an
assertion that names the person, which an identity provider that trusts it takes for a grant (RFC 7523 section 2.1), or
exchanges.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import NamedTuple
from uuid import uuid4

from flytekitplugins.authagent.agent.upstream import GrantSpec
from flytekitplugins.authagent.credential import Credential, Secret, claims
from flytekitplugins.authagent.errors import AuthAgentError, ConfigError, Denied, ProviderError
from flytekitplugins.authagent.hub.records import Access, Grant, Tokens
from flytekitplugins.authagent.oauth import (
    authorization_code,
    jwt_bearer,
    refresh,
    revocation,
    token_exchange,
    token_response,
)
from flytekitplugins.authagent.oauth.authorization_code import Started
from flytekitplugins.authagent.oauth.client_authentication import signed
from flytekitplugins.authagent.oauth.message import Request, Response
from flytekitplugins.authagent.oauth.target import Target, token_request
from flytekitplugins.authagent.oauth.token_exchange import Shown
from flytekitplugins.authagent.oauth.token_response import Granted
from flytekitplugins.authagent.providers.oauth_client import OAuthClient, read_secret

logger = logging.getLogger(__name__)

REFRESH_TOKEN = "urn:ietf:params:oauth:token-type:refresh_token"  # noqa: S105 - a name from RFC 8693

ASSERTION_SECONDS = 60
"""For which an assertion of ours is good: it is sent at once, and used once."""

ABOUT_PEOPLE = frozenset({"openid", "profile", "email", "address", "phone", "offline_access", "offline"})
"""Scopes that say who somebody is, or for how long: no power over Flyte, so answers may have them unasked."""


class Minted(NamedTuple):
    """What came of it. With `refused` there is no access token in `tokens`, nobody may have one, and that is why."""

    tokens: Tokens
    refused: AuthAgentError | None = None


class Lost(Denied):
    """The person's consent cannot be used any more: they, or their identity provider, ended it."""


@dataclass(frozen=True)
class Consent:
    """How consent is obtained and used, by `spec`, as the client that it describes. Safe to use from any thread."""

    spec: GrantSpec
    client: OAuthClient

    @property
    def way(self) -> str:
        """`exchange`, `page` or `on_behalf_of`."""
        return self.spec.consent

    @property
    def sign_in(self) -> str:
        """Where people sign in. Raises `ProviderError` where the identity provider does not say."""
        return self.client.metadata.need("authorization_endpoint")

    # Obtaining it

    def exchange(self, shown: Secret, subject: str, scopes: tuple[str, ...]) -> Minted:
        """
        A refresh token of our own for the token that `subject` showed; or one that nobody may use, and why.

        Raises `Denied`, `ProviderUnavailable`, `ProviderError` as the identity provider answers, and `ProviderError`
        for an answer without a refresh token, and for a provider that says that it does not exchange.
        """
        metadata = self.client.metadata
        if metadata.grant_types_supported and token_exchange.GRANT not in metadata.grant_types_supported:
            raise ProviderError(
                "the identity provider says that it exchanges no tokens (grant_types_supported in its metadata)",
                hint="allow token exchange there, or use consent: page",
            )
        endpoint, authentication = metadata.need("token_endpoint"), self.client.authentication()
        grant = [
            ("grant_type", token_exchange.GRANT),
            ("subject_token", shown.reveal()),
            ("subject_token_type", token_exchange.ACCESS_TOKEN),
            ("requested_token_type", REFRESH_TOKEN),
            *self._actor(),
        ]
        target = Target(scopes or self.spec.scopes, self.spec.audience, self.spec.resource)
        sent = token_request(endpoint, authentication, grant, target)
        response = self.client.send(sent)
        granted = self._granted(_with_refresh_token(response), sent)
        if granted.refresh_token is None:
            raise ProviderError(
                f"{response.url} exchanged the token, and gave no refresh token for it",
                hint="let the hub's client have refresh tokens by exchange, or use consent: page",
            )
        return self._minted(granted, subject, target.scopes)

    def begin(self, redirect_uri: str, state: str, scopes: tuple[str, ...]) -> Started:
        """A sign-in of a person at the hub's client (code and PKCE), whose answer will carry `state`."""
        metadata = self.client.metadata
        wanted = tuple(dict.fromkeys(("openid", *(scopes or self.spec.scopes), "offline_access")))
        return authorization_code.start(
            self.sign_in,
            self.client.client_id or "",
            redirect_uri,
            Target(wanted, self.spec.audience, self.spec.resource),
            issuer=metadata.issuer,
            issuer_must_answer=metadata.authorization_response_iss_parameter_supported,
            state=state,
            more=(("prompt", "consent"),),  # OpenID Connect Core section 11: offline_access wants it
        )

    def finish(self, code: Secret, started: Started) -> Granted:
        """What the person's code brings. Raises as `exchange`."""
        endpoint, authentication = self.client.metadata.need("token_endpoint"), self.client.authentication()
        sent = authorization_code.request(endpoint, authentication, code, started)
        return self._granted(self.client.send(sent), sent)

    def tokens_of(self, granted: Granted, subject: str, scopes: tuple[str, ...]) -> Minted:
        """
        What is kept of a sign-in that was to be `subject`'s: the refresh token, and why nobody may use it, for example
        `OtherPerson`.

        The access token is dropped: it has the scopes of the sign-in beside those that were consented to. Raises
        `ProviderError` where there is nothing to keep.
        """
        if granted.refresh_token is None:
            raise ProviderError(
                "the identity provider gave the hub no refresh token",
                hint="allow the scope offline_access, and refresh tokens, to the hub's client",
            )
        tokens = Tokens(granted.refresh_token, granted.refresh_expires_at)
        try:
            _check_consented(granted, subject, scopes or self.spec.scopes)
        except AuthAgentError as refused:
            return Minted(tokens, refused)
        return Minted(tokens)

    # Using it

    def mint(self, grant: Grant, refresh_token: Secret | None, scopes: tuple[str, ...]) -> Minted:
        """
        An access token that speaks for the person of `grant`, and the refresh token for the next, if it changed; or
        that one alone, and why nobody may have the access token.

        Raises `Lost` where the identity provider does not take the consent any more, else as `exchange`.
        """
        endpoint = self.client.metadata.need("token_endpoint")
        target = Target(scopes, self.spec.audience, self.spec.resource)
        if self.spec.consent == "on_behalf_of":
            sent = self._asserted(endpoint, grant.subject, target)
            response = self.client.send(sent)
        elif refresh_token is None:
            raise Lost("nothing is kept of this consent", hint="the person must consent again")
        else:
            sent = refresh.request(endpoint, self.client.authentication(), refresh_token, target)
            response = self.client.send(sent)
            _check_lost(response)
        return self._minted(self._granted(response, sent), grant.subject, scopes)

    def revoke(self, refresh_token: Secret) -> bool:
        """
        End a refresh token at the identity provider (RFC 7009); whether it can be done there at all.

        Raises `ProviderUnavailable` and `ProviderError` where it could not be done now.
        """
        endpoint = self.client.metadata.revocation_endpoint
        if not endpoint:
            return False
        sent = revocation.request(endpoint, self.client.authentication(), refresh_token, "refresh_token")
        revocation.check(self.client.send(sent))
        return True

    def give_back(self, refresh_token: Secret | None) -> None:
        """End what nobody will ever use, once: it is for where nobody can write down that it is to be done."""
        if refresh_token is None:
            return
        try:
            self.revoke(refresh_token)
        except AuthAgentError as failed:
            logger.warning("a refresh token that is not used could not be revoked: %s", failed)

    def _asserted(self, endpoint: str, subject: str, target: Target) -> Request:
        assertion = self._assertion(subject)
        if self.spec.grant == "jwt_bearer":
            return jwt_bearer.request(endpoint, self.client.authentication(), assertion, target)
        actor = (
            [Shown(self._read("actor_token_file"), self.spec.actor_token_type)] if self.spec.actor_token_file else []
        )
        subject_token = Shown(assertion, token_exchange.JWT)
        return token_exchange.request(
            endpoint, self.client.authentication(), subject_token, target, actor=next(iter(actor), None)
        )

    def _assertion(self, subject: str) -> Secret:
        """Our word that `subject` has consented (RFC 7523 section 3)."""
        now = int(self.client.clock())
        content: dict[str, object] = {
            "iss": self.spec.assertion_issuer,
            "sub": subject,
            "aud": self.client.metadata.issuer or self.client.metadata.need("token_endpoint"),
            "iat": now,
            "exp": now + ASSERTION_SECONDS,
            "jti": uuid4().hex,
        }
        return Secret(signed(content, self._read("assertion_key_file"), self.spec.assertion_key_id))

    def _actor(self) -> list[tuple[str, str]]:
        if not self.spec.actor_token_file:
            return []
        return [
            ("actor_token", self._read("actor_token_file").reveal()),
            ("actor_token_type", self.spec.actor_token_type),
        ]

    def _read(self, name: str) -> Secret:
        path = getattr(self.spec, name)
        if path is None:
            raise ConfigError(f"{name} is not set")
        return read_secret(path, name, in_pod=self.client.in_pod)

    def _granted(self, response: Response, sent: Request) -> Granted:
        return token_response.granted(response, sent, now=self.client.clock(), provider="grant")

    def _minted(self, granted: Granted, subject: str, scopes: tuple[str, ...]) -> Minted:
        """What was given, if it is what `subject` consented to; what was shown for it is spent all the same."""
        credential = granted.credential
        tokens = Tokens(granted.refresh_token, granted.refresh_expires_at)
        try:
            _check_consented(granted, subject, scopes)
            self._check_audience(credential)
        except AuthAgentError as refused:
            return Minted(tokens, refused)
        obtained_at = self.client.clock()
        access = Access(
            credential.token, credential.expires_at, tuple(sorted(scopes)), obtained_at, credential.lifetime
        )
        return Minted(replace(tokens, accesses=(access,)))

    def _check_audience(self, credential: Credential) -> None:
        """
        Refuse a token that says whom it is for, and is not for the one that the upstream names.

        Others may stand beside it: providers put their own there, such as Keycloak's `account`.
        """
        wanted, found = {self.spec.audience, self.spec.resource} - {None}, claims(credential.token).get("aud")
        if wanted and found is not None and not wanted.intersection(_texts(found)):
            raise ProviderError(
                f"the identity provider gave a token that is not for {' or '.join(sorted(filter(None, wanted)))}",
                hint="let the hub's client have tokens for that audience; at some providers a mapper puts it there",
            )


class OtherPerson(Denied):
    """The identity provider gave a token of somebody else than the one who consents. `who` is whom it speaks for."""

    who: str = ""


def check_speaks_for(granted: Granted, subject: str) -> None:
    """
    Refuse a token that does not speak for `subject`. Raises `OtherPerson`.

    It came from the identity provider itself, over a connection that it was known by, so its claims are its word
    (OpenID Connect Core section 3.1.3.7).
    """
    access = claims(granted.credential.token).get("sub")
    identity = claims(granted.credential.id_token).get("sub") if granted.credential.id_token else None
    for found in (access, identity):
        if found is not None and found != subject:
            other = OtherPerson("the identity provider gave a token of somebody else than the person who consents")
            other.who = found if isinstance(found, str) else ""
            raise other
    if access is None:
        raise OtherPerson(
            "the identity provider gave a token that does not say whom it speaks for",
            hint="let it issue JWTs (RFC 9068) for this audience; Flyte takes no others",
        )


def _check_consented(granted: Granted, subject: str, scopes: tuple[str, ...]) -> None:
    """Refuse what is not what `subject` consented to. Raises `ProviderError`, `OtherPerson`."""
    _check_scopes(granted.credential, scopes)
    check_speaks_for(granted, subject)


def _check_scopes(credential: Credential, wanted: tuple[str, ...]) -> None:
    """
    A server may narrow the scopes. One that widens them gives more than anybody consented to, whether it says so in
    its answer (RFC 6749 section 5.1) or in the token only (RFC 9068 section 2.2.3; `scp` where Flyte reads them).
    """
    said = claims(credential.token)
    in_token = {scope for name in ("scp", "scope") for text in _texts(said.get(name)) for scope in text.split()}
    # Entra ID is asked for api://APPLICATION/SCOPE, and calls it SCOPE in the token, which is for that application.
    short = {scope.rpartition("/")[2] for scope in wanted}
    wider = (set(credential.scopes) | (in_token - short)) - set(wanted) - ABOUT_PEOPLE
    if wanted and wider:
        raise ProviderError(
            f"the identity provider gave more scopes than were asked for: {', '.join(sorted(wider)[:8])}",
            hint="let the hub's client have no other scopes, or name them in the upstream",
        )


def _texts(claim: object) -> list[str]:
    """A claim that is one text or several."""
    return [text for text in (claim if isinstance(claim, list) else [claim]) if isinstance(text, str)]


def _check_lost(response: Response) -> None:
    """
    Raises `Lost` for the answer which means that a refresh token is good for nothing any more (RFC 6749 section 5.2).

    A server that is broken for a moment says nothing of the consent, whatever it says: nothing is ended for that.
    """
    if response.status != 400 and not response.is_success:
        return
    try:
        code = response.json().get("error")
    except ProviderError:
        return
    if code == "invalid_grant":
        raise Lost("the identity provider does not take the person's consent any more", hint="consent again")


def _with_refresh_token(response: Response) -> Response:
    """
    An exchange's answer where `access_token` is what was asked for, a refresh token (RFC 8693 section 2.2.1).

    Those who also give an access token put the refresh token where RFC 6749 has it, and are left alone.
    """
    if response.is_refusal:
        return response
    answer = response.json()
    if answer.get("issued_token_type") != REFRESH_TOKEN or answer.get("refresh_token") is not None:
        return response
    raise ProviderError(
        f"{response.url} gave a refresh token alone in return for the token",
        hint="use consent: page; an access token must come with it, or nobody knows whom it speaks for",
    )
