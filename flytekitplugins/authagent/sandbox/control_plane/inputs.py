"""The inputs of an execution: what was given, what is the default, and what is fixed."""

from __future__ import annotations

from collections.abc import Mapping

from flyteidl.core import interface_pb2, literals_pb2, types_pb2

from flytekitplugins.authagent.sandbox.refusal import invalid

_PRIMITIVES: Mapping[int, str] = {
    types_pb2.INTEGER: "integer",
    types_pb2.FLOAT: "float_value",
    types_pb2.STRING: "string_value",
    types_pb2.BOOLEAN: "boolean",
    types_pb2.DATETIME: "datetime",
    types_pb2.DURATION: "duration",
}


def checked_inputs(
    given: literals_pb2.LiteralMap, expected: interface_pb2.ParameterMap, fixed: literals_pb2.LiteralMap
) -> literals_pb2.LiteralMap:
    """
    All inputs of an execution that is given `given`.

    Raises `Refusal` for one that is unknown, missing, fixed, or of another type than the plain one expected.
    """
    literals = dict(given.literals)
    for name in literals:
        if name in fixed.literals:
            raise invalid(f"fixed_inputs {name} cannot be overridden")
        if name not in expected.parameters:
            raise invalid(f"invalid input {name}")
    for name, parameter in expected.parameters.items():
        if name not in literals:
            if parameter.WhichOneof("behavior") != "default":
                raise invalid(f"expected_inputs {name} missing")
            literals[name] = parameter.default
        elif not _fits(literals[name], parameter.var.type):
            raise invalid(f"invalid {name} input wrong type")
    return literals_pb2.LiteralMap(literals={**literals, **fixed.literals})


def _fits(literal: literals_pb2.Literal, wanted: types_pb2.LiteralType) -> bool:
    """Whether `literal` can be of the type `wanted`; only plain types and lists are looked at."""
    if wanted.WhichOneof("type") == "collection_type":
        return literal.WhichOneof("value") in ("collection", "offloaded_metadata")
    primitive = _PRIMITIVES.get(wanted.simple) if wanted.WhichOneof("type") == "simple" else None
    if primitive is None or literal.WhichOneof("value") == "offloaded_metadata":
        return True
    return bool(literal.scalar.primitive.WhichOneof("value") == primitive or literal.scalar.HasField("binary"))
