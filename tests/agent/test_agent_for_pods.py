"""A running agent with `attestor: kubernetes`: pods show their tokens, by our client and by curl's kind of request."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import running_agent
from kubernetes_api import FakeApiServer
from running_agent import Agent
from running_provider import Running

from flytekitplugins.authagent import wire
from flytekitplugins.authagent.context import Context
from flytekitplugins.authagent.errors import ConfigError, Denied, ProviderUnavailable
from flytekitplugins.authagent.providers import Wanted
from flytekitplugins.authagent.providers.agent import AgentProvider

RULES = [
    {
        "name": "nightly",
        "who": {"namespace": "billing-production", "project": "billing", "execution": "billing:production:n*"},
        "narrow": {"labels": {"team": "red"}},
        "give": {"upstream": "flyte", "scopes": ["all"]},
    },
    {
        "name": "runners",
        "who": {"namespace": "billing-*", "service_account": "runner"},
        "give": {"upstream": "flyte", "scopes": ["all"]},
    },
]


@pytest.fixture
def api() -> Iterator[FakeApiServer]:
    api = FakeApiServer()
    yield api
    api.close()


@pytest.fixture
def attesting(provider: Running, api: FakeApiServer, tmp_path: Path) -> Iterator[Agent]:
    own = tmp_path / "own"
    own.write_text(api.own_token)
    kubernetes = {"api_server": api.url, "token_file": str(own)}
    with running_agent.running(provider, attestor="kubernetes", kubernetes=kubernetes, rules=RULES) as agent:
        yield agent


def shown(token: str) -> dict[str, str]:
    return {"client_assertion_type": wire.ASSERTION_TYPE, "client_assertion": token}


def client(agent: Agent, file: Path, token: str) -> AgentProvider:
    file.write_text(token + "\n")
    return AgentProvider(agent.socket, token_file=file)


def test_a_pod_gets_its_token_and_the_audit_file_says_whose_it_is(
    attesting: Agent, api: FakeApiServer, tmp_path: Path
) -> None:
    token = api.token(api.pod_of(api.workflow(securityContext={"run_as": {"execution_identity": "alice"}})))
    provider = client(attesting, tmp_path / "token", token)

    got = provider.fetch(Wanted(context=Context("other", "production", task="t", execution="claimed")))

    assert got is not None
    assert attesting.provider.read(got.token.reveal())
    record = attesting.records()[-1]
    assert record["rule"] == "runners"
    assert record["pod"]["execution"] == "billing:production:f1"
    assert record["pod"]["credential_id"].startswith("JTI=")
    assert record["claimed"] == {"execution": "other:production:claimed", "task": "t"}
    assert record["run_as"] == {"execution_identity": "alice"}
    assert (provider.identity() or {})["pod"]["execution"] == "billing:production:f1"
    assert token not in attesting.audit.read_text() + attesting.log.read_text()
    assert api.calls == {"review": 1, "pod": 1, "workflow": 1}


def test_rules_go_by_what_is_attested_and_hints_only_narrow(attesting: Agent, api: FakeApiServer) -> None:
    def rule_for(**pod: Any) -> str:
        workflow = api.workflow(pod.pop("workflow"))
        token = api.token(api.pod_of(workflow, name=workflow["metadata"]["name"], **pod))
        answer = attesting.ask(shown(token))
        return str(attesting.records()[-1]["rule"]) if answer.status == 200 else str(answer.json()["error"])

    assert rule_for(workflow="n1", labels={"team": "red"}) == "nightly"
    assert rule_for(workflow="n2") == "runners"
    assert rule_for(workflow="n3", service_account="other") == "unauthorized_client"
    assert rule_for(workflow="x1", service_account="other", labels={"team": "red"}) == "invalid_client"
    assert attesting.mints == 1


def test_who_shows_nothing_or_junk_gets_nothing(attesting: Agent, api: FakeApiServer, tmp_path: Path) -> None:
    for fields in ({}, shown("junk"), shown("a.b.c")):
        refused = attesting.ask(fields)
        assert (refused.status, refused.json()["error"]) == (401, "invalid_client")
    assert attesting.get("/identity").status == 401
    with pytest.raises(Denied):
        client(attesting, tmp_path / "token", "a.b.c").fetch(Wanted())
    with pytest.raises(ConfigError, match="does not hold a token"):
        client(attesting, tmp_path / "token", "two words").fetch(Wanted())
    assert not api.calls
    assert attesting.mints == 0


def test_an_api_server_that_is_down_is_unavailable_and_the_agent_not_ready(
    attesting: Agent, api: FakeApiServer, tmp_path: Path
) -> None:
    provider = client(attesting, tmp_path / "token", api.token(api.pod()))
    api.faults["*"] = [403, "always"]
    with pytest.raises(ProviderUnavailable):
        provider.fetch(Wanted())
    unready = attesting.get("/readyz")
    assert (unready.status, b"Kubernetes API server" in unready.body) == (503, True)
    assert attesting.get("/livez").status == 200
    api.faults.clear()
    assert provider.fetch(Wanted())
    assert attesting.get("/readyz").status == 200
    counted = attesting.get("/metrics").body
    assert b'authagent_attestations_total{outcome="attested"} 1.0' in counted
    assert b'authagent_attestations_total{outcome="unavailable"} 1.0' in counted


def test_a_hung_api_server_delays_nobody_who_was_attested(attesting: Agent, api: FakeApiServer) -> None:
    known, new = api.token(api.pod(name="known")), api.token(api.pod(name="new"))
    assert attesting.ask(shown(known)).status == 200
    api.faults["*"] = ["hang"]
    body = wire.form([("grant_type", "client_credentials"), *shown(new).items()])
    with attesting.connect() as waiting:
        waiting.sendall(running_agent.request("POST", "/token", body, {"Content-Type": running_agent.FORM}))
        assert {attesting.ask(shown(known)).status for _ in range(100)} == {200}


def test_the_api_servers_certificate_is_checked(provider: Running, tmp_path: Path) -> None:
    import certificates

    issued = certificates.issue(tmp_path, "localhost")
    api = FakeApiServer(tls=issued.server_context())
    own = tmp_path / "own"
    own.write_text(api.own_token)
    token = api.token(api.pod())
    other = tmp_path / "other"
    other.mkdir()
    try:
        for authority, status in ((issued.authority, 200), (certificates.issue(other, "localhost").authority, 503)):
            kubernetes = {"api_server": api.url, "token_file": str(own), "ca_file": str(authority)}
            with running_agent.running(provider, attestor="kubernetes", kubernetes=kubernetes, rules=RULES) as agent:
                assert agent.ask(shown(token)).status == status
    finally:
        api.close()
    assert api.calls["review"] == 1
