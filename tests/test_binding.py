"""Bindings: order decides, nothing matched is nothing, and what is not known matches nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flytekitplugins.authagent.binding import mismatches, select
from flytekitplugins.authagent.config import Binding, When
from flytekitplugins.authagent.context import Context, RunAs
from flytekitplugins.authagent.specs import EnvSpec

words = st.sampled_from(["a", "ab", "b", "billing.daily"])
patterns = st.none() | st.sampled_from(["a", "a*", "*", "b", "billing.*", "[ab]"])
contexts = st.builds(
    Context, project=st.none() | words, domain=st.none() | words, task=st.none() | words, execution=st.none() | words
)
bindings = st.lists(
    st.builds(
        lambda project, domain, task: Binding(when=When(project=project, domain=domain, task=task), provider=EnvSpec()),
        patterns,
        patterns,
        patterns,
    ),
    max_size=5,
)


@given(bindings, contexts)
def test_the_first_that_matches_is_the_one(rules: list[Binding], context: Context) -> None:
    matching = [n for n, b in enumerate(rules) if not mismatches(b, context)]
    found = select(rules, context)
    assert found is (rules[matching[0]] if matching else None)


@given(bindings, bindings, contexts)
def test_what_comes_after_a_match_changes_nothing(first: list[Binding], then: list[Binding], context: Context) -> None:
    found = select(first, context)
    if found is not None:
        assert select([*first, *then], context) is found


@given(contexts)
def test_no_bindings_serve_nobody(context: Context) -> None:
    assert select([], context) is None


@given(bindings)
def test_what_is_not_known_matches_no_pattern(rules: list[Binding]) -> None:
    for binding in rules:
        named = len(binding.when.model_dump(exclude_none=True))
        assert len(mismatches(binding, Context())) == named


def test_an_identity_can_be_matched() -> None:
    rule = Binding(when=When(execution_identity="alice*"), provider=EnvSpec())
    assert select([rule], Context(run_as=RunAs(execution_identity="alice@example.com"))) is rule
    assert mismatches(rule, Context(run_as=RunAs(execution_identity="bob"))) == [
        "execution_identity is bob, not alice*"
    ]
