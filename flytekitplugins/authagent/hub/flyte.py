"""What Flyte says of an execution: whether it is there, over, and, as attribution only, who launched it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flytekitplugins.authagent import discovery, endpoint
from flytekitplugins.authagent.agent.file import Flyte
from flytekitplugins.authagent.credential import Credential
from flytekitplugins.authagent.discovery import FlyteServer
from flytekitplugins.authagent.errors import AuthAgentError, ConfigError, ProviderError, ProviderUnavailable
from flytekitplugins.authagent.source import Source

TIMEOUT = 5.0
"""Seconds for one look."""

MAY_RUN = ("UNDEFINED", "QUEUED", "RUNNING", "FAILING")
"""
Phases in which tasks of an execution may run. UNDEFINED: flyteadmin has accepted the execution. FAILING: propeller runs
the failure node. In every other phase (SUCCEEDING and ABORTING too, and those of a newer Flyte) the execution is over.
"""


@dataclass(frozen=True)
class Seen:
    """
    An execution, as Flyte describes it.

    `principal` is empty where the execution names a parent: flyteadmin then takes that of the parent, and anybody can
    name any; without one it is whose token launched it. `scheduled` is a word that whoever launches an execution can
    choose. Both may take something away, and never give it. `created_at`: seconds since the epoch, by Flyte's clock; 0
    where it does not say.
    """

    principal: str
    scheduled: bool
    over: bool
    created_at: float = 0.0


class Executions:
    """
    Looks at executions, with tokens of `source`, over one connection. Safe to use from any thread.

    Raises `ConfigError` for a Flyte that those tokens would be sent to where anybody on the way can read them.
    """

    def __init__(self, flyte: Flyte, source: Callable[[], Source]) -> None:
        if problem := flyte.in_plain_sight(os.environ):
            raise ConfigError(problem)
        parsed = endpoint.parse(flyte.endpoint)
        self._server = FlyteServer(parsed, insecure=flyte.insecure, timeout=TIMEOUT)
        self._header = flyte.authorization_metadata_key
        self._source = source
        self._lock = threading.Lock()
        self._channel: Any = None

    @property
    def name(self) -> str:
        """Where that Flyte is, for people."""
        return self._server.endpoint.target

    def look(self, execution: str) -> Seen | None:
        """
        What is known of `project:domain:name`; `None` where Flyte knows no such execution.

        Raises `ProviderUnavailable` where it does not say in time, and as `Source.get`.
        """
        source = self._source()
        credential = source.get(timeout=TIMEOUT)
        try:
            return self._asked(execution, credential)
        except _NotTaken:
            try:
                return self._asked(execution, source.renew(credential))
            except _NotTaken:
                raise ProviderUnavailable(
                    f"Flyte at {self.name} does not take the hub's own token", hint="see ask_flyte_as"
                ) from None

    def close(self) -> None:
        """The connection is closed."""
        with self._lock:
            channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    def _asked(self, execution: str, credential: Credential) -> Seen | None:
        import grpc
        from flyteidl.admin.execution_pb2 import ExecutionMetadata, WorkflowExecutionGetRequest
        from flyteidl.core.execution_pb2 import WorkflowExecution
        from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier
        from flyteidl.service.admin_pb2_grpc import AdminServiceStub

        project, domain, name = execution.split(":")
        identifier = WorkflowExecutionIdentifier(project=project, domain=domain, name=name)
        metadata = [] if credential.is_anonymous else [self._shown(credential)]
        stub = AdminServiceStub(self._connected())
        try:
            answer = stub.GetExecution(WorkflowExecutionGetRequest(id=identifier), timeout=TIMEOUT, metadata=metadata)
        except grpc.RpcError as failed:
            code, answer = failed.code(), None
        if answer is None:  # out here, for the context of an error raised up there would have what Flyte said
            if code == grpc.StatusCode.NOT_FOUND:
                return None
            if code == grpc.StatusCode.UNAUTHENTICATED:
                raise _NotTaken
            raise ProviderUnavailable(f"Flyte at {self.name} does not say how an execution is: {code.name}")
        said = answer.spec.metadata
        return Seen(
            principal="" if said.HasField("parent_node_execution") else said.principal,
            scheduled=said.mode == ExecutionMetadata.SCHEDULED or said.HasField("scheduled_at"),
            over=answer.closure.phase not in [WorkflowExecution.Phase.Value(name) for name in MAY_RUN],
            created_at=answer.closure.created_at.seconds + answer.closure.created_at.nanos / 1e9,
        )

    def _shown(self, credential: Credential) -> tuple[str, str]:
        header = self._header or credential.header
        if header is None:
            try:
                client = discovery.public_client(self._server)
            except AuthAgentError:
                client = None
            header = (client.header if client else "") or "authorization"
        return header, f"Bearer {credential.token.reveal()}"

    def _connected(self) -> Any:
        with self._lock:
            if self._channel is None:
                self._channel = self._server.channel()
            return self._channel


class _NotTaken(ProviderError):
    """Flyte does not take the token."""

    def __init__(self) -> None:
        super().__init__("Flyte does not take the token")
