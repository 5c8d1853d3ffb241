"""Waiting for the executions that a command started, and saying what became of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from flytekitplugins.authagent.sandbox.signals import Signals

POLL_SECONDS = 0.1

FAILED = frozenset({"FAILED", "TIMED_OUT"})
ENDED = FAILED | {"SUCCEEDED", "ABORTED"}
"""flyteidl's phases in which an execution stays."""

LINE = 200
"""Characters of an error that are shown."""

Execution = dict[str, Any]
"""One of `ControlPlane.executions`."""


def wait(executions: Callable[[], list[Execution]], seconds: float, signals: Signals) -> list[Execution]:
    """The executions once all of them have ended, children included; or as they are after `seconds` or a signal."""
    deadline = time.monotonic() + seconds
    while True:
        seen = executions()
        left = deadline - time.monotonic()
        if not running(seen) or left <= 0 or signals.received:
            return seen
        signals.wait(min(left, POLL_SECONDS))


def running(executions: list[Execution]) -> list[Execution]:
    """Those that have not ended."""
    return [execution for execution in executions if execution["phase"] not in ENDED]


def all_well(executions: list[Execution]) -> bool:
    """Whether all have ended, and none has failed. One that was aborted is what somebody wanted."""
    return not running(executions) and not any(execution["phase"] in FAILED for execution in executions)


def line(execution: Execution) -> str:
    """What became of one execution: its name, phase and principal, how long it took, and how its error ends."""
    told = [
        execution["id"]["name"],
        execution["phase"],
        execution.get("principal") or "(no principal)",
        f"{_seconds(execution):.1f} s",
    ]
    error = (execution.get("error") or "").strip()
    if error:
        told.append(error.splitlines()[-1].strip()[:LINE])
    return "  ".join(told)


def _seconds(execution: Execution) -> float:
    if execution["phase"] in ENDED:
        return float(execution["duration_s"])
    return (datetime.now(timezone.utc) - datetime.fromisoformat(execution["created_at"])).total_seconds()
