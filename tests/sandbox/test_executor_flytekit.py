"""Every kind of task and workflow that flytekit makes, registered by `pyflyte` and run for real."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from flyte_clients import WORKFLOWS, environment, pyflyte, remote
from flytekit.core.options import Options
from flytekit.exceptions.user import FlyteAssertion
from flytekit.models.common import Labels
from flytekit.models.core.execution import WorkflowExecutionPhase as Phase
from flytekit.models.security import Identity, SecurityContext
from flytekit.types.file import FlyteFile
from running_control_plane import running

pytestmark = pytest.mark.timeout(90)


@pytest.fixture(scope="module")
def plane(tmp_path_factory):
    """
    A control plane with everyday workflows registered, whose tasks can call it back.

    Not fast, which would be two processes that import flytekit for each attempt; test_sandbox_traps.py and
    `test_local_entities_are_registered_and_run` see to code that is unpacked.
    """
    variables: dict[str, str] = {}
    with running(tmp_path_factory.mktemp("plane"), environment=variables, slots=3) as control_plane:
        variables.update(environment(control_plane), PYTHONPATH=str(WORKFLOWS))
        pyflyte(control_plane, "register", "--non-fast", "--version", "v1", "everyday.py")
        yield control_plane


@pytest.fixture(scope="module")
def flyte(plane):
    return remote(plane, sub="alice", client_id="cli")


def run(flyte, kind: str, name: str, /, **inputs):
    """Run a registered entity of `everyday` to its end, and read everything about it."""
    fetch = {"task": flyte.fetch_task, "workflow": flyte.fetch_workflow, "plan": flyte.fetch_launch_plan}[kind]
    entity = fetch(name=f"everyday.{name}", version="v1")
    execution = flyte.execute(entity, inputs=inputs)
    flyte.wait(execution, timeout=timedelta(seconds=60), poll_interval=timedelta(seconds=0.1))
    return flyte.sync_execution(execution, sync_nodes=True)


@pytest.fixture(scope="module")
def ended(flyte):
    """What `run` gives, of one run for all who want the same."""
    runs = {}

    def once(kind: str, name: str, /, **inputs):
        key = (kind, name, str(inputs))
        if key not in runs:
            runs[key] = run(flyte, kind, name, **inputs)
        return runs[key]

    return once


@pytest.mark.parametrize(
    ("kind", "name", "inputs", "output"),
    [
        ("task", "double", {"n": 3}, 6),
        ("workflow", "chain", {"n": 2}, 8),
        ("workflow", "nested", {"n": 1}, 8),
        ("workflow", "through_a_launch_plan", {"n": 2}, 16),
        ("plan", "chain_plan", {}, 20),
        ("plan", "fixed_plan", {}, 28),
        ("workflow", "squares", {"numbers": [1, 2, 4]}, [1, 4, 16]),
        ("workflow", "most_squares", {"numbers": [1, 2, 3, 4]}, [1, 4, None, 16]),
        ("workflow", "all_scaled", {"numbers": [1, 2], "by": 3}, [3, 6]),
        ("workflow", "grown", {"n": 1, "times": 2}, 4),
        ("workflow", "branched", {"n": 11}, 22),
        ("workflow", "unpacked", {"x": 4}, "b4"),
        ("task", "third_time_lucky", {}, "012"),
    ],
)
def test_it_runs_to_the_right_output(ended, kind, name, inputs, output):
    execution = ended(kind, name, **inputs)

    assert execution.closure.phase == Phase.SUCCEEDED, execution.error
    assert execution.outputs["o0"] == output
    assert {name: execution.inputs[name] for name in inputs} == inputs
    assert all(node.closure.phase == 3 for node in execution.node_executions.values())


@pytest.mark.parametrize(
    ("kind", "name", "inputs", "message"),
    [
        ("task", "hopeless", {}, "ValueError: invalid literal for int() with base 10: 'this never works'"),
        ("workflow", "squares", {"numbers": [1, 3]}, "[1]: Trace:"),
        ("workflow", "branched", {"n": 5}, "small"),
        ("task", "vanishing", {}, "ended with status 7 and left neither outputs nor an error"),
    ],
)
def test_it_fails_with_the_tasks_own_words(flyte, kind, name, inputs, message):
    execution = run(flyte, kind, name, **inputs)

    assert execution.closure.phase == Phase.FAILED
    assert message in execution.error.message
    with pytest.raises(FlyteAssertion, match="ended in failure"):
        _ = execution.outputs


def test_the_nodes_inside_of_nodes_can_be_read(ended):
    nested = ended("workflow", "nested", n=1).node_executions["n0"]
    dynamic = ended("workflow", "grown", n=1, times=2).node_executions["n0"]

    assert nested.subworkflow_node_executions["n0-0-n2"].outputs["o0"] == 4
    assert sorted(inner.outputs["o0"] for inner in dynamic.subworkflow_node_executions.values()) == [2, 4]


def test_a_failure_handler_is_told_the_error(plane, flyte):
    execution = run(flyte, "workflow", "regretted", name="x")

    (handler,) = (node for name, node in execution.node_executions.items() if name != "n0")
    assert handler.outputs["o0"].startswith("x: Trace:")
    assert "this never works" in handler.outputs["o0"]
    assert execution.closure.phase == Phase.FAILED


def test_a_deck_can_be_read(plane, flyte):
    execution = run(flyte, "task", "pictured")

    (node,) = execution.node_executions.values()
    url = f"flyte://v1/flytesnacks/development/{execution.id.name}/{node.id.node_id}/d"
    assert b"a picture" in flyte.get(url)
    assert plane.plane.executions()[-1]["deck_uris"] == [node.closure.deck_uri]


def test_cached_results_are_used_again(flyte):
    first, second = (run(flyte, "task", "remembered", n=1) for _ in range(2))

    assert first.outputs["o0"] == second.outputs["o0"]


def test_a_file_goes_in_and_comes_out(flyte, tmp_path):
    (tmp_path / "quiet.txt").write_text("quiet")

    execution = run(flyte, "task", "shouted", file=FlyteFile(str(tmp_path / "quiet.txt")))

    with open(execution.outputs["o0"]) as shouted:  # noqa: PTH123  # FlyteFile downloads when it is opened
        assert shouted.read() == "QUIET"


def test_labels_security_context_and_environment_arrive(plane, flyte):
    task = flyte.fetch_task(name="everyday.environment", version="v1")
    options = Options(
        labels=Labels({"team": "a"}),
        security_context=SecurityContext(run_as=Identity(execution_identity="bob")),
    )

    execution = flyte.execute(task, inputs={}, options=options, envs={"MINE": "yes"})
    flyte.wait(execution, timeout=timedelta(seconds=60), poll_interval=timedelta(seconds=0.1))

    assert execution.outputs["o0"]["MINE"] == "yes"
    assert execution.spec.labels.values == {"team": "a"}
    assert execution.spec.metadata.principal == "alice"
    assert execution.spec.security_context.run_as.execution_identity == "bob"
    assert plane.plane.executions()[-1]["execution_identity"] == "bob"


def test_flyte_remote_finds_lists_activates_and_terminates(flyte):
    assert flyte.fetch_workflow(name="everyday.chain").id.version == "v1"
    assert flyte.fetch_task(name="everyday.double").id.version == "v1"
    assert flyte.fetch_launch_plan(name="everyday.chain_plan").id.version == "v1"
    assert "everyday.double" in {task.id.name for task in flyte.list_tasks_by_version("v1")}
    assert [project.id for project in flyte.list_projects()] == ["flytesnacks"]
    assert [domain.id for domain in flyte.get_domains()] == ["development", "staging", "production"]

    plan = flyte.fetch_launch_plan(name="everyday.chain_plan", version="v1")
    flyte.activate_launchplan(plan.id)
    assert flyte.fetch_active_launchplan(name="everyday.chain_plan").id == plan.id
    flyte.deactivate_launchplan(plan.id)
    assert flyte.fetch_active_launchplan(name="everyday.chain_plan") is None

    execution = flyte.execute(flyte.fetch_task(name="everyday.sleeping", version="v1"), inputs={"seconds": 60.0})
    assert execution.id.name in {recent.id.name for recent in flyte.recent_executions()}
    flyte.terminate(execution, "enough")
    flyte.wait(execution, timeout=timedelta(seconds=20), poll_interval=timedelta(seconds=0.1))
    assert execution.closure.phase == Phase.ABORTED
    assert flyte.fetch_execution(name=execution.id.name).closure.abort_metadata.cause == "enough"


def test_terminating_a_parent_ends_the_execution_of_its_launch_plan(plane, flyte):
    workflow = flyte.fetch_workflow(name="everyday.waits_for_sleeper", version="v1")
    parent = flyte.execute(workflow, inputs={"seconds": 60.0})
    deadline = time.monotonic() + 20
    while not (children := [e for e in plane.plane.executions() if e["parent"] == parent.id.name]):
        assert time.monotonic() < deadline
        time.sleep(0.1)

    flyte.terminate(parent, "enough")
    flyte.wait(parent, timeout=timedelta(seconds=20), poll_interval=timedelta(seconds=0.1))
    child = flyte.fetch_execution(name=children[0]["id"]["name"])
    flyte.wait(child, timeout=timedelta(seconds=20), poll_interval=timedelta(seconds=0.1))

    assert (parent.closure.phase, child.closure.phase) == (Phase.ABORTED, Phase.ABORTED)


def test_pyflyte_run_waits_for_the_outputs(plane):
    printed = pyflyte(plane, "run", "--remote", "--wait", "--poll-interval", "1", "everyday.py", "chain", "--n", "2")

    assert "has succeeded" in printed
    last = plane.plane.executions()[-1]
    assert (last["entity"], last["phase"]) == ("everyday.chain", "SUCCEEDED")


def test_local_entities_are_registered_and_run(plane, flyte, monkeypatch):
    monkeypatch.syspath_prepend(str(WORKFLOWS))
    import everyday

    execution = flyte.execute(everyday.chain, inputs={"n": 1}, version="from here")
    flyte.wait(execution, timeout=timedelta(seconds=60), poll_interval=timedelta(seconds=0.1))

    assert flyte.fetch_workflow(name="everyday.chain", version="from here").id.version == "from here"
    assert execution.outputs["o0"] == 4
