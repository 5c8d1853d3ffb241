"""A token of a confidential client, straight from the identity provider."""

from __future__ import annotations

from dataclasses import dataclass, field

from flytekitplugins.authagent import credential as credentials
from flytekitplugins.authagent.credential import Credential
from flytekitplugins.authagent.oauth import client_credentials, token_response
from flytekitplugins.authagent.providers import Wanted
from flytekitplugins.authagent.providers.oauth_client import OAuthClient


@dataclass(frozen=True)
class ClientCredentialsProvider:
    """Mints by the client credentials grant (RFC 6749 section 4.4)."""

    client: OAuthClient
    kind: str = field(default="client_credentials", init=False)
    absent: str = field(default="no client is configured", init=False)
    remedy: str = field(default="write a binding with kind: client_credentials", init=False)

    def fetch(self, wanted: Wanted, *, min_lifetime: float | None = None) -> Credential:
        """
        A fresh token.

        Raises `Denied` for a principal, a client, an audience or a scope that the configuration does not have or
        the server refuses, `ProviderUnavailable` and `ProviderError` as `oauth.token_response` and `http` say.
        """
        return mint(self.client, wanted, provider=self.kind)


def mint(client: OAuthClient, wanted: Wanted, *, provider: str) -> Credential:
    """A token of `client` itself, or nothing at all for a Flyte that wants none. Raises as `fetch`."""
    if not client.is_needed:
        return credentials.anonymous(provider=provider)
    target = client.target(wanted)
    sent = client_credentials.request(client.metadata.need("token_endpoint"), client.authentication(), target)
    credential = token_response.read(client.send(sent), sent, now=client.clock(), provider=provider)
    return client.labelled(credential)
