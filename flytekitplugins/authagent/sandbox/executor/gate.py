"""Gates: nodes that wait for some time, for a value, or for somebody to approve."""

from __future__ import annotations

import asyncio

from flyteidl.core import literals_pb2, types_pb2, workflow_pb2

from flytekitplugins.authagent.sandbox.executor.failure import user_error
from flytekitplugins.authagent.sandbox.executor.records import ExecutionRecord


async def run_gate(
    node: workflow_pb2.Node, inputs: literals_pb2.LiteralMap, execution: ExecutionRecord
) -> literals_pb2.LiteralMap:
    """
    Wait for what `node` waits for: the value that it puts out, or its `inputs` once they are approved.

    Raises `Failed` where it is not approved, or nobody says anything within the node's timeout.
    """
    gate = node.gate_node
    if gate.HasField("sleep"):
        await asyncio.sleep(gate.sleep.duration.ToNanoseconds() / 1e9)
        return literals_pb2.LiteralMap()
    if gate.HasField("signal"):
        value = await _value(node, gate.signal.signal_id, gate.signal.type, execution)
        return literals_pb2.LiteralMap(literals={gate.signal.output_variable_name: value})
    wanted = types_pb2.LiteralType(simple=types_pb2.BOOLEAN)
    approval = await _value(node, gate.approve.signal_id, wanted, execution)
    if not approval.scalar.primitive.boolean:
        raise user_error("UserRejected", f"{gate.approve.signal_id} was not approved")
    return inputs


async def _value(
    node: workflow_pb2.Node, name: str, wanted: types_pb2.LiteralType, execution: ExecutionRecord
) -> literals_pb2.Literal:
    """What somebody sets the signal `name` of `execution` to."""
    signal = execution.signal(name, wanted)
    seconds = node.metadata.timeout.ToNanoseconds() / 1e9
    try:
        await asyncio.wait_for(signal.arrived.wait(), seconds or None)
    except asyncio.TimeoutError:
        raise user_error("TimeoutExpired", f"nobody set the signal {name} within {seconds:g} s") from None
    return signal.message.value
