"""Runs one node, whatever it is: a task, a map task, a workflow, a launch plan, a branch, a pause."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from flyteidl.admin import node_execution_pb2
from flyteidl.core import catalog_pb2, dynamic_job_pb2, identifier_pb2, literals_pb2, tasks_pb2, workflow_pb2

from flytekitplugins.authagent.sandbox.executor import branch
from flytekitplugins.authagent.sandbox.executor.array import run_parts
from flytekitplugins.authagent.sandbox.executor.bindings import Results, bound
from flytekitplugins.authagent.sandbox.executor.cache import Cache
from flytekitplugins.authagent.sandbox.executor.dynamic import Find, closure_of
from flytekitplugins.authagent.sandbox.executor.failure import Failed, system_error, user_error
from flytekitplugins.authagent.sandbox.executor.gate import run_gate
from flytekitplugins.authagent.sandbox.executor.records import ExecutionRecord, NodeRecord
from flytekitplugins.authagent.sandbox.executor.scope import Scope
from flytekitplugins.authagent.sandbox.executor.tasks import Outcome, Tasks, Work, recorded
from flytekitplugins.authagent.sandbox.executor.workflow import run_workflow
from flytekitplugins.authagent.sandbox.refusal import Refusal
from flytekitplugins.authagent.sandbox.workflow_check import CompileError

logger = logging.getLogger(__name__)


class Children(Protocol):
    """How a node begins, and ends, an execution of its own."""

    def launch(
        self,
        launch_plan: identifier_pb2.Identifier,
        inputs: literals_pb2.LiteralMap,
        execution: ExecutionRecord,
        node: NodeRecord,
    ) -> ExecutionRecord:
        """Begin an execution as a child of `node` in `execution`; raises `Refusal`."""

    def abort(self, child: ExecutionRecord, cause: str) -> None:
        """End it."""


class Nodes:
    """Runs nodes. Belongs to one event loop."""

    def __init__(self, tasks: Tasks, children: Children, find: Find) -> None:
        self._tasks = tasks
        self._children = children
        self._find = find
        self._cache = Cache()

    async def run(self, node: workflow_pb2.Node, results: Results, scope: Scope) -> literals_pb2.LiteralMap:
        """Run `node`, now that those it waits for have put out `results`. Raises `Failed` only."""
        record = scope.execution.begin(node, scope.parent)
        try:
            record.inputs = bound(node.inputs, results)
            if (earlier := scope.execution.recovered(record.id)) is not None:
                record.outputs = earlier.outputs
                record.move("RECOVERED")
                return record.outputs
            record.outputs = await self._run(node, record, results, scope)
        except asyncio.CancelledError:
            record.move("ABORTED")
            raise
        except Exception as error:
            failed = _failed(error, record)
            record.move("FAILED", error=failed.error)
            raise failed from None
        record.move("SUCCEEDED")
        return record.outputs

    async def _run(
        self, node: workflow_pb2.Node, record: NodeRecord, results: Results, scope: Scope
    ) -> literals_pb2.LiteralMap:
        kind = node.WhichOneof("target")
        if kind == "task_node":
            return await self._run_task(node, record, scope)
        record.move("RUNNING")
        if kind == "array_node":
            return await self._run_array(node, record, scope)
        if kind == "workflow_node" and node.workflow_node.HasField("launchplan_ref"):
            return await self._run_launch_plan(node.workflow_node.launchplan_ref, record, scope)
        if kind == "workflow_node":
            record.become(is_parent_node=True)
            template = scope.workflow(node.workflow_node.sub_workflow_ref)
            return await run_workflow(template, record.inputs, scope.inside(record.id), self.run)
        if kind == "branch_node":
            record.become(is_parent_node=True)
            chosen = branch.chosen(node.branch_node, record.inputs)
            return await self.run(chosen, results, scope.inside(record.id))
        if kind == "gate_node":
            return await run_gate(node, record.inputs, scope.execution)
        raise user_error("BadSpecification", f"the sandbox does not run nodes of kind {kind}")

    async def _run_task(self, node: workflow_pb2.Node, record: NodeRecord, scope: Scope) -> literals_pb2.LiteralMap:
        template = scope.task(node.task_node.reference_id)
        cached = template.metadata.discoverable
        if cached and not scope.execution.message.spec.overwrite_cache:
            known = self._cache.get(template, record.inputs)
            if known is not None:
                record.add(task_node_metadata=_cache(catalog_pb2.CACHE_HIT))
                return known
        record.become(is_eager=template.metadata.is_eager)
        outcome = await self._tasks.run(Work.of(node, template, record.inputs), record, scope)
        outputs = await self._outputs(outcome, template, record, scope)
        if cached:
            self._cache.put(template, record.inputs, outputs)
            record.add(task_node_metadata=_cache(catalog_pb2.CACHE_POPULATED))
        return outputs

    async def _outputs(
        self, outcome: Outcome, template: tasks_pb2.TaskTemplate, record: NodeRecord, scope: Scope
    ) -> literals_pb2.LiteralMap:
        """What a task put out; for a dynamic task, what the nodes that it asked for put out in its place."""
        if not isinstance(outcome, dynamic_job_pb2.DynamicJobSpec):
            return outcome
        record.become(is_parent_node=True, is_dynamic=True)
        record.dynamic = closure_of(outcome, template, self._find)
        record.move("DYNAMIC_RUNNING")
        inside = Scope.of(scope.execution, record.dynamic, record.id)
        outputs = await run_workflow(record.dynamic.primary.template, record.inputs, inside, self.run)
        record.attempts[-1].outputs = outputs
        return outputs

    async def _run_array(self, node: workflow_pb2.Node, record: NodeRecord, scope: Scope) -> literals_pb2.LiteralMap:
        array, sub_node = node.array_node, node.array_node.node
        template = scope.task(sub_node.task_node.reference_id)
        record.become(is_array=True)

        async def run_part(index: int, inputs: literals_pb2.LiteralMap) -> literals_pb2.LiteralMap:
            part = NodeRecord(record.message, record.parent, inputs)  # not listed, and so are its attempts
            outcome = await self._tasks.run(Work.of(sub_node, template, inputs, index), part, scope)
            if isinstance(outcome, dynamic_job_pb2.DynamicJobSpec):
                raise user_error("BadTaskSpecification", "a part of a map task cannot be dynamic")
            return outcome

        whole = record.attempt(template.id, template.type)
        async with recorded(whole):
            whole.move("RUNNING")
            names = set(template.interface.outputs.variables)
            whole.outputs = await run_parts(array, record.inputs, names, run_part)
        return whole.outputs

    async def _run_launch_plan(
        self, launch_plan: identifier_pb2.Identifier, record: NodeRecord, scope: Scope
    ) -> literals_pb2.LiteralMap:
        child = self._children.launch(launch_plan, record.inputs, scope.execution, record)
        record.add(workflow_node_metadata=node_execution_pb2.WorkflowNodeMetadata(executionId=child.id))
        try:
            await child.finished.wait()
        except asyncio.CancelledError:
            self._children.abort(child, f"the parent execution {scope.execution.id.name} was aborted")
            raise
        if child.phase == "SUCCEEDED":
            return child.outputs
        if child.message.closure.HasField("error"):
            raise Failed(child.message.closure.error)
        raise user_error("RemoteChildWorkflowExecutionFailed", f"{child.id.name} ended {child.phase}")


def _cache(status: int) -> node_execution_pb2.TaskNodeMetadata:
    return node_execution_pb2.TaskNodeMetadata(cache_status=status)


def _failed(error: Exception, record: NodeRecord) -> Failed:
    """`error` as the failure of the node; one that nobody foresaw must not hang anything."""
    if isinstance(error, Failed):
        failed = error
    elif isinstance(error, (Refusal, CompileError)):
        failed = user_error("BadSpecification", str(error))
    else:
        logger.error("sandbox: node %s failed", record.id, exc_info=error)
        failed = system_error("SandboxError", f"the sandbox failed: {type(error).__name__}: {error}")
    failed.node = failed.node or record.id
    return failed
