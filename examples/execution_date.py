"""
The first example of Flyte's RFC "Flyte Authentication in Tasks" (flyteorg/flyte#4570): when did an execution start?

The RFC spells it `context.fetchExecution(execution_id)` and `closure.phase == "SUCCEEDED"`. flytekit's method is
called `fetch_execution`, and `phase` is a number, which never equals a text: taken literally the task could only
ever return `None`. `is_successful` says what was meant.
"""

import flytekit
from flytekit import task, workflow

from flytekitplugins.authagent import remote


@task
def get_execution_date(execution_id: str) -> str | None:
    """The moment at which a succeeded execution started, `None` for one that failed or still runs."""
    execution = remote.default().fetch_execution(name=execution_id)
    return execution.closure.started_at.isoformat() if execution.is_successful else None


@task
def get_own_date() -> str | None:
    """The same question about the execution that asks: it is running, so there is no answer yet."""
    execution = remote.default().fetch_execution(name=flytekit.current_context().execution_id.name)
    return execution.closure.started_at.isoformat() if execution.is_successful else None


@task
def fail() -> None:
    """Something that failed, to ask about."""
    raise ValueError("this task fails, as it should")


@workflow
def failing() -> None:
    """An execution that fails."""
    fail()
