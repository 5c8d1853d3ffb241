"""A Flyte that knows the executions which a test tells it of, over real gRPC, and counts who asks."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from flyteidl.admin import execution_pb2
from flyteidl.core import execution_pb2 as core
from flyteidl.core import identifier_pb2
from flyteidl.service import admin_pb2_grpc

PHASE = core.WorkflowExecution.Phase


class Admin(admin_pb2_grpc.AdminServiceServicer):
    """
    `launch` and `end` are what people and tasks would do. `calls` counts looks by execution; `tokens` are those that
    were shown. `failing` is a status that every look is answered with, `slow` how many seconds one takes.
    """

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.tokens: set[str] = set()
        self.failing: grpc.StatusCode | None = None
        self.slow = 0.0
        self._executions: dict[str, execution_pb2.Execution] = {}
        self._lock = threading.Lock()

    def launch(self, execution: str, principal: str, *, mode: str = "MANUAL", parent: str = "") -> str:
        """`parent` is one that the request names, whose principal flyteadmin takes over."""
        project, domain, name = execution.split(":")
        made = execution_pb2.Execution(
            id=identifier_pb2.WorkflowExecutionIdentifier(project=project, domain=domain, name=name)
        )
        made.spec.metadata.principal = principal
        made.spec.metadata.mode = execution_pb2.ExecutionMetadata.ExecutionMode.Value(mode)
        made.closure.phase = PHASE.RUNNING
        made.closure.created_at.GetCurrentTime()
        if parent:
            made.spec.metadata.parent_node_execution.node_id = "n0"
            made.spec.metadata.parent_node_execution.execution_id.name = parent
        with self._lock:
            self._executions[execution] = made
        return execution

    def end(self, execution: str, phase: str | int = "SUCCEEDED") -> None:
        """Go on to `phase`; a number may be one that no Flyte has today."""
        with self._lock:
            self._executions[execution].closure.phase = phase if isinstance(phase, int) else PHASE.Value(phase)

    def GetExecution(self, request: Any, context: Any) -> Any:
        name = f"{request.id.project}:{request.id.domain}:{request.id.name}"
        with self._lock:
            self.calls[name] += 1
            self.tokens |= {str(value) for key, value in context.invocation_metadata() if "authorization" in key}
            found = self._executions.get(name)
        until = time.monotonic() + self.slow
        while self.slow and time.monotonic() < until:  # a test that is over leaves no threads that sleep
            time.sleep(0.02)
        if self.failing is not None:
            context.abort(self.failing, "as the test says")
        if found is None:
            context.abort(grpc.StatusCode.NOT_FOUND, "missing entity")
        return found


@contextmanager
def serving() -> Iterator[tuple[Admin, str]]:
    """One that answers, and its endpoint."""
    admin = Admin()
    server = grpc.server(ThreadPoolExecutor(8))
    admin_pb2_grpc.add_AdminServiceServicer_to_server(admin, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield admin, f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait(2)
