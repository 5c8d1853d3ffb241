"""How a hub knows people: whose access tokens it takes, for which audience, and from which clients."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from flytekitplugins.authagent.agent.urls import Url
from flytekitplugins.authagent.specs import AbsolutePath, ClientSpec, Name, ProxyUrl, Seconds, Section

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""Those of a key pair. A shared secret is never one: whoever checks with it could sign."""

ALGORITHMS: tuple[Algorithm, ...] = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
)  # fmt: skip


def _type(text: str) -> str:
    return text.lower().removeprefix("application/")


Type = Annotated[str, Field(min_length=1), AfterValidator(_type)]


class PeopleSettings(Section):
    """
    `people:` in the `hub:` of an `agent.yaml`.

    `issuer` is spelled exactly as its tokens spell it, `audience` is what they must be for. `types` are what their
    header may call them (RFC 9068 section 2.1: `at+jwt`; add `JWT` for issuers that do not follow it). `clients` are
    those that people may use; none means any. `introspect`: ask the issuer about tokens that are no JWTs, as the client
    `introspection`, whose issuer, CA, proxy and timeout are those of people unless it has its own. `timeout` is in
    seconds for one request.
    """

    issuer: Url
    audience: Name
    types: Annotated[tuple[Type, ...], Field(strict=False, min_length=1)] = ("at+jwt",)
    clients: Annotated[tuple[Name, ...], Field(strict=False)] = ()
    algorithms: Annotated[tuple[Algorithm, ...], Field(strict=False, min_length=1)] = ALGORITHMS
    jwks_uri: Url | None = None
    introspect: bool = False
    introspection_endpoint: Url | None = None
    introspection: ClientSpec | None = None
    ca_file: AbsolutePath | None = None
    proxy: ProxyUrl | None = Field(default=None, repr=False)  # it may hold a password
    timeout: Seconds = 5.0

    @model_validator(mode="after")
    def _who_introspects(self) -> PeopleSettings:
        if self.introspect and (self.introspection is None or self.introspection.method == "none"):
            raise ValueError("introspect needs introspection: a client_id and what proves it (RFC 7662 section 2.1)")
        if not self.introspect and (self.introspection or self.introspection_endpoint):
            raise ValueError("introspection: says how to ask about tokens, and nobody is to; set introspect: true")
        return self

    @property
    def introspecting_client(self) -> ClientSpec:
        """Who asks about tokens, and how to reach whom it asks. Only where `introspect` is set."""
        own = self.introspection or ClientSpec()
        shared = {"issuer": self.issuer, "ca_file": self.ca_file, "proxy": self.proxy, "timeout": self.timeout}
        return own.model_copy(update={k: v for k, v in shared.items() if k not in own.model_fields_set})
