"""The audit file: written before the answer, or there is no answer."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import time
from datetime import datetime
from pathlib import Path

import pytest
import running_agent
from peers import need
from running_agent import Agent
from running_provider import Running

from flytekitplugins.authagent.agent.audit import Audit
from flytekitplugins.authagent.agent.file import AuditFile
from flytekitplugins.authagent.errors import ConfigError


def test_every_answer_has_its_record_before_it_is_given(agent: Agent) -> None:
    before = len(agent.records())
    token = agent.ask({"task": "t.t", "execution": "p:d:n"}).json()["access_token"]
    agent.ask({"scope": "admin"})

    given, refused = agent.records()[before:]
    assert (given["outcome"], given["uid"], given["rule"]) == ("given", os.geteuid(), "ours")
    for record in (given, refused):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record["time"])
        written = datetime.fromisoformat(record["time"].replace("Z", "+00:00"))
        assert abs(written.timestamp() - time.time()) < 60
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


def test_opening_it_anew_keeps_its_number_and_no_child_of_ours_inherits_it(tmp_path: Path) -> None:
    """A record that a thread is about to write goes to the file from before, or to the new one: never to another."""
    tmp_path.chmod(0o700)
    one, two = (AuditFile(path=tmp_path / name) for name in ("one", "two"))

    def open_ones() -> set[str]:
        return {link.name for link in Path("/proc/self/fd").iterdir() if link.is_symlink()}

    before = open_ones()
    audit = Audit(one)
    (number,) = open_ones() - before
    for file in (one, two, None, one, two):
        audit.open(file)
        assert open_ones() - before == {number}
        assert not os.get_inheritable(int(number))
        assert audit.write({"to": file and file.path.name})
    with pytest.raises(ConfigError):
        audit.open(AuditFile(path=tmp_path / "nowhere" / "at all"))
    assert audit.write({"to": "two"})
    assert [(tmp_path / name).read_text().count(f'"to":"{name}"') for name in ("one", "two")] == [2, 3]
    audit.close()
    assert open_ones() <= before


def test_one_record_that_was_written_does_not_speak_for_another_that_was_not(tmp_path: Path) -> None:
    """`ready` is everybody's; whether a caller may be answered is by its own record."""
    need("/dev/full", Path("/dev/full").exists())
    audit = Audit(AuditFile(path=Path("/dev/full")))
    assert not audit.write({"a": 1})
    audit.ready = True  # as another thread says, whose record went well at the same moment
    assert not audit.write({"a": 2})
    audit.close()
