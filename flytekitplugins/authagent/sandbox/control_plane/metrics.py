"""How long an execution, its nodes and their attempts took, as `pyflyte metrics` shows it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from flyteidl.core import metrics_pb2

from flytekitplugins.authagent.sandbox.executor.records import TERMINAL, ExecutionRecord, NodeRecord, TaskRecord

UNLIMITED = -1


def span_of(record: ExecutionRecord, depth: int) -> metrics_pb2.Span:
    """The span of an execution: its nodes, `depth` levels down, and what was done around them."""
    nodes = list(record.nodes.values())
    top = [node for node in nodes if not node.parent]
    closure = record.message.closure
    span = metrics_pb2.Span(workflow_id=record.id, start_time=closure.created_at, end_time=closure.updated_at)
    if depth == 0:
        return span
    inner = [_of_node(node, nodes, depth - 1 if depth > 0 else depth) for node in top]
    return _around(span, inner, "WORKFLOW")


def _of_node(node: NodeRecord, nodes: list[NodeRecord], depth: int) -> metrics_pb2.Span:
    closure = node.message.closure
    span = metrics_pb2.Span(node_id=node.message.id, start_time=closure.created_at, end_time=closure.updated_at)
    if depth == 0:
        return span
    below = depth - 1 if depth > 0 else depth
    inner = [_of_task(attempt) for attempt in node.attempts]
    inner += [_of_node(child, nodes, below) for child in nodes if child.parent == node.id]
    return _around(span, inner, "NODE")


def _of_task(attempt: TaskRecord) -> metrics_pb2.Span:
    closure = attempt.message.closure
    span = metrics_pb2.Span(task_id=attempt.message.id, start_time=closure.created_at, end_time=closure.updated_at)
    if not closure.HasField("started_at"):
        return _around(span, [], "TASK")
    ran = _operation("TASK_RUNTIME", closure.started_at, closure.updated_at)
    return _around(span, [ran] if attempt.phase in TERMINAL else [], "TASK")


def _around(span: metrics_pb2.Span, inner: Iterable[metrics_pb2.Span], what: str) -> metrics_pb2.Span:
    """`span` with what is inside of it, and the time before the first of these and after the last."""
    parts = sorted(inner, key=lambda part: part.start_time.ToNanoseconds())
    if not parts:
        span.spans.append(_operation(f"{what}_SETUP", span.start_time, span.end_time))
        return span
    last = max(parts, key=lambda part: part.end_time.ToNanoseconds())
    span.spans.append(_operation(f"{what}_SETUP", span.start_time, parts[0].start_time))
    span.spans.extend(parts)
    span.spans.append(_operation(f"{what}_TEARDOWN", last.end_time, span.end_time))
    return span


def _operation(name: str, start: Any, end: Any) -> metrics_pb2.Span:
    return metrics_pb2.Span(operation_id=name, start_time=start, end_time=end)
