"""The inputs of an execution: what was given, what is the default, and what is fixed."""

from __future__ import annotations

from flyteidl.core import interface_pb2, literals_pb2

from flytekitplugins.authagent.sandbox.literal_types import fits, type_of
from flytekitplugins.authagent.sandbox.refusal import invalid, written


def checked_inputs(
    given: literals_pb2.LiteralMap, expected: interface_pb2.ParameterMap, fixed: literals_pb2.LiteralMap
) -> literals_pb2.LiteralMap:
    """
    All inputs of an execution that is given `given`.

    Raises `Refusal` for one that is unknown, missing, fixed, or of another type than expected.
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
        elif not fits(literals[name], parameter.var.type):
            found = type_of(literals[name])
            expected = written(parameter.var.type)
            given = written(found) if found else "another type"
            raise invalid(f"invalid {name} input wrong type. Expected {expected}, but got {given}")
    return literals_pb2.LiteralMap(literals={**literals, **fixed.literals})
