"""Projects that flyteadmin does not register."""

from __future__ import annotations

from typing import Any

from flyteidl.admin import project_pb2

from flytekitplugins.authagent.sandbox.control_plane.validation.fields import (
    check_dns_label,
    check_labels,
    check_length,
    check_required,
)
from flytekitplugins.authagent.sandbox.refusal import invalid

LONGEST_NAME = 64
LONGEST_DESCRIPTION = 300


def check_new(request: project_pb2.ProjectRegisterRequest) -> None:
    """Refuse a request to register a project that is not complete or has names that Kubernetes cannot have."""
    check_required(request, [("project", "project"), ("project.id", "project_id")])
    project = request.project
    check_dns_label(project.id, "project id")
    check_required(project, [("name", "project_name")])
    check_changed(project)
    if project.domains:
        raise invalid(
            "Domains are currently only set system wide. Please retry without domains included in your request."
        )


def check_changed(project: Any) -> None:
    """Refuse what no project can be called, described as, or labelled with."""
    check_labels(project.labels.values)
    check_length(project.name, "project_name", LONGEST_NAME)
    check_length(project.description, "project_description", LONGEST_DESCRIPTION)
