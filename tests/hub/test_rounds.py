"""Rounds of background work: what fails or hangs keeps nothing else from its turn, and is seen."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

import pytest

from flytekitplugins.authagent.errors import ProviderUnavailable
from flytekitplugins.authagent.hub.rounds import EVERY, Rounds


class Work:
    """Steps that are counted. `broken` is what `may_fail` raises, `left` how often `has_more` has more to do."""

    def __init__(self) -> None:
        self.done: Counter[str] = Counter()
        self.broken: Exception | None = None
        self.left = 0

    async def may_fail(self) -> bool:
        self.done["may_fail"] += 1
        if self.broken is not None:
            raise self.broken
        return False

    async def is_well(self) -> bool:
        self.done["is_well"] += 1
        return False

    async def has_more(self) -> bool:
        self.done["has_more"] += 1
        self.left -= 1
        return self.left > 0

    async def hangs(self) -> bool:
        self.done["hangs"] += 1
        await asyncio.sleep(3600)
        return False


async def over(*rounds: Rounds) -> None:
    tasks = [task for each in rounds if (task := each.stop())]
    done, _ = await asyncio.wait(tasks, timeout=1)
    assert len(done) == len(rounds)


async def until_done(work: Work, step: str, times: int) -> None:
    deadline = asyncio.get_running_loop().time() + 5
    while work.done[step] < times:
        assert asyncio.get_running_loop().time() < deadline, work.done
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("broken", [ProviderUnavailable("the database is away"), ValueError("a mistake of ours")])
def test_a_step_that_fails_keeps_none_after_it_from_its_turn(
    broken: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        work = Work()
        work.broken = broken
        rounds = Rounds(work.may_fail, work.is_well)
        rounds.start()
        for times in (1, 2):
            rounds.wake()
            await until_done(work, "is_well", times)
        assert work.done == {"may_fail": 2, "is_well": 2}
        await over(rounds)

    with caplog.at_level(logging.WARNING):
        asyncio.run(run())
    expected = 1 if isinstance(broken, ProviderUnavailable) else 2  # an outage is said once
    said = [record.getMessage() for record in caplog.records if "a round was not finished" in record.getMessage()]
    assert len(said) == expected


def test_trouble_with_the_database_is_known_until_the_same_step_does_without() -> None:
    async def run() -> None:
        work = Work()
        rounds = Rounds(work.may_fail, work.is_well)
        assert rounds.trouble == ""
        work.broken = ProviderUnavailable("the database is away", hint="look after it")
        rounds.start()
        rounds.wake()
        await until_done(work, "is_well", 1)
        assert rounds.trouble == "the database is away"
        work.broken = None
        rounds.wake()
        await until_done(work, "is_well", 2)
        assert rounds.trouble == ""
        await over(rounds)

    asyncio.run(run())


def test_rounds_that_hang_keep_others_from_nothing() -> None:
    async def run() -> None:
        work = Work()
        hanging, well = Rounds(work.hangs, work.may_fail), Rounds(work.is_well)
        hanging.start(), well.start()
        for times in (1, 2):
            hanging.wake(), well.wake()
            await until_done(work, "is_well", times)
        assert work.done == {"hangs": 1, "is_well": 2}
        await over(hanging, well)

    asyncio.run(run())


def test_what_is_left_is_done_at_once_and_otherwise_there_is_a_pause() -> None:
    async def run() -> None:
        work = Work()
        work.left = 20
        rounds = Rounds(work.has_more)
        rounds.start()
        rounds.wake()
        await until_done(work, "has_more", 20)
        await asyncio.sleep(EVERY / 4)
        assert work.done["has_more"] == 20
        await over(rounds)

    asyncio.run(run())


def test_rounds_that_never_began_end_at_once() -> None:
    assert Rounds(Work().is_well).stop() is None
