"""Where a node runs: its execution, and what it may refer to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from flyteidl.core import compiler_pb2, identifier_pb2, tasks_pb2, workflow_pb2

from flytekitplugins.authagent.sandbox.compiler import Key, key
from flytekitplugins.authagent.sandbox.executor.failure import user_error
from flytekitplugins.authagent.sandbox.executor.records import ExecutionRecord


@dataclass(frozen=True)
class Scope:
    """The surroundings of a node. `parent` is the id of the node that it runs in, empty at the top."""

    execution: ExecutionRecord
    tasks: Mapping[Key, tasks_pb2.TaskTemplate]
    workflows: Mapping[Key, workflow_pb2.WorkflowTemplate]
    parent: str = ""

    @classmethod
    def of(cls, execution: ExecutionRecord, closure: compiler_pb2.CompiledWorkflowClosure, parent: str = "") -> Scope:
        """The scope of the nodes of `closure`."""
        return cls(
            execution,
            {key(task.template.id): task.template for task in closure.tasks},
            {key(sub.template.id): sub.template for sub in closure.sub_workflows},
            parent,
        )

    def inside(self, parent: str) -> Scope:
        """The scope of the nodes that run in the node `parent`."""
        return replace(self, parent=parent)

    def task(self, identifier: identifier_pb2.Identifier) -> tasks_pb2.TaskTemplate:
        """The template of a task; raises `Failed`."""
        if key(identifier) not in self.tasks:
            raise user_error("BadTaskSpecification", f"task {identifier.name} is not part of the workflow")
        return self.tasks[key(identifier)]

    def workflow(self, identifier: identifier_pb2.Identifier) -> workflow_pb2.WorkflowTemplate:
        """The template of a sub-workflow; raises `Failed`."""
        if key(identifier) not in self.workflows:
            raise user_error("BadSpecification", f"workflow {identifier.name} is not part of the workflow")
        return self.workflows[key(identifier)]
