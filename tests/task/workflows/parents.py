"""Tasks and eager workflows that launch others, as they run in Flyte."""

import asyncio
import functools
import subprocess
import sys
from pathlib import Path

import flytekit
from flytekit import map_task, task, workflow

from flytekitplugins.authagent import AuthAgent, eager


@task
async def child(x: int) -> int:
    return x


async def both(x: int) -> int:
    return sum(await asyncio.gather(child(x=x), child(x=x + 1)))


@eager(task_config=AuthAgent("agent"))
async def parent(x: int) -> int:
    return await both(x)


@flytekit.eager
async def stock_parent(x: int) -> int:
    return await both(x)


@task(task_config=AuthAgent("agent"))
def launches(version: str, x: int) -> str:
    flyte = flytekit.current_context().remote
    return flyte.execute(flyte.fetch_task(name="parents.child", version=version), inputs={"x": x}).id.name


@workflow
def mapped(version: str) -> list[str]:
    return map_task(functools.partial(launches, version=version))(x=[1, 2])


@task(task_config=AuthAgent("agent"))
def by_pyflyte(version: str) -> str:
    """Launches by the command line, in a process of its own."""
    name = f"by-pyflyte-{flytekit.current_context().execution_id.name[-8:]}"
    where = ["--project", "flytesnacks", "--domain", "development", "--name", name]
    launch = ["remote-task", f"parents.child:{version}", "--x", "1"]
    subprocess.run([Path(sys.executable).parent / "pyflyte", "run", *where, *launch], check=True)
    return name


@workflow
def launching_by_pyflyte(version: str) -> str:
    return by_pyflyte(version=version)
