"""Tasks that cannot have a credential, or whose credential Flyte does not take."""

import flytekit
from flytekit import task

from flytekitplugins.authagent import AuthAgent


@task(task_config=AuthAgent(), retries=2)
def asks(x: int) -> str:
    return str(len(flytekit.current_context().remote.list_projects()))


@task(task_config=AuthAgent("agent"), retries=1)
def asks_the_agent(x: int) -> str:
    return str(len(flytekit.current_context().remote.list_projects()))


@task(task_config=AuthAgent(), retries=2)
def catches(x: int) -> str:
    try:
        return str(len(flytekit.current_context().remote.list_projects()))
    except Exception as error:
        raise RuntimeError("the author's own words") from error
