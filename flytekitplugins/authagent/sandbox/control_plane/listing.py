"""
Filters, sorting and pages of the List methods, in flyteadmin's syntax.

A filter is `function(field, value)`; several are joined by `+` and must all hold, several values of one by
`;`. What is listed is described by a row: the value of each field that can be filtered on.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Generic, TypeVar

from flyteidl.admin import common_pb2

from flytekitplugins.authagent.sandbox.control_plane.validation.fields import check_required
from flytekitplugins.authagent.sandbox.refusal import database_error, invalid

T = TypeVar("T")
Row = Mapping[str, Any]

TAGS = ("execution_tag.", "admin_tag.", "execution_admin_tag.")
"""The prefixes of fields of an execution's tags: all filters on them must hold for one and the same tag."""

_NO_LIMIT = {"ListLaunchPlanIds": "missing and/or invalid parameters: limit"}
"""What is said of a limit of 0 where it is not the usual."""

_DAYS = {"yesterday": -1, "today": 0, "tomorrow": 1}

_EXPRESSION = re.compile(r"(.+?)\((.+?),\s?(.+)\)")
_SINGLE: Mapping[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
    "contains": lambda field, value: str(value) in str(field),
    "not_like": lambda field, value: str(value).strip("%") not in str(field),
}
_REPEATED: Mapping[str, Callable[[Any, Any], bool]] = {
    "value_in": lambda field, values: field in values,
    "value_not_in": lambda field, values: field not in values,
}


@dataclass(frozen=True)
class Listing(Generic[T]):
    """
    One kind of thing that can be listed.

    `method` is the call that lists it, `entity` its name in filters, `alias` that of its table in errors. `row` says
    what can be filtered on, `example` is a row of it, which names its fields and their types even when there is nothing
    to list. A list of names is `grouped_by` the fields of a name, and can be sorted by no other.
    """

    method: str
    entity: str
    alias: str
    row: Callable[[T], Row]
    example: Row
    tags: Callable[[T], Sequence[Mapping[str, str]]] = lambda _item: ()
    grouped_by: Sequence[str] = ()

    def page(self, items: Iterable[T], request: Any) -> tuple[list[T], str]:
        """
        The items that a List request asks for, and the token of the next page.

        `request` has `limit`, `token`, `filters` and `sort_by`. Raises `Refusal` for any that make no sense.
        """
        if not request.limit:
            raise invalid(_NO_LIMIT.get(self.method, "invalid value for limit"))
        conditions, tag_conditions = self._parse(getattr(request, "filters", ""))
        found = [
            item
            for item in items
            if all(condition.holds(row) for row in [self.row(item)] for condition in conditions)
            and (not tag_conditions or any(all(c.holds(tag) for c in tag_conditions) for tag in self.tags(item)))
        ]
        start = self._start(request.token)
        chosen = self._sorted(found, request.sort_by)[start : start + request.limit]
        return chosen, str(start + len(chosen)) if len(chosen) == request.limit else ""

    def _sorted(self, items: list[T], sort: common_pb2.Sort) -> list[T]:
        if not sort.key:
            return items
        if sort.key not in self.example or "." in sort.key:  # what has a dot is of another table, as task.name is
            raise invalid(f"invalid sort key '{sort.key}'")
        if self.grouped_by and sort.key not in self.grouped_by:
            column = f'column "{self.entity}s.{sort.key}"'
            raise database_error(f"{column} must appear in the GROUP BY clause or be used in an aggregate function")
        backwards = sort.direction == common_pb2.Sort.DESCENDING
        # Things made in one tick of the clock keep their order, in either direction.
        stable = reversed(items) if backwards else items
        return sorted(stable, key=lambda item: self.row(item)[sort.key], reverse=backwards)

    def _start(self, token: str) -> int:
        if token and not token.isdecimal():
            raise invalid(f"invalid pagination token {token} for {self.method}")
        return int(token or 0)

    def _parse(self, filters: str) -> tuple[list[_Condition], list[_Condition]]:
        plain: list[_Condition] = []
        tagged: list[_Condition] = []
        for expression in filter(None, filters.split("+")):
            match = _EXPRESSION.fullmatch(expression)
            if match is None:
                raise invalid("invalid value for filters")
            function, field, value = match.groups()
            prefix = next((prefix for prefix in TAGS if field.startswith(prefix)), "")
            if prefix:
                key = {"name": "key"}.get(field.removeprefix(prefix), field.removeprefix(prefix))
                tagged.append(self._condition(function, key, value, {"key": "", "value": ""}))
            else:
                plain.append(self._condition(function, field.removeprefix(f"{self.entity}."), value, self.example))
        return plain, tagged

    def _condition(self, function: str, field: str, value: str, example: Row) -> _Condition:
        if field not in example:
            raise invalid(f"'{self.alias}.{field}' is invalid filter")
        if function not in _REPEATED.keys() | _SINGLE.keys():
            raise invalid(f"unrecognized filter function: {function}")
        texts = value.split(";")
        if function in _SINGLE and len(texts) > 1:
            raise invalid(f"invalid single value filter expression: {function}")
        values = [_typed(text, example[field]) for text in texts]
        if function in _REPEATED:
            return _Condition(field, _REPEATED[function], values)
        return _Condition(field, _SINGLE[function], values[0])


@dataclass(frozen=True)
class _Condition:
    field: str
    compare: Callable[[Any, Any], bool]
    value: Any

    def holds(self, row: Row) -> bool:
        return self.compare(row[self.field], self.value)


def moment(timestamp: Any) -> datetime:
    """A protobuf timestamp as rows hold it."""
    found: datetime = timestamp.ToDatetime(timezone.utc)
    return found


def named(request: Any) -> Mapping[str, str]:
    """
    The project, domain and, if any, name that a List request asks for.

    Raises `Refusal` where the project or the domain is missing.
    """
    check_required(request, [("id", "id"), ("id.project", "project"), ("id.domain", "domain")])
    wanted = {field: getattr(request.id, field) for field in ("project", "domain", "name")}
    return {field: value for field, value in wanted.items() if value}


def _typed(text: str, example: Any) -> Any:
    """`text` as a value of the type that the field has."""
    try:
        if isinstance(example, datetime):
            return _moment(text)
        return type(example)(text)
    except ValueError:
        if isinstance(example, float):
            raise invalid(f"Failed to parse [{text}]") from None
        kind = "timestamp with time zone" if isinstance(example, datetime) else "integer"
        raise database_error(f'invalid input syntax for type {kind}: "{text}"') from None


def _moment(text: str) -> datetime:
    """The moment that PostgreSQL takes `text` for; raises `ValueError`."""
    now = datetime.now(timezone.utc)
    if text in _DAYS:
        return now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=_DAYS[text])
    if text == "now":
        return now
    whole = re.sub(r"\.(\d+)", lambda match: f".{match[1]:0<6}"[:7], text)  # no more than microseconds
    found = datetime.fromisoformat(whole.replace("Z", "+00:00"))
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)
