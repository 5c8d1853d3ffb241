"""`agent.yaml`: what the agent serves, from whom it mints, and who may have what."""

from __future__ import annotations

import grp
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from flytekitplugins.authagent import wire
from flytekitplugins.authagent.specs import (
    AbsolutePath,
    ClientCredentialsSpec,
    EndpointText,
    Header,
    Name,
    Scopes,
    Section,
    TokenExchangeSpec,
)

_UNITS = {"s": 1, "m": 60, "h": 3600}
_NOT_YET = {
    "namespace": "a namespace",
    "service_account": "a service account",
    "project": "a project",
    "domain": "a domain",
    "execution": "an execution",
}


def _many(value: Any) -> Any:
    return (value,) if isinstance(value, int | str) else value


def _id(value: int) -> int:
    if value == wire.NOBODY:
        raise ValueError(f"{wire.NOBODY} is whom the kernel names for anybody it cannot translate")
    return value


def _duration(value: Any) -> Any:
    match = re.fullmatch(r"(\d{1,6})([smh])", value) if isinstance(value, str) else None
    if match is None or not int(match[1]):
        raise ValueError("write a span such as 90s, 15m or 1h")
    return float(int(match[1]) * _UNITS[match[2]])


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


Ids = Annotated[
    tuple[Annotated[int, Field(ge=0), AfterValidator(_id)], ...], BeforeValidator(_many), Field(strict=False)
]
Globs = Annotated[tuple[Name, ...], BeforeValidator(_many), Field(strict=False)]


class Who(Section):
    """Whom a rule is for, as the kernel attests it. Several keys must all match, each with one of its values."""

    uid: Ids | None = None
    gid: Ids | None = None

    @model_validator(mode="before")
    @classmethod
    def _attested(cls, value: Any) -> Any:
        for key in value if isinstance(value, dict) else ():
            if key in _NOT_YET:
                raise ValueError(f"the kernel cannot attest {_NOT_YET[key]}; this release has no attestor that can")
        return value

    @model_validator(mode="after")
    def _somebody(self) -> Who:
        if not self.uid and not self.gid:
            raise ValueError("names nobody; give it a uid or a gid")
        return self


class Narrow(Section):
    """What the caller says of itself: glob patterns that make a rule match less, and can never make it match more."""

    task: Globs | None = None
    execution_identity: Globs | None = None


class Give(Section):
    """What a rule gives. `max_lifetime` is in seconds; a token that lives longer is refused."""

    upstream: Name
    audience: Name | None = None
    scopes: Scopes = ()
    principal: Name | None = None
    max_lifetime: Annotated[float, BeforeValidator(_duration)] | None = None


class Rule(Section):
    """The first rule whose `who` and `narrow` match decides."""

    name: Name
    who: Who
    narrow: Narrow = Narrow()
    give: Give


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


Upstream = ClientCredentialsSpec | TokenExchangeSpec
"""Whom the agent mints from: kinds that need nobody to be there."""


def _named(spec: Upstream) -> Upstream:
    if not spec.is_complete:
        raise ValueError("needs either issuer or token_endpoint")
    return spec


class AgentFile(Section):
    """The whole of `agent.yaml`."""

    socket: AbsolutePath
    mode: Annotated[int, BeforeValidator(_mode)] = 0o600
    group: Annotated[str, AfterValidator(_group)] | None = None
    audit: Annotated[AuditFile, BeforeValidator(_audit)] | None = None
    upstreams: dict[Name, Annotated[Upstream, Field(discriminator="kind"), AfterValidator(_named)]]
    rules: Annotated[tuple[Rule, ...], Field(strict=False)]
    flyte: Flyte | None = None
    attestor: Literal["kernel"] = "kernel"
    health: Annotated[str, AfterValidator(_address)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _attestors(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("attestor") == "kubernetes":
            raise ValueError("attestor: kubernetes is not in this release; leave it out for attestor: kernel")
        return value

    @model_validator(mode="after")
    def _whole(self) -> AgentFile:
        for rule in self.rules:
            upstream = self.upstreams.get(rule.give.upstream)
            if upstream is None:
                raise ValueError(f"the rule {rule.name!r} gives from {rule.give.upstream!r}, which is no upstream")
            if rule.give.principal is not None:
                raise ValueError(f"the rule {rule.name!r} names a principal; no upstream of this release can give one")
            if wider := set(rule.give.scopes) - set(upstream.scopes or rule.give.scopes):
                raise ValueError(f"the rule {rule.name!r} gives scopes that its upstream has not: {', '.join(wider)}")
            if rule.give.audience not in (None, upstream.audience):
                raise ValueError(f"the rule {rule.name!r} gives another audience than its upstream")
        names = [rule.name for rule in self.rules]
        if len(set(names)) < len(names):
            raise ValueError("two rules have the same name")
        return self
