"""What a task that has a grant, or somebody who may have grants, cannot do with them."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import pytest
import running_hub
from running_hub import Hub, World, says, wait_for
from test_grants import fresh

from flytekitplugins.authagent.credential import Secret
from flytekitplugins.authagent.hub.consent import Minted
from flytekitplugins.authagent.hub.custody import Custody, TooSoon
from flytekitplugins.authagent.hub.records import Access
from flytekitplugins.authagent.hub.seal import Seal
from flytekitplugins.authagent.hub.store import Grant, Store, Tokens


@pytest.fixture(scope="module")
def shared_hub(shared_world: World) -> Iterator[Hub]:
    scopes = ["all", "offline"]
    with running_hub.running(shared_world, upstream={"scopes": scopes}, give={"scopes": scopes}) as made:
        yield made


@pytest.fixture
def hub(shared_hub: Hub, world: World) -> Hub:
    return shared_hub


def test_a_scope_that_is_said_again_and_again_is_one_scope(hub: Hub, world: World) -> None:
    execution = fresh()
    hub.granted("alice", execution)
    pod = world.pod_of(execution)
    asked = [" ".join(["all", "offline"] * (1 + n % 9)) for n in range(100)]
    assert {hub.ask(pod, scope=scope).status for scope in asked} == {200}
    assert world.of_hub("refreshes") == 0


def test_ever_other_scopes_cost_a_refresh_for_each_set_of_them(hub: Hub, world: World) -> None:
    execution = fresh()
    hub.granted("alice", execution)
    pod = world.pod_of(execution)
    for n in range(60):
        scope = ("all", "offline", "offline all")[n % 3]
        assert sorted(says(hub.ask(pod, scope=scope))["scp"]) == sorted(scope.split())
    assert world.of_hub("refreshes") == 2  # both together were there


def test_one_grant_is_refreshed_once_in_two_seconds_whatever_its_tasks_ask_for(hub: Hub, world: World) -> None:
    execution = fresh()
    began = time.monotonic()
    hub.granted("alice", execution)
    pod = world.pod_of(execution)
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda scope: says(hub.ask(pod, scope=scope)), ("all", "offline")))
    assert time.monotonic() - began > 3.8  # the second after the first, and that after what consent brought
    assert world.of_hub("refreshes") == 2


@pytest.mark.parametrize(("ago", "rests"), [(0.5, True), (1.9, True), (2.1, False), (-60.0, False)])
def test_a_grant_that_rests_keeps_no_thread_and_clocks_that_differ_make_none_rest(ago: float, rests: bool) -> None:
    """Whoever asks is told when to ask again; the hub waits for that without a thread."""
    now, minted = time.time(), []

    def mint(grant: Grant, refresh: Secret | None, scopes: tuple[str, ...]) -> Minted:
        minted.append(scopes)
        return Minted(Tokens(Secret("r2"), accesses=(Access(Secret("a2"), now + 600, scopes, now),)))

    with closing(Store("memory", Seal.fresh())) as store:
        store.start()
        grant = store.deposit("p:d:f", "alice", "cli", (), expires_at=now + 600, launched=True, pending=Secret("c"))
        store.activate(grant.id, Tokens(Secret("r1"), accesses=(Access(Secret("a1"), now + 600, ("all",), now - ago),)))
        consent: Any = SimpleNamespace(mint=mint, client=SimpleNamespace(metadata=None))
        custody = Custody(store, consent, lambda: now, ended=lambda grant, reason: None)
        if rests:
            with pytest.raises(TooSoon) as early:
                custody.renewed(grant, ("offline",), 0)
            assert early.value.seconds == pytest.approx(2 - ago, abs=0.01)
        else:
            assert custody.renewed(grant, ("offline",), 0).token == Secret("a2")
    assert minted == [] if rests else [("offline",)]


def test_a_token_that_is_good_still_is_given_while_a_provider_hangs_over_the_next() -> None:
    with running_hub.world(lifetime=60) as world, running_hub.running(world) as hub:
        execution = fresh()
        hub.granted("alice", execution)
        pod = world.pod_of(execution)
        first = hub.ask(pod).json()["access_token"]
        time.sleep(30.5)  # past half of its life
        refreshes = world.of_hub("refreshes")
        world.provider.faults.put({"token_delay_ms": {"value": 5000, "count": 1}})
        began = time.monotonic()
        assert {hub.ask(pod).json()["access_token"] for _ in range(20)} == {first}
        assert time.monotonic() - began < 4
        wait_for(lambda: hub.ask(pod).json()["access_token"] != first, 15)
        assert world.of_hub("refreshes") == refreshes + 1


def test_a_flyte_that_hangs_keeps_nobody_from_a_refresh() -> None:
    with running_hub.world() as world, running_hub.running(world, give={"wait": "10s"}) as hub:
        execution = fresh()
        hub.granted("alice", execution)
        pod, nobodys = world.pod_of(execution), [world.pod_of(world.admin.launch(fresh(), "bob")) for _ in range(40)]
        for shown in (pod, *nobodys):
            hub.get("/identity", shown)
        time.sleep(2.5)
        world.admin.slow = 8.0
        with ThreadPoolExecutor(40) as threads:
            flood = [threads.submit(hub.ask, shown) for shown in nobodys]
            time.sleep(1)
            began = time.monotonic()
            life = hub.ask(pod).json()["expires_in"]
            assert hub.ask(pod, min_lifetime=str(life + 1)).status == 200
            took = time.monotonic() - began
            world.admin.slow = 0.0
            assert {future.result().status for future in flood} <= {400, 429}
        assert took < 4.5, f"{took:.1f} s for a refresh that needs no Flyte"
        assert world.of_hub("refreshes") == 1


# Children


def test_a_grant_is_not_put_over_what_was_there_before(hub: Hub, world: World) -> None:
    before = world.admin.launch(fresh(), "alice")
    time.sleep(0.01)
    parent = fresh()
    hub.granted("alice", parent)
    reply = hub.adopt(world.pod_of(parent), before)
    assert (reply.status, reply.json()["error"]) == (403, "access_denied")
    assert "before the one that asks" in reply.json()["error_description"]
    assert hub.deposit(world.token("alice"), before).status == 201


def test_whoever_guesses_the_name_of_a_child_does_not_keep_it_from_its_grant(hub: Hub, world: World) -> None:
    parent, child = fresh(), fresh()
    hub.granted("alice", parent)
    squatting = hub.deposit(world.token("mallory"), child, launch="later").json()
    world.admin.launch(child, "alice")
    assert hub.adopt(world.pod_of(parent), child).status == 200
    assert says(hub.ask(world.pod_of(child)))["sub"] == "alice"
    (record,) = hub.records(event="grant", outcome="ended", grant=squatting["id"])
    assert (record["reason"], record["subject"]) == ("foreign", "mallory")


def test_nor_its_person_from_giving_it_one() -> None:
    with running_hub.world() as world, running_hub.running(world, upstream={"consent": "page"}) as hub:
        execution = fresh()
        squatting = hub.deposit(world.token("mallory"), execution, launch="later")
        assert (squatting.status, squatting.json()["status"]) == (202, "pending")
        world.admin.launch(execution, "alice")
        assert hub.deposit(world.token("bob"), execution).status == 403
        assert hub.deposit(world.token("alice"), execution).status == 202
        (record,) = hub.records(event="grant", outcome="ended", grant=squatting.json()["id"])
        assert (record["reason"], record["subject"]) == ("foreign", "mallory")


def test_a_child_that_cannot_be_covered_is_told_apart_from_there_being_no_grant(hub: Hub, world: World) -> None:
    parent, elsewhere, of_bob = fresh(), world.admin.launch(fresh("other"), "alice"), world.admin.launch(fresh(), "bob")
    pod = world.pod_of(world.admin.launch(parent, "alice"))
    child = world.admin.launch(fresh(), "alice")
    assert (hub.adopt(pod, child).status, hub.adopt(pod, child).json()["error"]) == (400, "unauthorized_client")
    hub.deposit(world.token("alice"), parent)
    for refused in (elsewhere, of_bob, fresh()):
        reply = hub.adopt(pod, refused)
        assert (reply.status, reply.json()["error"]) == (403, "access_denied"), refused
    assert hub.adopt(pod, child).status == 200


def test_the_grant_that_covers_a_child_is_named_to_its_person(hub: Hub, world: World) -> None:
    parent = fresh()
    hub.granted("alice", parent)
    child = world.admin.launch(fresh(), "alice")
    hub.adopt(world.pod_of(parent), child)
    alice = world.token("alice")
    for reply in (hub.deposit(alice, child), hub.revoke(alice, execution=child)):
        assert reply.status == 409
        assert parent in reply.json()["error_description"]
    assert hub.revoke(world.token("bob"), execution=child).status == 404


# One person's grants


def test_one_person_has_so_many_grants_and_no_more(world: World) -> None:
    def later(name: str) -> int:
        return hub.deposit(world.token(name), f"flytesnacks:development:f{secrets.token_hex(9)}", launch="later").status

    with running_hub.running(world, hub={"rate": 100000}) as hub, ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: later("mallory"), range(80)))
        assert 64 <= answers.count(201) <= 68  # those that came together are not counted by each other
        assert set(answers) == {201, 429}
        assert hub.deposit(world.token("mallory"), world.admin.launch(fresh(), "mallory")).status == 201
        assert later("alice") == 201
