"""Nodes of every kind, in the wire's own words: what they are given, what they put out, how they fail."""

from __future__ import annotations

import time

import msgpack
import pytest
from flyteidl.admin import execution_pb2, node_execution_pb2
from flyteidl.core import catalog_pb2, literals_pb2, types_pb2
from flyteidl.core import condition_pb2 as condition
from flyteidl.core import workflow_pb2 as core
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st
from running_control_plane import running
from templates import (
    LAUNCH_PLAN,
    PUT_OUT,
    bindings,
    ended,
    identifier,
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
    text,
    workflow,
)
from templates import (
    execution as execution_request,
)

from flytekitplugins.authagent.sandbox.executor.bindings import bound
from flytekitplugins.authagent.sandbox.executor.failure import Failed

pytestmark = pytest.mark.timeout(60)

READ = PUT_OUT + (
    "given = l.LiteralMap.FromString(pathlib.Path(sys.argv[2]).read_bytes()).literals\n"
    "n = given['n'].scalar.primitive.integer\n"
)


def reading(name: str, source: str, **options):
    """A task that has its input `n`."""
    request = script(name, READ + source, **({"inputs": ["n"], "outputs": ["o"]} | options))
    request.spec.template.container.args.append("{{.input}}")
    return request


@pytest.fixture(scope="module")
def plane(tmp_path_factory):
    with running(tmp_path_factory.mktemp("plane"), slots=4) as control_plane:
        yield control_plane


@pytest.fixture(scope="module")
def stubs(plane):
    stubs = plane.stubs()
    twice = [node("n0", "double", n=("", "n")), node("n1", "double", n=("n0", "o"))]
    register(
        stubs,
        task("quick", "true"),
        reading("double", "put_out(o=2 * n)"),
        reading("noting", "print(n)", outputs=[]),
        task("false", "false", inputs=["n"], outputs=["o"]),
        task("slow", "sleep", "60"),
        workflow("twice", *twice, inputs=["n"], outputs={"o": ("n1", "o")}),
        workflow("slow workflow", node("n0", "slow")),
    )
    return stubs


def run(stubs, request, **inputs):
    """Register a workflow, and run it."""
    register(stubs, request)
    return ran(stubs, request.id.name, LAUNCH_PLAN, inputs=literals(**inputs))


def node_closure(stubs, execution, node_id="n0"):
    wanted = node_execution_pb2.NodeExecutionListRequest(workflow_execution_id=execution.id, limit=50)
    found = {n.id.node_id: n for n in stubs.admin.ListNodeExecutions(wanted).node_executions}
    return found[node_id].closure


def test_values_flow_along_the_bindings(stubs):
    execution = ran(stubs, "twice", LAUNCH_PLAN, inputs=literals(n=integer(3)))

    assert outputs(stubs, execution.id) == {"o": 12}
    assert nodes_of(stubs, execution.id) == {"n0": "SUCCEEDED", "n1": "SUCCEEDED"}


def test_a_sub_workflow_runs_inside_its_node(stubs):
    inner = workflow("inner", node("n0", "double", n=("", "n")), inputs=["n"], outputs={"o": ("n0", "o")})
    calls = core.Node(
        id="n0",
        inputs=bindings(n=("", "n")),
        workflow_node=core.WorkflowNode(sub_workflow_ref=inner.id),
    )
    outer = workflow("outer", calls, inputs=["n"], outputs={"o": ("n0", "o")}, sub_workflows=[inner.spec.template])

    execution = run(stubs, outer, n=integer(4))
    inside = node_execution_pb2.NodeExecutionListRequest(
        workflow_execution_id=execution.id, limit=10, unique_parent_id="n0"
    )
    (child,) = stubs.admin.ListNodeExecutions(inside).node_executions

    assert outputs(stubs, execution.id) == {"o": 8}
    assert (child.id.node_id, child.metadata.spec_node_id) == ("n0-0-n0", "n0")


# launch plans


def calls_launch_plan(name: str, plan: str, **inputs) -> core.Node:
    reference = identifier(LAUNCH_PLAN, plan)
    return core.Node(id=name, inputs=bindings(**inputs), workflow_node=core.WorkflowNode(launchplan_ref=reference))


def test_a_launch_plan_node_is_an_execution_of_its_own_for_the_same_principal(plane, tmp_path):
    alice = plane.stubs(plane.issuer.token(sub="alice"))
    register(alice, reading("halve", "put_out(o=n // 2)"))
    register(alice, workflow("halved", node("n0", "halve", n=("", "n")), inputs=["n"], outputs={"o": ("n0", "o")}))
    calls = calls_launch_plan("n0", "halved", n=("", "n"))

    execution = run(alice, workflow("calls halved", calls, inputs=["n"], outputs={"o": ("n0", "o")}), n=integer(8))
    child_id = node_closure(alice, execution).workflow_node_metadata.executionId
    child = alice.admin.GetExecution(execution_pb2.WorkflowExecutionGetRequest(id=child_id))

    assert outputs(alice, execution.id) == {"o": 4}
    assert child.spec.metadata.principal == "alice"
    assert child.spec.security_context.run_as.execution_identity == "alice"
    assert child.spec.metadata.parent_node_execution.execution_id == execution.id
    assert child.spec.metadata.nesting == 1


def test_the_error_of_a_child_is_the_parents(stubs):
    register(stubs, workflow("fails", node("n0", "false", n=integer(1))))

    execution = run(stubs, workflow("calls fails", calls_launch_plan("n0", "fails")))

    assert execution.closure.error.message.startswith("the task ended with status 1")


def test_terminating_a_parent_terminates_its_children(plane, stubs):
    register(stubs, workflow("calls slow", calls_launch_plan("n0", "slow workflow")))
    parent = launched(stubs, "calls slow", LAUNCH_PLAN)
    child = wait_for_child(plane, parent)

    stubs.admin.TerminateExecution(execution_pb2.ExecutionTerminateRequest(id=parent, cause="enough"))

    assert ended(stubs, parent).closure.abort_metadata.cause == "enough"
    assert phase(stubs, parent) == "ABORTED"
    ended(stubs, child)
    assert phase(stubs, child) == "ABORTED"


def wait_for_child(plane, parent):
    deadline = time.monotonic() + 10
    while True:
        for summary in plane.plane.executions():
            if summary["parent"] == parent.name and summary["phase"] == "RUNNING":
                return type(parent)(**summary["id"])
        assert time.monotonic() < deadline, "no child appears"
        time.sleep(0.02)


# branches and pauses


def comparison(left, operator: str, right) -> condition.BooleanExpression:
    def operand(value):
        if isinstance(value, str):
            return condition.Operand(var=value)
        return condition.Operand(primitive=integer(value).scalar.primitive)

    found = condition.ComparisonExpression(operator=operator, left_value=operand(left), right_value=operand(right))
    return condition.BooleanExpression(comparison=found)


def both(left, operator: str, right) -> condition.BooleanExpression:
    found = condition.ConjunctionExpression(operator=operator, left_expression=left, right_expression=right)
    return condition.BooleanExpression(conjunction=found)


def branching(name: str, block: core.IfElseBlock):
    branch = core.Node(id="b", inputs=bindings(x=("", "n")), branch_node=core.BranchNode(if_else=block))
    return workflow(name, branch, inputs=["n"], outputs={"o": ("b", "o")})


def block(expression: condition.BooleanExpression, **rest) -> core.IfElseBlock:
    then = node("then", "double", n=("", "n"))
    return core.IfElseBlock(case=core.IfBlock(condition=expression, then_node=then), **rest)


@pytest.mark.parametrize(
    ("expression", "holds"),
    [
        (comparison("x", "EQ", 5), True),
        (comparison("x", "NEQ", 5), False),
        (comparison(4, "LT", "x"), True),
        (comparison("x", "GTE", 6), False),
        (both(comparison("x", "GT", 4), "AND", comparison("x", "LTE", 5)), True),
        (both(comparison("x", "GT", 5), "OR", comparison("x", "LT", 5)), False),
    ],
)
def test_a_branch_runs_the_case_that_holds(stubs, expression, holds):
    name = f"branch {expression}".replace("\n", " ")
    request = branching(name, block(expression, else_node=node("else", "double", n=integer(50))))

    execution = run(stubs, request, n=integer(5))

    assert outputs(stubs, execution.id) == {"o": 10 if holds else 100}


def test_a_branch_that_is_told_to_fail_fails_with_its_message(stubs):
    told = types_pb2.Error(failed_node_id="b", message="too small")

    execution = run(stubs, branching("told to fail", block(comparison("x", "GT", 9), error=told)), n=integer(1))

    assert execution.closure.error.message == "too small"


def test_a_branch_over_what_cannot_be_compared_fails_and_does_not_hang(stubs):
    odd = condition.Operand(scalar=literals_pb2.Scalar(none_type=literals_pb2.Void()))
    strange = comparison("x", "LT", 1)
    strange.comparison.right_value.CopyFrom(odd)

    execution = run(stubs, branching("strange", block(strange)), n=integer(1))

    assert execution.closure.error.message == "1 and None cannot be compared"


def test_a_sleep_is_a_pause(stubs):
    pause = core.GateNode(sleep=core.SleepCondition(duration=Duration(nanos=200_000_000)))

    execution = run(stubs, workflow("pauses", core.Node(id="n0", gate_node=pause)))

    assert phase(stubs, execution.id) == "SUCCEEDED"
    assert execution.closure.duration.ToMilliseconds() >= 200


# map tasks


def mapping(name: str, task_name: str, **array) -> object:
    sub_node = node("sub", task_name)
    data_mode = core.ArrayNode.INDIVIDUAL_INPUT_FILES
    n0 = core.Node(
        id="n0",
        inputs=bindings(n=("", "n")),
        array_node=core.ArrayNode(node=sub_node, data_mode=data_mode, **array),
    )
    made = workflow(name, n0, inputs=["n"], outputs={"o": ("n0", "o")})
    whole = types_pb2.LiteralType(simple=types_pb2.INTEGER)
    made.spec.template.interface.inputs.variables["n"].type.CopyFrom(types_pb2.LiteralType(collection_type=whole))
    return made


def numbers(*values: int) -> literals_pb2.Literal:
    return literals_pb2.Literal(collection=literals_pb2.LiteralCollection(literals=[integer(v) for v in values]))


def mapped(stubs, execution) -> list:
    data = stubs.admin.GetExecutionData(execution_pb2.WorkflowExecutionGetDataRequest(id=execution.id))
    parts = data.full_outputs.literals["o"].collection.literals
    return [part.scalar.primitive.integer if part.scalar.HasField("primitive") else None for part in parts]


def test_the_parts_of_a_map_task_come_out_in_order(stubs):
    execution = run(stubs, mapping("doubled", "double", parallelism=2), n=numbers(3, 1, 2))

    assert mapped(stubs, execution) == [6, 2, 4]


def test_a_map_over_nothing_is_nothing(stubs):
    assert mapped(stubs, run(stubs, mapping("nothing", "double"), n=numbers())) == []


@pytest.mark.parametrize(
    ("criterion", "survives"),
    [
        ({}, False),
        ({"min_success_ratio": 0.8}, True),
        ({"min_success_ratio": 0.81}, False),
        ({"min_successes": 4}, True),
        ({"min_successes": 5}, False),
    ],
)
def test_a_map_task_survives_as_many_failures_as_it_is_allowed(stubs, criterion, survives):
    name = f"picky {criterion}"
    register(stubs, reading(name, "sys.exit(n == 3) if n == 3 else put_out(o=n)", retries=0))

    execution = run(stubs, mapping(f"maps {name}", name, **criterion), n=numbers(1, 2, 3, 4, 5))

    if survives:
        assert mapped(stubs, execution) == [1, 2, None, 4, 5]
    else:
        assert execution.closure.error.message.startswith("[2]: the task ended with status 1")


def test_a_map_task_that_has_failed_ends_its_other_parts(stubs):
    register(stubs, reading("fails or sleeps", "import time\nsys.exit(1) if n == 0 else time.sleep(60)"))

    execution = run(stubs, mapping("gives up", "fails or sleeps"), n=numbers(1, 0, 1))

    assert phase(stubs, execution.id) == "FAILED"


def test_lists_of_different_lengths_cannot_be_mapped(stubs):
    made = mapping("uneven", "double")
    made.spec.template.nodes[0].inputs.extend(bindings(m=("", "m")))
    template = made.spec.template.interface.inputs.variables
    template["m"].CopyFrom(template["n"])

    execution = run(stubs, made, n=numbers(1), m=numbers(1, 2))

    assert execution.closure.error.message == "input arrays have different lengths: expecting '1' found '2'"


# failure nodes


def regretting(name: str, first: core.Node) -> object:
    handler = node("efn", "noting", n=integer(1))
    return workflow(name, first, failure_node=handler)


def test_a_failure_node_runs_when_the_workflow_fails_and_its_error_stays(stubs):
    execution = run(stubs, regretting("regrets", node("n0", "false", n=integer(1))))

    assert nodes_of(stubs, execution.id) == {"n0": "FAILED", "efn": "SUCCEEDED"}
    assert execution.closure.error.message.startswith("the task ended with status 1")


def test_a_failure_node_does_not_run_otherwise(stubs):
    done = run(stubs, regretting("no regrets", node("n0", "quick")))
    register(stubs, regretting("aborted", node("n0", "slow")))
    aborted = launched(stubs, "aborted", LAUNCH_PLAN)
    deadline = time.monotonic() + 10
    while phase(stubs, aborted) != "RUNNING":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    stubs.admin.TerminateExecution(execution_pb2.ExecutionTerminateRequest(id=aborted))
    ended(stubs, aborted)

    assert nodes_of(stubs, done.id) == {"n0": "SUCCEEDED"}
    assert "efn" not in nodes_of(stubs, aborted)


# the cache


def test_a_cached_task_runs_once_for_the_same_inputs(stubs):
    source = "import time\nput_out(o=time.time_ns())"
    register(stubs, reading("clock", source, discoverable=True, discovery_version="1"))

    def tell(n: int, **spec):
        execution = ran(stubs, "clock", inputs=literals(n=integer(n)), **spec)
        wanted = node_execution_pb2.NodeExecutionListRequest(workflow_execution_id=execution.id, limit=1)
        (found,) = stubs.admin.ListNodeExecutions(wanted).node_executions
        return outputs(stubs, execution.id)["o"], found.closure.task_node_metadata.cache_status

    first, populated = tell(1)
    assert populated == catalog_pb2.CACHE_POPULATED
    assert tell(1) == (first, catalog_pb2.CACHE_HIT)
    assert tell(2)[0] != first
    assert tell(1, overwrite_cache=True)[0] != first


def test_another_cache_version_is_another_task(stubs):
    results = set()
    for version in ("1", "2"):
        register(
            stubs,
            reading(
                "versioned clock",
                "import time\nput_out(o=time.time_ns())",
                discoverable=True,
                discovery_version=version,
                version=version,
            ),
        )
        request = launch(version)
        results.add(outputs(stubs, ended(stubs, stubs.admin.CreateExecution(request).id).id)["o"])

    assert len(results) == 2


def launch(version: str) -> execution_pb2.ExecutionCreateRequest:
    request = execution_request("versioned clock", inputs=literals(n=integer(1)))
    request.spec.launch_plan.version = version
    return request


# dynamic tasks


def asking(name: str, source: str, **options):
    """A task that leaves a futures document, `spec`."""
    begin = "from flyteidl.core import dynamic_job_pb2, identifier_pb2, workflow_pb2\n"
    end = "\n(outputs / 'futures.pb').write_bytes(spec.SerializeToString())\n"
    return script(name, begin + source + end, **options)


ASKS = """
task = identifier_pb2.Identifier(
    resource_type=1, project="flytesnacks", domain="development", name="%s", version="v1")
node = workflow_pb2.Node(id="%s", task_node=workflow_pb2.TaskNode(reference_id=task))
spec = dynamic_job_pb2.DynamicJobSpec(nodes=[node])
"""


def test_a_dynamic_task_runs_what_it_asks_for(stubs):
    register(stubs, asking("asks", ASKS % ("quick", "dn0")))

    execution = ran(stubs, "asks")
    of_execution = node_execution_pb2.NodeExecutionListRequest(workflow_execution_id=execution.id, limit=1)
    parent = stubs.admin.ListNodeExecutions(of_execution).node_executions[0]
    request = node_execution_pb2.GetDynamicNodeWorkflowRequest(id=parent.id)

    assert parent.metadata.is_dynamic
    assert parent.metadata.is_parent_node
    found = stubs.admin.GetDynamicNodeWorkflow(request).compiled_workflow
    assert [task.template.id.name for task in found.tasks] == ["quick"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (ASKS % ("nowhere", "dn0"), "missing entity of type TASK"),
        (ASKS % ("quick", "../up"), "'../up' is no name for a node"),
        (
            "node = workflow_pb2.Node(id='n')\nnode.array_node.node.workflow_node.launchplan_ref.name = 'w'\n"
            "spec = dynamic_job_pb2.DynamicJobSpec(nodes=[node])",
            "missing entity of type LAUNCH_PLAN",
        ),
    ],
)
def test_a_dynamic_task_that_asks_for_what_cannot_be_fails_with_the_reason(stubs, source, message):
    name = f"asks: {message}"
    register(stubs, asking(name, source))

    assert message in ran(stubs, name).closure.error.message


# attributes of promises


def scalar(**kind) -> literals_pb2.Literal:
    return literals_pb2.Literal(scalar=literals_pb2.Scalar(**kind))


def packed(value) -> literals_pb2.Literal:
    return scalar(binary=literals_pb2.Binary(value=msgpack.packb(value), tag="msgpack"))


def resolved(value: literals_pb2.Literal, *path) -> literals_pb2.Literal:
    promise = types_pb2.OutputReference(node_id="n0", var="o")
    for step in path:
        attribute = {"string_value": step} if isinstance(step, str) else {"int_value": step}
        promise.attr_path.append(types_pb2.PromiseAttribute(**attribute))
    binding = literals_pb2.Binding(var="x", binding=literals_pb2.BindingData(promise=promise))
    return bound([binding], {"n0": literals(o=value)}).literals["x"]


@given(
    value=st.recursive(
        st.integers(-(2**60), 2**60) | st.text() | st.booleans() | st.none(),
        lambda inner: st.lists(inner, min_size=1) | st.dictionaries(st.text(min_size=1), inner, min_size=1),
    ),
    choose=st.randoms(use_true_random=False),
)
def test_any_path_into_a_dataclass_finds_the_value_there(value, choose):
    whole, path = {"root": value}, ["root"]
    while isinstance(value, (list, dict)) and choose.random() < 0.8:
        step = choose.choice(range(len(value)) if isinstance(value, list) else sorted(value))
        path.append(step)
        value = value[step]

    found = resolved(packed(whole), *path)

    assert found.scalar.binary.tag == "msgpack"
    assert msgpack.unpackb(found.scalar.binary.value) == value


def test_a_path_leads_through_lists_and_maps_and_unions_and_structs():
    struct = Struct()
    struct.update({"name": "x", "deep": {"list": [1, 2]}})
    inner = literals_pb2.Literal(map=literals_pb2.LiteralMap(literals={"k": scalar(generic=struct)}))
    in_list = literals_pb2.Literal(collection=literals_pb2.LiteralCollection(literals=[inner]))
    union = scalar(union=literals_pb2.Union(value=in_list))

    assert resolved(union, 0, "k", "name") == text("x")
    assert resolved(union, 0, "k", "deep", "list", 1).scalar.primitive.float_value == 2
    assert resolved(union, 0, "k", "deep").scalar.generic["list"] == [1, 2]


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (packed({"a": 1}), ["b"]),
        (packed([1]), [1]),
        (packed(1), ["a"]),
        (numbers(1), [1]),
        (numbers(1), ["a"]),
        (scalar(binary=literals_pb2.Binary(value=b"x", tag="pickle")), ["a"]),
    ],
)
def test_a_path_that_leads_nowhere_fails_and_says_so(value, path):
    with pytest.raises(Failed, match=r"no attribute|reads attributes of msgpack only"):
        resolved(value, *path)


def test_a_value_that_no_node_put_out_fails_and_says_so():
    binding = bindings(x=("n0", "p"))

    with pytest.raises(Failed, match="n0 has no value named p"):
        bound(binding, {"n0": literals(o=integer(1))})
