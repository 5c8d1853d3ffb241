"""Whether a workflow can run at all: its nodes, what they wait for, and the types of what goes into them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from flyteidl.core import interface_pb2, literals_pb2, types_pb2, workflow_pb2

from flytekitplugins.authagent.sandbox.literal_types import castable, type_of
from flytekitplugins.authagent.sandbox.refusal import written

START = "start-node"
"""The node that a binding to an input of the workflow names, if it names one."""

END = "end-node"
"""The node whose inputs are the outputs of the workflow, in messages."""

_NODE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")

Types = Mapping[str, types_pb2.LiteralType]
InterfaceOf = Callable[[workflow_pb2.Node], "interface_pb2.TypedInterface | None"]
"""The interface of what a node runs, `None` where nobody can say."""


class CompileError(Exception):
    """A workflow that cannot be run, whoever would try. The message says which node, and why."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a node. `code` is what flyteadmin calls it."""

    code: str
    node: str
    description: str


def check(template: workflow_pb2.WorkflowTemplate, waits: Mapping[str, set[str]], interface_of: InterfaceOf) -> None:
    """
    Raise the `CompileError` that lists all that is wrong with `template`.

    `waits` says for each node at the top which others it waits for.
    """
    problems = [*_names(template), *_order(waits), *_bindings(template, interface_of)]
    if problems:
        lines = [
            f"\tError {number}: Code: {it.code}, Node Id: {it.node}, Description: {it.description}.\n"
            for number, it in enumerate(problems)
        ]
        raise CompileError(f"Collected Errors: {len(problems)}\n{''.join(lines)}")


def cases(if_else: workflow_pb2.IfElseBlock) -> Iterator[workflow_pb2.Node]:
    """The nodes that a branch chooses from."""
    yield if_else.case.then_node
    yield from (case.then_node for case in if_else.other)
    if if_else.HasField("else_node"):
        yield if_else.else_node


def _names(template: workflow_pb2.WorkflowTemplate) -> Iterator[Problem]:
    if not template.nodes:
        name = written(template.id)
        yield Problem("NoNodesFound", name, f"Can't find any nodes in workflow [{name}]")
    seen: set[str] = set()
    for node in template.nodes:
        if not _NODE_ID.fullmatch(node.id):
            yield Problem("ValueRequired", node.id, f"{node.id!r} is no name for a node")
        if node.id in seen:
            yield Problem("DuplicateNodeId", node.id, "there are two of this name")
        seen.add(node.id)


def _order(waits: Mapping[str, set[str]]) -> Iterator[Problem]:
    """Every node waits for nodes that exist, and none for itself, however long the way round."""
    for node, before in waits.items():
        for unknown in sorted(before - waits.keys()):
            yield Problem("NodeReferenceNotFound", node, f"Referenced node [{unknown}] not found")
    left = dict(waits)
    while ready := [node for node, before in left.items() if not before & left.keys()]:
        for node in ready:
            del left[node]
    if left:
        circle = ", ".join(sorted(left))
        yield Problem("CycleDetected", min(left), f"the nodes {circle} wait for each other")


def _bindings(template: workflow_pb2.WorkflowTemplate, interface_of: InterfaceOf) -> Iterator[Problem]:
    nodes = {node.id: node for node in template.nodes}
    outputs: dict[str, Types | None] = {"": _types(template.interface.inputs)}
    outputs[START] = outputs[""]
    for name, node in nodes.items():
        interface = interface_of(node)
        outputs[name] = None if interface is None else _types(interface.outputs)
    for inner in (inner for node in nodes.values() for inner in _alternatives(node)):
        if (interface := interface_of(inner)) is not None:
            yield from _bound(inner.id, inner.inputs, _types(interface.inputs), outputs)
    yield from _bound(END, template.outputs, _types(template.interface.outputs), outputs)


def _alternatives(node: workflow_pb2.Node) -> Iterator[workflow_pb2.Node]:
    """`node`, or those that it chooses from if it is a branch."""
    if not node.HasField("branch_node"):
        yield node
        return
    for inner in cases(node.branch_node.if_else):
        yield from _alternatives(inner)


def _bound(
    node: str, bindings: Iterable[literals_pb2.Binding], wanted: Types, outputs: Mapping[str, Types | None]
) -> Iterator[Problem]:
    """What is wrong with the inputs of `node`: each of `wanted` has one of the `bindings`, of its type."""
    given = {binding.var: binding.binding for binding in bindings}
    for name in sorted(wanted.keys() - given.keys()):
        if not _is_optional(wanted[name]):
            yield Problem("ParameterNotBound", node, f"Parameter not bound [{name}]")
    for name, data in given.items():
        if name not in wanted:
            yield Problem("VariableNameNotFound", node, f"Variable [{name}] not found on node [{node}]")
            continue
        for source, variable in _not_there(data, outputs):
            yield Problem("VariableNameNotFound", node, f"Variable [{variable}] not found on node [{source or START}]")
        found = _type(data, outputs)
        if found is not None and not castable(found, wanted[name]):
            types = f"(type [{written(found)}]) doesn't match expected type [{written(wanted[name])}]"
            yield Problem("MismatchingTypes", node, f"Variable [{name}] {types}")


def _not_there(data: literals_pb2.BindingData, outputs: Mapping[str, Types | None]) -> Iterator[tuple[str, str]]:
    """The outputs that `data` refers to and that their node does not have, as `(node, output)`."""
    if data.HasField("promise"):
        of_node = outputs.get(data.promise.node_id)
        if of_node is not None and data.promise.var not in of_node:
            yield data.promise.node_id, data.promise.var
    for inner in (*data.collection.bindings, *data.map.bindings.values()):
        yield from _not_there(inner, outputs)


def _type(data: literals_pb2.BindingData, outputs: Mapping[str, Types | None]) -> types_pb2.LiteralType | None:
    """The type of what `data` refers to, `None` where nobody can say."""
    kind = data.WhichOneof("value")
    if kind == "promise" and not data.promise.attr_path:
        return (outputs.get(data.promise.node_id) or {}).get(data.promise.var)
    if kind == "scalar":
        return type_of(literals_pb2.Literal(scalar=data.scalar))
    if kind == "collection":
        items = [_type(inner, outputs) for inner in data.collection.bindings]
        return types_pb2.LiteralType(collection_type=next(iter(items), None))
    return None


def _types(variables: interface_pb2.VariableMap) -> Types:
    return {name: variable.type for name, variable in variables.variables.items()}


def _is_optional(wanted: types_pb2.LiteralType) -> bool:
    return any(variant.simple == types_pb2.NONE for variant in wanted.union_type.variants)
