"""What rules say of grants: by default or when asked, for whom, and what is given without one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import running_hub
from running_hub import Hub, World, says
from test_grants import fresh


def rule(name: str, namespace: str, **give: Any) -> dict[str, Any]:
    return {"name": name, "who": {"namespace": namespace}, "give": {"upstream": "people", "scopes": ["all"]} | give}


SERVICE = {"upstream": "service", "scopes": ["all"]}


@pytest.fixture(scope="module")
def shared_hub(shared_world: World) -> Iterator[Hub]:
    rules = [
        rule("asked", "asked-production", when="asked", wait="1s"),
        {"name": "service for asked", "who": {"namespace": "asked-production"}, "give": SERVICE},
        rule("or service", "either-production", otherwise=SERVICE),
        rule("not scheduled", "strict-production", otherwise=SERVICE, scheduled="refuse"),
        rule("some people", "some-production", principal="a*", wait="1s"),
        rule("short", "short-production", max_lifetime="10s"),
        {"name": "service only", "who": {"namespace": "service-production"}, "give": SERVICE},
    ]
    with running_hub.running(shared_world, rules=rules) as made:
        yield made


@pytest.fixture
def hub(shared_hub: Hub, world: World) -> Hub:
    return shared_hub


def test_a_person_may_be_given_only_where_the_task_asks_for_one(hub: Hub, world: World) -> None:
    execution = fresh("asked")
    hub.granted("alice", execution)
    pod = world.pod_of(execution)
    assert says(hub.ask(pod))["sub"] == "flyte-agent"
    assert says(hub.ask(pod, requested_subject="alice"))["sub"] == "alice"


def test_who_asks_for_a_person_never_gets_a_service_instead(hub: Hub, world: World) -> None:
    for project in ("asked", "either"):
        execution = world.admin.launch(fresh(project), "alice")
        reply = hub.ask(world.pod_of(execution), requested_subject="alice")
        assert (reply.status, reply.json()["error"]) == (400, "unauthorized_client")


def test_without_a_grant_the_rule_gives_what_it_says_and_the_record_says_why(hub: Hub, world: World) -> None:
    execution = world.admin.launch(fresh("either"), "alice")
    began = time.monotonic()
    assert says(hub.ask(world.pod_of(execution)))["sub"] == "flyte-agent"
    assert time.monotonic() - began < 1.5  # it needs no grant, so it waits for none
    (record,) = hub.records(outcome="given", without_grant="no grant covers the execution")[-1:]
    assert (record["upstream"], record["pod"]["execution"]) == ("service", execution)
    hub.granted("alice", execution)
    assert says(hub.ask(world.pod_of(execution)))["sub"] == "alice"


def test_a_scheduled_execution_waits_for_nobody_and_may_be_refused(hub: Hub, world: World) -> None:
    scheduled = world.admin.launch(fresh("strict"), "alice", mode="SCHEDULED")
    launched = world.admin.launch(fresh("strict"), "alice")
    assert hub.ask(world.pod_of(scheduled)).json()["error"] == "unauthorized_client"
    assert says(hub.ask(world.pod_of(launched)))["sub"] == "flyte-agent"
    waits = world.admin.launch(fresh("some"), "alice", mode="SCHEDULED")
    began = time.monotonic()
    assert hub.ask(world.pod_of(waits)).status == 400
    assert time.monotonic() - began < 0.9


def test_where_it_must_be_known_that_nobody_scheduled_it_a_silent_flyte_is_a_refusal(hub: Hub, world: World) -> None:
    import grpc

    execution = world.admin.launch(fresh("strict"), "alice")
    world.admin.failing = grpc.StatusCode.UNAVAILABLE
    reply = hub.ask(world.pod_of(execution))
    assert (reply.status, reply.json()["error"]) == (503, "temporarily_unavailable")
    assert int(reply.headers["retry-after"]) > 0


def test_a_rule_may_say_for_whom_one_may_act(hub: Hub, world: World) -> None:
    of_alice, of_bob = fresh("some"), fresh("some")
    hub.granted("alice", of_alice)
    hub.granted("bob", of_bob)
    assert says(hub.ask(world.pod_of(of_alice)))["sub"] == "alice"
    assert hub.ask(world.pod_of(of_bob)).json()["error"] == "unauthorized_client"


def test_a_token_that_lives_longer_than_the_rule_allows_is_given_to_nobody(hub: Hub, world: World) -> None:
    execution = fresh("short")
    hub.granted("alice", execution)
    reply = hub.ask(world.pod_of(execution))  # the provider's tokens live 300 s
    assert (reply.status, reply.json()["error"]) == (400, "unauthorized_client")


def test_a_rule_without_people_forbids_them(hub: Hub, world: World) -> None:
    execution = fresh("service")
    hub.granted("alice", execution)
    pod = world.pod_of(execution)
    assert hub.ask(pod, requested_subject="alice").json()["error"] == "unauthorized_client"
    assert says(hub.ask(pod))["sub"] == "flyte-agent"
    assert hub.adopt(pod, fresh("service")).status == 401


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"hub": None, "listen": None}, "grant, which only a hub has"),
        ({"hub": None}, "listen: is for a hub"),
        ({"attestor": "kernel", "kubernetes": None}, "kernel cannot attest"),
        ({"flyte": None}, "needs flyte:"),
        ({"listen": None}, "needs listen:"),
        ({"listen": "http://0.0.0.0:1"}, "plaintext"),
        ({"listen": "https://127.0.0.1:1"}, "needs tls:"),
        ({"hub.ask_flyte_as": "people"}, "no upstream with tokens of its own"),
        ({"hub.ask_flyte_as": "nobody"}, "no upstream with tokens of its own"),
        ({"hub.people.audience": "https://flyte.sandbox.example"}, "could pass for a person"),
        ({"hub.keys_file": None}, "needs keys_file or keys_env"),
        ({"hub.typo": 1}, "typo"),
        ({"upstreams.people.consent": "magic"}, "consent"),
        ({"upstreams.people.client_id": None}, "client_id"),
        ({"upstreams.people.consent": "on_behalf_of"}, "assertion_key_file"),
        ({"rules.0.give.otherwise": {"upstream": "people"}}, "no own tokens"),
        ({"rules.0.give.wait": "11s"}, "wait"),
        ({"rules.0.give.upstream": "service", "rules.0.give.when": "asked"}, "has no grants"),
    ],
)
def test_what_cannot_be_meant_is_an_error_at_load(
    world: World, tmp_path: Any, wrong: dict[str, Any], said: str
) -> None:
    import subprocess
    import sys

    import yaml

    content = running_hub.configuration(world, tmp_path)
    for key, value in wrong.items():
        *path, last = key.split(".")
        place: Any = content
        for part in path:
            place = place[int(part)] if isinstance(place, list) else place[part]
        if value is None:
            place.pop(last, None)
        else:
            place[last] = value
    file = tmp_path / "agent.yaml"
    file.write_text(yaml.safe_dump(content))
    file.chmod(0o600)
    command = [sys.executable, "-m", "flytekitplugins.authagent", "serve", "--check", "--config", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
