"""Whom the agent gets its tokens from: those of the library's providers that need nobody to be there."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from flytekitplugins.authagent.specs import (
    AbsolutePath,
    AgentSpec,
    ClientCredentialsSpec,
    CommandSpec,
    FileSpec,
    KeyringSpec,
    TokenExchangeSpec,
)


class ExchangeSpec(TokenExchangeSpec):
    """`kind: token_exchange`. Without a `subject_token_file` it exchanges what callers show (RFC 8693)."""

    subject_token_file: AbsolutePath | None = None  # type: ignore[assignment] # wider than for one who asks for himself


Kinds = ClientCredentialsSpec | ExchangeSpec | AgentSpec | KeyringSpec | FileSpec | CommandSpec


def is_for_callers(upstream: Kinds) -> bool:
    """Whether `upstream` exchanges what callers show."""
    return isinstance(upstream, ExchangeSpec) and upstream.subject_token_file is None


def _named(spec: Kinds) -> Kinds:
    if isinstance(spec, ClientCredentialsSpec | ExchangeSpec | KeyringSpec) and not spec.is_complete:
        raise ValueError("needs either issuer or token_endpoint")
    if is_for_callers(spec) and isinstance(spec, ExchangeSpec) and spec.grant != "token_exchange":
        raise ValueError(f"grant: {spec.grant} needs a subject_token_file")
    return spec


Upstream = Annotated[Kinds, Field(discriminator="kind"), AfterValidator(_named)]
