"""What Flyte runs and the sandbox does not."""

from __future__ import annotations

from flyteidl.core import compiler_pb2, workflow_pb2

from flytekitplugins.authagent.sandbox.compiler import all_nodes

OFFER = (
    "The sandbox runs @task, map tasks, @dynamic, eager, sub-workflows, launch plans, conditionals, gates "
    "and failure handlers"
)


def not_offered(closure: compiler_pb2.CompiledWorkflowClosure) -> str:
    """What in `closure` the sandbox does not run, with what it does; empty if it runs all of it."""
    for workflow in (closure.primary, *closure.sub_workflows):
        for node in all_nodes(workflow.template):
            if reason := _reason(node):
                where = f"node {node.id} of {workflow.template.id.name}"
                return f"{where} is {reason}, which the sandbox does not do. {OFFER}"
    return ""


def _reason(node: workflow_pb2.Node) -> str:
    if node.HasField("array_node") and not node.array_node.node.HasField("task_node"):
        return "a map over launch plans"
    return "" if node.WhichOneof("target") else "of a kind that is newer than the sandbox"
