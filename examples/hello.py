"""
The shortest one: a task asks Flyte about the execution that it is part of.

    authagent sandbox -- pyflyte run --remote examples/hello.py main
"""

import flytekit
from flytekit import task, workflow

from flytekitplugins.authagent import AuthAgent


@task(task_config=AuthAgent())
def hello(name: str) -> str:
    """Greet `name`, and say what Flyte knows of this execution. There is no secret here, nor in the environment."""
    context = flytekit.current_context()
    execution = context.remote.fetch_execution(name=context.execution_id.name)
    return f"hello {name}, this is {execution.id.name} in {execution.id.project}/{execution.id.domain}"


@workflow
def main(name: str = "flyte") -> str:
    """One greeting."""
    return hello(name=name)
