"""From a rule to a source of tokens: one for each upstream, audience, set of scopes and longest life."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping

from flytekitplugins.authagent.agent.asked import Asked
from flytekitplugins.authagent.agent.file import Rule, Upstream
from flytekitplugins.authagent.agent.policy import scopes
from flytekitplugins.authagent.credential import Credential, claims, moment
from flytekitplugins.authagent.errors import AuthAgentError, Denied
from flytekitplugins.authagent.providers import Wanted, build
from flytekitplugins.authagent.source import Source
from flytekitplugins.authagent.sources import Sources

LIMIT = 1000
"""Sources kept. Rules have few audiences and sets of scopes; this bounds what callers can make of them."""


class Mint:
    """
    The sources of the agent's tokens, made when they are first needed.

    A mint that hangs holds a thread of its own and nobody else; whoever needs another token does not notice.
    """

    def __init__(self, upstreams: Mapping[str, Upstream]) -> None:
        self._providers = {name: build(spec, {}, in_pod=False) for name, spec in upstreams.items()}
        self._sources = Sources(LIMIT)
        self.minted: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.healthy: dict[str, bool] = {}

    def source(self, rule: Rule, asked: Asked) -> Source:
        """The source of tokens that `rule` gives for `asked`, shared by all that ask for the same."""
        give, wanted = rule.give, scopes(rule, asked)
        key = (give.upstream, give.audience, wanted, give.max_lifetime)
        return self._sources.get(key, lambda: Source(lambda _: self._fetch(rule, wanted)))

    def _fetch(self, rule: Rule, wanted: tuple[str, ...]) -> Credential:
        name = rule.give.upstream
        self.healthy[name] = False
        try:
            credential = self._providers[name].fetch(Wanted(audience=rule.give.audience, scopes=wanted))
            assert credential is not None  # noqa: S101 - an upstream is always configured
            _check_lifetime(credential, rule)
        except AuthAgentError:
            self.failed[name] += 1
            raise
        self.healthy[name] = True
        self.minted[name] += 1
        return credential


def _check_lifetime(credential: Credential, rule: Rule) -> None:
    """
    Refuse a token that lives longer than the rule allows, by its real end: Flyte looks at nothing else.

    Raises `Denied`.
    """
    longest = rule.give.max_lifetime
    if longest is None:
        return
    now = time.time()
    found = claims(credential.token)
    issued, ends = moment(found.get("iat")), moment(found.get("exp"))
    lives = ends - (now if issued is None else issued) if ends is not None else credential.remaining(now)
    if lives > longest:
        shown = "nobody knows how long" if lives == float("inf") else f"{lives:.0f} s"
        raise Denied(
            f"tokens of {rule.give.upstream!r} live {shown}, longer than the {longest:.0f} s of the rule {rule.name!r}",
            hint="let the identity provider issue shorter ones to this client, or raise max_lifetime",
        )
