"""Who may have what: the first rule that matches, or a refusal."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from flytekitplugins.authagent import wire
from flytekitplugins.authagent.agent.asked import Asked
from flytekitplugins.authagent.agent.file import Rule, Who
from flytekitplugins.authagent.agent.peer import Peer
from flytekitplugins.authagent.agent.refusal import Refusal, no_rule, unknown_peer


def decide(rules: Sequence[Rule], peer: Peer, asked: Asked) -> Rule:
    """
    The rule that gives `asked` to `peer`.

    What the kernel attests opens a rule; what the caller says only narrows it. Raises `Refusal`: an empty list of
    rules gives nothing to anybody.
    """
    own = [rule for rule in rules if knows(rule.who, peer)]
    if not own:
        raise unknown_peer(f"no rule is for uid {peer.uid}, gid {peer.gid}")
    rule = next((rule for rule in own if _narrowed_to(rule, asked)), None)
    if rule is None:
        raise no_rule("every rule for this user is narrowed to something else")
    _check_asked(rule, asked)
    return rule


def knows(who: Who, peer: Peer) -> bool:
    """Whether `who` names `peer`."""
    if peer.uid == wire.NOBODY:
        return False
    return (who.uid is None or peer.uid in who.uid) and (who.gid is None or peer.gid in who.gid)


def scopes(rule: Rule, asked: Asked) -> tuple[str, ...]:
    """What to ask the upstream for: what the caller asks for, or all that the rule gives. Sorted, to be a key."""
    return tuple(sorted(asked.scopes or rule.give.scopes))


def _narrowed_to(rule: Rule, asked: Asked) -> bool:
    """A hint that is not given matches no pattern: a caller that says nothing must not get more."""
    hints = ((rule.narrow.task, asked.task), (rule.narrow.execution_identity, asked.subject))
    return all(
        patterns is None or (hint is not None and any(fnmatchcase(hint, pattern) for pattern in patterns))
        for patterns, hint in hints
    )


def _check_asked(rule: Rule, asked: Asked) -> None:
    for target in (asked.audience, asked.resource):
        if target is not None and target != rule.give.audience:
            raise Refusal(400, "invalid_target", "the rule gives another audience", f"rule {rule.name!r}")
    if not set(asked.scopes) <= set(rule.give.scopes):
        raise Refusal(400, "invalid_scope", "the rule gives fewer scopes", f"rule {rule.name!r}")
    if asked.subject is not None and asked.subject != rule.give.principal:
        raise no_rule(f"rule {rule.name!r} gives no token for another principal")
