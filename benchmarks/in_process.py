"""What a task pays: for being bound, and for each use of a credential that is there."""

from __future__ import annotations

import os
import time

os.environ["AUTHAGENT_TOKEN"] = "opaque"

import flytekit

from flytekitplugins.authagent import AuthAgent
from flytekitplugins.authagent.credential import Credential, Secret
from flytekitplugins.authagent.source import Source

CALLS = 2000


@flytekit.task
def plain() -> int:
    return 1


@flytekit.task(task_config=AuthAgent())
def bound() -> int:
    return 1


def microseconds(function: object, calls: int) -> float:
    """Of one call, the best of five rounds: everything slower is somebody else's noise."""
    rounds = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(calls):
            function()  # type: ignore[operator]
        rounds.append(time.perf_counter() - start)
    return min(rounds) / calls * 1e6


def main() -> dict[str, float]:
    source = Source(lambda _: Credential(Secret("t"), expires_at=time.time() + 3600))
    source.get()
    idle_plain, idle_bound = microseconds(plain.task_function, CALLS), microseconds(bound.task_function, CALLS)
    return {
        "added to a task that never touches .remote, us (hold: 50)": idle_bound - idle_plain,
        "a credential that is there, us (hold: 5)": microseconds(source.get, 100_000),
    }


if __name__ == "__main__":
    for what, value in main().items():
        print(f"{what:60}{value:12.2f}")
