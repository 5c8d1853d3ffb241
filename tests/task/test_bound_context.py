"""While a bound function runs its context has a remote; nothing of it is left behind, or seen by anybody else."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import flytekit
import pytest
from flytekit import task
from flytekit.core.context_manager import ExecutionParameters, FlyteContextManager, flyte_context_Var

from flytekitplugins.authagent import AuthAgent, ConfigError, authenticated
from flytekitplugins.authagent.bind import bind
from flytekitplugins.authagent.bound_parameters import BoundParameters


def has_remote() -> bool:
    """Whether this place's context is one of ours."""
    return flytekit.current_context().has_attr("remote")


@task
def plain() -> bool:
    """A task that asks for nothing."""
    return has_remote()


@task(task_config=AuthAgent())
def bound() -> bool:
    """A task that asks."""
    return has_remote()


@task(task_config=AuthAgent(), enable_deck=True)
def bound_with_deck() -> bool:
    """A task with decks, for which flytekit rebuilds its parameters."""
    flytekit.Deck("mine", "<b>kept</b>")
    return has_remote()


def test_a_bound_task_has_a_remote_and_the_tasks_around_it_have_none() -> None:
    assert not has_remote()
    assert [plain(), bound(), plain(), bound_with_deck(), plain()] == [False, True, False, True, False]
    assert not has_remote()


def test_an_exception_leaves_nothing_behind() -> None:
    stack = list(flyte_context_Var.get())

    def failing() -> None:
        assert has_remote()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        bind(failing, AuthAgent())()

    assert not has_remote()
    assert flyte_context_Var.get() == stack


def test_a_child_task_called_by_a_bound_one_does_not_see_its_remote() -> None:
    @authenticated
    def parent() -> bool:
        return bool(plain())

    assert parent() is False


def test_the_parameters_are_flytekits_own_seen_through_another_class() -> None:
    outer = flytekit.current_context()
    seen: list[ExecutionParameters] = []

    def look() -> None:
        seen.append(flytekit.current_context())

    bind(look, AuthAgent())()

    assert isinstance(seen[0], BoundParameters)
    assert seen[0].__dict__ is outer.__dict__
    assert seen[0].execution_id == outer.execution_id
    assert type(seen[0].builder().build()) is ExecutionParameters
    assert not hasattr(ExecutionParameters, "remote")


def test_decks_and_attributes_made_inside_are_seen_outside() -> None:
    outer = flytekit.current_context()
    before = len(outer.decks)

    def draw() -> None:
        flytekit.Deck("drawn", "<i>x</i>")

    bind(draw, AuthAgent())()

    assert [deck.name for deck in outer.decks[before:]] == ["drawn"]


def test_coroutines_that_take_turns_each_see_their_own() -> None:
    async def main() -> list[list[Any]]:
        ready = asyncio.Event()

        async def look(first: bool) -> list[Any]:
            handle = flytekit.current_context()._handle
            seen = [handle]
            if first:
                await ready.wait()
            else:
                ready.set()
            for _ in range(5):
                await asyncio.sleep(0)
                with FlyteContextManager.with_context(FlyteContextManager.current_context().new_builder()):
                    await asyncio.sleep(0)
                    seen.append(flytekit.current_context()._handle)
            return [handle, *seen]

        return list(await asyncio.gather(*(bind(look, AuthAgent())(n == 0) for n in range(4))))

    everyone = asyncio.run(main())

    assert all(len(set(map(id, seen))) == 1 for seen in everyone)
    assert len({id(seen[0]) for seen in everyone}) == 4
    assert not has_remote()


def test_threads_each_see_their_own() -> None:
    barrier = threading.Barrier(8)
    seen: list[int] = []

    def look() -> None:
        barrier.wait(10)
        seen.append(id(flytekit.current_context()._handle))
        barrier.wait(10)

    threads = [threading.Thread(target=bind(look, AuthAgent())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert len(set(seen)) == 8


def test_a_context_kept_beyond_the_end_gives_nothing_any_more() -> None:
    kept: list[Any] = []
    bind(lambda: kept.append(flytekit.current_context()), AuthAgent())()

    with pytest.raises(ConfigError, match="has ended"):
        _ = kept[0].remote
    with pytest.raises(ConfigError, match="has ended"):
        _ = kept[0].tokens["any"]


def test_an_undeclared_token_is_an_error_that_lists_the_declared_ones() -> None:
    def ask() -> str:
        return str(flytekit.current_context().tokens["lake"])

    with pytest.raises(ConfigError, match="no token 'lake' is declared"):
        bind(ask, AuthAgent())()
