"""
What the RFC asks a remote for: create a project, register and launch a workflow, look at one's own execution, and
run `pyflyte register` and `pyflyte build` as one would in a terminal.

    authagent sandbox -- pyflyte run --remote examples/operate_flyte.py everything
"""

import subprocess
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

import flytekit
from flytekit import task, workflow
from flytekit.configuration import ImageConfig
from flytekit.models.project import Project

from flytekitplugins.authagent import AuthAgent

NIGHTLY = """
from flytekit import task, workflow

@task
def report(day: str) -> str:
    return f"nothing happened on {day}"

@workflow
def nightly(day: str = "monday") -> str:
    return report(day=day)
"""


@task
def double(number: int) -> int:
    """What the launched workflow does."""
    return 2 * number


@workflow
def doubled(number: int) -> int:
    """A workflow that a task registers and launches."""
    return double(number=number)


@task(task_config=AuthAgent())
def create_project() -> str:
    """A project named after this execution, as Flyte shows it afterwards."""
    context = flytekit.current_context()
    name = f"project-{context.execution_id.name}"
    context.remote.client.register_project(Project(id=name, name=name, description="made by a task"))
    return next(project.id for project in context.remote.list_projects() if project.id == name)


@task(task_config=AuthAgent())
def register_and_launch(number: int) -> int:
    """Register `doubled` as a version of its own, in the image of this task, launch it, and wait for its result."""
    context = flytekit.current_context()
    version = f"by-{context.execution_id.name}"
    context.remote.register_script(
        doubled,
        image_config=ImageConfig.auto(img_name=own_image()),
        version=version,
        source_path=str(Path(__file__).parents[__name__.count(".")]),
        module_name=__name__,
    )
    launched = context.remote.execute(
        context.remote.fetch_launch_plan(name=doubled.name, version=version), inputs={"number": number}
    )
    launched = context.remote.wait(launched, poll_interval=timedelta(seconds=1))
    return launched.outputs["o0"]


@task(task_config=AuthAgent())
def describe_own_execution() -> dict[str, str]:
    """The image and the version that this very execution runs, as Flyte knows them."""
    context = flytekit.current_context()
    own = context.remote.fetch_execution(name=context.execution_id.name)
    return {"version": own.spec.launch_plan.version, "image": own_image()}


def own_image() -> str:
    """The image of the task that calls this."""
    context = flytekit.current_context()
    this = context.remote.fetch_task(name=context.task_id.name, version=context.task_id.version)
    return this.container.image


@task(task_config=AuthAgent())
def use_pyflyte() -> list[str]:
    """Register and build a file by the command line, whose processes authenticate by themselves."""
    where = ["--project", "flytesnacks", "--domain", "development"]
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "nightly_report.py")
        file.write_text(NIGHTLY)
        for command in (
            ["register", *where, "--version", "nightly", file],
            ["build", *where, "--fast", file, "nightly"],
        ):
            subprocess.run([Path(sys.executable).parent / "pyflyte", *command], cwd=directory, check=True)
    remote = flytekit.current_context().remote
    return sorted(found.id.name for found in remote.list_tasks_by_version(version="nightly"))


@workflow
def everything(number: int = 21) -> tuple[str, int, dict[str, str], list[str]]:
    """All of it."""
    return (
        create_project(),
        register_and_launch(number=number),
        describe_own_execution(),
        use_pyflyte(),
    )
