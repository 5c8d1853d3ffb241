"""Runs executions, each in its own task of one event loop, which has a thread to itself."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import logging
import threading
from collections.abc import Callable
from typing import TypeVar

from flytekitplugins.authagent.sandbox.executor.ending import end
from flytekitplugins.authagent.sandbox.executor.failure import Failed, system_error
from flytekitplugins.authagent.sandbox.executor.nodes import Nodes
from flytekitplugins.authagent.sandbox.executor.records import ExecutionRecord
from flytekitplugins.authagent.sandbox.executor.scope import Scope
from flytekitplugins.authagent.sandbox.executor.workflow import run_workflow

logger = logging.getLogger(__name__)

T = TypeVar("T")

REPORT = 0.5
"""Seconds for which an execution that was terminated stays ABORTING after its processes have ended: propeller too
reports the end in its next round."""

PROMPT = 10.0
"""Seconds that anybody waits for the executor to take note of something, or to end."""


class Executor:
    """Begins and ends executions, from any thread; what it is doing stands in their records."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="sandbox-executor", daemon=True)
        self._running: dict[int, asyncio.Task[None]] = {}
        self._aborted: list[ExecutionRecord] = []  # ended, not yet reported
        self._nodes: Nodes  # from start() on

    def start(self, nodes: Callable[[], Nodes]) -> None:
        """Start the thread; `nodes` is called in its event loop."""
        self._thread.start()

        def begin() -> None:
            self._nodes = nodes()

        self.call(begin)

    def stop(self) -> None:
        """Abort what is still running, processes and all, and end the thread."""
        if not self._thread.is_alive():
            self._loop.close()
            return
        ending = asyncio.run_coroutine_threadsafe(self._abort_all(), self._loop)
        try:
            ending.result(PROMPT)
        except concurrent.futures.TimeoutError:
            logger.warning("sandbox: some executions did not end within %g s", PROMPT)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PROMPT)

    def submit(self, record: ExecutionRecord) -> None:
        """Run `record`."""
        self._loop.call_soon_threadsafe(self._begin, record)

    def abort(self, record: ExecutionRecord, cause: str, principal: str) -> bool:
        """End `record`, which is then ABORTING and soon ABORTED; false if it has ended already."""
        return self.call(lambda: self._abort(record, cause, principal))

    def call(self, function: Callable[[], T]) -> T:
        """Have the executor's thread do something small, such as changing a record, and wait for it."""
        if threading.current_thread() is self._thread:
            return function()

        async def called() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(called(), self._loop).result(PROMPT)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()

    def _begin(self, record: ExecutionRecord) -> None:
        task = self._running[id(record)] = self._loop.create_task(self._run(record))
        task.add_done_callback(functools.partial(self._ended, record))
        if record.phase == "ABORTING":  # somebody was faster than we
            task.cancel()

    async def _run(self, record: ExecutionRecord) -> None:
        record.move("RUNNING")
        scope = Scope.of(record, record.closure)
        try:
            record.outputs = await run_workflow(record.closure.primary.template, record.inputs, scope, self._nodes.run)
        except Failed as failed:
            record.move("FAILED", error=failed.error)
        except Exception as error:
            logger.exception("sandbox: execution %s failed", record.id.name)
            surprise = system_error("SandboxError", f"the sandbox failed: {type(error).__name__}: {error}")
            record.move("FAILED", error=surprise.error)
        else:
            record.move("SUCCEEDED")

    def _ended(self, record: ExecutionRecord, task: asyncio.Task[None]) -> None:
        """Here and not in `_run`, which an execution that is aborted at once never enters."""
        del self._running[id(record)]
        if task.cancelled():
            self._aborted.append(record)
            self._loop.call_later(REPORT, self._report)
        else:
            record.finished.set()

    def _report(self) -> None:
        """Say of the execution that was aborted first that it has ended."""
        if self._aborted:
            record = self._aborted.pop(0)
            record.move("ABORTED")
            record.finished.set()

    def _abort(self, record: ExecutionRecord, cause: str, principal: str) -> bool:
        if record.done:
            return False
        if record.phase == "ABORTING":
            return True
        record.abort(cause, principal)
        if task := self._running.get(id(record)):
            task.cancel()
        return True

    async def _abort_all(self) -> None:
        while tasks := list(self._running.values()):  # a node that is ended may just have launched one more
            await end(tasks)
        while self._aborted:
            self._report()
