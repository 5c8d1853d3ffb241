"""What the sandbox's cluster holds: pods, and the FlyteWorkflows that they belong to, as Flyte makes them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flyteidl.admin import execution_pb2

GROUP_VERSION = "flyte.lyft.com/v1alpha1"
SERVICE_ACCOUNT = "default"
NODE = "sandbox"


def _uid() -> str:
    return str(uuid.uuid4())


@dataclass(frozen=True)
class Workflow:
    """
    The FlyteWorkflow of one execution: its `executionId` is the only word on which one that is.

    Whoever launches chooses the labels, those that Flyte sets itself included, and `execution_identity`.
    """

    project: str
    domain: str
    name: str
    labels: Mapping[str, str]
    execution_identity: str
    uid: str = field(default_factory=_uid)

    @classmethod
    def of(cls, execution: execution_pb2.Execution) -> Workflow:
        """As flyteadmin makes it: the labels of the launch go over its own."""
        name, spec = execution.id, execution.spec
        identity = spec.security_context.run_as.execution_identity
        own = {"execution-id": name.name, "project": name.project, "domain": name.domain}
        labels = own | ({"execution-identity": identity} if identity else {}) | dict(spec.labels.values)
        return cls(name.project, name.domain, name.name, labels, identity)

    @property
    def namespace(self) -> str:
        """Where it is, and its pods."""
        return f"{self.project}-{self.domain}"

    def content(self) -> dict[str, Any]:
        """What the API server says of it."""
        return {
            "kind": "FlyteWorkflow",
            "apiVersion": GROUP_VERSION,
            "metadata": _metadata(self, self.labels),
            "executionId": {"project": self.project, "domain": self.domain, "name": self.name},
            "securityContext": {"run_as": {"execution_identity": self.execution_identity}},
        }


@dataclass(frozen=True)
class Pod:
    """The pod of one attempt. Its labels are those of `workflow`, and say whatever the launcher said."""

    workflow: Workflow
    name: str
    phase: str = "Running"
    uid: str = field(default_factory=_uid)

    @property
    def namespace(self) -> str:
        """Where it is."""
        return self.workflow.namespace

    def content(self) -> dict[str, Any]:
        """What the API server says of it. Flyte writes the kind of its owner in lower case."""
        owner = {
            "apiVersion": GROUP_VERSION,
            "kind": "flyteworkflow",
            "name": self.workflow.name,
            "uid": self.workflow.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }
        return {
            "kind": "Pod",
            "apiVersion": "v1",
            "metadata": {**_metadata(self, self.workflow.labels), "ownerReferences": [owner]},
            "spec": {"serviceAccountName": SERVICE_ACCOUNT, "nodeName": NODE},
            "status": {"phase": self.phase},
        }


def _metadata(thing: Workflow | Pod, labels: Mapping[str, str]) -> dict[str, Any]:
    return {"name": thing.name, "namespace": thing.namespace, "uid": thing.uid, "labels": dict(labels)}
