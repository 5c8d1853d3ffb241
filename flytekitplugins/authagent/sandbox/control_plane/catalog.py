"""What has been registered: tasks, workflows and launch plans, by project, domain, name and version."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any, Generic, Protocol, TypeVar

from flyteidl.admin import common_pb2
from flyteidl.core import identifier_pb2

from flytekitplugins.authagent.sandbox.compiler import Key, key
from flytekitplugins.authagent.sandbox.control_plane.listing import Listing, moment, named
from flytekitplugins.authagent.sandbox.control_plane.validation.fields import check_required
from flytekitplugins.authagent.sandbox.refusal import exists, invalid, not_found


class Entity(Protocol):
    """A protobuf message that can be registered."""

    @property
    def id(self) -> Any: ...

    @property
    def closure(self) -> Any: ...


E = TypeVar("E", bound=Entity)


class Catalog(Generic[E]):
    """
    All versions of one kind of entity, oldest first. Safe to use from any thread.

    An entity is replaced, never changed, so that whoever was given it may keep it.
    """

    def __init__(self, kind: str, alias: str) -> None:
        self.kind = kind  # as flyteadmin writes it in messages: "task", "workflow", "launch plan"
        self._lock = threading.Lock()
        self._entities: dict[Key, tuple[E, bytes]] = {}
        method = f"List{kind.title().replace(' ', '')}"
        self._listing: Listing[E] = Listing(f"{method}s", kind.replace(" ", "_"), alias, _row, _EXAMPLE)
        self._names: Listing[E] = replace(self._listing, method=f"{method}Ids", grouped_by=_NAME)

    def add(self, entity: E, structure: Any) -> None:
        """
        Register `entity`, whose identity is in its `id` and whose meaning is in the message `structure`.

        Raises `Refusal`: ALREADY_EXISTS if it is registered like this, INVALID_ARGUMENT if it is otherwise.
        """
        identifier = entity.id
        wanted = structure.SerializeToString(deterministic=True)
        with self._lock:
            known = self._entities.setdefault(key(identifier), (entity, wanted))
        if known[0] is entity:
            return
        if known[1] == wanted:
            raise exists(f"{self.kind} with identical structure already exists")
        raise invalid(
            f"{identifier.name} {self.kind} with different structure already exists. "
            f"(Please register a new version of the {self.kind}):\n"
        )

    def replace(self, entity: E) -> None:
        """Put `entity` in the place of the one with its identity."""
        with self._lock:
            at = key(entity.id)
            self._entities[at] = (entity, self._entities[at][1])

    def find(self, identifier: identifier_pb2.Identifier) -> E | None:
        """The entity of that identity, if it is registered."""
        found = self._entities.get(key(identifier))
        return found[0] if found else None

    def get(self, identifier: identifier_pb2.Identifier) -> E:
        """The entity of that identity; raises the NOT_FOUND `Refusal`."""
        found = self.find(identifier)
        if found is None:
            resource = self.kind.upper().replace(" ", "_")
            sought = identifier_pb2.Identifier()
            sought.CopyFrom(identifier)
            sought.ClearField("resource_type")
            raise not_found(resource, sought)
        return found

    def page(self, request: Any) -> tuple[list[E], str]:
        """The entities that a `ResourceListRequest` asks for, and the token of the next page."""
        return self._listing.page(self._of(named(request)), request)

    def ids(self, request: Any) -> common_pb2.NamedEntityIdentifierList:
        """The names, each once, that a `NamedEntityIdentifierListRequest` asks for."""
        if self.kind != "launch plan":  # of these flyteadmin lists all, where no project is named
            check_required(request, [("project", "project"), ("domain", "domain")])
        wanted = {field: getattr(request, field) for field in ("project", "domain") if getattr(request, field)}
        found = {(e.id.project, e.id.domain, e.id.name): e for e in self._of(wanted)}
        page, token = self._names.page(found.values(), request)
        names = [
            common_pb2.NamedEntityIdentifier(project=e.id.project, domain=e.id.domain, name=e.id.name) for e in page
        ]
        return common_pb2.NamedEntityIdentifierList(entities=names, token=token)

    def __iter__(self) -> Iterator[E]:
        with self._lock:
            entities = list(self._entities.values())
        return (entity for entity, _ in entities)

    def _of(self, wanted: Mapping[str, str]) -> Iterable[E]:
        return [e for e in self if all(getattr(e.id, field) == value for field, value in wanted.items())]


_NAME = ("project", "domain", "name")

_EXAMPLE: Mapping[str, Any] = {
    **dict.fromkeys(("project", "domain", "name", "version"), ""),
    **dict.fromkeys(("created_at", "updated_at"), datetime.fromtimestamp(0, timezone.utc)),
    "state": 0,
}


def _row(entity: Entity) -> Mapping[str, Any]:
    identifier, created_at = entity.id, moment(entity.closure.created_at)
    return {
        **{field: getattr(identifier, field) for field in ("project", "domain", "name", "version")},
        **dict.fromkeys(("created_at", "updated_at"), created_at),
        "state": int(getattr(entity.closure, "state", 0)),  # only a launch plan has one
    }
