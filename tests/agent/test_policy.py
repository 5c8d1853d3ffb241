"""The rules alone: what is attested opens them, what is only said makes them match less, and the first one decides."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flytekitplugins.authagent.agent import policy
from flytekitplugins.authagent.agent.asked import Asked
from flytekitplugins.authagent.agent.peer import Peer
from flytekitplugins.authagent.agent.refusal import Refusal
from flytekitplugins.authagent.agent.rule import Rule
from flytekitplugins.authagent.agent.workload import Pod, Workload

POD = Pod(
    namespace="billing-production",
    service_account="runner",
    name="f1-n0-0",
    uid="0b4c",
    project="billing",
    domain="production",
    execution="billing:production:f1",
    labels={"team": "red", "project": "victim", "execution-id": "victim"},
    identity={"execution_identity": "alice", "iam_role": "arn:x"},
)
IN_POD = Workload(Peer(1000, 1000, 0), POD)
HERE = Workload(Peer(1000, 1001, 4))


def rule(name: str = "r", who: dict[str, Any] | None = None, **more: Any) -> Rule:
    give = {"upstream": "flyte", "scopes": ["all"]} | more.pop("give", {})
    return Rule.model_validate({"name": name, "who": who or {"uid": 1000}, "give": give, **more})


@pytest.mark.parametrize(
    ("who", "opens"),
    [
        ({"uid": 1000}, True),
        ({"uid": [7, 1000]}, True),
        ({"uid": 7}, False),
        ({"uid": 1000, "gid": 7}, False),
        ({"namespace": "billing-*"}, True),
        ({"namespace": "billing"}, False),
        ({"namespace": "Billing-production"}, False),
        ({"service_account": "runner"}, True),
        ({"namespace": "billing-production", "service_account": "other"}, False),
        ({"namespace": "*", "project": "billing", "domain": "production"}, True),
        ({"namespace": "*", "project": "victim"}, False),  # a label says so, and labels are no facts
        ({"namespace": "*", "execution": "billing:production:*"}, True),
        ({"namespace": "*", "execution": "*:*:victim"}, False),
    ],
)
def test_facts_open_a_rule(who: dict[str, Any], opens: bool) -> None:
    assert policy.knows(rule(who=who).who, IN_POD) is opens


@pytest.mark.parametrize(
    "who", [{"namespace": "*"}, {"service_account": "*"}, {"project": "*"}, {"execution": "*:*:*"}]
)
def test_what_is_not_attested_matches_no_pattern_at_all(who: dict[str, Any]) -> None:
    assert not policy.knows(rule(who=who).who, HERE)
    assert not policy.knows(rule(who={"project": "*"}).who, Workload(Peer(1, 1, 0), Pod("n", "s", "p", "u")))


@pytest.mark.parametrize(
    ("narrow", "asked", "matches"),
    [
        ({"task": "a.*"}, Asked(task="a.b"), True),
        ({"task": "a.*"}, Asked(task="b.a"), False),
        ({"task": "*"}, Asked(), False),
        ({"execution_identity": "alice"}, Asked(), True),  # what the launcher wrote
        ({"execution_identity": "alice"}, Asked(subject="bob"), False),  # what the task asks goes before it
        ({"identity_kind": "iam_role"}, Asked(), True),
        ({"identity_kind": ["oauth2_client", "k8s_service_account"]}, Asked(), False),
        ({"labels": {"team": ["blue", "red"]}}, Asked(), True),
        ({"labels": {"team": "red", "tier": "*"}}, Asked(), False),
    ],
)
def test_hints_narrow_a_rule(narrow: dict[str, Any], asked: Asked, matches: bool) -> None:
    found = policy.differences(rule(who={"namespace": "*"}, narrow=narrow), IN_POD, asked)

    assert (not found) is matches
    assert all(difference.hint for difference in found)


def test_the_first_that_matches_decides_and_none_is_a_refusal() -> None:
    rules = [rule("other", {"uid": 7}), rule("narrow", narrow={"task": "a.*"}), rule("wide"), rule("later")]

    assert policy.decide(rules, HERE, Asked(task="a.b")).name == "narrow"
    assert policy.decide(rules, HERE, Asked(task="c")).name == "wide"
    for few, error in (([], "invalid_client"), (rules[:1], "invalid_client"), (rules[:2], "unauthorized_client")):
        with pytest.raises(Refusal) as refused:
            policy.decide(few, HERE, Asked())
        assert refused.value.error == error


def test_a_principal_is_given_by_the_rule_that_names_it_only() -> None:
    rules = [rule(give={"principal": "alice"})]

    assert policy.decide(rules, HERE, Asked(subject="alice"))
    assert policy.decide(rules, HERE, Asked())
    with pytest.raises(Refusal, match="no rule gives this"):
        policy.decide(rules, HERE, Asked(subject="bob"))


WORDS = st.sampled_from(["a", "b", "c", "*", "a*"])
HINTS = st.fixed_dictionaries({}, optional={"task": WORDS, "execution_identity": WORDS})
RULES = st.lists(
    st.builds(
        lambda uid, narrow: {"uid": uid, "narrow": narrow},
        st.sampled_from([1000, 1001, 1002]),
        HINTS,
    ),
    max_size=5,
)


@given(RULES, st.sampled_from([1000, 1001, 1003]), st.none() | WORDS, st.none() | WORDS)
def test_nothing_that_a_caller_says_opens_a_rule_for_somebody_else(
    written: list[dict[str, Any]], uid: int, task: str | None, subject: str | None
) -> None:
    rules = [
        rule(str(n), {"uid": one["uid"]}, narrow=one["narrow"], give={"principal": subject} if subject else {})
        for n, one in enumerate(written)
    ]
    own = {one.name for one in rules if one.who.uid == (uid,)}
    unnarrowed = next((one for one in rules if one.name in own and one.narrow == type(one.narrow)()), None)
    try:
        decided = policy.decide(rules, Workload(Peer(uid, uid, 1)), Asked(task=task, subject=subject))
    except Refusal:
        assert unnarrowed is None  # who says anything at all loses nothing that needs no hint
    else:
        assert decided.name in own
