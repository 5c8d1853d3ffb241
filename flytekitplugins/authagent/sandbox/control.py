"""The control endpoint: what was counted, what goes wrong on purpose, what was executed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from flytekitplugins.authagent.errors import ConfigError
from flytekitplugins.authagent.sandbox.counts import Counts
from flytekitplugins.authagent.sandbox.exchange import Answer, Call, json_answer
from flytekitplugins.authagent.sandbox.faults import Faults
from flytekitplugins.authagent.sandbox.loopback import LoopbackServer


class Control:
    """
    HTTP on a port of its own, for whoever tests against the sandbox.

    It needs no credentials, so that a shell can use it; a web page cannot: what carries an `Origin` is refused,
    and so is a `Host` that is not loopback.
    """

    def __init__(self, counts: Counts, faults: Faults, executions: Callable[[], list[dict[str, Any]]]) -> None:
        self._counts, self._faults, self._executions = counts, faults, executions
        self._routes: dict[tuple[str, str], Callable[[Call], Answer]] = {
            ("GET", "/counts"): lambda call: json_answer(200, self._counts.snapshot()),
            ("POST", "/counts/reset"): self._reset,
            ("GET", "/faults"): lambda call: json_answer(200, self._faults.snapshot()),
            ("PUT", "/faults"): self._put_faults,
            ("GET", "/executions"): lambda call: json_answer(200, self._executions()),
        }
        self._server = LoopbackServer("control", self._answer)
        self.url = self._server.url

    def start(self) -> None:
        """Begin to answer."""
        self._server.start()

    def stop(self) -> None:
        """Answer nobody any more."""
        self._server.stop()

    def _answer(self, call: Call) -> Answer:
        if "origin" in call.headers:
            return _refusal(403, "a web page has no business here")
        route = self._routes.get((call.method, call.path))
        if route:
            return route(call)
        methods = ", ".join(method for method, path in self._routes if path == call.path)
        if methods:
            return _refusal(405, f"{call.path} takes {methods}", ("Allow", methods))
        return _refusal(404, f"there is {', '.join(sorted({path for _, path in self._routes}))}")

    def _reset(self, call: Call) -> Answer:
        self._counts.reset()
        return json_answer(200, self._counts.snapshot())

    def _put_faults(self, call: Call) -> Answer:
        try:
            wanted = json.loads(call.body)
        except (ValueError, RecursionError):
            wanted = None
        if not isinstance(wanted, dict):
            return _refusal(400, "the body must be a JSON object of faults")
        try:
            self._faults.put(wanted)
        except ConfigError as wrong:
            return _refusal(400, str(wrong))
        return json_answer(200, self._faults.snapshot())


def _refusal(status: int, words: str, *headers: tuple[str, str]) -> Answer:
    return json_answer(status, {"error": words}, *headers)
