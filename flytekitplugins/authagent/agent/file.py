"""`agent.yaml`: what the agent serves, from whom it mints, and who may have what."""

from __future__ import annotations

import grp
import os
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from flytekitplugins.authagent import endpoint
from flytekitplugins.authagent.agent.hub_settings import HubSettings, Listen, TlsFiles
from flytekitplugins.authagent.agent.kubernetes_settings import KubernetesSettings
from flytekitplugins.authagent.agent.rule import Rule, Tokens
from flytekitplugins.authagent.agent.upstream import (
    Delegating,
    ExchangeSpec,
    GrantSpec,
    HubSpec,
    Kinds,
    Upstream,
    is_for_callers,
)
from flytekitplugins.authagent.discovery import FlyteServer
from flytekitplugins.authagent.errors import ConfigError
from flytekitplugins.authagent.specs import (
    AbsolutePath,
    ClientCredentialsSpec,
    EndpointText,
    Header,
    KeyringSpec,
    Name,
    Section,
)


def _mode(value: Any) -> Any:
    """YAML reads a bare 0660 as the octal number that it is; a bare 660 is another one, and too large."""
    if isinstance(value, str) and re.fullmatch(r"0?[0-7]{3}", value):
        return int(value, 8)
    if type(value) is int and 0 < value <= 0o777:
        return value
    raise ValueError("write it in octal, such as 0660")


def _group(name: str) -> str:
    try:
        grp.getgrnam(name)
    except (KeyError, ValueError):  # a NUL
        raise ValueError(f"there is no group {name!r} on this machine") from None
    return name


def _address(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or endpoint.port(port) is None:
        raise ValueError("write it as HOST:PORT, with a port from 1 to 65535")
    return text


_TOKEN_PATH = "/oauth2/token"  # noqa: S105 - where flyteadmin's own server gives tokens


class Flyte(Section):
    """Told to clients that do not know which Flyte, and checked by those that do."""

    endpoint: EndpointText
    insecure: bool = False
    authorization_metadata_key: Header | None = None

    @model_validator(mode="after")
    def _agrees(self) -> Flyte:
        said = self.insecure if "insecure" in self.model_fields_set else None
        if wrong := endpoint.contradiction(self.endpoint, said):
            raise ValueError(wrong)
        return self

    @property
    def server(self) -> FlyteServer:
        """The Flyte, and how to reach it."""
        to = endpoint.parse(self.endpoint)
        return FlyteServer(to, insecure=self.insecure, timeout=5.0, plaintext=endpoint.allowed_plaintext(os.environ))

    def in_plain_sight(self, environ: Mapping[str, str]) -> str:
        """Why no token may be sent there: anybody on the way could read it. Empty where it may."""
        to = endpoint.parse(self.endpoint)
        if not self.insecure or endpoint.may_be_plaintext(to, endpoint.allowed_plaintext(environ)):
            return ""
        return (
            f"flyte: the hub's own token would be sent to {to.target} in plaintext, where anybody on the way can read "
            f"it; use TLS (insecure: false), or set AUTHAGENT_ALLOW_PLAINTEXT={to.host}"
        )

    def issues(self, url: str | None) -> bool:
        """
        Whether `url`, an issuer or a token endpoint, is flyteadmin's own: of the same host and port.

        An issuer below a path of that host is somebody else's, behind one entrance: flyteadmin's own has none.
        """
        parts = urlsplit(url or "")
        if not parts.hostname or parts.path.rstrip("/") not in ("", _TOKEN_PATH):
            return False
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        try:
            there = endpoint.parse(f"{host}:{parts.port or (80 if parts.scheme == 'http' else 443)}")
        except (ValueError, ConfigError):  # it is no URL, which whoever uses it will say
            return False
        return there.same_as(endpoint.parse(self.endpoint))


class AuditFile(Section):
    """Where every answer is written down. `required`: whether the agent answers at all when it cannot be."""

    path: AbsolutePath
    required: bool = True


def _audit(value: Any) -> Any:
    return {"path": value} if isinstance(value, str | Path) else value


class AgentFile(Section):
    """The whole of `agent.yaml`."""

    socket: AbsolutePath | None = None
    listen: Listen | None = None
    tls: TlsFiles | None = None
    hub: HubSettings | None = None
    mode: Annotated[int, BeforeValidator(_mode)] = 0o600
    group: Annotated[str, AfterValidator(_group)] | None = None
    audit: Annotated[AuditFile, BeforeValidator(_audit)] | None = None
    upstreams: dict[Name, Upstream]
    rules: Annotated[tuple[Rule, ...], Field(strict=False)]
    flyte: Flyte | None = None
    attestor: Literal["kernel", "kubernetes"] = "kernel"
    kubernetes: KubernetesSettings | None = None
    health: Annotated[str, AfterValidator(_address)] | None = None
    mint_rate: Annotated[float, Field(gt=0, le=1000, strict=False)] = 2.0

    @property
    def exchanges(self) -> bool:
        """Whether something is given for what callers show: by an upstream, or by a hub for what attests them."""
        return self.hub is not None or any(map(is_for_callers, self.upstreams.values()))

    def flyte_of(self, upstream: Kinds) -> FlyteServer | None:
        """
        The Flyte that is asked where the issuer of `upstream` does not answer, and under which `authagent login` keeps
        its login; `None` where nobody needs be asked.
        """
        discovers = isinstance(upstream, ClientCredentialsSpec | ExchangeSpec) and not upstream.token_endpoint
        needs = discovers or isinstance(upstream, KeyringSpec)
        return self.flyte.server if self.flyte and needs else None

    @cached_property
    def delegating(self) -> frozenset[str]:
        """The upstreams whose tokens speak for people."""
        return frozenset(name for name, upstream in self.upstreams.items() if isinstance(upstream, Delegating))

    @property
    def delegating_rules(self) -> Iterator[Rule]:
        """The rules that give from them."""
        return (rule for rule in self.rules if rule.give.upstream in self.delegating)

    @model_validator(mode="after")
    def _whole(self) -> AgentFile:
        if self.kubernetes and self.attestor != "kubernetes":
            raise ValueError("kubernetes: says how to attest, and nobody is to; set attestor: kubernetes")
        for problem in self._places():
            raise ValueError(problem)
        names = [rule.name for rule in self.rules]
        if len(set(names)) < len(names):
            raise ValueError("two rules have the same name")
        for problem in self._problems():
            raise ValueError(problem)
        return self

    @property
    def grants(self) -> GrantSpec | None:
        """What people have consented to, in a hub."""
        return next((upstream for upstream in self.upstreams.values() if isinstance(upstream, GrantSpec)), None)

    def _places(self) -> Iterator[str]:
        """Where it listens, and for whom."""
        if self.socket is None and self.listen is None:
            yield "socket: is missing; a hub may have listen: instead"
        if self.listen and not self.hub:
            yield "listen: is for a hub, and there is no hub:"
        if (self.listen or "").startswith("https:") != (self.tls is not None):
            yield "listen: https://... needs tls:, and tls: needs that"
        kept = [name for name, upstream in self.upstreams.items() if isinstance(upstream, GrantSpec)]
        if not self.hub:
            if kept:
                yield f"the upstream {kept[0]!r} is of the kind grant, which only a hub has; see hub:"
            return
        if len(kept) != 1:
            yield "a hub needs one upstream of the kind grant, and has one only"
        yield from self._around_the_hub(self.hub)
        yield from self._two_issuers(self.hub)
        yield from self._from_flyte(self.hub)

    def _around_the_hub(self, hub: HubSettings) -> Iterator[str]:
        """What a hub needs beside its own settings."""
        if not self.listen:
            yield "hub: needs listen:, where people reach it"
        if self.attestor != "kubernetes":
            yield "a hub needs attestor: kubernetes; the kernel cannot attest which execution a process belongs to"
        if not self.flyte:
            yield "a hub needs flyte:, whose executions it follows"
        elif problem := self.flyte.in_plain_sight(os.environ):
            yield problem
        asks = self.upstreams.get(hub.ask_flyte_as)
        if asks is None or isinstance(asks, Delegating) or is_for_callers(asks):
            yield f"ask_flyte_as: {hub.ask_flyte_as!r} is no upstream with tokens of its own"

    def _two_issuers(self, hub: HubSettings) -> Iterator[str]:
        """Where people, and what they consent to, do not belong together, or not apart."""
        given = self.grants
        if given and given.issuer and given.issuer != hub.people.issuer:
            yield "people: and the upstream of kind grant have different issuers; a `sub` means nothing at another's"
        if given and given.audience == hub.people.audience:
            yield "people: audience: is the one of the tokens that tasks get, so a task could pass for a person"

    def _from_flyte(self, hub: HubSettings) -> Iterator[str]:
        """Where people, or what they consent to, would be flyteadmin's own authorization server's."""
        given = self.grants
        asked: list[tuple[str, str | None]] = [("people:", hub.people.issuer)]
        if given:
            asked += [("the upstream of kind grant:", url) for url in (given.issuer, given.token_endpoint)]
        for whose, url in asked:
            if self.flyte and self.flyte.issues(url):
                yield (
                    f"{whose} its issuer is the Flyte of flyte:, and flyteadmin's own server cannot exchange tokens, "
                    "knows no other audience and cannot revoke; use an external identity provider"
                )
                return

    def _problems(self) -> Iterator[str]:
        for name, kept in self.upstreams.items():
            if isinstance(kept, KeyringSpec) and not kept.is_complete and not self.flyte:
                yield f"the upstream {name!r} needs issuer or token_endpoint, or flyte: whose login it is"
        for rule in self.rules:
            upstream = self.upstreams.get(rule.give.upstream)
            if upstream is None:
                yield f"the rule {rule.name!r} gives from {rule.give.upstream!r}, which is no upstream"
            else:
                yield from _wider(rule, rule.give, upstream)
                yield from self._without_grant(rule, upstream)
            yield from self._unattested(rule)

    def _without_grant(self, rule: Rule, upstream: Kinds) -> Iterator[str]:
        """What the rule says of grants where none can be, or of what is given without one."""
        give = rule.give
        if not isinstance(upstream, GrantSpec):
            for key in give.for_grants_only:
                if key != "when" or not isinstance(upstream, HubSpec):
                    yield f"the rule {rule.name!r} has {key}:, and gives from an upstream that has no grants"
            if isinstance(upstream, HubSpec) and self.attestor != "kubernetes":
                yield f"the rule {rule.name!r} gives from a hub, which must be shown a pod; set attestor: kubernetes"
            return
        if give.otherwise is None:
            return
        other = self.upstreams.get(give.otherwise.upstream)
        if other is None or isinstance(other, Delegating) or is_for_callers(other):
            yield f"the rule {rule.name!r} otherwise gives from {give.otherwise.upstream!r}, which has no own tokens"
        else:
            yield from _wider(rule, give.otherwise, other)

    def _unattested(self, rule: Rule) -> Iterator[str]:
        who = rule.who
        if self.attestor == "kernel":
            for key in who.pod_facts:
                yield (
                    f"the rule {rule.name!r} is for a {key}, which the kernel cannot attest; set attestor: kubernetes"
                )
            if rule.narrow.labels is not None:
                yield f"the rule {rule.name!r} is narrowed by labels, which only pods have; set attestor: kubernetes"
        elif who.namespace is None and who.service_account is None:
            yield f"the rule {rule.name!r} names neither a namespace nor a service_account, as attested pods need it"


def _wider(rule: Rule, give: Tokens, upstream: Kinds) -> Iterator[str]:
    """What the rule gives that its upstream, as it is configured, does not have."""
    has = getattr(upstream, "scopes", ())
    if has and (wider := set(give.scopes) - set(has)):
        yield f"the rule {rule.name!r} gives scopes that its upstream has not: {', '.join(sorted(wider))}"
    if hasattr(upstream, "audience") and give.audience not in (None, upstream.audience):
        yield f"the rule {rule.name!r} gives another audience than its upstream"
