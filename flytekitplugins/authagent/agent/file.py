"""`agent.yaml`: what the agent serves, from whom it mints, and who may have what."""

from __future__ import annotations

import grp
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from flytekitplugins.authagent.agent.kubernetes_settings import KubernetesSettings
from flytekitplugins.authagent.agent.rule import Rule
from flytekitplugins.authagent.agent.upstream import Kinds, Upstream, is_for_callers
from flytekitplugins.authagent.specs import AbsolutePath, EndpointText, Header, Name, Section


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
    except KeyError:
        raise ValueError(f"there is no group {name!r} on this machine") from None
    return name


def _address(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise ValueError("write it as HOST:PORT")
    return text


class Flyte(Section):
    """Told to clients that do not know which Flyte, and checked by those that do."""

    endpoint: EndpointText
    insecure: bool = False
    authorization_metadata_key: Header | None = None


class AuditFile(Section):
    """Where every answer is written down. `required`: whether the agent answers at all when it cannot be."""

    path: AbsolutePath
    required: bool = True


def _audit(value: Any) -> Any:
    return {"path": value} if isinstance(value, str | Path) else value


class AgentFile(Section):
    """The whole of `agent.yaml`."""

    socket: AbsolutePath
    mode: Annotated[int, BeforeValidator(_mode)] = 0o600
    group: Annotated[str, AfterValidator(_group)] | None = None
    audit: Annotated[AuditFile, BeforeValidator(_audit)] | None = None
    upstreams: dict[Name, Upstream]
    rules: Annotated[tuple[Rule, ...], Field(strict=False)]
    flyte: Flyte | None = None
    attestor: Literal["kernel", "kubernetes"] = "kernel"
    kubernetes: KubernetesSettings | None = None
    health: Annotated[str, AfterValidator(_address)] | None = None

    @property
    def exchanges(self) -> bool:
        """Whether some upstream exchanges what callers show."""
        return any(map(is_for_callers, self.upstreams.values()))

    @model_validator(mode="after")
    def _whole(self) -> AgentFile:
        if self.kubernetes and self.attestor != "kubernetes":
            raise ValueError("kubernetes: says how to attest, and nobody is to; set attestor: kubernetes")
        names = [rule.name for rule in self.rules]
        if len(set(names)) < len(names):
            raise ValueError("two rules have the same name")
        for problem in self._problems():
            raise ValueError(problem)
        return self

    def _problems(self) -> Iterator[str]:
        for rule in self.rules:
            upstream = self.upstreams.get(rule.give.upstream)
            if upstream is None:
                yield f"the rule {rule.name!r} gives from {rule.give.upstream!r}, which is no upstream"
            else:
                yield from _wider(rule, upstream)
            yield from self._unattested(rule)

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


def _wider(rule: Rule, upstream: Kinds) -> Iterator[str]:
    """What the rule gives that its upstream, as it is configured, does not have."""
    has = getattr(upstream, "scopes", ())
    if has and (wider := set(rule.give.scopes) - set(has)):
        yield f"the rule {rule.name!r} gives scopes that its upstream has not: {', '.join(sorted(wider))}"
    if hasattr(upstream, "audience") and rule.give.audience not in (None, upstream.audience):
        yield f"the rule {rule.name!r} gives another audience than its upstream"
