"""
The second example of Flyte's RFC: an eager workflow whose children run as executions of their own.

    authagent sandbox -- pyflyte run --remote examples/eager_hello.py hello_main --names '["ada", "grace"]'

Nothing is configured here: no client secret, no `FlyteRemote`. The controller that launches the children, the
children, and the task that aborts them if the workflow fails, all authenticate by themselves.
"""

import asyncio

from flytekit import task

from flytekitplugins.authagent import eager, remote


@task
async def say_hello(name: str) -> str:
    """One greeting, in an execution of its own."""
    return f"hello {name}!"


@eager(remote=remote.default())
async def hello_main(names: list[str]) -> list[str]:
    """Greet everybody at once."""
    return list(await asyncio.gather(*(say_hello(name=name) for name in names)))
