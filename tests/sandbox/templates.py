"""Tasks, workflows and requests in the wire's own words, for tests that can do without flytekit."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from flyteidl.admin import execution_pb2, launch_plan_pb2, node_execution_pb2, task_pb2, workflow_pb2
from flyteidl.core import identifier_pb2, interface_pb2, literals_pb2, tasks_pb2, types_pb2
from flyteidl.core import workflow_pb2 as core
from running_control_plane import Stubs

PROJECT, DOMAIN = "flytesnacks", "development"
TASK, WORKFLOW, LAUNCH_PLAN = identifier_pb2.TASK, identifier_pb2.WORKFLOW, identifier_pb2.LAUNCH_PLAN
ENDED = ("SUCCEEDED", "FAILED", "ABORTED")

PUT_OUT = """
from flyteidl.core import literals_pb2 as l
def put_out(**numbers):
    found = {k: l.Literal(scalar=l.Scalar(primitive=l.Primitive(integer=v))) for k, v in numbers.items()}
    (outputs / "outputs.pb").write_bytes(l.LiteralMap(literals=found).SerializeToString())
"""
"""What a script needs to leave whole numbers behind as its outputs: `put_out(o=1)`."""


def identifier(kind: int, name: str, version: str = "v1") -> identifier_pb2.Identifier:
    return identifier_pb2.Identifier(resource_type=kind, project=PROJECT, domain=DOMAIN, name=name, version=version)


def integer(value: int) -> literals_pb2.Literal:
    return literals_pb2.Literal(scalar=literals_pb2.Scalar(primitive=literals_pb2.Primitive(integer=value)))


def text(value: str) -> literals_pb2.Literal:
    return literals_pb2.Literal(scalar=literals_pb2.Scalar(primitive=literals_pb2.Primitive(string_value=value)))


def literals(**values: literals_pb2.Literal) -> literals_pb2.LiteralMap:
    return literals_pb2.LiteralMap(literals=values)


def interface(inputs: Sequence[str] = (), outputs: Sequence[str] = ()) -> interface_pb2.TypedInterface:
    """An interface of whole numbers."""

    def variables(names: Sequence[str]) -> interface_pb2.VariableMap:
        whole = interface_pb2.Variable(type=types_pb2.LiteralType(simple=types_pb2.INTEGER))
        return interface_pb2.VariableMap(variables=dict.fromkeys(names, whole))

    return interface_pb2.TypedInterface(inputs=variables(inputs), outputs=variables(outputs))


def task(
    name: str,
    *argv: str,
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
    retries: int = 0,
    env: Mapping[str, str] | None = None,
    version: str = "v1",
    **metadata: Any,
) -> task_pb2.TaskCreateRequest:
    """A task that runs `argv` as it is."""
    template = tasks_pb2.TaskTemplate(
        type="container",
        metadata=tasks_pb2.TaskMetadata(retries=literals_pb2.RetryStrategy(retries=retries), **metadata),
        interface=interface(inputs, outputs),
        container=tasks_pb2.Container(
            image="none",
            args=argv,
            env=[literals_pb2.KeyValuePair(key=key, value=value) for key, value in (env or {}).items()],
        ),
    )
    return task_pb2.TaskCreateRequest(id=identifier(TASK, name, version), spec=task_pb2.TaskSpec(template=template))


def script(name: str, source: str, **options: Any) -> task_pb2.TaskCreateRequest:
    """A task that runs `source`, in which `outputs` is the directory for its documents."""
    begin = "import os, sys, pathlib\noutputs = pathlib.Path(sys.argv[1])\n"
    return task(name, sys.executable, "-c", begin + source, "{{.outputPrefix}}", **options)


def node(name: str, task_name: str, **inputs: Any) -> core.Node:
    """A node of the task of that name; inputs are literals, or `(node, output)`."""
    return core.Node(
        id=name,
        inputs=bindings(**inputs),
        task_node=core.TaskNode(reference_id=identifier(TASK, task_name)),
    )


def bindings(**values: Any) -> list[literals_pb2.Binding]:
    """Bindings to literals, or to `(node, output)`."""
    found = []
    for name, value in values.items():
        binding = literals_pb2.Binding(var=name)
        if isinstance(value, tuple):
            binding.binding.promise.node_id, binding.binding.promise.var = value
        else:
            binding.binding.scalar.CopyFrom(value.scalar)
        found.append(binding)
    return found


def workflow(
    name: str,
    *nodes: core.Node,
    inputs: Sequence[str] = (),
    outputs: Mapping[str, tuple[str, str]] | None = None,
    sub_workflows: Sequence[core.WorkflowTemplate] = (),
    version: str = "v1",
    **template: Any,
) -> workflow_pb2.WorkflowCreateRequest:
    """A workflow of these nodes."""
    made = core.WorkflowTemplate(
        id=identifier(WORKFLOW, name, version),
        interface=interface(inputs, list(outputs or {})),
        nodes=nodes,
        outputs=bindings(**(outputs or {})),
        **template,
    )
    spec = workflow_pb2.WorkflowSpec(template=made, sub_workflows=sub_workflows)
    return workflow_pb2.WorkflowCreateRequest(id=made.id, spec=spec)


def launch_plan(
    name: str, *, of: str = "", version: str = "v1", **spec: Any
) -> launch_plan_pb2.LaunchPlanCreateRequest:
    """A launch plan of the workflow of that name, or of the one that `of` names."""
    return launch_plan_pb2.LaunchPlanCreateRequest(
        id=identifier(LAUNCH_PLAN, name, version),
        spec=launch_plan_pb2.LaunchPlanSpec(workflow_id=identifier(WORKFLOW, of or name, version), **spec),
    )


def register(stubs: Stubs, *requests: Any) -> None:
    """Register all of these; of each workflow also a launch plan of its name."""
    for request in requests:
        if isinstance(request, task_pb2.TaskCreateRequest):
            stubs.admin.CreateTask(request)
        elif isinstance(request, workflow_pb2.WorkflowCreateRequest):
            stubs.admin.CreateWorkflow(request)
            stubs.admin.CreateLaunchPlan(launch_plan(request.id.name, version=request.id.version))
        else:
            stubs.admin.CreateLaunchPlan(request)


def execution(
    entity: str,
    kind: int = TASK,
    *,
    name: str = "",
    inputs: literals_pb2.LiteralMap | None = None,
    project: str = PROJECT,
    domain: str = DOMAIN,
    **spec: Any,
) -> execution_pb2.ExecutionCreateRequest:
    """A request for an execution of the task, or launch plan, of that name."""
    return execution_pb2.ExecutionCreateRequest(
        project=project,
        domain=domain,
        name=name,
        inputs=inputs or literals(),
        spec=execution_pb2.ExecutionSpec(launch_plan=identifier(kind, entity), **spec),
    )


def launched(stubs: Stubs, entity: str, kind: int = TASK, **request: Any) -> Any:
    """Launch, and say which execution it is."""
    return stubs.admin.CreateExecution(execution(entity, kind, **request)).id


def phase(stubs: Stubs, execution_id: Any) -> str:
    closure = stubs.admin.GetExecution(execution_pb2.WorkflowExecutionGetRequest(id=execution_id)).closure
    return type(closure).DESCRIPTOR.fields_by_name["phase"].enum_type.values_by_number[closure.phase].name


def ended(stubs: Stubs, execution_id: Any, seconds: float = 20) -> execution_pb2.Execution:
    """The execution once it has ended."""
    deadline = time.monotonic() + seconds
    while phase(stubs, execution_id) not in ENDED:
        assert time.monotonic() < deadline, "the execution does not end"
        time.sleep(0.02)
    return stubs.admin.GetExecution(execution_pb2.WorkflowExecutionGetRequest(id=execution_id))


def ran(stubs: Stubs, entity: str, kind: int = TASK, **request: Any) -> execution_pb2.Execution:
    """Launch, and wait for the end."""
    return ended(stubs, launched(stubs, entity, kind, **request))


def outputs(stubs: Stubs, execution_id: Any) -> dict[str, int]:
    """The whole numbers that an execution put out."""
    data = stubs.admin.GetExecutionData(execution_pb2.WorkflowExecutionGetDataRequest(id=execution_id))
    return {name: lit.scalar.primitive.integer for name, lit in data.full_outputs.literals.items()}


def nodes_of(stubs: Stubs, execution_id: Any) -> dict[str, str]:
    """The phase of each node of an execution, those inside of others excepted."""
    of_execution = node_execution_pb2.NodeExecutionListRequest(workflow_execution_id=execution_id, limit=50)
    found = stubs.admin.ListNodeExecutions(of_execution).node_executions
    names = type(found[0].closure).DESCRIPTOR.fields_by_name["phase"].enum_type.values_by_number
    return {node.id.node_id: names[node.closure.phase].name for node in found}
