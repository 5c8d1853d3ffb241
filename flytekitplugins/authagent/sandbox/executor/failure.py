"""Why a node, and with it an execution, failed."""

from __future__ import annotations

from flyteidl.core.errors_pb2 import ContainerError
from flyteidl.core.execution_pb2 import ExecutionError


class Failed(Exception):
    """
    A node that failed. `error` is what its record and its execution report.

    `recoverable` says that another attempt may do better. It never leaves the executor.
    """

    def __init__(self, error: ExecutionError, *, recoverable: bool = False, node: str = "") -> None:
        super().__init__(error.message)
        self.error = error
        self.recoverable = recoverable
        self.node = node

    @property
    def is_system(self) -> bool:
        return bool(self.error.kind == ExecutionError.SYSTEM)


def user_error(code: str, message: str, *, recoverable: bool = False) -> Failed:
    """The workflow, or what it was given, is at fault."""
    return Failed(ExecutionError(code=code, message=message, kind=ExecutionError.USER), recoverable=recoverable)


def system_error(code: str, message: str, *, recoverable: bool = False) -> Failed:
    """The sandbox, or the machine that it runs on, is at fault."""
    return Failed(ExecutionError(code=code, message=message, kind=ExecutionError.SYSTEM), recoverable=recoverable)


def reported(error: ContainerError, uri: str) -> Failed:
    """What the task itself wrote into its error document, which is at `uri`."""
    report = ExecutionError(code=error.code, message=error.message, error_uri=uri, kind=error.origin)
    return Failed(report, recoverable=error.kind == ContainerError.RECOVERABLE)
