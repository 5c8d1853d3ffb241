"""Whom the agent gets its tokens from: those of the library's providers that need nobody to be there, and grants."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from flytekitplugins.authagent.agent.urls import BaseUrl
from flytekitplugins.authagent.oauth import token_exchange
from flytekitplugins.authagent.specs import (
    AbsolutePath,
    AgentSpec,
    ClientCredentialsSpec,
    ClientSpec,
    CommandSpec,
    FileSpec,
    KeyringSpec,
    Name,
    ProxyUrl,
    Seconds,
    Section,
    TokenExchangeSpec,
)


class ExchangeSpec(TokenExchangeSpec):
    """`kind: token_exchange`. Without a `subject_token_file` it exchanges what callers show (RFC 8693)."""

    subject_token_file: AbsolutePath | None = None  # type: ignore[assignment] # wider than for one who asks for himself


LONGEST_TIMEOUT = 20.0
"""
Seconds that a provider may take for one request of the hub's, during which a row of the database is locked. PostgreSQL
ends a lock on which nothing happens for `hub.database.LOCK_SECONDS`, and another replica would spend the same refresh
token.
"""


class GrantSpec(ClientSpec):
    """
    `kind: grant`, what people have consented to. Only a hub has one, and one only; `client_id` is the hub's own client.

    `consent` is how it gets what it mints from: `exchange` (RFC 8693, a refresh token for the token that the person
    shows), `page` (the person signs in to the hub's client in a browser, with `offline_access`), or `on_behalf_of`
    (nothing is kept: the hub signs an assertion that names the person each time, with the key of `assertion_key_file`
    and as `assertion_issuer`, which the provider trusts; `grant` is the one by which it is redeemed).
    """

    kind: Literal["grant"] = "grant"
    consent: Literal["exchange", "page", "on_behalf_of"]
    grant: Literal["jwt_bearer", "token_exchange"] = "jwt_bearer"
    assertion_key_file: AbsolutePath | None = None
    assertion_issuer: Name | None = None
    assertion_key_id: Name | None = None
    actor_token_file: AbsolutePath | None = None
    actor_token_type: Name = token_exchange.JWT

    @model_validator(mode="after")
    def _what_the_way_needs(self) -> GrantSpec:
        if not self.client_id:
            raise ValueError("needs the client_id of the hub's own client")
        if self.timeout > LONGEST_TIMEOUT:
            raise ValueError(
                f"timeout: {self.timeout:g} s is too long, {LONGEST_TIMEOUT:g} s is the most: "
                "the lock that keeps two replicas from spending one refresh token does not last longer"
            )
        signs = self.consent == "on_behalf_of"
        if signs and not (self.assertion_key_file and self.assertion_issuer):
            raise ValueError("consent: on_behalf_of needs assertion_key_file and assertion_issuer")
        if not signs and (self.assertion_key_file or self.assertion_issuer or self.assertion_key_id):
            raise ValueError(f"consent: {self.consent} signs no assertion; leave assertion_... out")
        if self.actor_token_file and not (self.consent == "exchange" or self.grant == "token_exchange"):
            raise ValueError("only an exchange has an actor")
        if self.consent == "page" and not (self.issuer or self.authorization_endpoint):
            raise ValueError("consent: page needs issuer or authorization_endpoint, where people sign in")
        if not signs and self.method == "none":
            raise ValueError("the hub's client must be a confidential one")
        return self


class HubSpec(Section):
    """
    `kind: hub`, another agent that keeps grants: it is shown what attested the caller, and decides by its own rules.

    `timeout` is in seconds for one request: the hub itself may wait ten for a grant.
    """

    kind: Literal["hub"] = "hub"
    url: BaseUrl
    ca_file: AbsolutePath | None = None
    proxy: ProxyUrl | None = Field(default=None, repr=False)  # it may hold a password
    timeout: Seconds = 22.0


Kinds = ClientCredentialsSpec | ExchangeSpec | AgentSpec | KeyringSpec | FileSpec | CommandSpec | GrantSpec | HubSpec

Delegating = GrantSpec | HubSpec
"""Those whose tokens speak for whoever launched the execution of the caller."""


def is_for_callers(upstream: Kinds) -> bool:
    """Whether `upstream` exchanges what callers show."""
    return isinstance(upstream, ExchangeSpec) and upstream.subject_token_file is None


def _named(spec: Kinds) -> Kinds:
    if isinstance(spec, ClientCredentialsSpec | ExchangeSpec | GrantSpec) and not spec.is_complete:
        raise ValueError("needs either issuer or token_endpoint")
    if is_for_callers(spec) and isinstance(spec, ExchangeSpec) and spec.grant != "token_exchange":
        raise ValueError(f"grant: {spec.grant} needs a subject_token_file")
    return spec


Upstream = Annotated[Kinds, Field(discriminator="kind"), AfterValidator(_named)]
