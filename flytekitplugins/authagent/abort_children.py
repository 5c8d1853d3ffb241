"""Ending the children of an eager workflow that is itself being ended."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from types import FrameType

from flytekit.core.worker_queue import Controller, WorkItem
from flytekit.exceptions.user import FlyteEntityNotExistException
from flytekit.loggers import logger
from flytekit.models.core.identifier import WorkflowExecutionIdentifier

LATE = 1.5
"""Seconds in which a child may still appear that was being launched when the signal came."""

CAUSE = "the eager workflow that launched it was aborted"


def on_signal(controller: Controller) -> Callable[[int, FrameType | None], None]:
    """
    A signal handler that aborts the children of `controller`, and ends the process.

    flytekit's own fails before it reaches them (it stops a loop that it does not have), so they would run on. A
    child that the controller's thread is launching at this moment is in Flyte before the controller knows it; its
    name is known before, so it is aborted by that.
    """

    def handle(number: int, _frame: FrameType | None) -> None:
        # pyflyte-fast-execute passes on what it gets, so a second may come; SIGKILL does if this takes too long.
        signal.signal(number, signal.SIG_IGN)
        logger.warning(f"signal {number}: aborting the children of this eager workflow")
        controller.stopping_condition.set()
        left = [(n, work) for works in list(controller.entries.values()) for n, work in enumerate(works)]
        for _, work in left:
            if work.wf_exec is None and work.error is None:
                work.error = RuntimeError(CAUSE)  # the controller does not launch what has ended
        deadline = time.monotonic() + LATE
        while left := [(n, work) for n, work in left if not _aborted(controller, n, work)]:
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
        sys.exit(1)

    return handle


def _aborted(controller: Controller, number: int, work: WorkItem) -> bool:
    """Whether there is nothing left to do for `work`, the `number`th of its entity; not so while Flyte has none."""
    if work.is_in_terminal_state:
        return True
    child = work.wf_exec.id if work.wf_exec else _being_launched(controller, number, work)
    try:
        controller.remote.client.terminate_execution(child, CAUSE)
    except FlyteEntityNotExistException:
        return False
    except Exception as failed:  # whatever it is, the next child must be aborted too
        logger.warning(f"cannot abort {child.name}: {type(failed).__name__}")
    return True


def _being_launched(controller: Controller, number: int, work: WorkItem) -> WorkflowExecutionIdentifier:
    """What `work` will be called, or is called already: the controller makes names of what is launched."""
    remote, name = controller.remote, controller.get_execution_name(work.entity, number, work.input_kwargs)
    return WorkflowExecutionIdentifier(remote.default_project, remote.default_domain, name)
