"""One rule of `agent.yaml`: who may get what."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from flytekitplugins.authagent.specs import Id, Name, Scopes, Section

_UNITS = {"s": 1, "m": 60, "h": 3600}

LONGEST_SPAN = 10 * 366 * 24 * 3600.0
"""Seconds of the longest duration that configuration may have: ten years."""

IDENTITY_KINDS = ("iam_role", "k8s_service_account", "oauth2_client", "execution_identity")
"""The kinds of Flyte's `Identity`, by the names of its fields."""

LONGEST_WAIT = 10.0
"""Seconds that a caller whose rule needs a grant is kept waiting for it at most."""

POD_FACTS = ("namespace", "service_account", "project", "domain", "execution")
"""What `attestor: kubernetes` attests and the kernel cannot."""


def _many(value: Any) -> Any:
    return (value,) if isinstance(value, int | str) else value


def duration(value: Any) -> Any:
    """Seconds, of a span such as `15m`. Raises `ValueError`."""
    match = re.fullmatch(r"([0-9]{1,9})([smh])", value) if isinstance(value, str) else None
    seconds = float(int(match[1]) * _UNITS[match[2]]) if match else 0.0
    if not 0 < seconds <= LONGEST_SPAN:
        raise ValueError("write a span such as 90s, 15m or 1h, of ten years at most")
    return seconds


def _execution(pattern: str) -> str:
    if pattern.count(":") != 2:
        raise ValueError("write an execution as PROJECT:DOMAIN:NAME")
    return pattern


Ids = Annotated[tuple[Id, ...], BeforeValidator(_many), Field(strict=False)]
Globs = Annotated[tuple[Name, ...], BeforeValidator(_many), Field(strict=False, min_length=1)]
Executions = Annotated[
    tuple[Annotated[Name, AfterValidator(_execution)], ...], BeforeValidator(_many), Field(strict=False, min_length=1)
]
IdentityKinds = Annotated[
    tuple[Literal["iam_role", "k8s_service_account", "oauth2_client", "execution_identity"], ...],
    BeforeValidator(_many),
    Field(strict=False, min_length=1),
]


class Who(Section):
    """
    Whom a rule is for, as it is attested. Several keys must all match, each with one of its values.

    `uid` and `gid` are the kernel's word; the others, glob patterns, are Kubernetes'. An `execution` is
    `PROJECT:DOMAIN:NAME`.
    """

    uid: Ids | None = None
    gid: Ids | None = None
    namespace: Globs | None = None
    service_account: Globs | None = None
    project: Globs | None = None
    domain: Globs | None = None
    execution: Executions | None = None

    @model_validator(mode="after")
    def _somebody(self) -> Who:
        if not any(getattr(self, key) for key in type(self).model_fields):
            raise ValueError("names nobody; give it a uid, a gid, a namespace or a service account")
        return self

    @property
    def pod_facts(self) -> Iterator[str]:
        """The keys that are set and only Kubernetes attests."""
        return (key for key in POD_FACTS if getattr(self, key) is not None)


class Narrow(Section):
    """
    What the caller, or whoever launched it, says of it: patterns that make a rule match less, and never more.

    `labels` are those of the pod. `identity_kind`: which of the four kinds of Flyte's `Identity` it asks to run as.
    """

    task: Globs | None = None
    execution_identity: Globs | None = None
    identity_kind: IdentityKinds | None = None
    labels: dict[Name, Globs] | None = None


class Tokens(Section):
    """
    The tokens that are given. `max_lifetime` is in seconds; a token that lives longer is refused.

    `principal` is whom the token must speak for, by its `sub`; one that speaks for somebody else is refused.
    """

    upstream: Name
    audience: Name | None = None
    scopes: Scopes = ()
    principal: Name | None = None
    max_lifetime: Annotated[float, BeforeValidator(duration)] | None = None


class Give(Tokens):
    """
    What a rule gives.

    The others are for tokens that speak for whoever launched the execution; `principal` is a glob pattern there, of
    those who may be spoken for. `when: asked` lets the rule match only where the caller asks for a person (`run_as`).
    Without a grant `otherwise` is given, unless the caller asked for a person, and without `otherwise` nothing is, once
    `wait` seconds have passed. `scheduled: refuse` gives an execution that a schedule launched nothing at all: it is
    Flyte's word, which anybody could have forged, so it can only take away.
    """

    when: Literal["always", "asked"] = "always"
    wait: Annotated[float, BeforeValidator(duration), Field(le=LONGEST_WAIT)] = LONGEST_WAIT
    otherwise: Tokens | None = None
    scheduled: Literal["otherwise", "refuse"] = "otherwise"

    @property
    def for_grants_only(self) -> list[str]:
        """The keys that are set and mean something for grants only."""
        return sorted(self.model_fields_set & {"when", "wait", "otherwise", "scheduled"})


class Rule(Section):
    """The first rule whose `who` and `narrow` match decides."""

    name: Name
    who: Who
    narrow: Narrow = Narrow()
    give: Give
