"""`remote.default()`: the authenticated remote of wherever the code happens to run."""

from __future__ import annotations

import os
import threading
from typing import Any

from flytekit.core.context_manager import FlyteContextManager
from flytekit.remote import FlyteRemote

from flytekitplugins.authagent.bound_parameters import BoundParameters
from flytekitplugins.authagent.handle import Handle, sole_active
from flytekitplugins.authagent.task import AuthAgent

__all__ = ["default"]


def default() -> FlyteRemote:
    """
    The authenticated `FlyteRemote`: of the task inside one, of the user's own configuration outside.

    It finds out on each use, so a module may hold it: making it builds, reads and sends nothing, and it can be
    pickled. Using it raises an `AuthAgentError` where there is no credential.
    """
    return DefaultRemote()


def current() -> FlyteRemote:
    """
    The remote that `default()` stands for here and now.

    That is the one of the bound function that runs here; else, in a thread that a task started or a process that
    it forked, the one of that task; else that of the process: a task's that is not bound, or the user's own.
    """
    parameters = FlyteContextManager.current_context().user_space_params
    if isinstance(parameters, BoundParameters):
        return parameters.remote
    return (sole_active() or of_process()).remote()


_process: Handle | None = None
_process_lock = threading.Lock()


def of_process() -> Handle:
    """The handle for code that no binding surrounds; one for the process, made on first use."""
    global _process  # noqa: PLW0603 - that is what "one for the process" means
    with _process_lock:
        if _process is None:
            _process = Handle(AuthAgent())
        return _process


class DefaultRemote(FlyteRemote):  # type: ignore[misc] # flytekit has no types
    """
    A `FlyteRemote` without a state of its own: every attribute is that of the remote which is current.

    A real remote cannot be a module's global, for flytekit pickles what a task refers to, and a remote holds
    locks and connections.
    """

    def __init__(self) -> None:
        """Nothing: `FlyteRemote.__init__` would want a configuration, and register itself process-wide."""

    def __getattribute__(self, name: str) -> Any:
        if name in ("__class__", "__reduce__", "__reduce_ex__", "__init__", "__repr__", "__deepcopy__", "__copy__"):
            return object.__getattribute__(self, name)
        return getattr(current(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(current(), name, value)

    def __reduce_ex__(self, _protocol: object) -> tuple[Any, tuple[()]]:
        return default, ()

    def __copy__(self) -> FlyteRemote:
        return default()

    def __deepcopy__(self, _memo: object) -> FlyteRemote:
        return default()

    def __repr__(self) -> str:
        return "remote.default()"


def _after_fork() -> None:
    global _process_lock  # noqa: PLW0603 - a lock that another thread of the parent held would never open
    _process_lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
