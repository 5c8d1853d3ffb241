"""`pyflyte` and `FlyteRemote` on executions that exist: gates, recover, relaunch, metrics, and schedules."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from flyte_clients import WORKFLOWS, environment, pyflyte, remote
from flyteidl.admin import common_pb2
from flytekit.exceptions.user import FlyteEntityNotExistException
from flytekit.models.core.execution import WorkflowExecutionPhase as Phase
from running_control_plane import running
from templates import LAUNCH_PLAN, identifier

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def plane(tmp_path_factory):
    variables: dict[str, str] = {}
    with running(tmp_path_factory.mktemp("plane"), environment=variables, slots=3) as control_plane:
        variables.update(environment(control_plane), PYTHONPATH=str(WORKFLOWS))
        pyflyte(control_plane, "register", "--non-fast", "--version", "v1", "gated.py")
        yield control_plane


@pytest.fixture(scope="module")
def flyte(plane):
    return remote(plane, sub="alice", client_id="cli")


def launch(flyte, name: str, **inputs):
    return flyte.execute(flyte.fetch_launch_plan(name=f"gated.{name}", version="v1"), inputs=inputs)


def ended(flyte, execution):
    flyte.wait(execution, timeout=timedelta(seconds=60), poll_interval=timedelta(seconds=0.2))
    return flyte.sync_execution(execution, sync_nodes=True)


def wait_for_gate(flyte, execution, name: str) -> None:
    """Wait until a gate waits for the signal `name`."""
    deadline = time.monotonic() + 60
    while name not in [found.id.signal_id for found in flyte.list_signals(execution.id.name)]:
        assert time.monotonic() < deadline, f"no gate waits for {name}"
        time.sleep(0.1)


@pytest.mark.parametrize(("verdict", "phase"), [("approve", Phase.SUCCEEDED), ("reject", Phase.FAILED)])
def test_gates_wait_for_an_input_and_for_an_approval(flyte, verdict, phase):
    execution = launch(flyte, "asks", a=1)
    name = execution.id.name
    with pytest.raises(FlyteEntityNotExistException):
        flyte.set_input("no-such-gate", name, 2, python_type=int)
    wait_for_gate(flyte, execution, "how-many")
    with pytest.raises(Exception, match="not castable"):
        flyte.set_input("how-many", name, "two", python_type=str)

    flyte.set_input("how-many", name, 2, python_type=int)
    wait_for_gate(flyte, execution, "really")
    getattr(flyte, verdict)("really", name)
    execution = ended(flyte, execution)

    assert execution.closure.phase == phase
    if verdict == "approve":
        assert execution.outputs["o0"] == 4
    else:
        assert "really was not approved" in execution.error.message


def launched_by(plane, flyte, *arguments: str):
    """The execution that a command of pyflyte launched."""
    printed = pyflyte(plane, *arguments)
    name = printed.split("Launched execution:")[1].strip().rpartition(":")[2]
    return flyte.fetch_execution(project="flytesnacks", domain="development", name=name)


def test_a_failed_execution_is_recovered_without_the_nodes_that_succeeded(plane, flyte, tmp_path):
    failed = ended(flyte, launch(flyte, "in_two_steps", directory=str(tmp_path)))
    assert failed.closure.phase == Phase.FAILED

    recovered = ended(flyte, launched_by(plane, flyte, "execution", "--execution-id", failed.id.name, "recover"))

    assert (recovered.closure.phase, recovered.outputs["o0"]) == (Phase.SUCCEEDED, 1)
    assert (tmp_path / "runs").read_text() == "x"
    assert recovered.spec.metadata.reference_execution.name == failed.id.name


def test_an_execution_is_relaunched_with_its_inputs(plane, flyte, tmp_path):
    (tmp_path / "failed").touch()
    first = ended(flyte, launch(flyte, "in_two_steps", directory=str(tmp_path)))

    again = ended(flyte, launched_by(plane, flyte, "execution", "--execution-id", first.id.name, "relaunch"))

    assert (first.outputs["o0"], again.outputs["o0"]) == (1, 2)
    assert first.spec.metadata.principal == "alice"
    assert again.spec.metadata.principal != "alice"  # pyflyte calls as somebody else, who is the principal now


def test_metrics_say_how_long_each_operation_took(plane, flyte, tmp_path):
    (tmp_path / "failed").touch()
    execution = ended(flyte, launch(flyte, "in_two_steps", directory=str(tmp_path)))

    for command in ("dump", "explain"):
        printed = pyflyte(plane, "metrics", command, execution.id.name)
        for operation in ("WORKFLOW_SETUP", "NODE_SETUP", "TASK_RUNTIME"):
            assert operation in printed


@pytest.mark.parametrize(("option", "state"), [("--activate", 1), ("--deactivate", 0)])
def test_a_schedule_is_activated_and_deactivated(plane, option, state):
    pyflyte(plane, "launchplan", option, "gated.nightly_plan", "v1")

    # Not by FlyteRemote, which remembers what it fetched.
    plan = common_pb2.ObjectGetRequest(id=identifier(LAUNCH_PLAN, "gated.nightly_plan"))
    assert plane.stubs().admin.GetLaunchPlan(plan).closure.state == state
