"""
From the templates that clients send to the closures that are run: flytekit sends templates only.

A closure holds a workflow with everything it needs: its sub-workflows, its tasks, and what waits for what.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from flyteidl.core import compiler_pb2, identifier_pb2, literals_pb2, tasks_pb2, workflow_pb2

START = "start-node"
"""The node that a binding to an input of the workflow names, if it names one."""

_NODE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")

Key = tuple[str, str, str, str]
FindTask = Callable[[identifier_pb2.Identifier], tasks_pb2.TaskTemplate]
FindLaunchPlan = Callable[[identifier_pb2.Identifier], object]


def key(identifier: identifier_pb2.Identifier) -> Key:
    """What tells one version of a task, workflow or launch plan from all others of its kind."""
    return (identifier.project, identifier.domain, identifier.name, identifier.version)


class CompileError(Exception):
    """A workflow that cannot be run, whoever would try. The message says which node, and why."""


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
    for workflow in (template, *workflows.values()):
        for node in all_nodes(workflow):
            if node.HasField("task_node"):
                reference = node.task_node.reference_id
                tasks[key(reference)] = find_task(reference)
            elif node.workflow_node.HasField("launchplan_ref"):
                find_launch_plan(node.workflow_node.launchplan_ref)
            elif node.HasField("workflow_node") and key(node.workflow_node.sub_workflow_ref) not in workflows:
                raise CompileError(f"node {node.id}: its sub-workflow was not sent along")
    return compiler_pb2.CompiledWorkflowClosure(
        primary=_compiled_workflow(template),
        sub_workflows=[_compiled_workflow(sub) for sub in workflows.values()],
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


def cases(if_else: workflow_pb2.IfElseBlock) -> Iterator[workflow_pb2.Node]:
    """The nodes that a branch chooses from."""
    yield if_else.case.then_node
    yield from (case.then_node for case in if_else.other)
    if if_else.HasField("else_node"):
        yield if_else.else_node


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


def _compiled_workflow(template: workflow_pb2.WorkflowTemplate) -> compiler_pb2.CompiledWorkflow:
    waits = {node.id: upstream(node) for node in template.nodes}
    _check_names(template)
    _check_order(waits)
    connections = compiler_pb2.ConnectionSet()
    for node, before in waits.items():
        connections.upstream[node].ids.extend(sorted(before) or [START])
        for earlier in sorted(before) or [START]:
            connections.downstream[earlier].ids.append(node)
    return compiler_pb2.CompiledWorkflow(template=template, connections=connections)


def _check_names(template: workflow_pb2.WorkflowTemplate) -> None:
    seen: set[str] = set()
    for node in template.nodes:
        if not _NODE_ID.fullmatch(node.id):
            raise CompileError(f"{node.id!r} is no name for a node")
        if node.id in seen:
            raise CompileError(f"node {node.id}: there are two of this name")
        seen.add(node.id)


def _check_order(waits: dict[str, set[str]]) -> None:
    """Every node waits for nodes that exist, and none for itself, however long the way round."""
    for node, before in waits.items():
        if unknown := before - waits.keys():
            raise CompileError(f"node {node}: it waits for {', '.join(sorted(unknown))}, which does not exist")
    left = dict(waits)
    while ready := [node for node, before in left.items() if not before & left.keys()]:
        for node in ready:
            del left[node]
    if left:
        raise CompileError(f"nodes {', '.join(sorted(left))} wait for each other")
