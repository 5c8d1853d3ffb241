"""Runs the task of a node, again where that may help."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

from flyteidl.core import dynamic_job_pb2, literals_pb2, tasks_pb2, workflow_pb2

from flytekitplugins.authagent.sandbox.executor.attempt import Place, result, run
from flytekitplugins.authagent.sandbox.executor.command import Command, command, runs_here
from flytekitplugins.authagent.sandbox.executor.failure import Failed, user_error
from flytekitplugins.authagent.sandbox.executor.records import ExecutionRecord, NodeRecord, TaskRecord
from flytekitplugins.authagent.sandbox.executor.scope import Scope
from flytekitplugins.authagent.sandbox.executor.slots import Slots
from flytekitplugins.authagent.sandbox.executor.task_environment import Attempted, environment

SYSTEM_FAILURES = 3
"""With how many failures that are not the task's own fault a node fails: propeller's default."""

LONGEST = 24 * 3600.0
"""Seconds after which an attempt is ended whose task sets no timeout."""

EAGER_CLEAN_UP = "eager_failure_handler_task"
"""The type of flytekit's task that aborts the children of an eager workflow which has failed."""

Outcome: TypeAlias = literals_pb2.LiteralMap | dynamic_job_pb2.DynamicJobSpec


@dataclass(frozen=True)
class Work:
    """A task to be done: for a whole node, or for the part of a map task that has `array_index`."""

    template: tasks_pb2.TaskTemplate
    inputs: literals_pb2.LiteralMap
    retries: int
    timeout: float
    array_index: int | None = None

    @classmethod
    def of(
        cls,
        node: workflow_pb2.Node,
        template: tasks_pb2.TaskTemplate,
        inputs: literals_pb2.LiteralMap,
        array_index: int | None = None,
    ) -> Work:
        """What `node` wants done: what it says of retries and time outweighs what its task says."""
        retries = node.metadata.retries.retries or template.metadata.retries.retries
        timeout = node.metadata.timeout if node.metadata.HasField("timeout") else template.metadata.timeout
        return cls(template, inputs, retries, timeout.ToNanoseconds() / 1e9 or LONGEST, array_index)


class Pods(Protocol):
    """Whoever takes note of the attempts that run, as Kubernetes does of pods."""

    def running(
        self, execution: ExecutionRecord, node: str, directory: Path
    ) -> AbstractAsyncContextManager[Mapping[str, str]]:
        """
        An attempt of `execution` that runs in `directory` while this is open; what its environment has more.

        `node` is for people: it says which one it is.
        """


class Tasks:
    """Runs tasks as subprocesses. Belongs to one event loop."""

    def __init__(
        self,
        directory: Path,
        *,
        slots: Slots,
        default_environment: Mapping[str, str],
        url: Callable[[ExecutionRecord], str],
        pods: Pods | None = None,
    ) -> None:
        self._directory = directory
        self._slots = slots
        self._default_environment = default_environment
        self._url = url
        self._pods = pods

    async def run(self, work: Work, node: NodeRecord, scope: Scope) -> Outcome:
        """
        Attempt `work` for `node` until it is done, or no attempt is left.

        As with propeller a failure that is not the task's fault does not use up a retry. Raises `Failed`.
        """
        if not runs_here(work.template):
            raise user_error(
                "BadTaskSpecification",
                f"task {work.template.id.name} of type {work.template.type!r} needs an image or a connector; "
                f"the sandbox runs tasks whose command is on this machine, such as those of @task",
            )
        failures = {"user": 0, "system": 0}
        places: list[Place] = []  # of the attempts so far
        while True:
            try:
                return await self._attempt(work, node, scope, places)
            except Failed as failed:
                kind = "system" if failed.is_system else "user"
                failures[kind] += 1
                left = SYSTEM_FAILURES - 1 if failed.is_system else work.retries
                if not failed.recoverable or failures[kind] > left:
                    raise

    async def _attempt(self, work: Work, node: NodeRecord, scope: Scope, places: list[Place]) -> Outcome:
        task = node.attempt(work.template.id, work.template.type)
        async with recorded(task), self._slot(work.template):
            task.move("RUNNING")
            node.move("RUNNING")
            place = await asyncio.to_thread(self._place, work, node, task, scope)
            to_run = self._command(work, scope, place, places)
            places.append(place)
            async with self._pod(_named(work, node, task), scope, place) as of_pod:
                variables = {**self._environment(work, task, scope, place, to_run), **of_pod}
                status = await run(to_run.argv, variables, place, work.timeout)
            node.add(deck_uri=place.deck)
            outcome = result(place, status, outputs_expected=bool(work.template.interface.outputs.variables))
            if isinstance(outcome, literals_pb2.LiteralMap):
                task.outputs = outcome
            return outcome

    def _place(self, work: Work, node: NodeRecord, task: TaskRecord, scope: Scope) -> Place:
        """The directory of an attempt, with its inputs in it."""
        place = Place.inside(self._directory / scope.execution.id.name, _named(work, node, task))
        place.inputs.write_bytes(work.inputs.SerializeToString())
        return place

    def _pod(self, name: str, scope: Scope, place: Place) -> AbstractAsyncContextManager[Mapping[str, str]]:
        """The pod of an attempt, and what it adds to the environment, if there are pods."""
        nothing: Mapping[str, str] = {}
        if self._pods is None:
            return contextlib.nullcontext(nothing)
        return self._pods.running(scope.execution, name, place.root)

    def _command(self, work: Work, scope: Scope, place: Place, before: list[Place]) -> Command:
        """What to run in `place`, after the attempts in the places `before`."""
        # Files and the like go where the execution wants them, else beside the other outputs.
        prefix = scope.execution.message.spec.raw_output_data_config.output_location_prefix.rstrip("/")
        raw = f"{prefix}/{place.root.name}" if prefix else str(place.raw)
        return command(
            work.template,
            {
                "input": str(place.inputs),
                "outputprefix": str(place.outputs),
                "rawoutputdataprefix": raw,
                "checkpointoutputprefix": str(place.checkpoint),
                "prevcheckpointprefix": str(before[-1].checkpoint) if before else "",
            },
            work.inputs,
        )

    def _environment(self, work: Work, task: TaskRecord, scope: Scope, place: Place, to_run: Command) -> dict[str, str]:
        message = scope.execution.message
        attempted = Attempted(
            execution=message.id,
            workflow=message.closure.workflow_id,
            launch_plan=message.spec.launch_plan,
            task=work.template.id,
            number=task.message.id.retry_attempt,
            url=self._url(scope.execution),
            array_index=work.array_index,
        )
        return environment(
            attempted,
            place.root,
            template=to_run.environment,
            execution={pair.key: pair.value for pair in message.spec.envs.values},
            default=self._default_environment,
        )

    @contextlib.asynccontextmanager
    async def _slot(self, template: tasks_pb2.TaskTemplate) -> AsyncIterator[None]:
        """
        A place among the attempts that run at once.

        A parent that waits for its children needs none, nor does the task that ends them when it fails: they
        may hold all there are.
        """
        if template.metadata.is_eager or template.type == EAGER_CLEAN_UP:
            yield
        else:
            async with self._slots.taken():
                yield


def _named(work: Work, node: NodeRecord, task: TaskRecord) -> str:
    """What people call an attempt."""
    part = "" if work.array_index is None else f"-{work.array_index}"
    return f"{node.id}{part}-{task.message.id.retry_attempt}"


@contextlib.asynccontextmanager
async def recorded(task: TaskRecord) -> AsyncIterator[None]:
    """While this is open `task` is being done; how this is left is how it ends."""
    try:
        yield
    except asyncio.CancelledError:
        task.move("ABORTED")
        raise
    except Exception as error:
        task.move("FAILED", error=error.error if isinstance(error, Failed) else None)
        raise
    task.move("SUCCEEDED")
