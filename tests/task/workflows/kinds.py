"""Tasks of every kind that say what their remote is, as they run in Flyte."""

import functools
import multiprocessing
import os
import subprocess
import sys
import threading

import flytekit
from flytekit import Deck, dynamic, map_task, task, workflow
from flytekit.exceptions.user import FlyteRecoverableException

from flytekitplugins.authagent import AuthAgent, authenticated, eager, remote

DEFAULT = remote.default()


def described(flyte) -> str:
    """Whose defaults these are, after one RPC."""
    own = flyte.fetch_execution(name=os.environ["FLYTE_INTERNAL_EXECUTION_ID"])
    return f"{flyte.default_project}/{flyte.default_domain} {type(flyte).__mro__[-2].__name__} {own.id.domain}"


@task(task_config=AuthAgent())
def plain(x: int) -> str:
    return described(flytekit.current_context().remote)


@task(task_config=AuthAgent())
async def asynchronous(x: int) -> str:
    return described(flytekit.current_context().remote)


@task(task_config=AuthAgent(), enable_deck=True)
def with_deck(x: int) -> str:
    Deck("ours", "<b>a deck of ours</b>")
    return described(flytekit.current_context().remote)


@task(task_config=AuthAgent())
async def asynchronous_with_deck(x: int) -> str:
    return described(flytekit.current_context().remote)


@task(task_config=AuthAgent(), cache=True, cache_version="1")
def cached(x: int) -> str:
    return described(flytekit.current_context().remote)


@task(task_config=AuthAgent(), retries=2)
def retried(x: int) -> str:
    if os.environ["FLYTE_ATTEMPT_NUMBER"] == "0":
        raise FlyteRecoverableException("the first attempt fails")
    return described(flytekit.current_context().remote)


@task(task_config=AuthAgent())
def two(x: int, y: int) -> str:
    return described(flytekit.current_context().remote)


@task(enable_deck=True)
@authenticated(AuthAgent(prefetch=True))
def below(x: int) -> str:
    return described(flytekit.current_context().remote)


@task
def undeclared(x: int) -> str:
    return described(DEFAULT)


@task
def without(x: int) -> str:
    return str(flytekit.current_context().has_attr("remote"))


def in_a_fork(_: int) -> str:
    return described(remote.default())


@task(task_config=AuthAgent())
def spreading(x: int) -> str:
    """From its threads, its forks and the processes that it starts."""
    found = [described(flytekit.current_context().remote)]
    thread = threading.Thread(target=lambda: found.append(described(remote.default())))
    thread.start()
    thread.join()
    with multiprocessing.get_context("fork").Pool(2) as pool:
        found += pool.map(in_a_fork, range(4))
    program = """
from flytekit.configuration import Config
from flytekit.remote import FlyteRemote
print(len(FlyteRemote(Config.auto()).list_projects()))
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    assert len(set(found)) == 1, found
    return found[0]


@dynamic(task_config=AuthAgent())
def dynamically(x: int) -> str:
    assert flytekit.current_context().remote.default_project
    return plain(x=x)


@workflow
def mapped() -> list[str]:
    return map_task(plain)(x=[1, 2, 3])


@workflow
def partly_mapped() -> list[str]:
    return map_task(functools.partial(two, y=1))(x=[1, 2])


@eager
async def eagerly(x: int) -> str:
    assert flytekit.current_context().remote.default_project
    return await asynchronous(x=x)


@eager(task_config=AuthAgent("file"), remote=remote.default(), environment={"MINE": "1"})
async def eagerly_configured(remote: int, ss: int) -> str:
    """Inputs that are called like the parameters of flytekit's own helper."""
    return await asynchronous(x=remote + ss)


@flytekit.eager
async def stock(x: int) -> str:
    return await asynchronous(x=x)
