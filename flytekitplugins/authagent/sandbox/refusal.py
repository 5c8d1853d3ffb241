"""The statuses that a method of the control plane answers with instead of a message."""

from __future__ import annotations

from typing import Any

import grpc


class Refusal(Exception):
    """A gRPC status, which the interceptor makes the answer of the call; it never leaves the sandbox."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def invalid(message: str) -> Refusal:
    """INVALID_ARGUMENT: the request itself is wrong."""
    return Refusal(grpc.StatusCode.INVALID_ARGUMENT, message)


def missing(field: str) -> Refusal:
    """INVALID_ARGUMENT in flyteadmin's words for a field that is not there."""
    return invalid(f"missing {field}")


def exists(message: str) -> Refusal:
    """ALREADY_EXISTS."""
    return Refusal(grpc.StatusCode.ALREADY_EXISTS, message)


def duplicate(table: str) -> Refusal:
    """ALREADY_EXISTS in the words of the database that flyteadmin keeps `table` in."""
    constraint = f'duplicate key value violates unique constraint "{table}_pkey"'
    return exists(f"value with matching already exists ({constraint})")


def not_found(kind: str, identifier: Any) -> Refusal:
    """NOT_FOUND. `identifier` is a message, written as flyteadmin writes it."""
    message = f"missing entity of type {kind} with identifier {written(identifier)}"
    return Refusal(grpc.StatusCode.NOT_FOUND, message)


def database_error(reason: str) -> Refusal:
    """UNKNOWN: what flyteadmin passes on when its database, PostgreSQL, refuses a query."""
    return Refusal(grpc.StatusCode.UNKNOWN, f"failed database operation with {reason}")


def not_offered(message: str) -> Refusal:
    """UNIMPLEMENTED: a real Flyte does this, the sandbox does not."""
    return Refusal(grpc.StatusCode.UNIMPLEMENTED, message)


def written(message: Any) -> str:
    """A protobuf message as Go's `%v` writes it: `node_id:"n0" execution_id:{name:"e"}`."""
    words = []
    for field, value in message.ListFields():
        for item in [value] if field.message_type is None or hasattr(value, "ListFields") else value:
            words.append(f"{field.name}:{_value(field, item)}")
    return " ".join(words)


def _value(field: Any, value: Any) -> str:
    if hasattr(value, "ListFields"):
        return f"{{{written(value)}}}"
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known else str(value)
    return f'"{value}"' if isinstance(value, str) else str(value)
