"""Workflows of every kind that the sandbox runs, as a user would write them."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from flytekit import (
    Deck,
    LaunchPlan,
    conditional,
    current_context,
    dynamic,
    map_task,
    task,
    workflow,
)
from flytekit.types.error import FlyteError
from flytekit.types.file import FlyteFile


@task
def double(n: int) -> int:
    return 2 * n


@task
def add(a: int, b: int) -> int:
    return a + b


@workflow
def chain(n: int = 1) -> int:
    return add(a=double(n=n), b=double(n=n))


@workflow
def nested(n: int) -> int:
    return double(n=chain(n=n))


chain_plan = LaunchPlan.get_or_create(chain, "everyday.chain_plan", default_inputs={"n": 5})
fixed_plan = LaunchPlan.get_or_create(chain, "everyday.fixed_plan", fixed_inputs={"n": 7})


@workflow
def through_a_launch_plan(n: int) -> int:
    return double(n=chain_plan(n=n))


@task
def fragile(n: int) -> int:
    if n == 3:
        raise ValueError("three is too much")
    return n * n


@workflow
def squares(numbers: list[int]) -> list[int]:
    return map_task(fragile)(n=numbers)


@workflow
def most_squares(numbers: list[int]) -> list[int | None]:
    return map_task(fragile, min_success_ratio=0.5, concurrency=2)(n=numbers)


@task
def scaled(n: int, by: int) -> int:
    return n * by


@workflow
def all_scaled(numbers: list[int], by: int) -> list[int]:
    from functools import partial

    return map_task(partial(scaled, by=by))(n=numbers)


@dynamic
def doubled_times(n: int, times: int) -> int:
    for _ in range(times):
        n = double(n=n)
    return n


@workflow
def grown(n: int, times: int) -> int:
    return doubled_times(n=n, times=times)


@workflow
def branched(n: int) -> int:
    return conditional("size").if_(n > 10).then(double(n=n)).elif_(n == 0).then(add(a=n, b=1)).else_().fail("small")


@task(retries=2)
def third_time_lucky() -> str:
    from flytekit.exceptions.user import FlyteRecoverableException

    attempt = os.environ["FLYTE_ATTEMPT_NUMBER"]
    checkpoint = current_context().checkpoint
    seen = (checkpoint.read() or b"").decode() + attempt
    checkpoint.write(seen.encode())
    if attempt != "2":
        raise FlyteRecoverableException("not yet")
    return seen


@task
def hopeless() -> int:
    return int("this never works")


@task
def noted(name: str, err: FlyteError | None = None) -> str:
    return f"{name}: {err.message if err else None}"


@workflow(on_failure=noted)
def regretted(name: str) -> int:
    return hopeless()


@task(cache=True, cache_version="1")
def remembered(n: int) -> float:
    return time.time() + n * 0


@task(enable_deck=True)
def pictured() -> int:
    Deck("picture", "<h1>a picture</h1>")
    return 1


@task
def environment() -> dict[str, str]:
    return dict(os.environ)


@task
def vanishing() -> int:
    print("last words")
    os._exit(7)
    return 0


@task
def sleeping(seconds: float) -> int:
    import subprocess

    child = subprocess.Popen(["sleep", str(seconds)])
    print(f"pids {os.getpid()} {child.pid}", flush=True)
    time.sleep(seconds)
    return 1


@workflow
def sleeper(seconds: float) -> int:
    return sleeping(seconds=seconds)


sleeper_plan = LaunchPlan.get_or_create(sleeper, "everyday.sleeper_plan")


@workflow
def waits_for_sleeper(seconds: float) -> int:
    return double(n=sleeper_plan(seconds=seconds))


@dataclass
class Point:
    x: int
    labels: list[str]


@task
def point(x: int) -> Point:
    return Point(x, ["a", "b"])


@task
def described(x: int, label: str) -> str:
    return f"{label}{x}"


@workflow
def unpacked(x: int) -> str:
    p = point(x=x)
    return described(x=p.x, label=p.labels[1])


@task
def shouted(file: FlyteFile) -> FlyteFile:
    out = Path(current_context().working_directory) / "shouted.txt"
    out.write_text(Path(file).read_text().upper())
    return FlyteFile(str(out))
