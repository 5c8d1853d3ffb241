"""Executions that a task launches: covered where the attested parent says so, and nowhere else."""

from __future__ import annotations

from running_hub import Hub, World, says, wait_for
from test_grants import fresh


def test_a_child_that_its_parent_names_is_covered_and_so_are_its_own(hub: Hub, world: World) -> None:
    parent, child, grandchild = fresh(), fresh(), fresh()
    hub.granted("alice", parent)
    pod = world.pod_of(parent)
    assert hub.adopt(pod, child).json()["error"] == "access_denied"  # it is launched first
    world.admin.launch(child, "alice")
    reply = hub.adopt(pod, child)
    assert (reply.status, reply.json()["execution"]) == (200, child)
    assert hub.adopt(pod, child).status == 200  # again is as good as once
    child_pod = world.pod_of(child)
    assert says(hub.ask(child_pod))["sub"] == "alice"
    world.admin.launch(grandchild, "alice")
    assert hub.adopt(child_pod, grandchild).status == 200
    assert says(hub.ask(world.pod_of(grandchild)))["sub"] == "alice"
    assert world.of_hub("exchanges") == 1
    assert len(hub.records(event="child", outcome="covered", child=child)) == 2
    (grant,) = [g for g in hub.get("/grants", world.token("alice")).json()["grants"] if g["execution"] == parent]
    assert grant["children"] == 2


def test_an_execution_that_merely_claims_a_parent_is_not_covered(hub: Hub, world: World) -> None:
    parent = fresh()
    hub.granted("alice", parent)
    claimed = world.admin.launch(fresh(), "alice")  # what a forged parent_node_execution makes Flyte say
    name = parent.split(":")[2]
    pod = world.pod_of(claimed, labels={"execution-id": name})
    assert hub.ask(pod).json()["error"] == "unauthorized_client"
    assert hub.adopt(pod, fresh()).json()["error"] == "unauthorized_client"
    assert hub.adopt(pod, parent).json()["error"] == "unauthorized_client"


def test_one_persons_grant_does_not_cover_anothers_execution(hub: Hub, world: World) -> None:
    of_alice, of_bob = fresh(), fresh()
    hub.granted("alice", of_alice)
    hub.granted("bob", of_bob)
    assert hub.adopt(world.pod_of(of_alice), of_bob).json()["error"] == "access_denied"
    assert says(hub.ask(world.pod_of(of_bob)))["sub"] == "bob"
    assert hub.adopt(world.pod_of(of_alice), fresh("other")).json()["error"] == "access_denied"
    assert hub.adopt(world.pod_of(of_alice), of_alice).status == 400


def test_children_go_with_the_grant_and_each_with_its_own_end(hub: Hub, world: World) -> None:
    parent, first, second = fresh(), fresh(), fresh()
    hub.granted("alice", parent)
    for child in (first, second):
        world.admin.launch(child, "alice")
        assert hub.adopt(world.pod_of(parent), child).status == 200
    pods = {child: world.pod_of(child) for child in (first, second)}
    world.admin.end(first)
    wait_for(lambda: hub.ask(pods[first]).status == 400)
    assert says(hub.ask(pods[second]))["sub"] == "alice"
    world.admin.end(parent)
    wait_for(lambda: hub.ask(pods[second]).status == 400)
    wait_for(lambda: world.of_hub("revocations") == 1)


def test_the_identity_of_a_caller_says_whose_grant_covers_it(hub: Hub, world: World) -> None:
    parent = fresh()
    grant = hub.granted("alice", parent)
    known = hub.get("/identity", world.pod_of(parent)).json()
    assert known["children"] == "/grants/children"
    assert known["grant"] == {"subject": "alice", "expires_at": grant["expires_at"]}
    assert known["pod"]["execution"] == parent
    assert "grant" not in hub.get("/identity", world.pod_of(fresh())).json()
