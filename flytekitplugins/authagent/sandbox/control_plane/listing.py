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
from datetime import datetime, timezone
from typing import Any, Generic, TypeVar

from flyteidl.admin import common_pb2

from flytekitplugins.authagent.sandbox.refusal import invalid, missing

T = TypeVar("T")
Row = Mapping[str, Any]

TAGS = ("execution_tag.", "admin_tag.", "execution_admin_tag.")
"""The prefixes of fields of an execution's tags: all filters on them must hold for one and the same tag."""

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

    `entity` is its name in filters and errors, `row` says what can be filtered on, `example` is a row of it,
    which names its fields and their types even when there is nothing to list.
    """

    entity: str
    row: Callable[[T], Row]
    example: Row
    tags: Callable[[T], Sequence[Mapping[str, str]]] = lambda _item: ()

    def page(self, items: Iterable[T], request: Any) -> tuple[list[T], str]:
        """
        The items that a List request asks for, and the token of the next page.

        `request` has `limit`, `token`, `filters` and `sort_by`. Raises `Refusal` for any that make no sense.
        """
        if not request.limit:
            raise invalid("invalid value for limit")
        conditions, tag_conditions = self._parse(getattr(request, "filters", ""))
        found = [
            item
            for item in items
            if all(condition.holds(row) for row in [self.row(item)] for condition in conditions)
            and (not tag_conditions or any(all(c.holds(tag) for c in tag_conditions) for tag in self.tags(item)))
        ]
        start = _start(request.token)
        chosen = self._sorted(found, request.sort_by)[start : start + request.limit]
        return chosen, str(start + len(chosen)) if len(chosen) == request.limit else ""

    def _sorted(self, items: list[T], sort: common_pb2.Sort) -> list[T]:
        if not sort.key:
            return items
        if sort.key not in self.example:
            raise invalid(f"invalid sort key '{self.entity}.{sort.key}'")
        backwards = sort.direction == common_pb2.Sort.DESCENDING
        # Things made in one tick of the clock keep their order, in either direction.
        stable = reversed(items) if backwards else items
        return sorted(stable, key=lambda item: self.row(item)[sort.key], reverse=backwards)

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
            raise invalid(f"'{self.entity}.{field}' is invalid filter")
        values = [_typed(text, example[field]) for text in value.split(";")]
        if function in _REPEATED:
            return _Condition(field, _REPEATED[function], values)
        if function not in _SINGLE:
            raise invalid(f"unrecognized filter function: {function}")
        if len(values) > 1:
            raise invalid(f"invalid single value filter expression: {function}")
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


def named(identifier: Any) -> Mapping[str, str]:
    """
    The project, domain and, if any, name that a List request asks for.

    Raises `Refusal` where the project or the domain is missing.
    """
    for field in ("project", "domain"):
        if not getattr(identifier, field):
            raise missing(field)
    wanted = {field: getattr(identifier, field) for field in ("project", "domain", "name")}
    return {field: value for field, value in wanted.items() if value}


def _start(token: str) -> int:
    if token and not token.isdecimal():
        raise invalid(f"invalid pagination token {token}")
    return int(token or 0)


def _typed(text: str, example: Any) -> Any:
    """`text` as a value of the type that the field has."""
    try:
        if isinstance(example, datetime):
            whole = re.sub(r"\.(\d+)", lambda match: f".{match[1]:0<6}"[:7], text)  # no more than microseconds
            found = datetime.fromisoformat(whole.replace("Z", "+00:00"))
            return found if found.tzinfo else found.replace(tzinfo=timezone.utc)
        return type(example)(text)
    except ValueError:
        if isinstance(example, datetime):
            raise invalid(f"Timestamp {text} must conform to RFC3339 Nano spec") from None
        raise invalid(f"Failed to parse [{text}]") from None
