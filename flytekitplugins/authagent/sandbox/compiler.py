"""
From the templates that clients send to the closures that are run: flytekit sends templates only.

A closure holds a workflow with everything it needs: its sub-workflows, its tasks, and what waits for what.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from flyteidl.admin import launch_plan_pb2
from flyteidl.core import compiler_pb2, identifier_pb2, interface_pb2, literals_pb2, tasks_pb2, types_pb2, workflow_pb2

from flytekitplugins.authagent.sandbox.workflow_check import START, CompileError, InterfaceOf, cases, check

Key = tuple[str, str, str, str]
FindTask = Callable[[identifier_pb2.Identifier], tasks_pb2.TaskTemplate]
FindLaunchPlan = Callable[[identifier_pb2.Identifier], launch_plan_pb2.LaunchPlan]


def key(identifier: identifier_pb2.Identifier) -> Key:
    """What tells one version of a task, workflow or launch plan from all others of its kind."""
    return (identifier.project, identifier.domain, identifier.name, identifier.version)


def compiled(
    template: workflow_pb2.WorkflowTemplate,
    sub_workflows: Iterable[workflow_pb2.WorkflowTemplate],
    find_task: FindTask,
    find_launch_plan: FindLaunchPlan,
) -> compiler_pb2.CompiledWorkflowClosure:
    """
    The closure of `template`.

    Raises `CompileError`, and what `find_task` and `find_launch_plan` raise for what is not registered.
    """
    workflows = {key(sub.id): sub for sub in sub_workflows}
    tasks: dict[Key, tasks_pb2.TaskTemplate] = {}
    plans: dict[Key, launch_plan_pb2.LaunchPlan] = {}
    for workflow in (template, *workflows.values()):
        for node in all_nodes(workflow):
            if node.HasField("task_node"):
                reference = node.task_node.reference_id
                tasks[key(reference)] = find_task(reference)
            elif node.workflow_node.HasField("launchplan_ref"):
                plan = node.workflow_node.launchplan_ref
                plans[key(plan)] = find_launch_plan(plan)
            elif node.HasField("workflow_node") and key(node.workflow_node.sub_workflow_ref) not in workflows:
                raise CompileError(f"node {node.id}: its sub-workflow was not sent along")

    def interface_of(node: workflow_pb2.Node) -> interface_pb2.TypedInterface | None:
        if node.HasField("task_node"):
            return tasks[key(node.task_node.reference_id)].interface
        if node.workflow_node.HasField("launchplan_ref"):
            return _interface(plans[key(node.workflow_node.launchplan_ref)])
        if node.HasField("workflow_node"):
            return workflows[key(node.workflow_node.sub_workflow_ref)].interface
        return None

    return compiler_pb2.CompiledWorkflowClosure(
        primary=_compiled_workflow(template, interface_of),
        sub_workflows=[_compiled_workflow(sub, interface_of) for sub in workflows.values()],
        tasks=[compiler_pb2.CompiledTask(template=task) for task in tasks.values()],
    )


def all_nodes(template: workflow_pb2.WorkflowTemplate) -> Iterator[workflow_pb2.Node]:
    """Every node of `template`, also those inside branches and arrays, and the one for failures."""
    for node in template.nodes:
        yield from within(node)
    if template.HasField("failure_node"):
        yield from within(template.failure_node)


def within(node: workflow_pb2.Node) -> Iterator[workflow_pb2.Node]:
    """`node` itself, and the nodes inside it."""
    yield node
    if node.HasField("branch_node"):
        for inner in cases(node.branch_node.if_else):
            yield from within(inner)
    if node.HasField("array_node"):
        yield from within(node.array_node.node)


def _interface(plan: launch_plan_pb2.LaunchPlan) -> interface_pb2.TypedInterface:
    """What a node that runs `plan` can be given; an input with a default may be missing, so it counts as optional."""
    inputs = {
        name: parameter.var if parameter.required else interface_pb2.Variable(type=_optional(parameter.var.type))
        for name, parameter in plan.closure.expected_inputs.parameters.items()
    }
    return interface_pb2.TypedInterface(
        inputs=interface_pb2.VariableMap(variables=inputs), outputs=plan.closure.expected_outputs
    )


def _optional(wanted: types_pb2.LiteralType) -> types_pb2.LiteralType:
    nothing = types_pb2.LiteralType(simple=types_pb2.NONE)
    return types_pb2.LiteralType(union_type=types_pb2.UnionType(variants=[wanted, nothing]))


def upstream(node: workflow_pb2.Node) -> set[str]:
    """The nodes that `node` waits for: those it names, and those whose outputs go into it."""
    waits: set[str] = set()
    for inner in within(node):
        waits.update(inner.upstream_node_ids)
        for binding in inner.inputs:
            waits.update(_promised(binding.binding))
    return waits - {"", START}


def _promised(binding: literals_pb2.BindingData) -> Iterator[str]:
    if binding.HasField("promise"):
        yield binding.promise.node_id
    for inner in (*binding.collection.bindings, *binding.map.bindings.values()):
        yield from _promised(inner)


def _compiled_workflow(
    template: workflow_pb2.WorkflowTemplate, interface_of: InterfaceOf
) -> compiler_pb2.CompiledWorkflow:
    waits = {node.id: upstream(node) for node in template.nodes}
    check(template, waits, interface_of)
    connections = compiler_pb2.ConnectionSet()
    for node, before in waits.items():
        connections.upstream[node].ids.extend(sorted(before) or [START])
        for earlier in sorted(before) or [START]:
            connections.downstream[earlier].ids.append(node)
    return compiler_pb2.CompiledWorkflow(template=template, connections=connections)
