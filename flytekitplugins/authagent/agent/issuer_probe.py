"""Whether those whom the agent needs answer: asked without a token and without a secret."""

from __future__ import annotations

from collections.abc import Iterator

from flytekitplugins.authagent import hub_client
from flytekitplugins.authagent.agent.file import AgentFile
from flytekitplugins.authagent.agent.upstream import GrantSpec, HubSpec, Kinds
from flytekitplugins.authagent.errors import AuthAgentError, ProviderUnavailable
from flytekitplugins.authagent.http import Door
from flytekitplugins.authagent.oauth.message import Request
from flytekitplugins.authagent.providers import build
from flytekitplugins.authagent.providers.oauth_client import OAuthClient, discover


def probe_token_endpoint(client: OAuthClient) -> str:
    """
    The token endpoint of `client`, which answers.

    It is asked for nothing, by nobody, and any refusal (RFC 6749 section 5.2) will do. Raises as `http.Door.send`, and
    `ProviderUnavailable`.
    """
    endpoint = client.metadata.need("token_endpoint")
    answer = client.send(Request(endpoint, (("grant_type", "none"),)))
    if answer.status >= 500 or answer.status == 429:
        raise ProviderUnavailable(f"the token endpoint {endpoint} answered {answer.status}")
    return endpoint


def results(file: AgentFile) -> Iterator[tuple[str, str | AuthAgentError]]:
    """What each key's issuer or hub answered: its address, or the error. Those that have none are left out."""
    for name, upstream in file.upstreams.items():
        try:
            where = _asked(upstream, file)
        except AuthAgentError as failed:
            yield f"upstreams.{name}", failed
        else:
            if where:
                yield f"upstreams.{name}", where
    if file.hub:
        people = file.hub.people
        try:
            discover(people.issuer, Door(timeout=people.timeout, ca_file=people.ca_file, proxy=people.proxy))
        except AuthAgentError as failed:
            yield "hub.people", failed
        else:
            yield "hub.people", people.issuer


def _asked(upstream: Kinds, file: AgentFile) -> str:
    if isinstance(upstream, HubSpec):
        door = Door(timeout=upstream.timeout, ca_file=upstream.ca_file, proxy=upstream.proxy)
        hub_client.describe(upstream.url, door)
        return upstream.url
    if isinstance(upstream, GrantSpec):
        return probe_token_endpoint(OAuthClient(upstream, upstream.kind))
    client = getattr(build(upstream, {}, in_pod=False, server=file.flyte_of(upstream)), "client", None)
    return probe_token_endpoint(client) if isinstance(client, OAuthClient) else ""
