"""Registering tasks, workflows and launch plans."""

from __future__ import annotations

from collections.abc import Mapping

import grpc
from flyteidl.admin import common_pb2, launch_plan_pb2, task_pb2, workflow_pb2
from flyteidl.core import compiler_pb2, identifier_pb2, interface_pb2, tasks_pb2
from google.protobuf.timestamp_pb2 import Timestamp

from flytekitplugins.authagent.sandbox.compiler import compiled
from flytekitplugins.authagent.sandbox.control_plane.catalog import Catalog
from flytekitplugins.authagent.sandbox.control_plane.projects import Projects
from flytekitplugins.authagent.sandbox.control_plane.validation import launch_plans as launch_plan_checks
from flytekitplugins.authagent.sandbox.control_plane.validation import tasks as task_checks
from flytekitplugins.authagent.sandbox.control_plane.validation.fields import check_identifier, check_required
from flytekitplugins.authagent.sandbox.refusal import Refusal, invalid, written
from flytekitplugins.authagent.sandbox.workflow_check import CompileError

ACTIVE = launch_plan_pb2.LaunchPlanState.ACTIVE
INACTIVE = launch_plan_pb2.LaunchPlanState.INACTIVE


class Registrations:
    """Everything that has been registered, kept in memory. Safe to use from any thread."""

    def __init__(self, projects: Projects) -> None:
        self._projects = projects
        self.tasks: Catalog[task_pb2.Task] = Catalog("task", "t")
        self.workflows: Catalog[workflow_pb2.Workflow] = Catalog("workflow", "w")
        self.launch_plans: Catalog[launch_plan_pb2.LaunchPlan] = Catalog("launch plan", "l")

    def task(self, identifier: identifier_pb2.Identifier) -> tasks_pb2.TaskTemplate:
        """The template of a registered task; raises the NOT_FOUND `Refusal`."""
        return self.tasks.get(identifier).closure.compiled_task.template

    def create_task(self, request: task_pb2.TaskCreateRequest) -> None:
        """Register a task; raises `Refusal`."""
        task_checks.check_new(request)
        self._projects.check(request.id.project, request.id.domain)
        template = tasks_pb2.TaskTemplate()
        template.CopyFrom(request.spec.template)
        template.id.CopyFrom(request.id)
        task = compiler_pb2.CompiledTask(template=template)
        closure = task_pb2.TaskClosure(compiled_task=task, created_at=_now())
        self.tasks.add(task_pb2.Task(id=request.id, closure=closure), template)

    def create_workflow(self, request: workflow_pb2.WorkflowCreateRequest) -> None:
        """Compile and register a workflow; raises `Refusal`."""
        check_identifier(request, identifier_pb2.WORKFLOW)
        self._projects.check(request.id.project, request.id.domain)
        check_required(request, [("spec.template", "spec")])
        template = type(request.spec.template)()
        template.CopyFrom(request.spec.template)
        template.id.CopyFrom(request.id)
        try:
            closure = compiled(template, request.spec.sub_workflows, self.task, self.launch_plans.get)
        except (CompileError, Refusal) as error:
            raise invalid(f"failed to compile workflow for [{written(request.id)}] with err: {error}") from None
        workflow = workflow_pb2.WorkflowClosure(compiled_workflow=closure, created_at=_now())
        self.workflows.add(workflow_pb2.Workflow(id=request.id, closure=workflow), closure)

    def create_launch_plan(self, request: launch_plan_pb2.LaunchPlanCreateRequest) -> None:
        """Register a launch plan, inactive; raises `Refusal`."""
        launch_plan_checks.check_new(request)
        self._projects.check(request.id.project, request.id.domain)
        workflow = self.workflows.get(request.spec.workflow_id)
        interface = workflow.closure.compiled_workflow.primary.template.interface
        launch_plan_checks.check_literals(request.spec, interface.inputs.variables)
        expected = expected_inputs(request.spec, interface)
        launch_plan_checks.check_schedule(request.spec, expected)
        closure = launch_plan_pb2.LaunchPlanClosure(
            state=INACTIVE,
            expected_inputs=expected,
            expected_outputs=interface.outputs,
            created_at=_now(),
            updated_at=_now(),
        )
        plan = launch_plan_pb2.LaunchPlan(id=request.id, spec=request.spec, closure=closure)
        self.launch_plans.add(plan, request.spec)

    def set_launch_plan_state(self, request: launch_plan_pb2.LaunchPlanUpdateRequest) -> None:
        """
        Make one version of a launch plan the active one, or no longer; raises `Refusal`.

        A schedule is kept with its launch plan, and never launches anything.
        """
        launch_plan_checks.check_state(request)
        plan = self.launch_plans.get(request.id)
        if request.state == ACTIVE:
            for other in self._versions(request.id):
                if other.closure.state == ACTIVE:
                    self._set_state(other, INACTIVE)
        self._set_state(plan, request.state)

    def active_launch_plan(self, identifier: common_pb2.NamedEntityIdentifier) -> launch_plan_pb2.LaunchPlan:
        """The active version of the launch plan with this project, domain and name; raises `Refusal`."""
        fields = ("project", "domain", "name")
        check_required(identifier, [(field, field) for field in fields])
        for plan in self._versions(identifier):
            if plan.closure.state == ACTIVE:
                return plan
        name = ":".join(getattr(identifier, field) for field in fields)
        raise Refusal(grpc.StatusCode.NOT_FOUND, f"No active launch plan could be found: {name}")

    def _versions(self, identifier: object) -> list[launch_plan_pb2.LaunchPlan]:
        fields = ("project", "domain", "name")
        wanted = {field: getattr(identifier, field) for field in fields}
        return [p for p in self.launch_plans if all(getattr(p.id, f) == value for f, value in wanted.items())]

    def _set_state(self, plan: launch_plan_pb2.LaunchPlan, state: int) -> None:
        changed = launch_plan_pb2.LaunchPlan()
        changed.CopyFrom(plan)
        changed.closure.state = state
        changed.closure.updated_at.CopyFrom(_now())
        self.launch_plans.replace(changed)


def expected_inputs(
    spec: launch_plan_pb2.LaunchPlanSpec, interface: interface_pb2.TypedInterface
) -> interface_pb2.ParameterMap:
    """What must or may be given to a launch plan: the inputs that it does not fix, with its defaults."""
    inputs: Mapping[str, interface_pb2.Variable] = interface.inputs.variables
    defaults, fixed = spec.default_inputs.parameters, spec.fixed_inputs.literals
    expected = interface_pb2.ParameterMap()
    for name, variable in inputs.items():
        if name in defaults:
            expected.parameters[name].CopyFrom(defaults[name])
        elif name not in fixed:
            expected.parameters[name].CopyFrom(interface_pb2.Parameter(var=variable, required=True))
    return expected


def required(interface: interface_pb2.TypedInterface) -> interface_pb2.ParameterMap:
    """What must be given to a task that is launched alone: everything."""
    return expected_inputs(launch_plan_pb2.LaunchPlanSpec(), interface)


def _now() -> Timestamp:
    now = Timestamp()
    now.GetCurrentTime()
    return now
