"""
What is known of every execution, its nodes and their attempts.

One thread, the executor's, writes; any thread may read. So a message is replaced by a changed copy, never
changed: whoever got hold of one has a consistent whole.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from flyteidl.admin import execution_pb2, node_execution_pb2, signal_pb2, task_execution_pb2
from flyteidl.core import compiler_pb2, identifier_pb2, literals_pb2, types_pb2, workflow_pb2
from flyteidl.core.execution_pb2 import ExecutionError, NodeExecution, TaskExecution, WorkflowExecution
from google.protobuf.timestamp_pb2 import Timestamp

M = TypeVar("M")
Name = tuple[str, str, str]

TERMINAL = frozenset({"SUCCEEDED", "FAILED", "ABORTED", "TIMED_OUT", "SKIPPED", "RECOVERED"})
"""The phases that nothing follows, of executions, nodes and tasks alike."""


@dataclass
class TaskRecord:
    """One attempt of a node's task; of a map task all of its parts together."""

    message: task_execution_pb2.TaskExecution
    inputs: literals_pb2.LiteralMap
    outputs: literals_pb2.LiteralMap = field(default_factory=literals_pb2.LiteralMap)

    @property
    def phase(self) -> str:
        return str(TaskExecution.Phase.Name(self.message.closure.phase))

    def move(self, phase: str, *, error: ExecutionError | None = None) -> None:
        """Go on to `phase`, a name such as `RUNNING`."""
        self.message = _moved(self.message, TaskExecution.Phase.Value(phase), phase, error)


@dataclass
class NodeRecord:
    """One node of an execution. `parent` is the id of the node that it runs in, if any."""

    message: node_execution_pb2.NodeExecution
    parent: str
    inputs: literals_pb2.LiteralMap = field(default_factory=literals_pb2.LiteralMap)
    outputs: literals_pb2.LiteralMap = field(default_factory=literals_pb2.LiteralMap)
    dynamic: compiler_pb2.CompiledWorkflowClosure | None = None
    attempts: list[TaskRecord] = field(default_factory=list)

    @property
    def id(self) -> str:
        found: str = self.message.id.node_id
        return found

    @property
    def phase(self) -> str:
        return str(NodeExecution.Phase.Name(self.message.closure.phase))

    def move(self, phase: str, *, error: ExecutionError | None = None) -> None:
        """Go on to `phase`, a name such as `RUNNING`."""
        self.message = _moved(self.message, NodeExecution.Phase.Value(phase), phase, error)

    def become(self, **metadata: Any) -> None:
        """Note what kind of node this turns out to be: fields of `NodeExecutionMetaData`."""
        self.message = _copy(self.message)
        self.message.metadata.MergeFrom(node_execution_pb2.NodeExecutionMetaData(**metadata))

    def add(self, **closure: Any) -> None:
        """Add to the closure: fields of `NodeExecutionClosure`."""
        self.message = _copy(self.message)
        self.message.closure.MergeFrom(node_execution_pb2.NodeExecutionClosure(**closure))

    def attempt(self, task: identifier_pb2.Identifier, kind: str) -> TaskRecord:
        """Begin the next attempt at `task`, whose type is `kind`."""
        identifier = identifier_pb2.TaskExecutionIdentifier(
            task_id=task, node_execution_id=self.message.id, retry_attempt=len(self.attempts)
        )
        closure = task_execution_pb2.TaskExecutionClosure(created_at=_now(), task_type=kind)
        record = TaskRecord(task_execution_pb2.TaskExecution(id=identifier, closure=closure), self.inputs)
        record.move("QUEUED")
        self.attempts.append(record)
        return record


@dataclass
class SignalRecord:
    """What a gate waits for. `arrived` is set once somebody has said it."""

    message: signal_pb2.Signal
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def set(self, value: literals_pb2.Literal) -> None:
        """Take note of what was said."""
        self.message = _copy(self.message)
        self.message.value.CopyFrom(value)
        self.arrived.set()


@dataclass
class ExecutionRecord:
    """
    One execution. `finished` is set once its phase is terminal.

    `inputs` are all of them, `given` those that its launcher gave. What succeeded in `recovers` is not run again.
    """

    message: execution_pb2.Execution
    closure: compiler_pb2.CompiledWorkflowClosure
    inputs: literals_pb2.LiteralMap
    given: literals_pb2.LiteralMap = field(default_factory=literals_pb2.LiteralMap)
    recovers: ExecutionRecord | None = None
    outputs: literals_pb2.LiteralMap = field(default_factory=literals_pb2.LiteralMap)
    nodes: dict[str, NodeRecord] = field(default_factory=dict)
    signals: dict[str, SignalRecord] = field(default_factory=dict)
    finished: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def id(self) -> identifier_pb2.WorkflowExecutionIdentifier:
        return self.message.id

    @property
    def phase(self) -> str:
        return str(WorkflowExecution.Phase.Name(self.message.closure.phase))

    @property
    def done(self) -> bool:
        return self.phase in TERMINAL

    def move(self, phase: str, *, error: ExecutionError | None = None) -> None:
        """Go on to `phase`, a name such as `RUNNING`."""
        self.message = _moved(self.message, WorkflowExecution.Phase.Value(phase), phase, error)

    def abort(self, cause: str, principal: str) -> None:
        """Note who ends this execution, and why; it goes on as ABORTING."""
        self.message = _copy(self.message)
        metadata = execution_pb2.AbortMetadata(cause=cause, principal=principal)
        self.message.closure.abort_metadata.CopyFrom(metadata)
        self.move("ABORTING")

    def set_state(self, state: int, principal: str) -> None:
        """Note whether it is active or archived, and who says so."""
        self.message = _with_state(_copy(self.message), state, principal)

    def signal(self, name: str, wanted: types_pb2.LiteralType) -> SignalRecord:
        """The signal of that name, which is made if there is none: a value of the type that is `wanted`."""
        if name not in self.signals:
            identifier = identifier_pb2.SignalIdentifier(signal_id=name, execution_id=self.id)
            self.signals[name] = SignalRecord(signal_pb2.Signal(id=identifier, type=wanted))
        return self.signals[name]

    def recovered(self, node: str) -> NodeRecord | None:
        """What became of `node` in the execution that this one recovers, if it succeeded there."""
        found = self.recovers.nodes.get(node) if self.recovers else None
        return found if found and found.phase in ("SUCCEEDED", "RECOVERED") else None

    def begin(self, node: workflow_pb2.Node, parent: str) -> NodeRecord:
        """Begin `node`, inside of the node `parent` if that is not empty."""
        unique = f"{parent}-0-{node.id}" if parent else node.id  # the name that propeller gives it
        identifier = identifier_pb2.NodeExecutionIdentifier(node_id=unique, execution_id=self.id)
        metadata = node_execution_pb2.NodeExecutionMetaData(spec_node_id=node.id)
        metadata.retry_group = "0" if parent else ""
        closure = node_execution_pb2.NodeExecutionClosure(created_at=_now())
        message = node_execution_pb2.NodeExecution(id=identifier, metadata=metadata, closure=closure)
        record = self.nodes[unique] = NodeRecord(message, parent)
        record.move("QUEUED")
        return record


class Records:
    """All executions, oldest first. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._executions: dict[Name, ExecutionRecord] = {}

    def add(self, record: ExecutionRecord) -> bool:
        """Keep `record`, unless there is an execution of its name."""
        with self._lock:
            return self._executions.setdefault(_name(record.id), record) is record

    def find(self, identifier: identifier_pb2.WorkflowExecutionIdentifier) -> ExecutionRecord | None:
        return self._executions.get(_name(identifier))

    def all(self) -> list[ExecutionRecord]:
        with self._lock:
            return list(self._executions.values())


def literal_map(literals: Mapping[str, literals_pb2.Literal]) -> literals_pb2.LiteralMap:
    """`literals` as a message."""
    return literals_pb2.LiteralMap(literals=dict(literals))


def begun(message: execution_pb2.Execution) -> execution_pb2.Execution:
    """`message` as that of an execution which has just been created."""
    created = _copy(message)
    created.closure.created_at.CopyFrom(_now())
    _with_state(created, execution_pb2.EXECUTION_ACTIVE, message.spec.metadata.principal)
    return _moved(created, WorkflowExecution.Phase.QUEUED, "QUEUED", None)


def _with_state(message: execution_pb2.Execution, state: int, principal: str) -> execution_pb2.Execution:
    details = execution_pb2.ExecutionStateChangeDetails(state=state, occurred_at=_now(), principal=principal)
    message.closure.state_change_details.CopyFrom(details)
    return message


def deck_uris(nodes: Iterable[NodeRecord]) -> list[str]:
    """Where the decks of these nodes are."""
    return [node.message.closure.deck_uri for node in nodes if node.message.closure.deck_uri]


def _name(identifier: identifier_pb2.WorkflowExecutionIdentifier) -> Name:
    return (identifier.project, identifier.domain, identifier.name)


def _copy(message: M) -> M:
    copy = type(message)()
    copy.CopyFrom(message)  # type: ignore[attr-defined]  # generated messages share no typed base
    return copy


def _moved(message: M, number: int, phase: str, error: ExecutionError | None) -> M:
    moved: Any = _copy(message)
    now = _now()
    moved.closure.phase = number
    moved.closure.updated_at.CopyFrom(now)
    if phase == "RUNNING" and not moved.closure.HasField("started_at"):
        moved.closure.started_at.CopyFrom(now)
    if phase in TERMINAL and moved.closure.HasField("started_at"):
        moved.closure.duration.FromNanoseconds(now.ToNanoseconds() - moved.closure.started_at.ToNanoseconds())
    if error is not None:
        moved.closure.error.CopyFrom(error)
    found: M = moved
    return found


def _now() -> Timestamp:
    now = Timestamp()
    now.GetCurrentTime()
    return now
