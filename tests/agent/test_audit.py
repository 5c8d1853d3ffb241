"""The audit file: written before the answer, or there is no answer."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import running_agent
from peers import need
from running_agent import Agent
from running_provider import Running


def test_every_answer_has_its_record_before_it_is_given(agent: Agent) -> None:
    before = len(agent.records())
    token = agent.ask({"task": "t.t", "execution": "p:d:n"}).json()["access_token"]
    agent.ask({"scope": "admin"})

    given, refused = agent.records()[before:]
    assert (given["outcome"], given["uid"], given["rule"]) == ("given", os.geteuid(), "ours")
    assert given["claimed"] == {"execution": "p:d:n", "task": "t.t"}
    assert given["token"] == hashlib.sha256(token.encode()).hexdigest()[:16]
    assert (refused["outcome"], refused["reason"]) == ("invalid_scope", "rule 'ours'")
    assert refused["asked"] == {"scope": "admin"}
    assert stat.S_IMODE(agent.audit.stat().st_mode) == 0o600


def test_what_callers_claim_cannot_forge_a_line_and_is_cut(agent: Agent) -> None:
    before = len(agent.records())
    agent.ask({"task": 'x"}\n{"outcome":"given","uid":0}'})
    agent.ask({"task": "y" * 5000})

    assert [r["uid"] for r in agent.records()[before:]] == [os.geteuid()] * 2
    assert len(agent.records()[-1]["claimed"]["task"]) == 200


def test_without_room_for_the_record_nothing_is_given(provider: Running) -> None:
    need("/dev/full", Path("/dev/full").exists())
    with running_agent.running(provider, audit="/dev/full") as agent:
        answer = agent.ask()

        assert (answer.status, answer.json()["error"]) == (503, "temporarily_unavailable")
        assert b"access_token" not in answer.body
        assert "audit" in agent.get("/readyz").body.decode()


def test_a_record_that_is_not_required_may_be_lost(provider: Running) -> None:
    need("/dev/full", Path("/dev/full").exists())
    with running_agent.running(provider, audit={"path": "/dev/full", "required": False}) as agent:
        assert agent.ask().status == 200
        assert agent.get("/readyz").status == 503
