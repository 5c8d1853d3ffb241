"""How grants end: with the execution, in time, on demand; and what happens at the identity provider then."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import grpc
import pytest
import running_hub
from flyteidl.admin.project_pb2 import ProjectListRequest
from flyteidl.core.execution_pb2 import WorkflowExecution
from flyteidl.service.identity_pb2 import UserInfoRequest
from running_control_plane import Stubs
from running_hub import Hub, World, says, wait_for
from test_grants import fresh

from flytekitplugins.authagent.sandbox.control_plane import ControlPlane
from flytekitplugins.authagent.sandbox.posture import Posture


def ended(hub: Hub, grant: dict[str, Any], reason: str, seconds: float = 15.0) -> None:
    wait_for(lambda: hub.records(event="grant", outcome="ended", grant=grant["id"], reason=reason), seconds)


PHASES = {
    "UNDEFINED": "runs",
    "QUEUED": "runs",
    "RUNNING": "runs",
    "SUCCEEDING": "is over",
    "SUCCEEDED": "is over",
    "FAILING": "runs",  # propeller runs the failure node
    "FAILED": "is over",
    "ABORTED": "is over",
    "TIMED_OUT": "is over",
    "ABORTING": "is over",
    10: "is over",  # a phase of a newer Flyte
    1000: "is over",
}
"""What an execution does in a phase, as far as its grant is concerned."""


def test_the_table_has_every_phase() -> None:
    assert {name for name in PHASES if isinstance(name, str)} == set(WorkflowExecution.Phase.keys())


@pytest.mark.parametrize("phase", [phase for phase, does in PHASES.items() if does == "is over"])
def test_a_grant_ends_in_every_phase_in_which_nothing_runs_and_is_revoked(
    hub: Hub, world: World, phase: str | int
) -> None:
    execution = fresh()
    grant = hub.granted("alice", execution)
    pod = world.pod_of(execution)
    assert hub.ask(pod).status == 200
    world.admin.end(execution, phase)
    ended(hub, grant, "execution_ended")
    wait_for(lambda: world.of_hub("revocations") == 1)
    assert hub.ask(pod).json()["error"] == "unauthorized_client"
    found = hub.get(f"/grants/{grant['id']}", world.token("alice")).json()
    assert (found["status"], found["reason"]) == ("ended", "execution_ended")
    wait_for(lambda: hub.records(event="revocation", outcome="done", grant=grant["id"]))


@pytest.mark.parametrize("phase", [phase for phase, does in PHASES.items() if does == "runs"])
def test_an_execution_that_may_still_run_tasks_keeps_its_grant(hub: Hub, world: World, phase: str) -> None:
    execution = fresh()
    hub.granted("alice", execution)
    world.admin.end(execution, phase)
    looks = world.admin.calls[execution]
    wait_for(lambda: world.admin.calls[execution] >= looks + 2)
    assert hub.ask(world.pod_of(execution)).status == 200


@pytest.mark.parametrize("phase", [phase for phase, does in PHASES.items() if does == "is over"])
def test_nobody_consents_for_an_execution_that_is_over(hub: Hub, world: World, phase: str | int) -> None:
    execution = world.admin.launch(fresh(), "alice")
    world.admin.end(execution, phase)
    refused = hub.deposit(world.token("alice"), execution)
    assert (refused.status, refused.json()["error_description"]) == (409, "the execution has ended")


def test_a_grant_for_what_is_never_launched_ends_and_is_revoked(world: World) -> None:
    with running_hub.running(world, hub={"appears_within": "2s"}) as hub:
        grant = hub.deposit(world.token("alice"), fresh(), launch="later").json()
        ended(hub, grant, "never_launched")
        wait_for(lambda: world.of_hub("revocations") == 1)


def test_many_executions_that_end_together_are_all_seen_soon(world: World) -> None:
    with running_hub.running(world, hub={"look_every": "2s"}) as hub:
        alice, executions = world.token("alice"), [fresh() for _ in range(120)]
        for execution in executions:
            world.admin.launch(execution, "alice")
            assert hub.deposit(alice, execution).status == 201
        for execution in executions:
            world.admin.end(execution)
        wait_for(lambda: len(hub.records(event="grant", outcome="ended", reason="execution_ended")) == 120, 12)
        wait_for(lambda: world.of_hub("revocations") == 120, 12)


def test_while_flyte_is_silent_nobody_loses_a_grant_and_its_end_is_seen_afterwards(hub: Hub, world: World) -> None:
    execution = fresh()
    grant = hub.granted("alice", execution)
    pod = world.pod_of(execution)
    world.admin.failing = grpc.StatusCode.UNAVAILABLE
    world.admin.end(execution)
    time.sleep(2.5)
    assert hub.ask(pod).status == 200
    world.admin.failing = None
    ended(hub, grant, "execution_ended")


def test_a_grant_ends_at_its_time_on_the_dot(shared_world: World) -> None:
    world = shared_world
    with running_hub.running(world) as hub:
        execution = fresh()
        world.admin.launch(execution, "alice")
        grant = hub.deposit(world.token("alice"), execution, expires_in="60").json()
        pod = world.pod_of(execution)
        assert hub.ask(pod).status == 200
        # Sixty seconds are the least that may be asked for; the rest of them is taken away where they are kept.
        import sqlite3

        with sqlite3.connect(hub.directory / "hub.db") as database:
            database.execute("UPDATE grants SET expires_at = ? WHERE id = ?", (time.time() + 1, grant["id"]))
        time.sleep(1.2)
        assert hub.ask(pod).status == 400
        ended(hub, grant, "expired")


@pytest.mark.parametrize("fault", ["provider down", "provider refuses"])
def test_a_revocation_that_fails_is_tried_until_it_is_done(fault: str) -> None:
    with running_hub.world() as world, running_hub.running(world) as hub:
        execution = fresh()
        grant = hub.granted("alice", execution)
        issuer = world.provider.issuer
        answer = world.provider.provider._routes["/revoke"]

        def spoiled(call: Any) -> Any:
            from flytekitplugins.authagent.sandbox.exchange import json_answer

            return json_answer(503, {"error": "temporarily_unavailable"}) if fault == "provider down" else None

        world.provider.provider._routes["/revoke"] = (("POST",), spoiled)
        alice = world.token("alice")
        reply = hub.revoke(alice, id=grant["id"])
        assert reply.json()["revocation"] == "pending"
        assert hub.ask(world.pod_of(execution)).status == 400  # ended all the same
        (pending,) = hub.records(event="revocation", outcome="pending", grant=grant["id"])
        assert pending["reason"]
        hub.stop()
        hub.start()  # what is still to be revoked outlives the process
        assert world.of_hub("revocations") == 0
        world.provider.provider._routes["/revoke"] = answer
        (done,) = wait_for(lambda: hub.records(event="revocation", outcome="done", grant=grant["id"]), 70)
        assert done["seconds_after_the_end"] > 0
        assert world.of_hub("revocations") == 1
        kept = [token for token in issuer.refresh_tokens._live.values() if token.client_id == "hub"]
        assert kept
        assert not any(issuer.refresh_tokens.look(token.text) for token in kept)


def test_a_token_that_was_given_out_lives_until_its_own_end_and_no_longer(tmp_path: Path) -> None:
    """The window that docs/delegation.md states: Flyte checks tokens offline, so a revocation does not reach them."""
    with running_hub.world(lifetime=4) as world, running_hub.running(world) as hub:
        plane = ControlPlane(
            issuer=world.provider.issuer,
            counts=world.provider.counts,
            faults=world.provider.faults,
            posture=Posture("external"),
            directory=tmp_path,
            task_environment={},
            slots=1,
        )
        plane.start()
        try:
            execution = fresh()
            grant = hub.granted("alice", execution)
            given = hub.ask(world.pod_of(execution)).json()["access_token"]
            assert hub.revoke(world.token("alice"), id=grant["id"]).json()["revocation"] == "done"
            stubs = Stubs(plane.endpoint, {"authorization": f"Bearer {given}"})
            assert stubs.identity.UserInfo(UserInfoRequest()).subject == "alice"
            time.sleep(5)
            with pytest.raises(grpc.RpcError, match="UNAUTHENTICATED"):
                stubs.admin.ListProjects(ProjectListRequest())
        finally:
            plane.stop()


def test_a_consent_that_the_provider_has_ended_is_lost_and_the_refusal_says_so() -> None:
    with running_hub.world(lifetime=3) as world, running_hub.running(world) as hub:
        execution = fresh()
        grant = hub.granted("alice", execution)
        pod = world.pod_of(execution)
        assert says(hub.ask(pod))["sub"] == "alice"
        issuer = world.provider.issuer
        for token in list(issuer.refresh_tokens._live.values()):
            if token.client_id == "hub":
                issuer.families.revoke(token.family)
        time.sleep(2.1)
        reply = wait_for(lambda: (r := hub.ask(pod)).status != 200 and r)
        assert reply.json()["error"] == "unauthorized_client"
        assert "consent again" in reply.json()["error_description"]
        ended(hub, grant, "lost")
        assert hub.ask(pod).status == 400
        again = hub.granted("alice", execution)
        assert again["id"] != grant["id"]
        assert says(hub.ask(pod))["sub"] == "alice"


def test_a_refreshed_token_costs_one_refresh_for_fifty_tasks_at_once() -> None:
    from concurrent.futures import ThreadPoolExecutor

    with running_hub.world(lifetime=6) as world, running_hub.running(world) as hub:
        execution = fresh()
        hub.granted("alice", execution)
        pods = [world.pod_of(execution) for _ in range(50)]
        time.sleep(4.5)  # it is past half its life, so due
        with ThreadPoolExecutor(50) as threads:
            replies = list(threads.map(hub.ask, pods))
        assert {reply.status for reply in replies} == {200}
        assert world.of_hub("refreshes") == 1
        assert len({reply.json()["access_token"] for reply in replies}) == 1
