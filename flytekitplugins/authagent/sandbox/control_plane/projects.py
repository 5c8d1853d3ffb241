"""The projects of the sandbox, and its three domains."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

import grpc
from flyteidl.admin import project_pb2

from flytekitplugins.authagent.sandbox.control_plane.listing import Listing
from flytekitplugins.authagent.sandbox.control_plane.validation import projects as project_checks
from flytekitplugins.authagent.sandbox.refusal import Refusal, duplicate, invalid, missing

DOMAINS = ("development", "staging", "production")

_ROW: Mapping[str, Any] = {
    **dict.fromkeys(("identifier", "name", "description"), ""),
    "state": 0,
    **dict.fromkeys(("created_at", "updated_at"), datetime.fromtimestamp(0, timezone.utc)),
}


class Projects:
    """The registered projects; there is one to begin with. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._domains = [project_pb2.Domain(id=domain, name=domain) for domain in DOMAINS]
        self._projects: dict[str, project_pb2.Project] = {}
        self._created: dict[str, datetime] = {}
        self._listing: Listing[project_pb2.Project] = Listing("ListProjects", "project", "p", self._row, _ROW)
        first = project_pb2.Project(id="flytesnacks", name="flytesnacks", description="flytesnacks description")
        self.register(project_pb2.ProjectRegisterRequest(project=first))

    def register(self, request: project_pb2.ProjectRegisterRequest) -> None:
        """Add a project; raises `Refusal` if there is one of that id."""
        project_checks.check_new(request)
        project = request.project
        kept = project_pb2.Project()
        kept.CopyFrom(project)
        del kept.domains[:]
        kept.domains.extend(self._domains)
        with self._lock:
            if self._projects.setdefault(project.id, kept) is not kept:
                raise duplicate("projects")
            self._created[project.id] = datetime.now(timezone.utc)

    def update(self, project: project_pb2.Project) -> None:
        """Change the name, description, labels and state of a project that is registered."""
        kept = project_pb2.Project()
        kept.CopyFrom(self.get(project.id))
        project_checks.check_changed(project)
        kept.MergeFrom(project)
        kept.state = project.state
        del kept.domains[:]
        kept.domains.extend(self._domains)
        with self._lock:
            self._projects[project.id] = kept

    def get(self, project: str) -> project_pb2.Project:
        """The project of that id; raises `Refusal`."""
        if not project:
            raise missing("project_id")
        if project not in self._projects:
            raise Refusal(grpc.StatusCode.NOT_FOUND, f"project [{project}] not found")
        return self._projects[project]

    def page(self, request: Any) -> tuple[list[project_pb2.Project], str]:
        """The projects that a `ProjectListRequest` asks for: without a filter on `state` only active ones."""
        wanted = project_pb2.ProjectListRequest()
        wanted.CopyFrom(request)
        wanted.limit = request.limit or 100
        with self._lock:
            projects = list(self._projects.values())
        if "state" not in request.filters:
            projects = [project for project in projects if project.state == project_pb2.Project.ACTIVE]
        return self._listing.page(projects, wanted)

    def domains(self) -> list[project_pb2.Domain]:
        return self._domains

    def check(self, project: str, domain: str) -> None:
        """Raise the `Refusal` that tells a caller why nothing can be put into this project and domain."""
        if project not in self._projects:
            pair = f"project [{project}] and domain [{domain}]"
            raise invalid(f"failed to validate that {pair} are registered, err: [project [{project}] not found]")
        if self._projects[project].state != project_pb2.Project.ACTIVE:
            raise invalid(f"project [{project}] is not active")
        if domain not in DOMAINS:
            raise invalid(f"domain [{domain}] is unrecognized by system")

    def _row(self, project: project_pb2.Project) -> dict[str, Any]:
        return {
            "identifier": project.id,
            "name": project.name,
            "description": project.description,
            "state": int(project.state),
            **dict.fromkeys(("created_at", "updated_at"), self._created[project.id]),
        }
