"""
Who may have what: the first rule that matches, or a refusal.

What is attested opens a rule; what is only said (a hint) makes it match less, and never more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from flytekitplugins.authagent import wire
from flytekitplugins.authagent.agent.asked import Asked
from flytekitplugins.authagent.agent.refusal import Refusal, no_rule, unknown_peer
from flytekitplugins.authagent.agent.rule import POD_FACTS, Rule, Who
from flytekitplugins.authagent.agent.workload import Workload


class Difference(NamedTuple):
    """
    Why a rule does not match: its `key` wants one of `wanted`, and `found` is none of them.

    `hint`: `found` is only said of the caller, not attested.
    """

    key: str
    wanted: tuple[Any, ...]
    found: Any
    hint: bool = False

    def __str__(self) -> str:
        said = "nothing" if self.found in (None, "", (), -1) else repr(self.found)
        return f"{self.key}{' (hint)' if self.hint else ''}: {said} is none of {', '.join(map(str, self.wanted))}"


def decide(rules: Sequence[Rule], workload: Workload, asked: Asked, delegating: Collection[str] = ()) -> Rule:
    """
    The rule that gives `asked` to `workload`. `delegating` are the upstreams whose tokens speak for people.

    Raises `Refusal`: an empty list of rules gives nothing to anybody.
    """
    own = [rule for rule in rules if knows(rule.who, workload)]
    if not own:
        raise unknown_peer(f"no rule is for {_described(workload)}")
    rule = next((rule for rule in own if not any(_hints(rule, workload, asked))), None)
    if rule is None:
        raise no_rule("every rule for this caller is narrowed to something else")
    check_asked(rule, asked, delegates=rule.give.upstream in delegating)
    return rule


def differences(rule: Rule, workload: Workload, asked: Asked) -> list[Difference]:
    """All that keeps `rule` from matching; nothing where it matches."""
    return [*_facts(rule.who, workload), *_hints(rule, workload, asked)]


def knows(who: Who, workload: Workload) -> bool:
    """Whether `who` names `workload`."""
    return not any(_facts(who, workload))


def scopes(rule: Rule, asked: Asked) -> tuple[str, ...]:
    """What to ask the upstream for: what the caller asks for, or all that the rule gives. Sorted, to be a key."""
    return tuple(sorted(asked.scopes or rule.give.scopes))


def check_asked(rule: Rule, asked: Asked, *, delegates: bool = False) -> None:
    """Refuse what a rule that matches does not give; `delegates`: it speaks for people. Raises `Refusal`."""
    for target in (asked.audience, asked.resource):
        if target is not None and target != rule.give.audience:
            raise Refusal(400, "invalid_target", "the rule gives another audience", f"rule {rule.name!r}")
    if not set(asked.scopes) <= set(rule.give.scopes):
        raise Refusal(400, "invalid_scope", "the rule gives fewer scopes", f"rule {rule.name!r}")
    if asked.subject is None:
        return
    if not (speaks_for(rule, asked.subject) if delegates else asked.subject == rule.give.principal):
        raise no_rule(f"rule {rule.name!r} gives no token for another principal")


def speaks_for(rule: Rule, person: str) -> bool:
    """Whether a rule that gives tokens of people may give one of `person`."""
    return rule.give.principal is None or fnmatchcase(person, rule.give.principal)


def _facts(who: Who, workload: Workload) -> Iterator[Difference]:
    peer, pod = workload.peer, workload.pod
    for key, ids, found in (("uid", who.uid, peer.uid), ("gid", who.gid, peer.gid)):
        if ids is not None and found not in ids:
            yield Difference(key, ids, found)
    if peer.uid == wire.NOBODY and pod is None:
        yield Difference("uid", ("somebody whom the kernel can name",), peer.uid)
    for key in POD_FACTS:
        patterns = getattr(who, key)
        attested = getattr(pod, key, None)
        if patterns is not None and not _matches(attested, patterns):
            yield Difference(key, patterns, attested)


def _hints(rule: Rule, workload: Workload, asked: Asked) -> Iterator[Difference]:
    """A hint that is not given matches no pattern: a caller that says nothing must not get more."""
    narrow = rule.narrow
    if rule.give.when == "asked" and asked.subject is None:
        yield Difference("requested_subject", ("whoever launched it",), None, hint=True)
    said = {} if workload.pod is None else workload.pod.identity
    identity = asked.subject or said.get("execution_identity")
    for key, patterns, found in (
        ("task", narrow.task, asked.task),
        ("execution_identity", narrow.execution_identity, identity),
    ):
        if patterns is not None and not _matches(found, patterns):
            yield Difference(key, patterns, found, hint=True)
    kinds = ({"execution_identity"} if asked.subject else set()) | set(said)
    if narrow.identity_kind is not None and not kinds & set(narrow.identity_kind):
        yield Difference("identity_kind", narrow.identity_kind, tuple(sorted(kinds)), hint=True)
    labels = {} if workload.pod is None else workload.pod.labels
    for name, patterns in (narrow.labels or {}).items():
        if not _matches(labels.get(name), patterns):
            yield Difference(f"labels.{name}", patterns, labels.get(name), hint=True)


def _matches(found: str | None, patterns: Iterable[str]) -> bool:
    return found is not None and any(fnmatchcase(found, pattern) for pattern in patterns)


def _described(workload: Workload) -> str:
    peer, pod = workload.peer, workload.pod
    if pod is None:
        return f"uid {peer.uid}, gid {peer.gid}"
    where = f"execution {pod.execution}" if pod.execution else "no execution"
    return f"uid {peer.uid}, namespace {pod.namespace}, service account {pod.service_account}, {where}"
