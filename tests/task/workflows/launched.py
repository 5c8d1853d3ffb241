"""Tasks of every kind that say who launched them, as they run in Flyte."""

import multiprocessing
import threading

import flytekit
from flytekit import dynamic, map_task, task, workflow

from flytekitplugins.authagent import AuthAgent, authenticated, eager
from flytekitplugins.authagent.identity import current


def told() -> str:
    """Who it was, and who says so."""
    identity = flytekit.current_context().identity
    return f"{identity.subject} {identity.subject.source} {identity.run_as} {identity.run_as.source}"


@task(task_config=AuthAgent())
def plain(x: int) -> str:
    return told()


@task(task_config=AuthAgent())
async def asynchronous(x: int) -> str:
    return told()


@task(task_config=AuthAgent(), enable_deck=True)
def with_deck(x: int) -> str:
    flytekit.current_context().identity.deck()
    return told()


@task(task_config=AuthAgent())
def without_deck(x: int) -> str:
    flytekit.current_context().identity.deck()
    return told()


@task(enable_deck=True)
@authenticated
def below(x: int) -> str:
    assert flytekit.current_context().has_attr("identity")
    flytekit.current_context().get("identity").deck()
    return told()


@task(task_config=AuthAgent())
def untouched(x: int) -> str:
    return "nobody asked"


def in_a_fork(_: int) -> str:
    return str(current().subject)


@task(task_config=AuthAgent())
def spreading(x: int) -> str:
    """From its threads and its forks."""
    found = []
    thread = threading.Thread(target=lambda: found.append(str(current().subject)))
    thread.start()
    thread.join()
    with multiprocessing.get_context("fork").Pool(2) as pool:
        found += pool.map(in_a_fork, range(4))
    assert found == ["alice"] * 5, found
    return told()


@dynamic(task_config=AuthAgent())
def dynamically(x: int) -> str:
    assert str(flytekit.current_context().identity.subject) == "alice"
    return plain(x=x)


@workflow
def mapped() -> list[str]:
    return map_task(plain)(x=[1, 2, 3])


@eager
async def eagerly(x: int) -> str:
    """Its child is launched by the eager workflow, whose own credential has no subject here."""
    identity = flytekit.current_context().identity
    identity.deck()
    assert await asynchronous(x=x)
    return told()
