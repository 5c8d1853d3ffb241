"""The workflow that a dynamic task asks for while it runs."""

from __future__ import annotations

from dataclasses import dataclass

from flyteidl.core import compiler_pb2, dynamic_job_pb2, identifier_pb2, tasks_pb2, workflow_pb2

from flytekitplugins.authagent.sandbox.compiler import FindLaunchPlan, FindTask, compiled, key
from flytekitplugins.authagent.sandbox.executor.offer import not_offered
from flytekitplugins.authagent.sandbox.workflow_check import CompileError


@dataclass(frozen=True)
class Find:
    """How to find what is registered; both raise `Refusal`."""

    task: FindTask
    launch_plan: FindLaunchPlan


def closure_of(
    spec: dynamic_job_pb2.DynamicJobSpec, task: tasks_pb2.TaskTemplate, find: Find
) -> compiler_pb2.CompiledWorkflowClosure:
    """
    The closure of what `task` asked for in its futures document.

    Raises `CompileError` where the sandbox cannot run it, and what `find` raises.
    """
    sent = {key(template.id): template for template in spec.tasks}

    def find_task(identifier: identifier_pb2.Identifier) -> tasks_pb2.TaskTemplate:
        return sent.get(key(identifier)) or find.task(identifier)

    template = workflow_pb2.WorkflowTemplate(
        id=identifier_pb2.Identifier(
            resource_type=identifier_pb2.WORKFLOW,
            project=task.id.project,
            domain=task.id.domain,
            name=task.id.name,
            version=task.id.version,
        ),
        interface=task.interface,
        nodes=spec.nodes,
        outputs=spec.outputs,
    )
    closure = compiled(template, spec.subworkflows, find_task, find.launch_plan)
    if reason := not_offered(closure):
        raise CompileError(reason)
    return closure
