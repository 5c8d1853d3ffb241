"""A token in return for another one: of a pod's projected token, for example."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

from flytekitplugins.authagent import credential as credentials
from flytekitplugins.authagent.credential import MAX_TOKEN, Credential, Secret
from flytekitplugins.authagent.errors import ConfigError
from flytekitplugins.authagent.oauth import jwt_bearer, token_exchange, token_response
from flytekitplugins.authagent.oauth.message import Request
from flytekitplugins.authagent.oauth.target import Target
from flytekitplugins.authagent.oauth.token_exchange import Shown
from flytekitplugins.authagent.providers import Wanted
from flytekitplugins.authagent.providers.oauth_client import OAuthClient, read_secret
from flytekitplugins.authagent.specs import TokenExchangeSpec

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TokenExchangeProvider:
    """
    Exchanges what stands in a file, or was shown (RFC 8693, RFC 7523 section 2.1, or Entra ID's on-behalf-of).

    The file is read for each exchange: kubelet replaces a projected token long before it ends.
    """

    spec: TokenExchangeSpec
    client: OAuthClient
    kind: str = field(default="token_exchange", init=False)
    absent: str = field(default="no exchange is configured", init=False)
    remedy: str = field(default="write a binding with kind: token_exchange", init=False)

    def fetch(self, wanted: Wanted, *, min_lifetime: float | None = None) -> Credential:
        """
        A fresh token.

        Raises `Denied`, `ProviderUnavailable` and `ProviderError` as `ClientCredentialsProvider`, and
        `ProviderError` for an answer that gives more than was asked for.
        """
        if not self.client.is_needed:
            return credentials.anonymous(provider=self.kind)
        target = self.client.target(wanted)
        sent = self._request(target, wanted)
        response = self.client.send(sent)
        found = token_response.read(response, sent, now=self.client.clock(), provider=self.kind)
        if self.spec.grant == "token_exchange":
            token_exchange.check(response, found, target)
            self._look_for_the_actor(found)
        return self.client.labelled(found)

    def _request(self, target: Target, wanted: Wanted) -> Request:
        spec, endpoint = self.spec, self.client.metadata.need("token_endpoint")
        subject = wanted.subject_token or Shown(
            self._shown(spec.subject_token_file, "subject_token_file"), spec.subject_token_type
        )
        if spec.grant == "token_exchange":
            actor = wanted.actor_token
            if spec.actor_token_file:
                actor = Shown(self._shown(spec.actor_token_file, "actor_token_file"), spec.actor_token_type)
            return token_exchange.request(endpoint, self.client.authentication(), subject, target, actor=actor)
        return jwt_bearer.request(
            endpoint,
            self.client.authentication(),
            subject.token,
            target,
            on_behalf_of=spec.grant == "on_behalf_of",
        )

    def _shown(self, path: Path, name: str) -> Secret:
        found = read_secret(path, name, in_pod=self.client.in_pod)
        if len(found.reveal()) > MAX_TOKEN or not found.reveal().isascii():
            raise ConfigError(f"{name} {path} does not hold a token")
        return found

    def _look_for_the_actor(self, found: Credential) -> None:
        """Some servers ignore `actor_token` and answer 200: only the token tells whether it is delegation."""
        if self.spec.actor_token_file and token_exchange.actor_of(found) is None:
            logger.warning(
                "the identity provider did not record the actor: its token speaks for the subject alone (RFC 8693"
                " section 4.1 has `act` for that)"
            )
