"""Executions that flyteadmin does not create."""

from __future__ import annotations

import re

from flyteidl.admin import execution_pb2
from flyteidl.core import identifier_pb2

from flytekitplugins.authagent.sandbox.control_plane.validation.fields import (
    check_labels,
    check_names,
    check_required,
)
from flytekitplugins.authagent.sandbox.refusal import invalid

LONGEST_NAME = 63

_NAME = re.compile(r"[a-z][a-z\-0-9]*")
_LAUNCHED = (identifier_pb2.TASK, identifier_pb2.LAUNCH_PLAN)


def check_new(request: execution_pb2.ExecutionCreateRequest) -> None:
    """Refuse a request for an execution that is not complete, or has names that Kubernetes cannot have."""
    check_required(request, [("project", "project"), ("domain", "domain")])
    check_name(request.name)
    check_required(request, [("spec", "spec"), ("spec.launch_plan", "id")])
    entity = request.spec.launch_plan
    if entity.resource_type not in _LAUNCHED:
        kind = identifier_pb2.ResourceType.Name(entity.resource_type)
        raise invalid(f"Invalid reference entity resource type [{kind}], only [TASK, LAUNCH_PLAN] allowed")
    check_names(entity)
    check_labels(request.spec.labels.values)


def check_name(name: str) -> None:
    """Refuse a `name` that no execution can have; an empty one stands for any."""
    lowered = name.lower()
    if len(name) > LONGEST_NAME:
        raise invalid(f"size of name exceeded length {LONGEST_NAME} : {lowered}")
    if name and not _NAME.fullmatch(lowered):
        raise invalid(f"invalid name format: {lowered}, does not match regex '^{_NAME.pattern}$'")
