"""Which way a conditional goes."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

from flyteidl.core import literals_pb2, workflow_pb2
from flyteidl.core.condition_pb2 import (
    BooleanExpression,
    ComparisonExpression,
    ConjunctionExpression,
    Operand,
)

from flytekitplugins.authagent.sandbox.executor.failure import user_error

_OPERATORS: Mapping[int, Callable[[Any, Any], bool]] = {
    ComparisonExpression.EQ: operator.eq,
    ComparisonExpression.NEQ: operator.ne,
    ComparisonExpression.GT: operator.gt,
    ComparisonExpression.GTE: operator.ge,
    ComparisonExpression.LT: operator.lt,
    ComparisonExpression.LTE: operator.le,
}


def chosen(branch: workflow_pb2.BranchNode, inputs: literals_pb2.LiteralMap) -> workflow_pb2.Node:
    """The node that `branch` runs with these inputs; raises `Failed` where it is told to fail."""
    block = branch.if_else
    for case in (block.case, *block.other):
        if _holds(case.condition, inputs):
            return case.then_node
    if block.HasField("else_node"):
        return block.else_node
    raise user_error("UserProvidedError", block.error.message or "no case of the conditional holds")


def _holds(expression: BooleanExpression, inputs: literals_pb2.LiteralMap) -> bool:
    if expression.HasField("comparison"):
        comparison = expression.comparison
        left, right = _value(comparison.left_value, inputs), _value(comparison.right_value, inputs)
        try:
            return _OPERATORS[comparison.operator](left, right)
        except TypeError:
            raise user_error("MalformedBranch", f"{left!r} and {right!r} cannot be compared") from None
    both = expression.conjunction
    left = _holds(both.left_expression, inputs)
    if both.operator == ConjunctionExpression.AND:
        return left and _holds(both.right_expression, inputs)
    return left or _holds(both.right_expression, inputs)


def _value(operand: Operand, inputs: literals_pb2.LiteralMap) -> Any:
    kind = operand.WhichOneof("val")
    if kind == "var":
        if operand.var not in inputs.literals:
            raise user_error("MalformedBranch", f"the conditional has no input {operand.var}")
        return _plain(inputs.literals[operand.var].scalar)
    return _primitive(operand.primitive) if kind == "primitive" else _plain(operand.scalar)


def _plain(scalar: literals_pb2.Scalar) -> Any:
    if scalar.HasField("union"):
        return _plain(scalar.union.value.scalar)
    if scalar.HasField("binary"):  # an attribute of a dataclass
        import msgpack

        return msgpack.unpackb(scalar.binary.value)
    return _primitive(scalar.primitive) if scalar.HasField("primitive") else None


def _primitive(primitive: literals_pb2.Primitive) -> Any:
    kind = primitive.WhichOneof("value")
    value: Any = getattr(primitive, kind) if kind else None
    return value.ToNanoseconds() if kind in ("datetime", "duration") else value
