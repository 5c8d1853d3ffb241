"""Launch plans that flyteadmin does not register, and states that they cannot have."""

from __future__ import annotations

from collections.abc import Mapping

from flyteidl.admin import launch_plan_pb2
from flyteidl.core import identifier_pb2, interface_pb2, literals_pb2, types_pb2

from flytekitplugins.authagent.sandbox.control_plane.validation.cron import check_cron
from flytekitplugins.authagent.sandbox.control_plane.validation.fields import check_identifier, check_required
from flytekitplugins.authagent.sandbox.literal_types import fits, type_of
from flytekitplugins.authagent.sandbox.refusal import invalid, written


def check_new(request: launch_plan_pb2.LaunchPlanCreateRequest) -> None:
    """Refuse a request to register a launch plan that is not complete."""
    check_identifier(request, identifier_pb2.LAUNCH_PLAN)
    check_required(request, [("spec", "spec")])
    check_identifier(request.spec, identifier_pb2.WORKFLOW, "workflow_id")


def check_state(request: launch_plan_pb2.LaunchPlanUpdateRequest) -> None:
    """Refuse an update of a launch plan that is not complete, or to a state that does not exist."""
    check_identifier(request, identifier_pb2.LAUNCH_PLAN)
    if request.state not in launch_plan_pb2.LaunchPlanState.values():
        where = f"launch plan [{written(request.id)}]"
        raise invalid(f"Unrecognized launch plan state {request.state} for update for {where}")


def check_literals(spec: launch_plan_pb2.LaunchPlanSpec, inputs: Mapping[str, interface_pb2.Variable]) -> None:
    """Refuse fixed inputs and defaults that the workflow with these `inputs` does not have, or not of this type."""
    defaults = {
        name: parameter.default if parameter.HasField("default") else None
        for name, parameter in spec.default_inputs.parameters.items()
    }
    for kind, literals in (("default_input", defaults), ("fixed_input", dict(spec.fixed_inputs.literals))):
        for name, literal in literals.items():
            if name not in inputs:
                raise invalid(f"unexpected {kind} {name}")
            if literal is not None and not fits(literal, inputs[name].type):
                raise invalid(f"invalid {kind} wrong type {name}, {_types(inputs[name].type, literal)} instead")


def check_schedule(spec: launch_plan_pb2.LaunchPlanSpec, expected: interface_pb2.ParameterMap) -> None:
    """Refuse a schedule that is none, or that could not give the launch plan all the inputs that are `expected`."""
    schedule = spec.entity_metadata.schedule
    if not schedule.WhichOneof("ScheduleExpression"):
        return
    moment = schedule.kickoff_time_input_arg
    for name, parameter in expected.parameters.items():
        if parameter.required and name != moment:
            reason = f"if there is an unbound required input. [{name}] is required"
            raise invalid(f"Cannot create a launch plan with a schedule {reason}")
    if moment and moment not in expected.parameters:
        raise invalid(f"the schedule gives its time to [{moment}], which is not free or does not exist")
    if moment and expected.parameters[moment].var.type.simple != types_pb2.DATETIME:
        raise invalid(f"the schedule gives its time to [{moment}], which is no datetime")
    if schedule.HasField("cron_schedule"):
        check_cron(schedule.cron_schedule.schedule)


def _types(expected: types_pb2.LiteralType, given: literals_pb2.Literal) -> str:
    found = type_of(given)
    return f"expected {written(expected)}, got {written(found) if found else 'another type'}"
