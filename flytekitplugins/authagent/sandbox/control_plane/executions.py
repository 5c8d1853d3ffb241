"""Looking at executions, their nodes and their tasks, and ending them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import grpc
from flyteidl.admin import common_pb2, execution_pb2
from flyteidl.core import identifier_pb2
from flyteidl.core.execution_pb2 import ExecutionError

from flytekitplugins.authagent.sandbox.compiler import key
from flytekitplugins.authagent.sandbox.control_plane.caller import current_caller
from flytekitplugins.authagent.sandbox.control_plane.listing import Listing, moment, named
from flytekitplugins.authagent.sandbox.control_plane.validation.fields import check_required
from flytekitplugins.authagent.sandbox.executor.executor import Executor
from flytekitplugins.authagent.sandbox.executor.records import (
    ExecutionRecord,
    NodeRecord,
    Records,
    SignalRecord,
    TaskRecord,
)
from flytekitplugins.authagent.sandbox.refusal import Refusal, missing, not_found

_THE_EPOCH = datetime.fromtimestamp(0, timezone.utc)
_CLOSURE = {
    **dict.fromkeys(("phase", "error_kind", "error_code"), ""),
    "duration": 0.0,
    **dict.fromkeys(("created_at", "updated_at", "started_at"), _THE_EPOCH),
}
_NAMES = dict.fromkeys(("execution_project", "execution_domain", "execution_name"), "")
_EXECUTION = {
    **_NAMES,
    **_CLOSURE,
    **dict.fromkeys(("execution_created_at", "execution_updated_at"), _THE_EPOCH),
    **dict.fromkeys(("user", "cluster", "abort_cause"), ""),
    **dict.fromkeys(("mode", "state", "parent_node_execution_id", "source_execution_id"), 0),
    **dict.fromkeys(("launch_plan.name", "launch_plan.version", "workflow.name", "workflow.version", "task.name"), ""),
}
_NODE = {"node_id": "", "parent_id": 0, **_NAMES, **_CLOSURE}
_TASK = {"retry_attempt": 0, "name": "", "version": "", "node_id": "", **_NAMES, **_CLOSURE}
"""Fields that can be filtered on: flyteadmin's columns, as far as the sandbox knows what is in them."""


class Executions:
    """What the records of executions tell. Safe to use from any thread."""

    def __init__(self, records: Records, executor: Executor) -> None:
        self._records = records
        self._executor = executor
        self._executions = Listing("ListExecutions", "execution", "e", _execution_row, _EXECUTION, _tags)
        self._nodes = Listing("ListNodeExecutions", "node_execution", "ne", _node_row, _NODE)
        self._children = replace(self._nodes, method="ListNodeExecutionsForTask")
        self._tasks = Listing("ListTaskExecutions", "task_execution", "te", _task_row, _TASK)

    def get(self, identifier: identifier_pb2.WorkflowExecutionIdentifier, called: str = "id") -> ExecutionRecord:
        """The execution of that identity, which is the field `called` of a request; raises `Refusal`."""
        if not identifier.ByteSize():
            raise missing(called)
        check_required(identifier, [(field, field) for field in ("project", "domain", "name")])
        record = self._records.find(identifier)
        if record is None:
            raise not_found("execution", identifier)
        return record

    def node(self, identifier: identifier_pb2.NodeExecutionIdentifier) -> NodeRecord:
        """The node execution of that id; raises `Refusal`."""
        execution = self._records.find(identifier.execution_id)
        if execution is None or identifier.node_id not in execution.nodes:
            sought = identifier_pb2.NodeExecutionIdentifier(execution_id=identifier.execution_id)
            sought.MergeFrom(identifier)
            raise not_found("node execution", sought)
        return execution.nodes[identifier.node_id]

    def task(self, identifier: identifier_pb2.TaskExecutionIdentifier) -> TaskRecord:
        """The attempt of that id; raises `Refusal`."""
        if not identifier.ByteSize():
            raise missing("id")
        for attempt in self.attempts(identifier.node_execution_id):
            found = attempt.message.id
            if found.retry_attempt == identifier.retry_attempt and key(found.task_id) == key(identifier.task_id):
                return attempt
        raise not_found("task execution", identifier)

    def signals(self, identifier: identifier_pb2.WorkflowExecutionIdentifier) -> Mapping[str, SignalRecord]:
        """The signals of an execution by name; none of one that does not exist."""
        execution = self._records.find(identifier)
        return dict(execution.signals) if execution else {}

    def update(self, request: execution_pb2.ExecutionUpdateRequest) -> None:
        """Archive an execution, or make it active again; raises `Refusal`."""
        record, principal = self.get(request.id), current_caller().subject
        self._executor.call(lambda: record.set_state(request.state, principal))

    def page(self, request: common_pb2.ResourceListRequest) -> tuple[list[ExecutionRecord], str]:
        """The executions that `request` asks for, and the token of the next page."""
        wanted = named(request)
        found = [
            record
            for record in self._records.all()
            if all(getattr(record.id, field) == value for field, value in wanted.items())
        ]
        return self._executions.page(found, request)

    def nodes(self, request: Any) -> tuple[list[NodeRecord], str]:
        """What a `NodeExecutionListRequest` asks for: the nodes at the top, or those in one parent."""
        identifier, parent = request.workflow_execution_id, request.unique_parent_id
        if not identifier.ByteSize():
            raise missing("execution_id")
        if parent:
            self.node(identifier_pb2.NodeExecutionIdentifier(node_id=parent, execution_id=identifier))
        return self._nodes.page(self._inside(identifier, parent), request)

    def nodes_of_task(self, request: Any) -> tuple[list[NodeRecord], str]:
        """The nodes that the dynamic task of a `NodeExecutionForTaskListRequest` asked for."""
        self.task(request.task_execution_id)
        parent = request.task_execution_id.node_execution_id
        return self._children.page(self._inside(parent.execution_id, parent.node_id), request)

    def attempts(self, identifier: identifier_pb2.NodeExecutionIdentifier) -> list[TaskRecord]:
        """The attempts of a node; none of one that does not exist."""
        execution = self._records.find(identifier.execution_id)
        node = execution.nodes.get(identifier.node_id) if execution else None
        return list(node.attempts) if node else []

    def tasks(self, request: Any) -> tuple[list[TaskRecord], str]:
        """The attempts that a `TaskExecutionListRequest` asks for; none of a node that does not exist."""
        return self._tasks.page(self.attempts(request.node_execution_id), request)

    def terminate(self, request: execution_pb2.ExecutionTerminateRequest) -> None:
        """End an execution; raises `Refusal`, FAILED_PRECONDITION if it has ended already."""
        record = self.get(request.id)
        if not self._executor.abort(record, request.cause, current_caller().subject):
            message = "Cannot abort an already terminated workflow execution"
            raise Refusal(grpc.StatusCode.FAILED_PRECONDITION, message)

    def _inside(self, identifier: identifier_pb2.WorkflowExecutionIdentifier, parent: str) -> list[NodeRecord]:
        execution = self._records.find(identifier)
        nodes = [] if execution is None else list(execution.nodes.values())
        return [node for node in nodes if node.parent == parent]


def _closure_row(closure: Any, phase: str) -> Mapping[str, Any]:
    return {
        "phase": phase,
        "error_kind": ExecutionError.ErrorKind.Name(closure.error.kind) if closure.HasField("error") else "",
        "error_code": closure.error.code,
        "duration": closure.duration.ToNanoseconds() / 1e9,
        "created_at": moment(closure.created_at),
        "updated_at": moment(closure.updated_at),
        "started_at": moment(closure.started_at),
    }


def _execution_row(record: ExecutionRecord) -> Mapping[str, Any]:
    message, spec = record.message, record.message.spec
    plan, workflow = spec.launch_plan, message.closure.workflow_id
    closure = _closure_row(message.closure, record.phase)
    return {
        **_names(message.id),
        **closure,
        "execution_created_at": closure["created_at"],
        "execution_updated_at": closure["updated_at"],
        "user": spec.metadata.principal,
        "cluster": "",
        "abort_cause": message.closure.abort_metadata.cause,
        "mode": int(spec.metadata.mode),
        "state": int(message.closure.state_change_details.state),
        # flyteadmin has a number here for an execution that has a parent or a source, and nothing else.
        "parent_node_execution_id": int(spec.metadata.HasField("parent_node_execution")),
        "source_execution_id": int(spec.metadata.HasField("reference_execution")),
        "launch_plan.name": plan.name,
        "launch_plan.version": plan.version,
        "workflow.name": workflow.name,
        "workflow.version": workflow.version,
        "task.name": plan.name if plan.resource_type == identifier_pb2.TASK else "",
    }


def _names(identifier: identifier_pb2.WorkflowExecutionIdentifier) -> Mapping[str, str]:
    return {f"execution_{field}": getattr(identifier, field) for field in ("project", "domain", "name")}


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
    return {
        "node_id": node.id,
        "parent_id": int(bool(node.parent)),
        **_names(node.message.id.execution_id),
        **_closure_row(node.message.closure, node.phase),
    }


def _task_row(task: TaskRecord) -> Mapping[str, Any]:
    identifier = task.message.id
    return {
        "retry_attempt": identifier.retry_attempt,
        "name": identifier.task_id.name,
        "version": identifier.task_id.version,
        "node_id": identifier.node_execution_id.node_id,
        **_names(identifier.node_execution_id.execution_id),
        **_closure_row(task.message.closure, task.phase),
    }
