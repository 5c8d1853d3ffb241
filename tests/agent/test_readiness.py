"""`/readyz`: whether a token could be had, found out without anybody else having to fail first."""

from __future__ import annotations

import time
from pathlib import Path

import running_agent
import running_provider
from prometheus_client.parser import text_string_to_metric_families
from running_agent import Agent, rule
from running_provider import Running


def metric(agent: Agent, name: str, **labels: str) -> float | None:
    families = text_string_to_metric_families(agent.get("/metrics").body.decode())
    samples = [sample for family in families for sample in family.samples]
    return next((s.value for s in samples if s.name == "authagent_" + name and s.labels == labels), None)


def test_an_agent_that_was_never_asked_is_ready_when_its_provider_answers_and_mints_nothing(cold_agent: Agent) -> None:
    assert [cold_agent.get("/readyz").status for _ in range(5)] == [200] * 5
    assert cold_agent.mints == 0
    assert cold_agent.ask().status == 200
    assert cold_agent.get("/readyz").status == 200
    assert cold_agent.mints == 1
    assert metric(cold_agent, "upstream_up", upstream="flyte") == 1


def test_one_whose_provider_is_gone_is_not_ready_before_anybody_asked(tmp_path: Path) -> None:
    with running_provider.running() as provider:
        configuration = running_agent.configuration(tmp_path, provider)
    with running_agent.running(provider, upstreams=configuration["upstreams"]) as agent:
        assert agent.get("/readyz").status == 503
        assert agent.get("/livez").status == 200


def test_one_that_cannot_mint_is_alive_and_not_ready(cold_agent: Agent) -> None:
    cold_agent.provider.faults.put({"token_status": {"value": 503, "count": -1}})

    unready = cold_agent.get("/readyz")
    assert (unready.status, unready.body) == (503, b"no token from flyte\n")
    assert cold_agent.get("/livez").status == 200
    assert cold_agent.ask().status == 503
    assert cold_agent.get("/readyz").status == 503
    assert metric(cold_agent, "upstream_up", upstream="flyte") == 0


def test_a_probe_is_answered_within_a_second_while_the_provider_hangs(cold_agent: Agent) -> None:
    cold_agent.provider.faults.put({"token_hang": -1})
    began = time.monotonic()
    assert cold_agent.get("/readyz").status == 503
    assert time.monotonic() - began < 1.5  # the deadline of the probe is 0.8 s; without it this would be 10


def test_a_token_that_is_still_valid_is_ready_enough(cold_agent: Agent) -> None:
    assert cold_agent.ask().status == 200
    cold_agent.provider.faults.put({"token_status": {"value": 503, "count": -1}})
    assert cold_agent.get("/readyz").status == 200


def test_probes_of_an_agent_that_fails_do_not_flood_the_provider(cold_agent: Agent) -> None:
    cold_agent.provider.faults.put({"token_status": {"value": 503, "count": -1}})
    cold_agent.ask()
    assert {cold_agent.get("/readyz").status for _ in range(100)} == {503}

    failures = metric(cold_agent, "mint_failures_total", upstream="flyte")
    assert failures is not None
    assert failures <= 5  # one a second at most, however often it is probed


def test_an_upstream_that_no_rule_gives_from_is_not_asked(provider: Running) -> None:
    with running_agent.running(provider, rules=[]) as agent:
        assert agent.get("/readyz").status == 200
        assert agent.mints == 0


def test_what_is_counted_is_read_by_prometheus(provider: Running) -> None:
    with running_agent.running(provider, rules=[rule("mine")]) as agent:
        agent.ask()
        agent.ask()
        agent.ask({"scope": "root"})

        counted = {
            "given": metric(agent, "requests_total", outcome="given"),
            "refused": metric(agent, "requests_total", outcome="invalid_scope"),
            "mints": metric(agent, "mints_total", upstream="flyte"),
            "hits": metric(agent, "cache_hits_total"),
            "misses": metric(agent, "cache_misses_total"),
        }
        assert counted == {"given": 2, "refused": 1, "mints": 1, "hits": 1, "misses": 1}
        left = metric(agent, "token_seconds_to_expiry", upstream="flyte")
        assert left is not None
        assert 200 < left <= 300
        assert metric(agent, "ready") == 1
        assert b"root" not in agent.get("/metrics").body  # nothing that a caller said
