"""From a rule to a source of tokens: one for each upstream, audience, set of scopes, principal and longest life."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import replace
from typing import NamedTuple

from flytekitplugins.authagent.agent import named_files
from flytekitplugins.authagent.agent.asked import Asked
from flytekitplugins.authagent.agent.failure_log import FailureLog
from flytekitplugins.authagent.agent.file import AgentFile
from flytekitplugins.authagent.agent.issuer_probe import probe_token_endpoint
from flytekitplugins.authagent.agent.policy import scopes
from flytekitplugins.authagent.agent.refusal import invalid_request, no_rule
from flytekitplugins.authagent.agent.rule import Rule, Tokens
from flytekitplugins.authagent.agent.upstream import Delegating, ExchangeSpec, Kinds, is_for_callers
from flytekitplugins.authagent.bounded_cache import text_size
from flytekitplugins.authagent.credential import Credential, claims, moment
from flytekitplugins.authagent.discovery import FlyteServer
from flytekitplugins.authagent.errors import (
    AuthAgentError,
    ConfigError,
    Denied,
    NoCredential,
    ProviderError,
    ProviderUnavailable,
)
from flytekitplugins.authagent.oauth.token_exchange import Shown
from flytekitplugins.authagent.providers import Provider, Wanted, build
from flytekitplugins.authagent.providers.oauth_client import OAuthClient
from flytekitplugins.authagent.source import Source
from flytekitplugins.authagent.sources import Sources
from flytekitplugins.authagent.specs import AgentSpec

MINT_SECONDS = 25.0
"""For which a caller is kept waiting for a mint; its own patience (`providers.agent`) is longer."""

LIMIT = 1000
"""Sources kept. Rules have few audiences and sets of scopes; this bounds what callers can make of them."""


USUAL_TOKEN = 4096
"""Bytes that the token of a source is taken to have."""


class Key(NamedTuple):
    """What makes one token as good as another. The upstream is a part of it, as it was configured at the time."""

    name: str
    upstream: Kinds
    give: Tokens
    scopes: tuple[str, ...]
    subject_token: Shown | None
    actor_token: Shown | None


class Mint:
    """
    The sources of the agent's tokens, made when they are first needed.

    A mint that hangs holds a thread of its own and nobody else; whoever needs another token does not notice.
    """

    def __init__(self, file: AgentFile) -> None:
        self._sources = Sources(LIMIT, _size)
        self._upstreams: Mapping[str, Kinds] = {}
        self._flytes: dict[str, FlyteServer | None] = {}
        self._providers: dict[str, Provider] = {}
        self.minted: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.failures = FailureLog()
        self.healthy: dict[str, bool] = {}
        self.adopt(file, self.built(file))

    def built(self, file: AgentFile) -> dict[str, Provider]:
        """The providers of `file`: those in use where nothing has changed. Raises `ConfigError`."""
        return {
            name: self._providers[name]
            if self._upstreams.get(name) == spec and self._flytes[name] == file.flyte_of(spec)
            else build(spec, {}, in_pod=False, interactive=False, server=file.flyte_of(spec))
            for name, spec in file.upstreams.items()
            if not isinstance(spec, Delegating)  # those of a hub are minted under a grant
        }

    def adopt(self, file: AgentFile, built: Mapping[str, Provider]) -> None:
        """
        Mint from the upstreams of `file` from now on.

        What was minted from one that is still the same stays; what came from another is forgotten.
        """
        gone = {name for name, provider in self._providers.items() if built.get(name) is not provider}
        self._providers, self._upstreams = dict(built), dict(file.upstreams)
        self._flytes = {name: file.flyte_of(spec) for name, spec in file.upstreams.items()}
        self._sources.drop(lambda key: isinstance(key, Key) and key.name in gone)
        for name in gone:
            self.healthy.pop(name, None)

    def source(self, rule: Rule, asked: Asked) -> Source:
        """
        The source of tokens that `rule` gives for `asked`, shared by all that ask for the same.

        Raises `Refusal` where its upstream has no use for a token that was shown, or needs one.
        """
        name = rule.give.upstream
        upstream = self._upstreams[name]
        _check_grant(upstream, asked)
        key = Key(name, upstream, rule.give, scopes(rule, asked), asked.subject_token, asked.actor_token)
        provider = self._providers[name]
        return self._sources.get(key, lambda: Source(lambda least: self._fetch(provider, key, rule.name, least)))

    def reach(self, name: str) -> None:
        """
        Whether an upstream could give a token: what it names here can be used, and its token endpoint answers.

        Nobody is shown a secret. Upstreams without an endpoint of their own are taken at their word. Raises
        `ConfigError`, and as `probe_token_endpoint`.
        """
        named_files.check(self._upstreams[name])
        client = getattr(self._providers.get(name), "client", None)
        if isinstance(client, OAuthClient):
            probe_token_endpoint(client)

    def __len__(self) -> int:
        return len(self._sources)

    def _fetch(self, provider: Provider, key: Key, rule: str, min_lifetime: float | None) -> Credential:
        try:
            credential = provider.fetch(_wanted(key), min_lifetime=min_lifetime)
            if credential is None:
                absent = ProviderUnavailable if isinstance(key.upstream, AgentSpec) else NoCredential
                raise absent(f"the upstream {key.name!r}: {provider.absent}", hint=provider.remedy)
            if credential.is_anonymous:
                raise Denied(f"the upstream {key.name!r} has no token to give: its Flyte has no authentication")
            if key.give.principal is not None:
                check_principal(credential, key.give.principal, key.name, rule)
            check_lifetime(credential, key.give.max_lifetime, key.name, rule)
        except AuthAgentError as raised:
            failed = _cause(key.upstream, raised)
            self.failed[key.name] += 1
            # Else the token that the caller shows is to blame.
            if isinstance(failed, ProviderUnavailable | ConfigError) or not key.subject_token:
                self.healthy[key.name] = False
                self.failures.failed(key.name, failed)
            raise failed from None
        self.healthy[key.name] = True
        self.minted[key.name] += 1
        self.failures.succeeded(key.name)
        return credential


def _size(key: Hashable) -> int:
    """Bytes of a source: the tokens that it exchanges, of which a request is made each time, and the one it holds."""
    assert isinstance(key, Key)  # noqa: S101 - nothing else is a key here
    shown = [each.token.reveal() for each in (key.subject_token, key.actor_token) if each]
    return USUAL_TOKEN + 2 * text_size(*shown)


def _cause(upstream: Kinds, failed: AuthAgentError) -> AuthAgentError:
    """What a broken source comes from: a file that its configuration names, or else `failed` itself."""
    if type(failed) is not ProviderError:
        return failed
    try:
        named_files.check(upstream)
    except ConfigError as fault:
        return fault
    return failed


def _wanted(key: Key) -> Wanted:
    wanted = Wanted(
        audience=key.give.audience, scopes=key.scopes, subject_token=key.subject_token, actor_token=key.actor_token
    )
    # Other providers cannot be asked for a principal: of what they give it is looked at afterwards.
    return replace(wanted, subject=key.give.principal) if isinstance(key.upstream, AgentSpec) else wanted


def _check_grant(upstream: Kinds, asked: Asked) -> None:
    if isinstance(upstream, Delegating):
        raise no_rule("the upstream gives tokens of people only, under their grants")
    if is_for_callers(upstream):
        if asked.subject_token is None:
            raise no_rule("the rule exchanges tokens, and none was shown")
        if asked.actor_token and isinstance(upstream, ExchangeSpec) and upstream.actor_token_file:
            raise invalid_request("the agent itself is the actor here")
    elif asked.subject_token is not None:
        raise no_rule("the rule gives no token in return for another")


def check_principal(credential: Credential, principal: str, upstream: str, rule: str) -> None:
    """Refuse a token of `upstream` that speaks for another principal than `rule` gives. Raises `Denied`."""
    found = claims(credential.token).get("sub")
    if found != principal:
        who = f"for {found!r}" if found else "for somebody whom it does not name"
        raise Denied(f"a token of {upstream!r} speaks {who}, and the rule {rule!r} gives those of {principal!r}")


def check_lifetime(credential: Credential, longest: float | None, upstream: str, rule: str) -> None:
    """
    Refuse a token that lives longer than the rule allows, by its own `exp`: Flyte looks at nothing else.

    Raises `Denied`.
    """
    if longest is None:
        return
    lives = credential.lifetime
    if lives is None:  # nobody knows when it was obtained: from now on
        now, ends = time.time(), moment(claims(credential.token).get("exp"))
        lives = max(credential.remaining(now), ends - now) if ends is not None else credential.remaining(now)
    if lives > longest:
        shown = "nobody knows how long" if lives == float("inf") else f"{lives:.0f} s"
        raise Denied(
            f"tokens of {upstream!r} live {shown}, longer than the {longest:.0f} s of the rule {rule!r}",
            hint="let the identity provider issue shorter ones to this client, or raise max_lifetime",
        )
