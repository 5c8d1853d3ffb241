"""The environment of an attempt: built from nothing, as that of a pod is, and in propeller's order."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flyteidl.core import identifier_pb2

ARRAY_INDEX = "FLYTE_K8S_ARRAY_INDEX"
"""Where a part of a map task finds its index; `BATCH_JOB_ARRAY_INDEX_VAR_NAME` tells it to look there."""


@dataclass(frozen=True)
class Attempted:
    """What an attempt may know of itself."""

    execution: identifier_pb2.WorkflowExecutionIdentifier
    workflow: identifier_pb2.Identifier
    launch_plan: identifier_pb2.Identifier
    task: identifier_pb2.Identifier
    number: int
    url: str  # where a console would show the execution
    array_index: int | None = None


def environment(
    attempted: Attempted,
    directory: Path,
    *,
    template: Mapping[str, str],
    execution: Mapping[str, str],
    default: Mapping[str, str],
) -> dict[str, str]:
    """
    The environment of one attempt that lives in `directory`.

    Later ones win, as they do with propeller: what the task's template says, what propeller says, the
    environment given with the execution, and last the operator's `default-env-vars`.
    """
    return {**_machine(directory), **template, **_propeller(attempted), **execution, **default}


def _machine(directory: Path) -> dict[str, str]:
    return {
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(directory / "home"),
        "TMPDIR": str(directory / "tmp"),
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",  # what a killed attempt has printed is in its log
    }


def _propeller(attempted: Attempted) -> dict[str, str]:
    execution, task, workflow = attempted.execution, attempted.task, attempted.workflow
    variables = {
        "FLYTE_INTERNAL_EXECUTION_ID": execution.name,
        "FLYTE_INTERNAL_EXECUTION_PROJECT": execution.project,
        "FLYTE_INTERNAL_EXECUTION_DOMAIN": execution.domain,
        "FLYTE_INTERNAL_EXECUTION_WORKFLOW": f"{workflow.project}:{workflow.domain}:{workflow.name}",
        "FLYTE_INTERNAL_EXECUTION_LAUNCHPLAN": attempted.launch_plan.name,
        "FLYTE_INTERNAL_TASK_PROJECT": task.project,
        "FLYTE_INTERNAL_TASK_DOMAIN": task.domain,
        "FLYTE_INTERNAL_TASK_NAME": task.name,
        "FLYTE_INTERNAL_TASK_VERSION": task.version,
        "FLYTE_ATTEMPT_NUMBER": str(attempted.number),
        "FLYTE_EXECUTION_URL": attempted.url,
    }
    variables.update({short: variables[long] for short, long in _SHORT.items()})
    if attempted.array_index is not None:
        variables["BATCH_JOB_ARRAY_INDEX_VAR_NAME"] = ARRAY_INDEX
        variables[ARRAY_INDEX] = str(attempted.array_index)
    return variables


_SHORT = {
    "_F_NM": "FLYTE_INTERNAL_EXECUTION_ID",
    "_F_PRJ": "FLYTE_INTERNAL_EXECUTION_PROJECT",
    "_F_DM": "FLYTE_INTERNAL_EXECUTION_DOMAIN",
    "_F_WF": "FLYTE_INTERNAL_EXECUTION_WORKFLOW",
    "_F_LP": "FLYTE_INTERNAL_EXECUTION_LAUNCHPLAN",
    "_F_TK_PRJ": "FLYTE_INTERNAL_TASK_PROJECT",
    "_F_TK_DM": "FLYTE_INTERNAL_TASK_DOMAIN",
    "_F_TK_NM": "FLYTE_INTERNAL_TASK_NAME",
    "_F_TK_V": "FLYTE_INTERNAL_TASK_VERSION",
}
"""The names that flytekit looks for where the long ones are not set."""
