"""Tasks that flyteadmin does not register."""

from __future__ import annotations

from flyteidl.admin import task_pb2
from flyteidl.core import identifier_pb2

from flytekitplugins.authagent.sandbox.control_plane.validation.fields import check_identifier, check_required

REQUIRED = (
    ("spec.template", "spec"),
    ("spec.template.type", "type"),
    ("spec.template.metadata", "metadata"),
    ("spec.template.interface", "typed interface"),
)


def check_new(request: task_pb2.TaskCreateRequest) -> None:
    """Refuse a request to register a task that is not complete."""
    check_identifier(request, identifier_pb2.TASK)
    check_required(request, REQUIRED)
    if request.spec.template.HasField("container"):
        check_required(request, [("spec.template.container.image", "image")])
