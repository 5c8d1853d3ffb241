"""An eager workflow's children do not outlive it: whether it fails, or is aborted itself."""

from __future__ import annotations

import time
from typing import Any

import pytest
from flyte_place import Place, phase

LONG = 600  # seconds that no child may be left to sleep


@pytest.fixture(scope="module")
def registered(shared_place: Place) -> Place:
    """The families, with their launch plans."""
    shared_place.register("family.py", version="1")
    return shared_place


def launch(place: Place, name: str) -> Any:
    """Through the launch plan, whose workflow has the failure node."""
    remote = place.remote()
    plan = remote.fetch_launch_plan(name=f"family.{name}", version="1")
    return remote.execute(plan, inputs={"seconds": LONG})


def children(place: Place) -> dict[str, str]:
    """The executions of the sleeping task, and their phases."""
    return {e["id"]["name"]: e["phase"] for e in place.plane.executions() if e["entity"].endswith("sleep_for")}


@pytest.mark.parametrize("parent", ["failing_parent", "stock_failing_parent"])
def test_the_clean_up_task_aborts_what_a_failed_parent_left_behind(
    parent: str, registered: Place, place: Place
) -> None:
    before = children(place)

    ended = place.ended(launch(place, parent))

    assert phase(ended) == "FAILED"
    assert "this parent fails" in ended.error.message
    born = {name: ended for name, ended in children(place).items() if name not in before}
    assert list(born.values()) == ["ABORTED"]
    assert place.rejected() == 0
    assert place.calls("batch")["TerminateExecution"] == {"accepted": 1, "rejected": 0}


@pytest.mark.parametrize("parent", ["waiting_parent", "parent_of_many"])
def test_a_parent_that_is_aborted_aborts_its_children(parent: str, registered: Place, place: Place) -> None:
    before = set(children(place))
    execution = launch(place, parent)
    deadline = time.monotonic() + 60
    while not set(children(place)) - before:
        assert time.monotonic() < deadline
        time.sleep(0.005)  # at once: the parent itself does not know yet that Flyte has its child

    place.remote().terminate(execution, "the test ends it")

    assert phase(place.ended(execution)) == "ABORTED"
    while any(ended != "ABORTED" for name, ended in children(place).items() if name not in before):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert place.rejected() == 0


def test_the_clean_up_task_has_what_its_parent_has() -> None:
    from flytekit import Secret

    from flytekitplugins.authagent import AuthAgent, eager

    async def function() -> int:
        return 1

    secret = Secret(group="g", key="k")
    parent = eager(
        task_config=AuthAgent("agent"),
        environment={"MINE": "1"},
        secret_requests=[secret],
        pod_template_name="tasks",
        container_image="example.com/image:1",
    )(function)

    cleanup = parent.get_as_workflow().failure_node.flyte_entity

    assert cleanup.environment == {"FLYTE_CREDENTIALS_AUTH_MODE": "authagent", "MINE": "1"}
    assert cleanup.security_context.secrets == [secret]
    assert cleanup.metadata.pod_template_name == "tasks"
    assert cleanup.container_image == "example.com/image:1"
    assert cleanup.eager.task_config == AuthAgent("agent")
