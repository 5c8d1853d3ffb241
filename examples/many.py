"""A map task: each item is looked up by a task of its own, and all of them cost one token."""

import flytekit
from flytekit import map_task, task, workflow

from flytekitplugins.authagent import AuthAgent


@task(task_config=AuthAgent())
def versions_of(name: str) -> int:
    """How many versions of the task `name` are registered in this project."""
    remote = flytekit.current_context().remote
    return len(remote.list_tasks_by_version(version=flytekit.current_context().task_id.version))


@workflow
def main(names: list[str]) -> list[int]:
    """Count the tasks of this version, once for each name."""
    return map_task(versions_of)(name=names)
