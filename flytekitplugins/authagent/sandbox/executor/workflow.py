"""Runs the nodes of a workflow, each as soon as those that it waits for are done."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from flyteidl.core import interface_pb2, literals_pb2, types_pb2, workflow_pb2

from flytekitplugins.authagent.sandbox.compiler import upstream
from flytekitplugins.authagent.sandbox.executor.bindings import Results, bound
from flytekitplugins.authagent.sandbox.executor.ending import end
from flytekitplugins.authagent.sandbox.executor.failure import Failed, system_error
from flytekitplugins.authagent.sandbox.executor.scope import Scope

RunNode = Callable[[workflow_pb2.Node, Results, Scope], Awaitable[literals_pb2.LiteralMap]]
"""Runs one node, given what those before it put out; raises `Failed`."""


async def run_workflow(
    template: workflow_pb2.WorkflowTemplate, inputs: literals_pb2.LiteralMap, scope: Scope, run_node: RunNode
) -> literals_pb2.LiteralMap:
    """
    Run `template` with `inputs`: what it puts out.

    When a node fails, the workflow's failure node, if there is one, runs before the failure is passed on; it
    does not run when the execution is aborted. Raises `Failed`.
    """
    try:
        results = await _run_nodes(template, inputs, scope, run_node)
    except Failed as failed:
        if template.HasField("failure_node"):
            if not scope.parent:
                scope.execution.move("FAILING")
            node = _told_of(failed, template.failure_node, scope)
            with contextlib.suppress(Failed):  # the workflow's own failure is the one to report
                await run_node(node, {"": inputs}, scope)
        raise
    return bound(template.outputs, results)


async def _run_nodes(
    template: workflow_pb2.WorkflowTemplate, inputs: literals_pb2.LiteralMap, scope: Scope, run_node: RunNode
) -> Results:
    results = {"": inputs}
    waiting = {node.id: node for node in template.nodes}
    running: dict[asyncio.Future[literals_pb2.LiteralMap], str] = {}
    first_failure: Failed | None = None
    patient = template.metadata.on_failure == workflow_pb2.WorkflowMetadata.FAIL_AFTER_EXECUTABLE_NODES_COMPLETE
    try:
        while True:
            for name in [name for name, node in waiting.items() if upstream(node) <= results.keys()]:
                running[asyncio.ensure_future(run_node(waiting.pop(name), results, scope))] = name
            if not running:
                break
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                name = running.pop(task)
                try:
                    results[name] = task.result()
                except Failed as failed:
                    first_failure = first_failure or failed
                    if not patient:
                        raise
    finally:
        await end(running)
    if first_failure is not None:
        raise first_failure
    if waiting:
        raise system_error("BadSpecification", f"nodes {', '.join(waiting)} wait for nodes that never run")
    return results


def _told_of(failed: Failed, node: workflow_pb2.Node, scope: Scope) -> workflow_pb2.Node:
    """`node` with the failure in each of its inputs that can hold one, such as `err: FlyteError | None`."""
    told = workflow_pb2.Node()
    told.CopyFrom(node)
    for name, variable in _interface(node, scope).inputs.variables.items():
        literal = _error_literal(failed, variable.type)
        if literal is not None:
            kept = [binding for binding in told.inputs if binding.var != name]
            del told.inputs[:]
            data = literals_pb2.BindingData(scalar=literal.scalar)
            told.inputs.extend([*kept, literals_pb2.Binding(var=name, binding=data)])
    return told


def _error_literal(failed: Failed, wanted: types_pb2.LiteralType) -> literals_pb2.Literal | None:
    if wanted.simple == types_pb2.ERROR:
        error = types_pb2.Error(failed_node_id=failed.node, message=failed.error.message)
        return literals_pb2.Literal(scalar=literals_pb2.Scalar(error=error))
    for variant in wanted.union_type.variants:
        if (literal := _error_literal(failed, variant)) is not None:
            union = literals_pb2.Union(value=literal, type=variant)
            return literals_pb2.Literal(scalar=literals_pb2.Scalar(union=union))
    return None


def _interface(node: workflow_pb2.Node, scope: Scope) -> interface_pb2.TypedInterface:
    if node.HasField("task_node"):
        return scope.task(node.task_node.reference_id).interface
    if node.workflow_node.HasField("sub_workflow_ref"):
        return scope.workflow(node.workflow_node.sub_workflow_ref).interface
    return interface_pb2.TypedInterface()
