"""`otherwise`: another identity for whom nobody was ever asked, and for nobody else."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import consenting
import pytest
import running_hub
from running_hub import Hub, World, says, wait_for
from test_grants import fresh

SERVICE = {"upstream": "service", "scopes": ["all"]}
GIVE = {"otherwise": SERVICE, "wait": "2s"}


@pytest.fixture(scope="module")
def shared_hub(shared_world: World) -> Iterator[Hub]:
    with running_hub.running(shared_world, give=GIVE) as made:
        yield made


@pytest.fixture
def hub(shared_hub: Hub, world: World) -> Hub:
    return shared_hub


def refused(hub: Hub, pod: str, words: str) -> None:
    """Nothing is given, whatever else there is to give."""
    reply = hub.ask(pod)
    assert (reply.status, reply.json()["error"]) == (400, "unauthorized_client"), reply.body
    assert words in reply.json()["error_description"]


def test_after_the_end_of_a_grant_no_other_identity_stands_in(hub: Hub, world: World) -> None:
    execution = fresh()
    grant = hub.granted("alice", execution)
    child = world.admin.launch(fresh(), "alice")
    pods = [world.pod_of(execution), world.pod_of(child)]
    assert hub.adopt(pods[0], child).status == 200
    assert [says(hub.ask(pod))["sub"] for pod in pods] == ["alice", "alice"]

    hub.revoke(world.token("alice"), id=grant["id"])
    for pod in pods:
        refused(hub, pod, "has ended; its person must consent again")
    assert hub.deposit(world.token("alice"), execution).status == 201
    assert says(hub.ask(pods[0]))["sub"] == "alice"
    refused(hub, pods[1], "has ended")  # the new grant covers no child that it has not been told of
    assert hub.adopt(pods[0], child).status == 200
    assert says(hub.ask(pods[1]))["sub"] == "alice"


def test_nor_after_one_that_is_lost() -> None:
    with running_hub.world(lifetime=4) as short, running_hub.running(short, give=GIVE) as hub:
        execution = fresh()
        hub.granted("alice", execution)
        pod = short.pod_of(execution)
        assert says(hub.ask(pod))["sub"] == "alice"
        issuer = short.provider.issuer
        for token in list(issuer.refresh_tokens._live.values()):
            issuer.families.revoke(token.family)
        wait_for(lambda: hub.ask(pod).status == 400, 10)
        assert hub.records(event="grant", outcome="ended", reason="lost", execution=execution)
        for _ in range(3):
            refused(hub, pod, "must consent again")


def test_nor_while_its_person_has_yet_to_consent() -> None:
    with running_hub.world() as world, running_hub.running(world, give=GIVE, upstream={"consent": "page"}) as hub:
        execution = world.admin.launch(fresh(), "alice")
        grant = consenting.asked(hub, world.token("alice"), execution)
        pod = world.pod_of(execution)
        refused(hub, pod, "has not yet")
        hub.revoke(world.token("alice"), id=grant["id"])
        refused(hub, pod, "has ended")

        declined = world.admin.launch(fresh(), "alice")
        asked = consenting.asked(hub, world.token("alice"), declined)
        assert consenting.Surfer().hub.decide(asked["consent_uri"], decision="deny").status == 200
        assert says(hub.ask(world.pod_of(declined)))["sub"] == "flyte-agent"  # it never acted for anybody


def test_nor_where_the_person_is_asked_anew_and_declines() -> None:
    with running_hub.world() as world, running_hub.running(world, give=GIVE, upstream={"consent": "page"}) as hub:
        execution = world.admin.launch(fresh(), "alice")
        pod, alice = world.pod_of(execution), world.token("alice")
        grant = consenting.asked(hub, alice, execution)
        assert consenting.title(consenting.Surfer().consent(grant["consent_uri"], "alice")) == "Allowed"
        assert says(hub.ask(pod))["sub"] == "alice"
        hub.revoke(alice, id=grant["id"])
        again = consenting.asked(hub, alice, execution)
        refused(hub, pod, "has not yet")
        assert consenting.Surfer().hub.decide(again["consent_uri"], decision="deny").status == 200
        refused(hub, pod, "has ended")


def test_a_squatted_child_that_asks_before_its_parent_has_told_of_it_waits_as_well(hub: Hub, world: World) -> None:
    execution, name = fresh(), fresh()
    hub.granted("bob", execution)
    assert hub.deposit(world.token("mallory"), name, launch="later").status == 201
    parent, child = world.pod_of(execution), world.admin.launch(name, "bob")
    telling = threading.Timer(0.4, lambda: hub.adopt(parent, child))
    telling.start()
    assert says(hub.ask(world.pod_of(child)))["sub"] == "bob"
    telling.join()


def test_a_child_that_asks_before_its_parent_has_told_of_it_waits_a_moment(hub: Hub, world: World) -> None:
    execution = fresh()
    hub.granted("bob", execution)
    parent, child = world.pod_of(execution), world.admin.launch(fresh(), "bob")
    told: list[Any] = []
    telling = threading.Timer(0.4, lambda: told.append(hub.adopt(parent, child).status))
    telling.start()
    assert says(hub.ask(world.pod_of(child)))["sub"] == "bob"
    telling.join()
    assert told == [200]


def test_whoever_has_no_grants_there_waits_for_nothing(hub: Hub, world: World) -> None:
    hub.granted("bob", fresh("billing"))
    for execution in (world.admin.launch(fresh("elsewhere"), "bob"), world.admin.launch(fresh("billing"), "carol")):
        began = time.monotonic()
        assert says(hub.ask(world.pod_of(execution)))["sub"] == "flyte-agent"
        assert time.monotonic() - began < 1.8


def test_what_somebody_else_asked_for_in_vain_changes_nothing(hub: Hub, world: World) -> None:
    """mallory asks for a grant for a name that can be computed, and alice launches under it."""
    name = fresh("squatted")
    assert hub.deposit(world.token("mallory"), name, launch="later").status == 201
    world.admin.launch(name, "alice")
    assert says(hub.ask(world.pod_of(name)))["sub"] == "flyte-agent"
