"""Map tasks: one task, many inputs, and as many of the parts at once as the node allows."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping

from flyteidl.core import literals_pb2, workflow_pb2
from flyteidl.core.execution_pb2 import ExecutionError

from flytekitplugins.authagent.sandbox.executor.ending import end
from flytekitplugins.authagent.sandbox.executor.failure import Failed, user_error

RunPart = Callable[[int, literals_pb2.LiteralMap], Awaitable[literals_pb2.LiteralMap]]
"""Runs the part with that index and these inputs, and says what it put out; raises `Failed`."""

NOTHING = literals_pb2.Literal(scalar=literals_pb2.Scalar(none_type=literals_pb2.Void()))
"""What stands in the output for a part that failed."""


def length(array: workflow_pb2.ArrayNode, inputs: literals_pb2.LiteralMap) -> int:
    """How many parts `array` has: as many as each list in its inputs is long. Raises `Failed`."""
    lengths = {len(literal.collection.literals) for literal in _lists(array, inputs).values()}
    if not lengths:
        raise user_error("InvalidArrayLength", "no input array provided")
    if len(lengths) > 1:
        expected, found, *_ = sorted(lengths)
        message = f"input arrays have different lengths: expecting '{expected}' found '{found}'"
        raise user_error("InvalidArrayLength", message)
    return lengths.pop()


def part(array: workflow_pb2.ArrayNode, inputs: literals_pb2.LiteralMap, index: int) -> literals_pb2.LiteralMap:
    """What that part is given: everything for a map task of flytekit, which picks for itself."""
    if array.data_mode == workflow_pb2.ArrayNode.SINGLE_INPUT_FILE:
        return inputs
    own = {name: literal.collection.literals[index] for name, literal in _lists(array, inputs).items()}
    return literals_pb2.LiteralMap(literals={**inputs.literals, **own})


async def run_parts(
    array: workflow_pb2.ArrayNode, inputs: literals_pb2.LiteralMap, outputs: set[str], run_part: RunPart
) -> literals_pb2.LiteralMap:
    """
    Run all parts of `array`, and gather what they put out into one list for each name in `outputs`.

    Fails as soon as too few parts can still succeed, unless the array is to run them all. Raises `Failed`.
    """
    size = length(array, inputs)
    needed = _needed(array, size)
    at_once = asyncio.Semaphore(array.parallelism or max(size, 1))

    async def run_one(index: int) -> literals_pb2.LiteralMap:
        async with at_once:
            return await run_part(index, part(array, inputs, index))

    tasks = [asyncio.create_task(run_one(index)) for index in range(size)]
    try:
        failures = await _awaited(tasks, size if array.run_all_sub_nodes else size - needed)
    finally:
        await end(tasks)
    if size - len(failures) < needed:
        raise _summary(failures)
    return _gathered(outputs, tasks)


async def _awaited(tasks: list[asyncio.Task[literals_pb2.LiteralMap]], bearable: int) -> dict[int, Failed]:
    """Wait for `tasks`, or until more than `bearable` of them have failed; what failed, by index."""
    failures: dict[int, Failed] = {}
    pending = set(tasks)
    while pending and len(failures) <= bearable:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            error = task.exception()
            if isinstance(error, Failed):
                failures[tasks.index(task)] = error
            elif error is not None:
                raise error
    return failures


def _gathered(outputs: set[str], tasks: list[asyncio.Task[literals_pb2.LiteralMap]]) -> literals_pb2.LiteralMap:
    lists: dict[str, literals_pb2.Literal] = {}
    for name in outputs:
        parts = [NOTHING if task.exception() else task.result().literals.get(name, NOTHING) for task in tasks]
        lists[name] = literals_pb2.Literal(collection=literals_pb2.LiteralCollection(literals=parts))
    return literals_pb2.LiteralMap(literals=lists)


def _summary(failures: Mapping[int, Failed]) -> Failed:
    """The failures together, each with its index, under the code of the first."""
    first = min(failures)
    message = "\n".join(f"[{index}]: {failures[index].error.message}" for index in sorted(failures)[:10])
    error = failures[first].error
    return Failed(ExecutionError(code=error.code, message=message, kind=error.kind))


def _lists(array: workflow_pb2.ArrayNode, inputs: literals_pb2.LiteralMap) -> dict[str, literals_pb2.Literal]:
    """The inputs that are spread over the parts."""
    return {
        name: literal
        for name, literal in inputs.literals.items()
        if literal.HasField("collection") and name not in array.bound_inputs
    }


def _needed(array: workflow_pb2.ArrayNode, size: int) -> int:
    criterion = array.WhichOneof("success_criteria")
    if criterion == "min_successes":
        return min(size, int(array.min_successes))
    # A ratio is a 32-bit float: 0.8 of 5 is a little more than 4, and means 4.
    return math.ceil(size * round(array.min_success_ratio, 6)) if criterion == "min_success_ratio" else size
