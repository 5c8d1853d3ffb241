"""
A source of credentials, one file a kind.

Every provider has three answers: a credential, `None` ("not mine: I am not configured here"), or an error ("mine,
and broken"). Nothing else crosses that line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from flytekitplugins.authagent import endpoint as endpoints
from flytekitplugins.authagent import terminal
from flytekitplugins.authagent.context import Context
from flytekitplugins.authagent.credential import Credential
from flytekitplugins.authagent.discovery import FlyteServer
from flytekitplugins.authagent.oauth.token_exchange import Shown
from flytekitplugins.authagent.specs import (
    AgentSpec,
    ApiKeySpec,
    ClientCredentialsSpec,
    CommandSpec,
    DeviceSpec,
    EnvSpec,
    FileSpec,
    KeyringSpec,
    PassthroughSpec,
    PkceSpec,
    ProviderSpec,
    TokenExchangeSpec,
)


@dataclass(frozen=True)
class Wanted:
    """
    What a credential is for. `scopes` and `audience` left empty mean the provider's own.

    `subject` is the principal that the token must speak for, `client` the OAuth client it must be issued to:
    a provider that cannot honour one of them refuses. `subject_token` and `actor_token` are what somebody showed,
    to be exchanged.
    """

    audience: str | None = None
    scopes: tuple[str, ...] = ()
    subject: str | None = None
    client: str | None = None
    context: Context = Context()
    subject_token: Shown | None = field(default=None, repr=False)
    actor_token: Shown | None = field(default=None, repr=False)


class Provider(Protocol):
    """Where credentials come from. Implementations are immutable and safe to use from any thread."""

    @property
    def kind(self) -> str:
        """The word that configuration uses for it."""

    @property
    def absent(self) -> str:
        """Why `fetch` would answer `None`, for the error that lists what was tried."""

    @property
    def remedy(self) -> str:
        """What to do to configure it."""

    def fetch(self, wanted: Wanted, *, min_lifetime: float | None = None) -> Credential | None:
        """
        A credential for `wanted`, or `None` where this provider is not configured.

        `min_lifetime`: seconds for which it must be good at least; a provider that cannot wish for it ignores it,
        the caller looks at what it gets. Raises one error of `errors.py` where it is configured and broken.
        """


def plainly(named: str) -> FlyteServer:
    """The Flyte at `named`, of which nothing else is known."""
    endpoint = endpoints.parse(named)
    return FlyteServer(endpoint, insecure=bool(endpoint.insecure))


def build(  # noqa: PLR0911 - one for each kind
    spec: ProviderSpec,
    environ: Mapping[str, str],
    *,
    in_pod: bool,
    server: FlyteServer | None = None,
    reach: Callable[[str], FlyteServer] = plainly,
    interactive: bool = True,
    source: str = "",
) -> Provider:
    """
    The provider that `spec` describes, for the Flyte at `server`. Imports what it needs and nothing else.

    `reach` says how a Flyte is reached that the provider itself names, `interactive` whether it may ask the person at
    the terminal, if there is one, `source` what configures it.
    """
    match spec:
        case EnvSpec():
            from flytekitplugins.authagent.providers.env import EnvProvider

            return EnvProvider(spec.variable, is_named="variable" in spec.model_fields_set)
        case FileSpec():
            from flytekitplugins.authagent.providers.file import FileProvider

            return FileProvider(spec.path, in_pod=in_pod, source=source or "path")
        case AgentSpec():
            from flytekitplugins.authagent.providers.agent import AgentProvider

            return AgentProvider(
                spec.socket,
                server_uid=spec.server_uid,
                wait=spec.wait if in_pod else 0,
                token_file=spec.token_file,
                source=source,
            )
        case CommandSpec():
            from flytekitplugins.authagent.providers.command import CommandProvider

            at_terminal = interactive and not in_pod and terminal.here().is_there
            return CommandProvider(spec, source, at_terminal=at_terminal)
        case PassthroughSpec():
            from flytekitplugins.authagent.providers.passthrough import PassthroughProvider

            return PassthroughProvider()
        case ApiKeySpec():
            from flytekitplugins.authagent.providers import api_key

            return api_key.provider(spec, environ, server, reach, in_pod=in_pod)
        case ClientCredentialsSpec():
            from flytekitplugins.authagent.providers.client_credentials import ClientCredentialsProvider
            from flytekitplugins.authagent.providers.oauth_client import OAuthClient

            return ClientCredentialsProvider(OAuthClient(spec, spec.kind, server, in_pod=in_pod))
        case TokenExchangeSpec():
            from flytekitplugins.authagent.providers.oauth_client import OAuthClient
            from flytekitplugins.authagent.providers.token_exchange import TokenExchangeProvider

            return TokenExchangeProvider(spec, OAuthClient(spec, spec.kind, server, in_pod=in_pod))
        case KeyringSpec() | PkceSpec() | DeviceSpec():
            from flytekitplugins.authagent.providers import person

            return person.provider(spec, server, in_pod=in_pod, interactive=interactive)
