"""Telling the agent of children, and being told for whom we work: what is asked, how often, and for how long."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scripted_agent import LATER, UNGRANTED, Answer, ScriptedAgent, answering

from flytekitplugins.authagent.errors import AuthAgentError, ConfigError, Denied, ProviderError, ProviderUnavailable
from flytekitplugins.authagent.providers import Wanted
from flytekitplugins.authagent.providers.agent import AgentProvider

CHILD, OURS = "p:d:child", "p:d:ours"
TOLD = "/grants/children"
FOREIGN = {
    "error": "access_denied",
    "error_description": "that execution is not one that you launched, or names a parent itself",
}


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="aa-") as name:
        yield Path(name)


@pytest.fixture
def agent(directory: Path) -> Iterator[ScriptedAgent]:
    with answering(directory / "agent.sock", lambda: "abc", children=TOLD) as it:
        yield it


class TestAdopting:
    def test_a_child_is_told_of_once_and_the_agent_introduces_itself_once(
        self, agent: ScriptedAgent, directory: Path
    ) -> None:
        pod = directory / "token"
        pod.write_text("a.b.c\n")
        provider = AgentProvider(agent.path, token_file=pod)
        provider.fetch(Wanted())

        assert provider.adopt(CHILD) is True
        pod.write_text("d.e.f\n")  # as kubelet replaces it
        assert provider.adopt("p:d:other") is True

        assert agent.counts() == {"/grants/children": 2, "/identity": 1, "/token": 1}
        assertion = b"client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer"
        assert [asked.body for asked in agent.requests(TOLD)] == [
            b"execution=p%3Ad%3Achild&" + assertion + b"&client_assertion=a.b.c",
            b"execution=p%3Ad%3Aother&" + assertion + b"&client_assertion=d.e.f",
        ]
        assert [asked.method for asked in agent.requests(TOLD)] == ["POST", "POST"]

    @pytest.mark.parametrize("children", [None, False, 7, {}])
    def test_an_agent_that_takes_none_is_told_nothing(self, agent: ScriptedAgent, children: Any) -> None:
        agent.identity["children"] = children
        provider = AgentProvider(agent.path)

        assert provider.adopt(CHILD) is False
        assert provider.adopt(CHILD) is False
        assert agent.counts() == {"/identity": 1}

    def test_without_a_grant_there_is_nothing_to_cover_it(self, agent: ScriptedAgent) -> None:
        agent.answers[TOLD] = UNGRANTED

        assert AgentProvider(agent.path).adopt(CHILD) is False
        assert agent.counts() == {"/grants/children": 1, "/identity": 1}

    @pytest.mark.parametrize(
        ("answer", "error", "says"),
        [
            (
                (403, FOREIGN),
                Denied,
                "access_denied: that execution is not one that you launched, or names a parent itself",
            ),
            (
                (400, FOREIGN),
                Denied,
                "access_denied: that execution is not one that you launched, or names a parent itself",
            ),  # an agent has passed it on
            ((401, {"error": "invalid_client"}), Denied, "invalid_client"),
            (
                (409, {"error": "conflict", "error_description": "another grant covers that execution"}),
                Denied,
                "another grant",
            ),
            ((400, {"error": "invalid_request"}), Denied, "invalid_request"),
            ((403, {"error": "unauthorized_client"}), Denied, "unauthorized_client"),
            ((400, b"unauthorized_client"), ProviderError, "not as an agent does"),
            ((404, b"nothing"), ProviderError, "not as an agent does"),
            ((200, b"<html>"), ProviderError, "HTML page"),
            ((200, b"\x00\xff"), ProviderError, "something else"),
            ((200, []), ProviderError, "something else"),
            ((200, {}), ProviderError, "does not say that it covers p:d:child"),
            ((200, {"execution": "p:d:another"}), ProviderError, "does not say that it covers p:d:child"),
            ((200, {"execution": [CHILD]}), ProviderError, "does not say that it covers p:d:child"),
        ],
        ids=str,
    )
    def test_what_is_final_is_one_error_of_ours_at_once(
        self, agent: ScriptedAgent, answer: Answer, error: type[AuthAgentError], says: str
    ) -> None:
        agent.answers[TOLD] = answer
        with pytest.raises(error, match=says) as caught:
            AgentProvider(agent.path).adopt(CHILD)

        assert type(caught.value) is error
        assert len(agent.children) == 1

    @pytest.mark.parametrize(
        "busy", [LATER, (429, LATER[1]), (500, LATER[1]), (503, b"too many connections\n")], ids=str
    )
    def test_what_is_for_now_is_asked_again(self, agent: ScriptedAgent, busy: Answer) -> None:
        answers = iter([busy, busy])
        agent.answers[TOLD] = lambda asked: next(answers, (200, {"execution": asked.form["execution"]}))

        assert AgentProvider(agent.path).adopt(CHILD) is True
        assert agent.children == [CHILD] * 3

    def test_not_for_ever(self, agent: ScriptedAgent) -> None:
        agent.answers[TOLD] = LATER
        began = time.monotonic()
        with pytest.raises(ProviderUnavailable, match="pods cannot be attested for now"):
            AgentProvider(agent.path).adopt(CHILD, patience=1.0)

        assert 0.3 < time.monotonic() - began < 2
        assert 2 <= len(agent.children) <= 6

    @pytest.mark.parametrize("path", ["/identity", TOLD])
    def test_one_that_never_answers_is_waited_for_until_the_deadline(self, agent: ScriptedAgent, path: str) -> None:
        agent.answers[path] = agent.hang
        began = time.monotonic()
        with pytest.raises(ProviderUnavailable, match="did not answer in"):
            AgentProvider(agent.path, wait=30).adopt(CHILD, patience=0.5)

        assert 0.4 < time.monotonic() - began < 2
        assert len(agent.requests(path)) == 1

    @pytest.mark.parametrize("wait", [0, 30])
    def test_an_agent_that_is_gone_is_waited_for_until_the_deadline(self, directory: Path, wait: float) -> None:
        began = time.monotonic()
        with pytest.raises(ProviderUnavailable, match="there is no socket"):
            AgentProvider(directory / "agent.sock", wait=wait).adopt(CHILD, patience=0.5)
        assert time.monotonic() - began < 2

    def test_an_agent_that_is_replaced_is_found_again(self, directory: Path) -> None:
        path, later = directory / "agent.sock", []
        with answering(path, lambda: "abc", children=TOLD) as before:
            provider = AgentProvider(path)
            provider.fetch(Wanted())
        assert before.children == []
        starting = threading.Timer(0.5, lambda: later.append(ScriptedAgent(path, lambda: "abc", "", children=TOLD)))
        starting.start()

        assert provider.adopt(CHILD) is True
        starting.join(5)
        assert later[0].counts() == {"/grants/children": 1}
        later[0].close()

    def test_a_broken_pod_token_is_an_error_and_is_not_shown(self, agent: ScriptedAgent, directory: Path) -> None:
        pod = directory / "token"
        pod.write_text("two words")
        with pytest.raises(ConfigError, match="does not hold a token") as caught:
            AgentProvider(agent.path, token_file=pod).adopt(CHILD)
        assert "two words" not in str(caught.value)
        assert agent.counts() == {}


class TestTheLauncher:
    def test_it_is_whom_the_grant_speaks_for_as_it_is_now(self, agent: ScriptedAgent) -> None:
        agent.identity["pod"] = {"execution": OURS}
        provider = AgentProvider(agent.path)
        provider.fetch(Wanted())

        assert provider.launcher(OURS, within=5) is None
        agent.identity["grant"] = {"subject": "alice", "expires_at": 1}
        assert provider.launcher(OURS, within=5) == "alice"
        del agent.identity["grant"]
        assert provider.launcher(OURS, within=5) is None
        assert agent.counts() == {"/identity": 4, "/token": 1}

    @pytest.mark.parametrize("pod", [None, {}, [], "pod", {"execution": None}, {"execution": "p:d:another"}], ids=str)
    def test_who_does_not_attest_that_we_are_part_of_it_is_not_asked_for_it(
        self, agent: ScriptedAgent, pod: Any
    ) -> None:
        agent.identity |= {"pod": pod, "grant": {"subject": "alice"}}
        provider = AgentProvider(agent.path)
        provider.fetch(Wanted())

        assert provider.launcher(OURS, within=5) is None
        assert agent.counts() == {"/identity": 1, "/token": 1}

    @pytest.mark.parametrize(
        "grant", [None, [], "alice", {}, {"subject": 7}, {"subject": ""}, {"subject": ["a"]}], ids=str
    )
    def test_odd_grants_are_nobodys(self, agent: ScriptedAgent, grant: Any) -> None:
        agent.identity |= {"pod": {"execution": OURS}, "grant": grant}
        assert AgentProvider(agent.path).launcher(OURS, within=5) is None

    def test_one_that_never_answers_is_waited_for_until_the_deadline(self, agent: ScriptedAgent) -> None:
        agent.answers["/identity"] = agent.hang
        began = time.monotonic()
        with pytest.raises(ProviderUnavailable, match="did not answer in"):
            AgentProvider(agent.path).launcher(OURS, within=0.5)
        assert 0.4 < time.monotonic() - began < 2
