"""Launching: from a request, or a node, to an execution that runs."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from flyteidl.admin import execution_pb2, launch_plan_pb2
from flyteidl.core import compiler_pb2, identifier_pb2, interface_pb2, literals_pb2, workflow_pb2

from flytekitplugins.authagent.sandbox.compiler import compiled
from flytekitplugins.authagent.sandbox.control_plane.caller import current_caller
from flytekitplugins.authagent.sandbox.control_plane.catalog import check_identifier
from flytekitplugins.authagent.sandbox.control_plane.inputs import checked_inputs
from flytekitplugins.authagent.sandbox.control_plane.projects import Projects
from flytekitplugins.authagent.sandbox.control_plane.registrations import Registrations, required
from flytekitplugins.authagent.sandbox.executor.executor import Executor
from flytekitplugins.authagent.sandbox.executor.offer import not_offered as reason_not_offered
from flytekitplugins.authagent.sandbox.executor.records import ExecutionRecord, NodeRecord, Records, begun
from flytekitplugins.authagent.sandbox.refusal import exists, invalid, missing, not_found, not_offered

LONGEST_NAME = 63

_NAME = re.compile(r"[a-z][a-z\-0-9]*")
_INHERITED = ("labels", "annotations", "security_context", "raw_output_data_config", "envs", "interruptible")
"""What an execution takes from its launch plan where the request does not say it."""


@dataclass(frozen=True)
class _Launchable:
    """What is launched: a workflow, and what must or may be given to it."""

    closure: compiler_pb2.CompiledWorkflowClosure
    expected: interface_pb2.ParameterMap
    spec: launch_plan_pb2.LaunchPlanSpec


class Launches:
    """Makes executions of launch plans, and of tasks alone. Safe to use from any thread."""

    def __init__(self, projects: Projects, registrations: Registrations, records: Records, executor: Executor) -> None:
        self._projects = projects
        self._registrations = registrations
        self._records = records
        self._executor = executor

    def create(self, request: execution_pb2.ExecutionCreateRequest) -> ExecutionRecord:
        """
        Begin the execution that `request` asks for, in the name of the current caller.

        Raises `Refusal`.
        """
        name = self._check(request)
        spec = execution_pb2.ExecutionSpec()
        spec.CopyFrom(request.spec)
        caller = current_caller()
        spec.metadata.principal = caller.subject
        self._inherit(spec.metadata)
        inputs = request.inputs if request.HasField("inputs") else request.spec.inputs
        spec.ClearField("inputs")
        return self._begin((request.project, request.domain, name), spec, inputs, caller.subject)

    def launch(
        self,
        launch_plan: identifier_pb2.Identifier,
        inputs: literals_pb2.LiteralMap,
        execution: ExecutionRecord,
        node: NodeRecord,
    ) -> ExecutionRecord:
        """
        Begin an execution of `launch_plan` as a child of `node` in `execution`, on behalf of the same people.

        Raises `Refusal`.
        """
        parent = execution.message.spec
        spec = execution_pb2.ExecutionSpec(
            launch_plan=launch_plan,
            metadata=execution_pb2.ExecutionMetadata(
                mode=execution_pb2.ExecutionMetadata.CHILD_WORKFLOW,
                principal=parent.metadata.principal,
                nesting=parent.metadata.nesting + 1,
                parent_node_execution=node.message.id,
            ),
            labels=parent.labels,
            annotations=parent.annotations,
            security_context=parent.security_context,
            envs=parent.envs,
            overwrite_cache=parent.overwrite_cache,
        )
        name = (execution.id.project, execution.id.domain, f"f{secrets.token_hex(9)}")
        return self._begin(name, spec, inputs, parent.security_context.run_as.execution_identity)

    def abort(self, child: ExecutionRecord, cause: str) -> None:
        """End the execution of a node that is being ended itself."""
        self._executor.abort(child, cause, child.message.spec.metadata.principal)

    def _begin(
        self,
        name: tuple[str, str, str],
        spec: execution_pb2.ExecutionSpec,
        inputs: literals_pb2.LiteralMap,
        identity: str,
    ) -> ExecutionRecord:
        launchable = self._launchable(spec.launch_plan)
        if reason := reason_not_offered(launchable.closure):
            raise not_offered(reason)
        complete = checked_inputs(inputs, launchable.expected, launchable.spec.fixed_inputs)
        for field in _INHERITED:
            if not spec.HasField(field) and launchable.spec.HasField(field):
                getattr(spec, field).CopyFrom(getattr(launchable.spec, field))
        run_as = spec.security_context.run_as
        run_as.execution_identity = run_as.execution_identity or identity  # what a caller sets is kept
        project, domain, short = name
        execution_id = identifier_pb2.WorkflowExecutionIdentifier(project=project, domain=domain, name=short)
        closure = execution_pb2.ExecutionClosure(workflow_id=launchable.closure.primary.template.id)
        message = begun(execution_pb2.Execution(id=execution_id, spec=spec, closure=closure))
        record = ExecutionRecord(message, launchable.closure, complete)
        if not self._records.add(record):
            raise exists(f'value with matching execution "{short}" already exists')
        self._executor.submit(record)
        return record

    def _check(self, request: execution_pb2.ExecutionCreateRequest) -> str:
        """The name of the execution that `request` asks for; raises `Refusal`."""
        for field in ("project", "domain"):
            if not getattr(request, field):
                raise missing(field)
        if len(request.name) > LONGEST_NAME:
            raise invalid(f"size of name exceeded length {LONGEST_NAME} : {request.name.lower()}")
        if request.name and not _NAME.fullmatch(request.name.lower()):
            raise invalid(f"invalid name format: {request.name.lower()}")
        self._projects.check(request.project, request.domain)
        if not request.HasField("spec"):
            raise missing("spec")
        check_identifier(request.spec.launch_plan)
        return request.name or f"a{secrets.token_hex(9)}"

    def _inherit(self, metadata: execution_pb2.ExecutionMetadata) -> None:
        """
        Take the principal from the parent that the request names, as flyteadmin does.

        So whoever may launch at all can make an execution that looks like somebody else's.
        """
        if not metadata.HasField("parent_node_execution"):
            return
        parent = metadata.parent_node_execution
        source = self._records.find(parent.execution_id)
        if source is None or parent.node_id not in source.nodes:
            raise not_found("node execution", node_id=parent.node_id, execution=parent.execution_id.name)
        metadata.principal = source.message.spec.metadata.principal
        metadata.nesting = source.message.spec.metadata.nesting + 1

    def _launchable(self, identifier: identifier_pb2.Identifier) -> _Launchable:
        if identifier.resource_type == identifier_pb2.TASK:
            return self._lone_task(identifier)
        if identifier.resource_type != identifier_pb2.LAUNCH_PLAN:
            kind = identifier_pb2.ResourceType.Name(identifier.resource_type)
            raise invalid(f"Invalid reference entity resource type [{kind}], only [LAUNCH_PLAN, TASK] allowed")
        plan = self._registrations.launch_plans.get(identifier)
        closure = self._registrations.workflows.get(plan.spec.workflow_id).closure.compiled_workflow
        return _Launchable(closure, plan.closure.expected_inputs, plan.spec)

    def _lone_task(self, identifier: identifier_pb2.Identifier) -> _Launchable:
        """A task that is launched alone becomes a workflow of one node, named after it."""
        task = self._registrations.task(identifier)
        interface = task.interface
        node = workflow_pb2.Node(
            id=_node_name(identifier.name),
            metadata=workflow_pb2.NodeMetadata(name=_node_name(identifier.name), retries=task.metadata.retries),
            inputs=_bindings(interface.inputs.variables, ""),
            task_node=workflow_pb2.TaskNode(reference_id=identifier),
        )
        template = workflow_pb2.WorkflowTemplate(
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
        registered = self._registrations
        closure = compiled(template, [], registered.task, registered.launch_plans.get)
        return _Launchable(closure, required(interface), launch_plan_pb2.LaunchPlanSpec())


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
