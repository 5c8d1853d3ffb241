"""Launching: from a request, or a node, to an execution that runs."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from flyteidl.admin import execution_pb2, launch_plan_pb2
from flyteidl.core import compiler_pb2, identifier_pb2, interface_pb2, literals_pb2

from flytekitplugins.authagent.sandbox.compiler import compiled
from flytekitplugins.authagent.sandbox.control_plane.caller import current_caller
from flytekitplugins.authagent.sandbox.control_plane.inputs import checked_inputs
from flytekitplugins.authagent.sandbox.control_plane.lone_task import workflow_of
from flytekitplugins.authagent.sandbox.control_plane.projects import Projects
from flytekitplugins.authagent.sandbox.control_plane.registrations import Registrations, required
from flytekitplugins.authagent.sandbox.control_plane.validation.executions import check_name, check_new
from flytekitplugins.authagent.sandbox.control_plane.validation.fields import check_execution_id
from flytekitplugins.authagent.sandbox.executor.executor import Executor
from flytekitplugins.authagent.sandbox.executor.offer import not_offered as reason_not_offered
from flytekitplugins.authagent.sandbox.executor.records import ExecutionRecord, NodeRecord, Records, begun
from flytekitplugins.authagent.sandbox.refusal import duplicate, not_found, not_offered

MAX_PARALLELISM = 25
"""How many nodes of a workflow run at once, flyteadmin says where nobody else does. The sandbox has its slots."""

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
        check_new(request)
        self._projects.check(request.project, request.domain)
        spec = execution_pb2.ExecutionSpec()
        spec.CopyFrom(request.spec)
        caller = current_caller()
        spec.metadata.principal = caller.subject
        self._inherit(spec.metadata)
        inputs = request.inputs if request.HasField("inputs") else request.spec.inputs
        spec.ClearField("inputs")
        return self._begin((request.project, request.domain, request.name), spec, inputs, caller.subject)

    def again(
        self, request: execution_pb2.ExecutionRelaunchRequest | execution_pb2.ExecutionRecoverRequest, mode: int
    ) -> ExecutionRecord:
        """
        Begin an execution like the one that `request` names, in the name of the current caller; raises `Refusal`.

        With the `mode` RECOVERED the nodes that succeeded in that one are taken over, and do not run.
        """
        check_execution_id(request)
        check_name(request.name)
        original = self._records.find(request.id)
        if original is None:
            raise not_found("execution", request.id)
        caller = current_caller()
        spec = execution_pb2.ExecutionSpec()
        spec.CopyFrom(original.message.spec)
        metadata = execution_pb2.ExecutionMetadata(mode=mode, principal=caller.subject, reference_execution=original.id)
        spec.metadata.CopyFrom(metadata)
        spec.security_context.run_as.ClearField("execution_identity")
        spec.overwrite_cache = getattr(request, "overwrite_cache", False)
        name = (original.id.project, original.id.domain, request.name)
        recovers = original if mode == execution_pb2.ExecutionMetadata.RECOVERED else None
        return self._begin(name, spec, original.given, caller.subject, recovers)

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
        name = (execution.id.project, execution.id.domain, "")
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
        recovers: ExecutionRecord | None = None,
    ) -> ExecutionRecord:
        launchable = self._launchable(spec.launch_plan)
        if reason := reason_not_offered(launchable.closure):
            raise not_offered(reason)
        complete = checked_inputs(inputs, launchable.expected, launchable.spec.fixed_inputs)
        for field in _INHERITED:
            if not spec.HasField(field) and getattr(launchable.spec, field).ByteSize():
                getattr(spec, field).CopyFrom(getattr(launchable.spec, field))
        run_as = spec.security_context.run_as
        run_as.execution_identity = run_as.execution_identity or identity  # what a caller sets is kept
        if spec.launch_plan.resource_type == identifier_pb2.LAUNCH_PLAN:
            spec.max_parallelism = spec.max_parallelism or launchable.spec.max_parallelism or MAX_PARALLELISM
        project, domain, short = name
        spec.metadata.system_metadata.namespace = f"{project}-{domain}"
        execution_id = identifier_pb2.WorkflowExecutionIdentifier(
            project=project, domain=domain, name=short or f"a{secrets.token_hex(10)[1:]}"
        )
        closure = execution_pb2.ExecutionClosure(workflow_id=launchable.closure.primary.template.id)
        message = begun(execution_pb2.Execution(id=execution_id, spec=spec, closure=closure))
        record = ExecutionRecord(message, launchable.closure, complete, given=inputs, recovers=recovers)
        if not self._records.add(record):
            raise duplicate("executions")
        self._executor.submit(record)
        return record

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
            raise not_found("node execution", parent)
        metadata.principal = source.message.spec.metadata.principal
        metadata.nesting = source.message.spec.metadata.nesting + 1

    def _launchable(self, identifier: identifier_pb2.Identifier) -> _Launchable:
        registered = self._registrations
        if identifier.resource_type == identifier_pb2.TASK:
            template = workflow_of(registered.task(identifier))
            closure = compiled(template, [], registered.task, registered.launch_plans.get)
            return _Launchable(closure, required(template.interface), launch_plan_pb2.LaunchPlanSpec())
        plan = registered.launch_plans.get(identifier)
        closure = registered.workflows.get(plan.spec.workflow_id).closure.compiled_workflow
        return _Launchable(closure, plan.closure.expected_inputs, plan.spec)
