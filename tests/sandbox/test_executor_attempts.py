"""One attempt at a task, and when there is another: real processes, without flytekit's second of start-up."""

from __future__ import annotations

import json
import stat
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from flyteidl.admin import common_pb2, execution_pb2, node_execution_pb2, task_execution_pb2
from flyteidl.core import literals_pb2, workflow_pb2
from flyteidl.core.execution_pb2 import ExecutionError
from google.protobuf.duration_pb2 import Duration
from running_control_plane import running
from templates import (
    DOMAIN,
    LAUNCH_PLAN,
    PROJECT,
    PUT_OUT,
    ended,
    integer,
    launched,
    literals,
    node,
    nodes_of,
    outputs,
    phase,
    ran,
    register,
    script,
    task,
    workflow,
)

pytestmark = pytest.mark.timeout(60)

ERROR = """
from flyteidl.core import errors_pb2
def fail(kind, message, origin=1):
    error = errors_pb2.ContainerError(code="CODE", message=message, kind=kind, origin=origin)
    (outputs / "error.pb").write_bytes(errors_pb2.ErrorDocument(error=error).SerializeToString())
    sys.exit(0)
attempt = int(os.environ["FLYTE_ATTEMPT_NUMBER"])
"""


@pytest.fixture(scope="module")
def plane(tmp_path_factory):
    environment = {"OPERATORS": "default", "EXECUTIONS": "default", "TEMPLATES": "default"}
    with running(tmp_path_factory.mktemp("plane"), environment=environment, slots=4) as control_plane:
        yield control_plane


@pytest.fixture(scope="module")
def stubs(plane):
    stubs = plane.stubs()
    register(stubs, task("quick", "true"))
    return stubs


def attempts(stubs, execution_id) -> list[str]:
    """The phases of the attempts at the only node of an execution."""
    of_execution = node_execution_pb2.NodeExecutionListRequest(workflow_execution_id=execution_id, limit=1)
    only = stubs.admin.ListNodeExecutions(of_execution).node_executions[0].id
    of_node = task_execution_pb2.TaskExecutionListRequest(node_execution_id=only, limit=20)
    found = stubs.admin.ListTaskExecutions(of_node).task_executions
    assert [task.id.retry_attempt for task in found] == list(range(len(found)))
    names = type(found[0].closure).DESCRIPTOR.fields_by_name["phase"].enum_type.values_by_number
    return [names[task.closure.phase].name for task in found]


def directories(plane, execution) -> list[Path]:
    return sorted((plane.directory / "executions" / execution.id.name).iterdir())


def test_the_error_of_an_execution_is_the_text_of_the_error_document(stubs):
    register(stubs, script("fails", ERROR + "fail(0, 'it is broken')"))

    execution = ran(stubs, "fails")

    assert execution.closure.error.message == "it is broken"
    assert (execution.closure.error.code, execution.closure.error.kind) == ("CODE", ExecutionError.USER)
    assert phase(stubs, execution.id) == "FAILED"
    assert attempts(stubs, execution.id) == ["FAILED"]


def test_a_recoverable_error_is_tried_again_as_often_as_the_task_says(stubs):
    register(stubs, script("lucky", ERROR + "attempt < 2 and fail(1, 'not yet')\n", retries=2))

    execution = ran(stubs, "lucky")

    assert phase(stubs, execution.id) == "SUCCEEDED"
    assert attempts(stubs, execution.id) == ["FAILED", "FAILED", "SUCCEEDED"]


def test_when_no_retry_is_left_the_last_error_stays(stubs):
    register(stubs, script("unlucky", ERROR + "fail(1, f'failure {attempt}')\n", retries=1))

    execution = ran(stubs, "unlucky")

    assert execution.closure.error.message == "failure 1"
    assert attempts(stubs, execution.id) == ["FAILED", "FAILED"]


def test_an_error_that_is_not_recoverable_is_final_whatever_the_retries(stubs):
    register(stubs, script("final", ERROR + "fail(0, 'never')\n", retries=5))

    assert attempts(stubs, ran(stubs, "final").id) == ["FAILED"]


def test_a_failure_of_the_system_uses_up_no_retry_and_is_bounded(stubs):
    source = ERROR + "fail(1, f'failure {attempt}', origin=2 if attempt < 2 else 1)\n"
    register(stubs, script("unwell", source, retries=1))
    register(stubs, script("always unwell", ERROR + "fail(1, 'again', origin=2)\n", retries=9))

    assert attempts(stubs, ran(stubs, "unwell").id) == ["FAILED"] * 4
    execution = ran(stubs, "always unwell")
    assert attempts(stubs, execution.id) == ["FAILED"] * 3
    assert execution.closure.error.kind == ExecutionError.SYSTEM


@pytest.mark.parametrize(
    ("source", "ending"),
    [
        ("print('last words', flush=True); os._exit(7)", "ended with status 7"),
        ("print('last words', flush=True); os.kill(os.getpid(), 9)", "was killed by signal 9"),
        ("print('last words', flush=True)", "ended with status 0"),
    ],
    ids=["status", "signal", "nothing"],
)
def test_an_attempt_that_leaves_nothing_is_quoted(stubs, source, ending):
    register(stubs, script(f"leaves nothing: {ending}", source, outputs=["o"]))

    error = ran(stubs, f"leaves nothing: {ending}").closure.error

    assert error.message == f"the task {ending} and left neither outputs nor an error. Its log ends:\nlast words"
    assert error.kind == ExecutionError.SYSTEM


def test_of_a_long_log_only_the_end_is_quoted(stubs):
    register(stubs, script("talks", "print('x' * 100_000 + ' the end'); sys.exit(1)"))

    message = ran(stubs, "talks").closure.error.message

    assert message.endswith("x the end")
    assert len(message) < 2200


def test_a_document_that_is_no_flyte_document_fails_and_does_not_hang(stubs):
    register(stubs, script("garbage", "(outputs / 'outputs.pb').write_bytes(b'\\xff\\xff\\xff')"))

    assert ran(stubs, "garbage").closure.error.code == "BadOutputs"


def test_a_task_without_outputs_need_not_leave_a_document(stubs):
    register(stubs, task("quiet", "true"))

    assert phase(stubs, ran(stubs, "quiet").id) == "SUCCEEDED"


def test_a_task_that_takes_too_long_is_ended(stubs):
    register(stubs, task("slow", "sleep", "60", timeout=Duration(nanos=300_000_000)))

    error = ran(stubs, "slow").closure.error

    assert (error.code, error.message) == ("TimeoutExpired", "the task did not end within 0.3 s")


@pytest.mark.parametrize("argv", [["no-such-program", "--x"], ["/etc/passwd"]])
def test_a_command_that_is_not_on_this_machine_fails_with_what_the_sandbox_does(stubs, argv):
    register(stubs, task(f"foreign {argv[0]}", *argv))

    error = ran(stubs, f"foreign {argv[0]}").closure.error

    assert error.message.startswith(f"the sandbox cannot run {argv[0]!r}")
    assert "without their images" in error.message


def test_a_task_for_a_connector_fails_with_what_the_sandbox_does(stubs):
    request = task("connected")
    request.spec.template.ClearField("container")
    request.spec.template.type = "bigquery_query_job_task"
    register(stubs, request)

    message = ran(stubs, "connected").closure.error.message

    assert "of type 'bigquery_query_job_task' needs an image or a connector" in message


def test_plain_inputs_can_be_put_into_a_command(stubs):
    source = PUT_OUT + "put_out(o=int(sys.argv[2]) + 1)"
    request = script("counts", source, inputs=["n"], outputs=["o"])
    request.spec.template.container.args.append("{{.inputs.n}}")
    register(stubs, request)

    execution = ran(stubs, "counts", inputs=literals(n=integer(4)))

    assert outputs(stubs, execution.id) == {"o": 5}


def test_a_pod_template_runs_its_primary_container(stubs):
    request = task("in a pod")
    request.spec.template.ClearField("container")
    pod = request.spec.template.k8s_pod
    pod.primary_container_name = "primary"
    sidecar = {"name": "sidecar", "args": ["false"]}
    pod.pod_spec.update({"containers": [sidecar, {"name": "primary", "args": ["true"]}]})
    register(stubs, request)

    assert phase(stubs, ran(stubs, "in a pod").id) == "SUCCEEDED"


DUMP = "import json\n(outputs / 'seen.json').write_text(json.dumps([dict(os.environ), os.getcwd(), sys.argv]))"


def seen(plane, execution) -> list:
    (directory,) = directories(plane, execution)
    return json.loads((directory / "outputs" / "seen.json").read_text())


def test_the_environment_is_built_from_nothing(plane, stubs, monkeypatch):
    secrets = (
        "FLYTE_CREDENTIALS_CLIENT_SECRET",
        "FLYTECTL_CONFIG",
        "AUTHAGENT_TOKEN",
        "PYTHONPATH",
        "XDG_RUNTIME_DIR",
    )
    for name in secrets:
        monkeypatch.setenv(name, "of the caller")
    register(stubs, script("dumps", DUMP))

    execution = ran(stubs, "dumps", name="dumped")
    environment, where, _ = seen(plane, execution)

    (directory,) = directories(plane, execution)
    assert "of the caller" not in environment.values()
    assert environment["HOME"] == str(directory / "home")
    assert where == str(directory / "code")
    assert environment["PATH"].split(":")[0] == str(Path(sys.executable).parent)
    assert environment["FLYTE_INTERNAL_EXECUTION_ID"] == environment["_F_NM"] == "dumped"
    assert environment["FLYTE_INTERNAL_EXECUTION_PROJECT"] == PROJECT
    assert environment["FLYTE_INTERNAL_EXECUTION_DOMAIN"] == DOMAIN
    assert environment["FLYTE_INTERNAL_EXECUTION_WORKFLOW"] == f"{PROJECT}:{DOMAIN}:.flytegen.dumps"
    assert environment["FLYTE_INTERNAL_TASK_NAME"] == environment["_F_TK_NM"] == "dumps"
    assert environment["FLYTE_INTERNAL_TASK_VERSION"] == "v1"
    assert environment["FLYTE_ATTEMPT_NUMBER"] == "0"
    assert environment["FLYTE_EXECUTION_URL"].endswith(f"/projects/{PROJECT}/domains/{DOMAIN}/executions/dumped")
    assert not {name for name in environment if name.startswith("_F_L_")}  # would offload literals


def test_the_operators_variables_come_last_and_the_templates_first(plane, stubs):
    own = {"TEMPLATES": "template", "EXECUTIONS": "template", "ONLY": "template", "FLYTE_ATTEMPT_NUMBER": "9"}
    register(stubs, script("layers", DUMP, env=own))
    pairs = [
        literals_pb2.KeyValuePair(key=key, value="execution") for key in ("OPERATORS", "EXECUTIONS", "MINE", "ONLY")
    ]

    environment, *_ = seen(plane, ran(stubs, "layers", envs=common_pb2.Envs(values=pairs)))

    assert {name: environment[name] for name in ("OPERATORS", "EXECUTIONS", "TEMPLATES")} == dict.fromkeys(
        ("OPERATORS", "EXECUTIONS", "TEMPLATES"), "default"
    )
    assert (environment["MINE"], environment["ONLY"]) == ("execution", "execution")
    assert environment["FLYTE_ATTEMPT_NUMBER"] == "0"


def test_no_token_reaches_an_attempt_by_itself(plane, stubs):
    register(stubs, script("looks around", DUMP))

    everything = json.dumps(seen(plane, ran(stubs, "looks around")))

    assert plane.issuer.token().partition(".")[0] not in everything  # how every token begins


def test_each_attempt_has_a_directory_that_only_we_can_enter(plane, stubs):
    register(stubs, script("twice", ERROR + "attempt < 1 and fail(1, 'not yet')\n", retries=1))

    found = directories(plane, ran(stubs, "twice"))

    assert len(found) == 2
    assert all(stat.S_IMODE(directory.stat().st_mode) == 0o700 for directory in found)


# ending attempts


def running_pids(plane, execution_id, *, count: int) -> list[int]:
    """The processes that an attempt has written into its log, once there are that many."""
    deadline = time.monotonic() + 10
    while True:
        logs = (plane.directory / "executions" / execution_id.name).glob("*/log")
        pids = [int(pid) for log in logs for pid in log.read_text().split()]
        if len(pids) >= count:
            return pids
        assert time.monotonic() < deadline, "the attempt does not start"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def gone(pid: int) -> bool:
    """Whether the process ends within seconds: the kernel takes a moment to end what was killed."""
    deadline = time.monotonic() + 5
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(pid)


FAMILY = """
import subprocess, time
child = subprocess.Popen(["sleep", "60"])
print(os.getpid(), child.pid, flush=True)
"""


def test_terminating_an_execution_kills_all_processes_of_its_attempts(plane, stubs):
    register(stubs, script("family", FAMILY + "time.sleep(60)"))
    execution_id = launched(stubs, "family")
    pids = running_pids(plane, execution_id, count=2)
    assert all(map(alive, pids))

    stubs.admin.TerminateExecution(execution_pb2.ExecutionTerminateRequest(id=execution_id))
    ended(stubs, execution_id)

    assert phase(stubs, execution_id) == "ABORTED"
    assert attempts(stubs, execution_id) == ["ABORTED"]
    assert all(map(gone, pids))


def test_a_terminated_execution_is_aborting_until_its_end_is_reported(stubs):
    register(stubs, task("sleeper", "sleep", "60"))
    execution_id = launched(stubs, "sleeper")
    request = execution_pb2.ExecutionTerminateRequest(id=execution_id, cause="enough")

    stubs.admin.TerminateExecution(request)
    assert phase(stubs, execution_id) == "ABORTING"
    stubs.admin.TerminateExecution(execution_pb2.ExecutionTerminateRequest(id=execution_id, cause="once more"))

    closure = ended(stubs, execution_id).closure
    assert (phase(stubs, execution_id), closure.abort_metadata.cause) == ("ABORTED", "enough")
    with pytest.raises(grpc.RpcError, match="already terminated"):
        stubs.admin.TerminateExecution(request)


def test_an_attempt_that_ignores_the_request_to_end_is_killed(plane, stubs):
    stubborn = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + FAMILY + "time.sleep(60)"
    register(stubs, script("stubborn", stubborn))
    execution_id = launched(stubs, "stubborn")
    pids = running_pids(plane, execution_id, count=2)

    stubs.admin.TerminateExecution(execution_pb2.ExecutionTerminateRequest(id=execution_id))
    ended(stubs, execution_id)

    assert all(map(gone, pids))


def test_an_attempt_that_ends_takes_along_what_it_started(plane, stubs):
    register(stubs, script("leaves a child", FAMILY))

    execution = ran(stubs, "leaves a child")

    assert phase(stubs, execution.id) == "SUCCEEDED"
    pids, deadline = running_pids(plane, execution.id, count=2), time.monotonic() + 5
    while any(map(alive, pids)):  # they are killed; the kernel takes a moment to say so
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_execution_that_waits_for_a_slot_can_be_terminated(tmp_path):
    with running(tmp_path, slots=1) as control_plane:
        stubs = control_plane.stubs()
        register(stubs, task("slow", "sleep", "60"))
        first, second = launched(stubs, "slow"), launched(stubs, "slow")

        for execution_id in (second, first):
            stubs.admin.TerminateExecution(execution_pb2.ExecutionTerminateRequest(id=execution_id))
            assert ended(stubs, execution_id).id == execution_id
            assert phase(stubs, execution_id) == "ABORTED"


def test_stopping_the_control_plane_kills_what_is_running(tmp_path):
    with running(tmp_path) as control_plane:
        stubs = control_plane.stubs()
        register(stubs, script("family", FAMILY + "time.sleep(60)"))
        pids = running_pids(control_plane, launched(stubs, "family"), count=2)

    assert all(map(gone, pids))
    assert control_plane.plane.executions()[0]["phase"] == "ABORTED"


def test_what_is_launched_while_the_control_plane_stops_does_not_survive_it(tmp_path):
    with running(tmp_path, slots=50) as control_plane:
        stubs = control_plane.stubs()
        register(stubs, task("slow", "sleep", "60"))
        launched(stubs, "slow")

        def launch_until_refused() -> int:
            for number in range(10_000):
                try:
                    launched(stubs, "slow")
                except grpc.RpcError:
                    return number
            return 10_000

        with ThreadPoolExecutor() as pool:
            launching = pool.submit(launch_until_refused)
            time.sleep(0.3)
            control_plane.plane.stop()
            assert launching.result(timeout=30) > 0

    assert not [pid for pid in Path("/proc").glob("[0-9]*") if works_in(pid, tmp_path)]
    assert {summary["phase"] for summary in control_plane.plane.executions()} == {"ABORTED"}


def works_in(process: Path, directory: Path) -> bool:
    try:
        return (process / "cwd").readlink().is_relative_to(directory)
    except OSError:
        return False


def test_a_chain_costs_its_processes_and_nothing_else(stubs):
    chain = []
    for number in range(20):
        link = node(f"n{number}", "quick")
        link.upstream_node_ids.extend([f"n{number - 1}"] if number else [])
        chain.append(link)
    register(stubs, workflow("chain of twenty", *chain))

    execution = ran(stubs, "chain of twenty", LAUNCH_PLAN)

    assert phase(stubs, execution.id) == "SUCCEEDED"
    assert execution.closure.duration.ToMilliseconds() < 2000  # a poll of 100 ms for each would be more


def test_what_nobody_foresaw_fails_the_execution_and_does_not_hang_it(plane, stubs):
    place = plane.directory / "executions" / "blocked"
    place.write_text("a file where the directory of the execution has to be")

    error = ran(stubs, "quick", name="blocked").closure.error

    assert error.kind == ExecutionError.SYSTEM
    assert error.message.startswith("the sandbox failed: FileExistsError")


def test_a_workflow_policy_lets_independent_nodes_finish(stubs):
    register(stubs, task("fails at once", "false"), task("short", "sleep", "0.3"))
    after_short = node("n2", "quick")
    after_short.upstream_node_ids.append("n1")
    after_failure = node("n3", "quick")
    after_failure.upstream_node_ids.append("n0")
    nodes = [node("n0", "fails at once"), node("n1", "short"), after_short, after_failure]
    patient = workflow_pb2.WorkflowMetadata(on_failure="FAIL_AFTER_EXECUTABLE_NODES_COMPLETE")
    register(stubs, workflow("patient", *nodes, metadata=patient), workflow("hasty", *nodes))

    assert nodes_of(stubs, ran(stubs, "patient", LAUNCH_PLAN).id) == {
        "n0": "FAILED",
        "n1": "SUCCEEDED",
        "n2": "SUCCEEDED",
    }
    assert nodes_of(stubs, ran(stubs, "hasty", LAUNCH_PLAN).id)["n0"] == "FAILED"
