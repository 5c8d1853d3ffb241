"""Looking at executions, their nodes and their tasks, and ending them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import grpc
from flyteidl.admin import common_pb2, execution_pb2
from flyteidl.core import identifier_pb2

from flytekitplugins.authagent.sandbox.control_plane.caller import current_caller
from flytekitplugins.authagent.sandbox.control_plane.listing import Listing, moment, named
from flytekitplugins.authagent.sandbox.executor.executor import Executor
from flytekitplugins.authagent.sandbox.executor.records import (
    ExecutionRecord,
    NodeRecord,
    Records,
    TaskRecord,
)
from flytekitplugins.authagent.sandbox.refusal import Refusal, missing, not_found

_THE_EPOCH = datetime.fromtimestamp(0, timezone.utc)
_CLOSURE = {
    "phase": "",
    "duration": 0.0,
    **dict.fromkeys(("created_at", "updated_at", "started_at"), _THE_EPOCH),
}
_NAMES = dict.fromkeys(("project", "domain", "name", "execution_project", "execution_domain", "execution_name"), "")
_EXECUTION = {
    **_NAMES,
    **_CLOSURE,
    **dict.fromkeys(("user", "mode", "state"), ""),
    **dict.fromkeys(("launch_plan.name", "launch_plan.version", "workflow.name", "workflow.version", "task.name"), ""),
}
_NODE = {"node_id": "", "name": "", **_CLOSURE}
_TASK = {"retry_attempt": 0, "name": "", **_CLOSURE}


class Executions:
    """What the records of executions tell. Safe to use from any thread."""

    def __init__(self, records: Records, executor: Executor) -> None:
        self._records = records
        self._executor = executor
        self._executions = Listing("execution", _execution_row, _EXECUTION, _tags)
        self._nodes = Listing("node_execution", _node_row, _NODE)
        self._tasks = Listing("task_execution", _task_row, _TASK)

    def get(self, identifier: identifier_pb2.WorkflowExecutionIdentifier) -> ExecutionRecord:
        """The execution of that name; raises `Refusal`."""
        for field in ("project", "domain", "name"):
            if not getattr(identifier, field):
                raise missing(field)
        record = self._records.find(identifier)
        if record is None:
            raise not_found("execution", project=identifier.project, domain=identifier.domain, name=identifier.name)
        return record

    def node(self, identifier: identifier_pb2.NodeExecutionIdentifier) -> NodeRecord:
        """The node execution of that id; raises `Refusal`."""
        execution = self.get(identifier.execution_id)
        if identifier.node_id not in execution.nodes:
            raise not_found("node execution", node_id=identifier.node_id, execution=execution.id.name)
        return execution.nodes[identifier.node_id]

    def task(self, identifier: identifier_pb2.TaskExecutionIdentifier) -> TaskRecord:
        """The attempt of that id; raises `Refusal`."""
        attempts = self.node(identifier.node_execution_id).attempts
        if identifier.retry_attempt >= len(attempts):
            node, number = identifier.node_execution_id.node_id, str(identifier.retry_attempt)
            raise not_found("task execution", node_id=node, retry_attempt=number)
        found: TaskRecord = attempts[identifier.retry_attempt]
        return found

    def page(self, request: common_pb2.ResourceListRequest) -> tuple[list[ExecutionRecord], str]:
        """The executions that `request` asks for, and the token of the next page."""
        wanted = named(request.id)
        found = [
            record
            for record in self._records.all()
            if all(getattr(record.id, field) == value for field, value in wanted.items())
        ]
        return self._executions.page(found, request)

    def nodes(self, request: Any) -> tuple[list[NodeRecord], str]:
        """What a `NodeExecutionListRequest` asks for: the nodes at the top, or those in one parent."""
        execution = self.get(request.workflow_execution_id)
        nodes = [node for node in list(execution.nodes.values()) if node.parent == request.unique_parent_id]
        return self._nodes.page(nodes, request)

    def nodes_of_task(self, request: Any) -> tuple[list[NodeRecord], str]:
        """The nodes that the dynamic task of a `NodeExecutionForTaskListRequest` asked for."""
        parent = request.task_execution_id.node_execution_id
        execution = self.get(parent.execution_id)
        nodes = [node for node in list(execution.nodes.values()) if node.parent == parent.node_id]
        return self._nodes.page(nodes, request)

    def tasks(self, request: Any) -> tuple[list[TaskRecord], str]:
        """The attempts that a `TaskExecutionListRequest` asks for."""
        return self._tasks.page(list(self.node(request.node_execution_id).attempts), request)

    def terminate(self, request: execution_pb2.ExecutionTerminateRequest) -> None:
        """End an execution; raises `Refusal`, FAILED_PRECONDITION if it has ended already."""
        record = self.get(request.id)
        if not self._executor.abort(record, request.cause, current_caller().subject):
            message = "Cannot abort an already terminated workflow execution"
            raise Refusal(grpc.StatusCode.FAILED_PRECONDITION, message)


def _closure_row(closure: Any, phase: str) -> Mapping[str, Any]:
    return {
        "phase": phase,
        "duration": closure.duration.ToNanoseconds() / 1e9,
        "created_at": moment(closure.created_at),
        "updated_at": moment(closure.updated_at),
        "started_at": moment(closure.started_at),
    }


def _execution_row(record: ExecutionRecord) -> Mapping[str, Any]:
    message, spec = record.message, record.message.spec
    names = {field: getattr(message.id, field) for field in ("project", "domain", "name")}
    plan, workflow = spec.launch_plan, message.closure.workflow_id
    return {
        **names,
        **{f"execution_{field}": value for field, value in names.items()},
        **_closure_row(message.closure, record.phase),
        "user": spec.metadata.principal,
        "mode": str(spec.metadata.mode),
        "state": str(message.closure.state_change_details.state),
        "launch_plan.name": plan.name,
        "launch_plan.version": plan.version,
        "workflow.name": workflow.name,
        "workflow.version": workflow.version,
        "task.name": plan.name if plan.resource_type == identifier_pb2.TASK else "",
    }


def _tags(record: ExecutionRecord) -> Sequence[Mapping[str, str]]:
    """
    What filters on tags look at: the labels, and the tags that `pyflyte run --tag` sets.

    flytekit's eager labels its children, and finds them again by tag: in flyteadmin too these are one thing.
    """
    spec = record.message.spec
    pairs = [
        *spec.labels.values.items(),
        *((tag.partition(":")[0], tag.partition(":")[2]) for tag in spec.tags),
    ]
    return [{"key": key, "value": value} for key, value in pairs]


def _node_row(node: NodeRecord) -> Mapping[str, Any]:
    return {"node_id": node.id, "name": node.id, **_closure_row(node.message.closure, node.phase)}


def _task_row(task: TaskRecord) -> Mapping[str, Any]:
    identifier = task.message.id
    return {
        "retry_attempt": identifier.retry_attempt,
        "name": identifier.task_id.name,
        **_closure_row(task.message.closure, task.phase),
    }
