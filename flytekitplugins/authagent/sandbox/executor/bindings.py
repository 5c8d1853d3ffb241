"""Where the inputs of a node come from: constants, inputs of the workflow, and outputs of other nodes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from flyteidl.core import literals_pb2
from google.protobuf import struct_pb2
from google.protobuf.json_format import MessageToDict

from flytekitplugins.authagent.sandbox.executor.failure import user_error
from flytekitplugins.authagent.sandbox.workflow_check import START

Results = Mapping[str, literals_pb2.LiteralMap]
"""What each finished node put out, by its id; what the workflow was given, under the empty one."""

MSGPACK = "msgpack"


def bound(bindings: Iterable[literals_pb2.Binding], results: Results) -> literals_pb2.LiteralMap:
    """The literals that `bindings` stand for; raises `Failed` where one cannot be had."""
    literals = {binding.var: _literal(binding.binding, results) for binding in bindings}
    return literals_pb2.LiteralMap(literals=literals)


def _literal(binding: literals_pb2.BindingData, results: Results) -> literals_pb2.Literal:
    kind = binding.WhichOneof("value")
    if kind == "promise":
        return _promised(binding.promise, results)
    if kind == "collection":
        literals = [_literal(inner, results) for inner in binding.collection.bindings]
        return literals_pb2.Literal(collection=literals_pb2.LiteralCollection(literals=literals))
    if kind == "map":
        entries = {name: _literal(inner, results) for name, inner in binding.map.bindings.items()}
        return literals_pb2.Literal(map=literals_pb2.LiteralMap(literals=entries))
    if kind == "scalar":
        return literals_pb2.Literal(scalar=binding.scalar)
    raise user_error("BadBinding", f"the sandbox cannot resolve a binding of kind {kind}")


def _promised(promise: Any, results: Results) -> literals_pb2.Literal:
    node = "" if promise.node_id == START else promise.node_id
    outputs = results.get(node, literals_pb2.LiteralMap()).literals
    if promise.var not in outputs:
        raise user_error("OutputsNotFound", f"{node or 'the workflow'} has no value named {promise.var}")
    literal = outputs[promise.var]
    for index, step in enumerate(promise.attr_path):
        if literal.scalar.HasField("union"):
            literal = literal.scalar.union.value
        kind = literal.WhichOneof("value")
        if kind == "scalar":  # a dataclass or a dict: the rest of the path leads through plain values
            return _attribute(literal.scalar, [_step(rest) for rest in promise.attr_path[index:]])
        try:
            inside = literal.collection.literals if kind == "collection" else literal.map.literals
            literal = inside[_step(step)]
        except (IndexError, KeyError, TypeError, ValueError):
            raise _no_such_attribute(_step(step)) from None
    return literal


def _attribute(scalar: literals_pb2.Scalar, path: list[Any]) -> literals_pb2.Literal:
    """The value at `path` inside a dataclass, in the encoding that the dataclass has."""
    import msgpack

    packed = scalar.HasField("binary")
    if packed and scalar.binary.tag != MSGPACK:
        raise user_error("BadBinding", f"the sandbox reads attributes of msgpack only, not of {scalar.binary.tag!r}")
    value = msgpack.unpackb(scalar.binary.value, strict_map_key=False) if packed else MessageToDict(scalar.generic)
    for step in path:
        try:
            value = value[step]
        except (IndexError, KeyError, TypeError):
            raise _no_such_attribute(step) from None
    if packed:
        binary = literals_pb2.Binary(value=msgpack.packb(value), tag=MSGPACK)
        return literals_pb2.Literal(scalar=literals_pb2.Scalar(binary=binary))
    return _plain(value)


def _plain(value: Any) -> literals_pb2.Literal:
    """A literal of a value that came out of JSON."""
    if isinstance(value, list):
        collection = literals_pb2.LiteralCollection(literals=[_plain(inner) for inner in value])
        return literals_pb2.Literal(collection=collection)
    if isinstance(value, dict):
        struct = struct_pb2.Struct()
        struct.update(json.loads(json.dumps(value)))
        return literals_pb2.Literal(scalar=literals_pb2.Scalar(generic=struct))
    if value is None:
        return literals_pb2.Literal(scalar=literals_pb2.Scalar(none_type=literals_pb2.Void()))
    if isinstance(value, bool):
        primitive = literals_pb2.Primitive(boolean=value)
    elif isinstance(value, str):
        primitive = literals_pb2.Primitive(string_value=value)
    else:
        primitive = literals_pb2.Primitive(float_value=value)
    return literals_pb2.Literal(scalar=literals_pb2.Scalar(primitive=primitive))


def _step(step: Any) -> Any:
    return step.string_value if step.WhichOneof("value") == "string_value" else step.int_value


def _no_such_attribute(step: Any) -> Exception:
    return user_error("PromiseAttributeResolveError", f"there is no attribute {step!r} in the value")
