"""The statuses that a method of the control plane answers with instead of a message."""

from __future__ import annotations

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


def not_found(kind: str, **identifier: str) -> Refusal:
    """NOT_FOUND, with the identifier written as flyteadmin writes it: `project:"p" domain:"d" name:"n"`."""
    words = " ".join(f'{field}:"{value}"' for field, value in identifier.items() if value)
    return Refusal(grpc.StatusCode.NOT_FOUND, f"missing entity of type {kind} with identifier {words}")


def not_offered(message: str) -> Refusal:
    """UNIMPLEMENTED: a real Flyte does this, the sandbox does not."""
    return Refusal(grpc.StatusCode.UNIMPLEMENTED, message)
