"""Workflows that wait for people, and one that fails the first time."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from flytekit import CronSchedule, LaunchPlan, approve, task, wait_for_input, workflow


@task
def add(a: int, b: int) -> int:
    return a + b


@workflow
def asks(a: int) -> int:
    given = wait_for_input("how-many", timeout=timedelta(minutes=5), expected_type=int)
    total = add(a=a, b=given)
    return add(a=approve(total, "really", timeout=timedelta(minutes=5)), b=1)


@task
def counted(directory: str) -> int:
    """How often it has run."""
    runs = Path(directory) / "runs"
    with runs.open("a") as file:
        file.write("x")
    return len(runs.read_text())


@task
def fails_once(directory: str, after: int) -> int:
    failed = Path(directory) / "failed"
    if not failed.exists():
        failed.touch()
        raise ValueError("the first time")
    return after


@workflow
def in_two_steps(directory: str) -> int:
    return fails_once(directory=directory, after=counted(directory=directory))


@workflow
def nightly() -> int:
    return add(a=1, b=2)


nightly_plan = LaunchPlan.get_or_create(nightly, "gated.nightly_plan", schedule=CronSchedule(schedule="0 3 * * *"))
