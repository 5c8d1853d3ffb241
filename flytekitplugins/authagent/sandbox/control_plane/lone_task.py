"""A task that is launched alone: it becomes a workflow of one node, named after it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from flyteidl.core import identifier_pb2, interface_pb2, literals_pb2, tasks_pb2, workflow_pb2


def workflow_of(task: tasks_pb2.TaskTemplate) -> workflow_pb2.WorkflowTemplate:
    """The workflow that flyteadmin makes of `task`."""
    identifier, interface = task.id, task.interface
    node = workflow_pb2.Node(
        id=_node_name(identifier.name),
        metadata=workflow_pb2.NodeMetadata(name=_node_name(identifier.name), retries=task.metadata.retries),
        inputs=_bindings(interface.inputs.variables, ""),
        task_node=workflow_pb2.TaskNode(reference_id=identifier),
    )
    return workflow_pb2.WorkflowTemplate(
        id=identifier_pb2.Identifier(
            resource_type=identifier_pb2.WORKFLOW,
            project=identifier.project,
            domain=identifier.domain,
            name=f".flytegen.{identifier.name}",
            version=identifier.version,
        ),
        interface=interface,
        nodes=[node],
        outputs=_bindings(interface.outputs.variables, node.id),
    )


def _bindings(variables: Mapping[str, interface_pb2.Variable], node: str) -> list[literals_pb2.Binding]:
    """A binding of each of `variables` to the output of that name of `node`, or to the workflow's input."""
    bindings = []
    for name in variables:
        binding = literals_pb2.Binding(var=name)
        binding.binding.promise.node_id = node
        binding.binding.promise.var = name
        bindings.append(binding)
    return bindings


def _node_name(task: str) -> str:
    """The node of a task that is launched alone: the task's name if that is short, else its hash."""
    letters = "".join(letter for letter in task if letter.isascii() and letter.isalnum())
    short = len(letters) <= 20 and letters
    return short or f"f{hashlib.sha256(task.encode()).hexdigest()[:19]}"
