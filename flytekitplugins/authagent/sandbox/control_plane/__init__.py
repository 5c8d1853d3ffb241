"""
A Flyte control plane on loopback: it authenticates as a flyteadmin 1.16.8 does, and runs what is registered.

For demos and tests: everything but the files of executions is kept in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timezone
from pathlib import Path
from typing import Any

import grpc
from flyteidl.service import (
    admin_pb2_grpc,
    auth_pb2_grpc,
    dataproxy_pb2_grpc,
    identity_pb2_grpc,
    signal_pb2_grpc,
)

from flytekitplugins.authagent.errors import AuthAgentError
from flytekitplugins.authagent.sandbox.control_plane.admin import Admin
from flytekitplugins.authagent.sandbox.control_plane.auth_metadata import AuthMetadata
from flytekitplugins.authagent.sandbox.control_plane.authentication import Authentication
from flytekitplugins.authagent.sandbox.control_plane.data_proxy import DataProxy
from flytekitplugins.authagent.sandbox.control_plane.executions import Executions
from flytekitplugins.authagent.sandbox.control_plane.identity import Identity
from flytekitplugins.authagent.sandbox.control_plane.interceptor import Interceptor
from flytekitplugins.authagent.sandbox.control_plane.launches import Launches
from flytekitplugins.authagent.sandbox.control_plane.projects import Projects
from flytekitplugins.authagent.sandbox.control_plane.registrations import Registrations
from flytekitplugins.authagent.sandbox.control_plane.signals import Signals
from flytekitplugins.authagent.sandbox.control_plane.signed_urls import SignedUrls
from flytekitplugins.authagent.sandbox.counts import Counts
from flytekitplugins.authagent.sandbox.executor.dynamic import Find
from flytekitplugins.authagent.sandbox.executor.executor import Executor
from flytekitplugins.authagent.sandbox.executor.nodes import Nodes
from flytekitplugins.authagent.sandbox.executor.records import ExecutionRecord, Records, deck_uris
from flytekitplugins.authagent.sandbox.executor.slots import Slots
from flytekitplugins.authagent.sandbox.executor.tasks import Pods, Tasks
from flytekitplugins.authagent.sandbox.faults import Faults
from flytekitplugins.authagent.sandbox.posture import Issuer, Posture

WORKERS = 16
"""Calls that are answered at once."""

WAITING = 512
"""Calls that are answered or wait for it; further ones are RESOURCE_EXHAUSTED."""

EAGER_PARENT = "eager-exec"
"""The label in which flytekit's eager notes who launched an execution."""


class ControlPlane:
    """
    The gRPC services, the store of files and the executor, from `start` to `stop`.

    `directory` gets the uploads and a directory for each attempt. `task_environment` is what an operator's
    `default-env-vars` would hold: every attempt gets it, last. It is read when an attempt starts, so it may
    be completed once `endpoint` is known. `slots` attempts run at once; `pods` takes note of each of them.
    """

    def __init__(
        self,
        *,
        issuer: Issuer,
        counts: Counts,
        faults: Faults,
        posture: Posture,
        directory: Path,
        task_environment: Mapping[str, str],
        slots: int = 2,
        pods: Pods | None = None,
    ) -> None:
        self._issuer = issuer
        self._posture = posture
        self._authentication = Authentication(issuer=issuer, posture=posture, counts=counts, faults=faults)
        self._directory = directory.resolve()
        self._task_environment = task_environment
        self._slots = slots
        self._pods = pods
        self._records = Records()
        self._executor = Executor()
        self._urls = SignedUrls(self._directory)
        self._server: Any = None
        self.endpoint = ""
        """`127.0.0.1:PORT` of the gRPC services, plaintext, once started."""

    @property
    def data_url(self) -> str:
        """Where signed URLs begin, once started."""
        return self._urls.base

    def start(self) -> None:
        """Bind free ports on loopback, and serve; raises `AuthAgentError`."""
        projects = Projects()
        registrations = Registrations(projects)
        launches = Launches(projects, registrations, self._records, self._executor)
        executions = Executions(self._records, self._executor)
        self._urls.start()
        self._executor.start(self._nodes(registrations, launches))
        self._serve(
            Admin(projects, registrations, launches, executions),
            DataProxy(self._urls, executions),
            Signals(executions, self._executor),
        )

    def stop(self) -> None:
        """Serve no more, so that nothing is launched, and end what is still running, within seconds."""
        if self._server is not None:
            self._server.stop(grace=0.5).wait(5.0)
        self._executor.stop()
        self._urls.stop()

    def executions(self) -> list[dict[str, Any]]:
        """Every execution, oldest first, ready for JSON."""
        return [_summary(record) for record in self._records.all()]

    def _nodes(self, registrations: Registrations, launches: Launches) -> Callable[[], Nodes]:
        def nodes() -> Nodes:
            tasks = Tasks(
                self._directory / "executions",
                slots=Slots(self._slots),
                default_environment=self._task_environment,
                url=self._console_url,
                pods=self._pods,
            )
            return Nodes(tasks, launches, Find(registrations.task, registrations.launch_plans.get))

        return nodes

    def _console_url(self, record: ExecutionRecord) -> str:
        """Where flytekit says that an execution can be looked at, though the sandbox has no console."""
        where = f"projects/{record.id.project}/domains/{record.id.domain}/executions/{record.id.name}"
        return f"http://{self.endpoint}/console/{where}"

    def _serve(self, admin: Admin, data: DataProxy, signals: Signals) -> None:
        self._server = server = grpc.server(
            ThreadPoolExecutor(WORKERS, thread_name_prefix="sandbox-grpc"),
            interceptors=[Interceptor(self._authentication)],
            maximum_concurrent_rpcs=WAITING,
            options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 16 << 20)],
        )
        admin_pb2_grpc.add_AdminServiceServicer_to_server(admin, server)
        dataproxy_pb2_grpc.add_DataProxyServiceServicer_to_server(data, server)
        signal_pb2_grpc.add_SignalServiceServicer_to_server(signals, server)
        if self._posture.use_auth:
            metadata = AuthMetadata(self._issuer, self._posture)
            auth_pb2_grpc.add_AuthMetadataServiceServicer_to_server(metadata, server)
            identity_pb2_grpc.add_IdentityServiceServicer_to_server(Identity(), server)
        try:
            port = server.add_insecure_port("127.0.0.1:0")
        except RuntimeError as error:
            raise AuthAgentError(f"the sandbox cannot listen on 127.0.0.1: {error}") from error
        self.endpoint = f"127.0.0.1:{port}"
        server.start()


def _summary(record: ExecutionRecord) -> dict[str, Any]:
    spec, closure = record.message.spec, record.message.closure
    parent = spec.metadata.parent_node_execution.execution_id.name or spec.labels.values.get(EAGER_PARENT)
    return {
        "id": {"project": record.id.project, "domain": record.id.domain, "name": record.id.name},
        "entity": spec.launch_plan.name,
        "phase": record.phase,
        "principal": spec.metadata.principal,
        "execution_identity": spec.security_context.run_as.execution_identity,
        "created_at": closure.created_at.ToDatetime(timezone.utc).isoformat(),
        "duration_s": closure.duration.ToNanoseconds() / 1e9,
        "error": closure.error.message if closure.HasField("error") else None,
        "deck_uris": deck_uris(list(record.nodes.values())),
        "parent": parent or None,
    }
