"""Which literal can be of which type, and which type can be given where another is expected."""

from __future__ import annotations

from collections.abc import Iterable

from flyteidl.core import literals_pb2, types_pb2

PRIMITIVES = {
    "integer": types_pb2.INTEGER,
    "float_value": types_pb2.FLOAT,
    "string_value": types_pb2.STRING,
    "boolean": types_pb2.BOOLEAN,
    "datetime": types_pb2.DATETIME,
    "duration": types_pb2.DURATION,
}
"""The simple type of each kind of primitive."""

_CLEAR = frozenset({*PRIMITIVES.values(), types_pb2.NONE, types_pb2.STRUCT})
_DATASET = types_pb2.LiteralType(structured_dataset_type=types_pb2.StructuredDatasetType())


def type_of(literal: literals_pb2.Literal) -> types_pb2.LiteralType | None:
    """The type of `literal`, `None` if it does not say: a value that is encoded, or kept elsewhere, can be of any."""
    if literal.HasField("collection"):
        return types_pb2.LiteralType(collection_type=_first_type(literal.collection.literals))
    if literal.HasField("map"):
        return types_pb2.LiteralType(map_value_type=_first_type(literal.map.literals.values()))
    scalar = literal.scalar
    kind = scalar.WhichOneof("value")
    if kind == "primitive" and (primitive := scalar.primitive.WhichOneof("value")):
        return types_pb2.LiteralType(simple=PRIMITIVES[primitive])
    if kind == "blob":
        return types_pb2.LiteralType(blob=scalar.blob.metadata.type)
    simple = {"none_type": types_pb2.NONE, "generic": types_pb2.STRUCT}.get(kind or "")
    if simple is not None:
        return types_pb2.LiteralType(simple=simple)
    return _DATASET if kind in ("structured_dataset", "schema") else None


def fits(literal: literals_pb2.Literal, wanted: types_pb2.LiteralType) -> bool:
    """Whether `literal` can be of the type `wanted`."""
    kind = wanted.WhichOneof("type")
    if kind == "union_type":
        inner = literal.scalar.union.value if literal.scalar.HasField("union") else literal
        return any(fits(inner, variant) for variant in wanted.union_type.variants)
    if kind == "collection_type" and literal.HasField("collection"):
        return all(fits(item, wanted.collection_type) for item in literal.collection.literals)
    if kind == "map_value_type" and literal.HasField("map"):
        return all(fits(item, wanted.map_value_type) for item in literal.map.literals.values())
    found = type_of(literal)
    return castable(found, wanted) if found else literal.WhichOneof("value") is not None


def castable(given: types_pb2.LiteralType, wanted: types_pb2.LiteralType) -> bool:
    """Whether a value of the type `given` can go where `wanted` is expected; lenient where flyteadmin is subtle."""
    kind, expected = given.WhichOneof("type"), wanted.WhichOneof("type")
    if kind is None or expected is None:
        return True
    if expected == "union_type":
        return any(castable(given, variant) for variant in wanted.union_type.variants)
    if kind == "union_type":
        return any(castable(variant, wanted) for variant in given.union_type.variants)
    if kind == expected == "collection_type":
        return castable(given.collection_type, wanted.collection_type)
    if kind == expected == "map_value_type":
        return castable(given.map_value_type, wanted.map_value_type)
    return _alike(given, wanted)


def _alike(given: types_pb2.LiteralType, wanted: types_pb2.LiteralType) -> bool:
    """Whether two types that hold no other types go together."""
    kinds = {given.WhichOneof("type"), wanted.WhichOneof("type")}
    if kinds == {"simple"}:
        return bool(given.simple == wanted.simple) or not {given.simple, wanted.simple} <= _CLEAR
    if kinds == {"simple", "enum_type"}:
        return types_pb2.STRING in (given.simple, wanted.simple)
    if kinds == {"schema", "structured_dataset_type"}:
        return True
    return len(kinds) == 1 or (given.simple or wanted.simple) not in _CLEAR


def _first_type(literals: Iterable[literals_pb2.Literal]) -> types_pb2.LiteralType | None:
    return next((type_of(literal) for literal in literals), None)
