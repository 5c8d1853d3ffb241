"""What people have who know nothing of us but `AuthAgent()`: flytekit's own eager, and its command line in a task."""

import subprocess
import sys
from pathlib import Path

import flytekit
from flytekit import task

from flytekitplugins.authagent import AuthAgent

WHERE = ["--project", "flytesnacks", "--domain", "development"]


@task(task_config=AuthAgent())
async def whose() -> str:
    """Whom Flyte names for this execution; the token that asks is that person's, too."""
    context = flytekit.current_context()
    own = context.remote.fetch_execution(name=context.execution_id.name)
    return str(own.spec.metadata.principal)


@flytekit.eager
async def by_eager() -> str:
    """Launches by flytekit's own client."""
    return await whose()


@task(task_config=AuthAgent())
def by_pyflyte() -> None:
    """Launches by the command line, and waits."""
    pyflyte = Path(sys.executable).parent / "pyflyte"
    subprocess.run([pyflyte, "run", "--remote", "--wait", *WHERE, __file__, "whose"], check=True)
