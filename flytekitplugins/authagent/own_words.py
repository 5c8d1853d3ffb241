"""Sentences of our own agent and hub: what their clients may repeat to a person, word for word."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SENTENCES = frozenset(
    {
        # the agent's
        "no rule gives this",
        "no token lives as long as min_lifetime asks",
        "nobody keeps grants here",
        "pods cannot be attested for now",
        "the agent cannot write its audit file",
        "the agent's configuration is at fault; its operator must mend it",
        "the identity provider cannot be used for now",
        "the identity provider does not answer",
        "the identity provider does not take the token that was shown",
        "the identity provider, or the rule, allows no such token; see the agent's audit file",
        "the kernel says who you are; send no Authorization header",
        "the rule gives another audience",
        "the rule gives fewer scopes",
        "this agent has no rule for you",
        "too many different tokens are being waited for",
        "too many requests of this caller wait for a grant",
        "too many requests wait for the hub",
        # the hub's, to tasks
        "Flyte cannot be asked about the execution for now",
        "Flyte knows no such execution; launch it first",
        "a grant covers children in its own project and domain only",
        "a grant for this execution has just come, or is about to end; ask again",
        "another grant covers that execution",
        "no grant covers the execution that asks",
        "nobody has consented that this execution acts for them; see `authagent run` and `authagent grant`",
        "somebody was asked to consent that this execution acts for them, and has not yet",
        "that execution has ended",
        "that execution is not one that you launched, or names a parent itself",
        "that execution was there before the one that asks",
        "the consent for this execution cannot be used any more; its person must consent again",
        "the consent for this execution has ended; its person must consent again",
        "the grant covers as many executions as it can; wait until some have ended",
        "the person has consented to fewer scopes",
        "the person has consented to none of the scopes that the rule gives",
        # the hub's, to people
        "Flyte cannot be asked about executions for now",
        "Flyte knows no such execution",
        "Flyte says that somebody else launched that execution",
        "people cannot be authenticated for now",
        "show an access token of the hub's issuer, for the hub's own audience, that is still good",
        "the execution has ended",
        "the grant was revoked before it began",
        "the hub cannot write its audit file",
        "the hub's configuration is at fault; its operator must mend it",
        "the hub is busy; try again",
        "the identity provider cannot be used",
        "the identity provider does not allow it",
        "there is an execution of that name already",
        "this cannot be done for now; try again",
        "this takes too long; try again",
        "too many requests; slow down",
        "you have no grant for that execution",
        "you have no such grant",
        "your consent to that is being obtained; try again",
        "your grant for that execution has just ended; try again",
        "your grant for that execution has other scopes; revoke it first",
    }
)
"""A release that does not know a sentence shows the error code and its own hint instead."""


def said(answer: Mapping[str, Any]) -> str:
    """The `error_description` of `answer`, if it is one of ours; else empty, for it may repeat what was sent."""
    words = answer.get("error_description")
    return words if isinstance(words, str) and words in SENTENCES else ""
