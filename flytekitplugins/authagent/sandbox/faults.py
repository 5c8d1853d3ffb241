"""What the sandbox does wrong on purpose, and how often."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from flytekitplugins.authagent.errors import ConfigError

UNTIL_CHANGED = -1

FLAGS = ("expire_now", "reject_rpc", "token_html", "token_hang", "same_token", "no_expires_in", "no_interval")
"""Faults that need no value: a bare number is how many answers they spoil."""

VALUES = {"token_delay_ms": 1000, "token_status": 503, "clock_skew_s": 3600}
"""Faults that carry a value, with its default: a bare number is the value, and stays until changed."""


@dataclass
class _Fault:
    value: int
    left: int


class Faults:
    """
    The faults behind `PUT /faults`, safe to use from any thread.

    A fault is `N` or `{"value": V, "count": N}`, where `N` is how many answers it spoils and -1 means until
    changed. For the faults of `VALUES` a bare number is the value.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: dict[str, _Fault] = {}

    def put(self, wanted: dict[str, Any]) -> None:
        """
        Set the faults that `wanted` names and leave the others; a count of 0 takes one away.

        Raises `ConfigError` for an unknown fault or a value that is not a whole number; nothing changes then.
        """
        parsed = {name: _parse(name, value) for name, value in wanted.items()}
        with self._lock:
            self._faults.update(parsed)
            self._faults = {name: fault for name, fault in self._faults.items() if fault.left}

    def take(self, name: str) -> int | None:
        """Spoil one answer with `name`: its value, or `None` if this fault is not (or no longer) set."""
        with self._lock:
            fault = self._faults.get(name)
            if fault is None:
                return None
            if fault.left != UNTIL_CHANGED:
                fault.left -= 1
                if not fault.left:
                    del self._faults[name]
            return fault.value

    def snapshot(self) -> dict[str, dict[str, int]]:
        """The faults that are set, ready for JSON."""
        with self._lock:
            return {name: {"value": f.value, "count": f.left} for name, f in self._faults.items()}


def _parse(name: str, wanted: Any) -> _Fault:
    if name not in FLAGS and name not in VALUES:
        raise ConfigError(f"unknown fault {name!r}", hint=f"one of {', '.join((*FLAGS, *VALUES))}")
    if isinstance(wanted, dict) and wanted.keys() <= {"value", "count"}:
        value, count = wanted.get("value", VALUES.get(name, 1)), wanted.get("count", UNTIL_CHANGED)
    elif name in VALUES:
        value, count = wanted, 0 if wanted == 0 else UNTIL_CHANGED
    else:
        value, count = 1, wanted
    if type(value) is not int or type(count) is not int or count < UNTIL_CHANGED:
        raise ConfigError(f"fault {name!r} cannot be {wanted!r}", hint='a number, or {"value": V, "count": N}')
    return _Fault(value, count)
