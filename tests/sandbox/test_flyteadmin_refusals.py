"""
The answers of a real flyteadmin 1.16.8 to calls that are wrong in one way; the sandbox must give the same ones.

A line is a call, the gRPC code, and words of the message. To hold one more answer, add a line. The tasks, workflows and
launch plans of the fixture `stubs` are registered with the version `v1`, and the execution `ran` has ended.
"""

# ruff: noqa: E501  # an answer is one line

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from flyteidl.admin import (
    common_pb2,
    execution_pb2,
    launch_plan_pb2,
    node_execution_pb2,
    project_pb2,
    schedule_pb2,
    signal_pb2,
    task_execution_pb2,
    task_pb2,
    workflow_pb2,
)
from flyteidl.core import identifier_pb2, interface_pb2
from flyteidl.service import dataproxy_pb2
from google.protobuf.duration_pb2 import Duration
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from running_control_plane import running
from templates import (
    DOMAIN,
    LAUNCH_PLAN,
    PROJECT,
    TASK,
    WORKFLOW,
    ended,
    execution,
    identifier,
    integer,
    interface,
    launch_plan,
    launched,
    literals,
    node,
    register,
    task,
    text,
    workflow,
)

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def stubs(tmp_path_factory):
    with running(tmp_path_factory.mktemp("plane")) as control_plane:
        stubs = control_plane.stubs()
        register(
            stubs,
            task("t", "true", inputs=["n"], outputs=["o"]),
            task("quick", "true"),
            workflow("wf", node("n0", "t", n=("", "n")), inputs=["n"]),
            workflow("quick", node("n0", "quick")),
        )
        stubs.admin.UpdateLaunchPlan(
            launch_plan_pb2.LaunchPlanUpdateRequest(id=identifier(LAUNCH_PLAN, "quick"), state=1)
        )
        ended(stubs, launched(stubs, "quick", LAUNCH_PLAN, name="ran"))
        yield stubs


# Requests, in as few words as a table can have.


def changed(request: Any, **paths: Any) -> Any:
    """`request` with other values: `spec__template__type=""`; `None` clears a field."""
    for path, value in paths.items():
        *steps, last = path.split("__")
        at = request
        for step in steps:
            at = getattr(at, step)
        if value is None:
            at.ClearField(last)
        elif hasattr(value, "ListFields"):
            getattr(at, last).CopyFrom(value)
        else:
            setattr(at, last, value)
    return request


def project(**fields: Any) -> project_pb2.ProjectRegisterRequest:
    of_all = {"id": "new", "name": "New"} | fields
    return project_pb2.ProjectRegisterRequest(project=project_pb2.Project(**of_all))


def labels(**values: str) -> common_pb2.Labels:
    return common_pb2.Labels(values={key.replace("_", " "): value for key, value in values.items()})


def listing(name: str = "", **request: Any) -> common_pb2.ResourceListRequest:
    named = common_pb2.NamedEntityIdentifier(project=PROJECT, domain=DOMAIN, name=name)
    return common_pb2.ResourceListRequest(**({"id": named, "limit": 10} | request))


def ids(**request: Any) -> common_pb2.NamedEntityIdentifierListRequest:
    of_all = {"project": PROJECT, "domain": DOMAIN, "limit": 10} | request
    return common_pb2.NamedEntityIdentifierListRequest(**of_all)


def by(key: str) -> dict[str, Any]:
    return {"sort_by": common_pb2.Sort(key=key)}


def scheduled(cron: str, of: str = "quick", **schedule: Any) -> launch_plan_pb2.LaunchPlanCreateRequest:
    expression = schedule_pb2.Schedule(cron_schedule=schedule_pb2.CronSchedule(schedule=cron), **schedule)
    metadata = launch_plan_pb2.LaunchPlanMetadata(schedule=expression)
    return launch_plan("scheduled", of=of, entity_metadata=metadata)


def at(name: str = "ran") -> identifier_pb2.WorkflowExecutionIdentifier:
    return identifier_pb2.WorkflowExecutionIdentifier(project=PROJECT, domain=DOMAIN, name=name)


def in_node(name: str = "nope", of: str = "ran") -> identifier_pb2.NodeExecutionIdentifier:
    return identifier_pb2.NodeExecutionIdentifier(node_id=name, execution_id=at(of))


def attempt(node_id: str = "nope", of: str = "t") -> identifier_pb2.TaskExecutionIdentifier:
    return identifier_pb2.TaskExecutionIdentifier(task_id=identifier(TASK, of), node_execution_id=in_node(node_id))


def upload(**fields: Any) -> dataproxy_pb2.CreateUploadLocationRequest:
    of_all = {"project": PROJECT, "domain": DOMAIN, "content_md5": b"abc", "filename": "f"} | fields
    return dataproxy_pb2.CreateUploadLocationRequest(**of_all)


def data(url: str) -> dataproxy_pb2.GetDataRequest:
    return dataproxy_pb2.GetDataRequest(flyte_url=url)


CREATE = SimpleNamespace(
    task=lambda **paths: changed(task("new", "true"), **paths),
    workflow=lambda *nodes, **paths: changed(workflow("new", *(nodes or [node("n0", "quick")])), **paths),
    plan=lambda **paths: changed(launch_plan("new", of="wf"), **paths),
    execution=lambda **paths: changed(execution("quick", LAUNCH_PLAN), **paths),
)
ADMIN, DATA, SIGNALS = "admin", "data", "signals"
INVALID, NOT_FOUND, UNKNOWN, OK = "INVALID_ARGUMENT", "NOT_FOUND", "UNKNOWN", "OK"
TOO_LONG = "must be no more than 63 characters"
AN_HOUR_AND_MORE = Duration(seconds=90000)
DEFAULT = interface_pb2.Parameter(default=text("one"))

ANSWERS: list[tuple[str, Any, str, str]] = [
    # projects
    ("ListProjects", project_pb2.ProjectListRequest(token="x"), INVALID, "invalid pagination token x for ListProjects"),
    ("ListProjects", project_pb2.ProjectListRequest(filters="eq(nope,1)"), INVALID, "'p.nope' is invalid filter"),
    ("ListProjects", project_pb2.ProjectListRequest(filters="eq(state,abc)"), UNKNOWN, "for type integer"),
    ("ListProjects", project_pb2.ProjectListRequest(**by("nope")), INVALID, "invalid sort key 'nope'"),
    ("ListProjects", project_pb2.ProjectListRequest(**by("created_at")), OK, ""),
    ("ListProjects", project_pb2.ProjectListRequest(filters="gt(created_at,2020-01-01T00:00:00Z)"), OK, ""),
    ("GetProject", project_pb2.ProjectGetRequest(id=PROJECT), OK, ""),
    ("GetProject", project_pb2.ProjectGetRequest(id="nope"), NOT_FOUND, "project [nope] not found"),
    ("GetProject", project_pb2.ProjectGetRequest(), INVALID, "missing project_id"),
    ("RegisterProject", project_pb2.ProjectRegisterRequest(), INVALID, "missing project"),
    ("RegisterProject", project(id=""), INVALID, "missing project_id"),
    ("RegisterProject", project(name=""), INVALID, "missing project_name"),
    ("RegisterProject", project(id=PROJECT), "ALREADY_EXISTS", "value with matching"),
    ("RegisterProject", project(id="Bad_ID!"), INVALID, "invalid project id [Bad_ID!]: [a lowercase RFC 1123 label"),
    ("RegisterProject", project(id="Upper"), INVALID, "invalid project id [Upper]"),
    ("RegisterProject", project(id="-a"), INVALID, "invalid project id [-a]"),
    ("RegisterProject", project(id="a-"), INVALID, "invalid project id [a-]"),
    ("RegisterProject", project(id="p" * 64), INVALID, TOO_LONG),
    ("RegisterProject", project(id="a.b"), INVALID, "must not contain dots"),
    ("RegisterProject", project(name="n" * 65), INVALID, "project_name cannot exceed 64 characters"),
    ("RegisterProject", project(description="d" * 301), INVALID, "project_description cannot exceed 300 characters"),
    ("RegisterProject", project(domains=[project_pb2.Domain(id="d")]), INVALID, "without domains included"),
    ("RegisterProject", project(labels=labels(a_b="c")), INVALID, "invalid label key [a b]: [name part must consist"),
    ("RegisterProject", project(labels=labels(**{"a" * 64: "c"})), INVALID, TOO_LONG),
    ("RegisterProject", project(labels=labels(a="b c")), INVALID, "invalid label value [b c]"),
    ("UpdateProject", project_pb2.Project(id="nope"), NOT_FOUND, "project [nope] not found"),
    ("UpdateProject", project_pb2.Project(id=PROJECT, name="n" * 65), INVALID, "project_name cannot exceed"),
    ("UpdateProject", project_pb2.Project(id=PROJECT, labels=labels(a_b="c")), INVALID, "invalid label key"),
    # tasks
    ("CreateTask", task_pb2.TaskCreateRequest(), INVALID, "missing id"),
    ("CreateTask", CREATE.task(id__project=""), INVALID, "missing project"),
    ("CreateTask", CREATE.task(id__domain=""), INVALID, "missing domain"),
    ("CreateTask", CREATE.task(id__name=""), INVALID, "missing name"),
    ("CreateTask", CREATE.task(id__version=""), INVALID, "missing version"),
    ("CreateTask", CREATE.task(spec=None), INVALID, "missing spec"),
    ("CreateTask", CREATE.task(spec__template=None), INVALID, "missing spec"),
    ("CreateTask", CREATE.task(spec__template__type=""), INVALID, "missing type"),
    ("CreateTask", CREATE.task(spec__template__metadata=None), INVALID, "missing metadata"),
    ("CreateTask", CREATE.task(spec__template__interface=None), INVALID, "missing typed interface"),
    ("CreateTask", CREATE.task(spec__template__container__image=""), INVALID, "missing image"),
    ("CreateTask", CREATE.task(id__project="nope"), INVALID, "are registered, err: [project [nope] not found]"),
    ("CreateTask", CREATE.task(id__domain="nope"), INVALID, "domain [nope] is unrecognized by system"),
    ("CreateTask", CREATE.task(id__resource_type=WORKFLOW), INVALID, "unexpected resource type workflow for identifier"),
    ("CreateTask", CREATE.task(id__name="n" * 300), OK, ""),
    ("GetTask", common_pb2.ObjectGetRequest(id=identifier(TASK, "nope")), NOT_FOUND, "missing entity of type TASK"),
    ("ListTasks", common_pb2.ResourceListRequest(limit=1), INVALID, "missing id"),
    ("ListTasks", listing(limit=0), INVALID, "invalid value for limit"),
    ("ListTasks", listing(token="a"), INVALID, "invalid pagination token a for ListTasks"),
    ("ListTasks", listing(filters="eq(nope,1)"), INVALID, "'t.nope' is invalid filter"),
    ("ListTasks", listing(filters="eq(task.version,v1)"), OK, ""),
    ("ListTasks", listing(**by("nope")), INVALID, "invalid sort key 'nope'"),
    ("ListTaskIds", ids(project=""), INVALID, "missing project"),
    ("ListTaskIds", ids(limit=0), INVALID, "invalid value for limit"),
    ("ListTaskIds", ids(**by("created_at")), UNKNOWN, "must appear in the GROUP BY clause"),
    ("ListTaskIds", ids(**by("name")), OK, ""),
    # workflows
    ("CreateWorkflow", workflow_pb2.WorkflowCreateRequest(), INVALID, "missing id"),
    ("CreateWorkflow", CREATE.workflow(spec=None), INVALID, "missing spec"),
    ("CreateWorkflow", CREATE.workflow(spec__template=None), INVALID, "missing spec"),
    ("CreateWorkflow", CREATE.workflow(id__resource_type=TASK), INVALID, "unexpected resource type task"),
    ("CreateWorkflow", CREATE.workflow(id__version=""), INVALID, "missing version"),
    ("CreateWorkflow", CREATE.workflow(id__project="nope"), INVALID, "err: [project [nope] not found]"),
    ("CreateWorkflow", CREATE.workflow(node("n0", "nope")), INVALID, "with err: missing entity of type TASK"),
    ("CreateWorkflow", workflow("new"), INVALID, "Code: NoNodesFound"),
    ("CreateWorkflow", CREATE.workflow(node("n0", "t")), INVALID, "Parameter not bound [n]"),
    ("CreateWorkflow", CREATE.workflow(node("n0", "t", n=("", "no"))), INVALID, "Code: VariableNameNotFound"),
    ("CreateWorkflow", CREATE.workflow(node("n0", "t", n=("n1", "o"))), INVALID, "Code: NodeReferenceNotFound"),
    ("CreateWorkflow", CREATE.workflow(node("n0", "t", n=text("one"))), INVALID, "Code: MismatchingTypes"),
    ("CreateWorkflow", CREATE.workflow(node("n0", "quick", n=integer(1))), INVALID, "Variable [n] not found"),
    ("CreateWorkflow", workflow("new", node("n0", "quick"), outputs={"o": ("n0", "no")}), INVALID, "not found on node [n0]"),
    ("CreateWorkflow", CREATE.workflow(spec__template__interface=interface([], ["o"])), INVALID, "Parameter not bound [o]"),
    ("GetWorkflow", common_pb2.ObjectGetRequest(), INVALID, "missing id"),
    ("GetWorkflow", common_pb2.ObjectGetRequest(id=identifier(WORKFLOW, "no")), NOT_FOUND, "of type WORKFLOW"),
    ("ListWorkflows", common_pb2.ResourceListRequest(limit=1), INVALID, "missing id"),
    ("ListWorkflows", listing(filters="eq(nope,1)"), INVALID, "'w.nope' is invalid filter"),
    ("ListWorkflows", listing(**by("nope")), INVALID, "invalid sort key 'nope'"),
    ("ListWorkflows", listing(token="a"), INVALID, "invalid pagination token a for ListWorkflows"),
    ("ListWorkflowIds", ids(**by("created_at")), UNKNOWN, "must appear in the GROUP BY clause"),
    # launch plans
    ("CreateLaunchPlan", launch_plan_pb2.LaunchPlanCreateRequest(), INVALID, "missing id"),
    ("CreateLaunchPlan", CREATE.plan(spec=None), INVALID, "missing spec"),
    ("CreateLaunchPlan", CREATE.plan(spec__workflow_id=None), INVALID, "missing id"),
    ("CreateLaunchPlan", CREATE.plan(id__resource_type=TASK), INVALID, "unexpected resource type task"),
    ("CreateLaunchPlan", launch_plan("new", of="wf", fixed_inputs=literals(n=text("x"))), INVALID, "invalid fixed_input wrong type n"),
    ("CreateLaunchPlan", launch_plan("new", of="wf", fixed_inputs=literals(m=text("x"))), INVALID, "unexpected fixed_input m"),
    ("CreateLaunchPlan", launch_plan("new", of="wf", default_inputs=interface_pb2.ParameterMap(parameters={"n": DEFAULT})), INVALID, "invalid default_input wrong type n"),
    ("CreateLaunchPlan", scheduled("nonsense"), INVALID, "expected exactly 5 fields, found 1: [nonsense]"),
    ("CreateLaunchPlan", scheduled("* * * * * *"), INVALID, "expected exactly 5 fields, found 6"),
    ("CreateLaunchPlan", scheduled("60 * * * *"), INVALID, "Invalid cron expression"),
    ("CreateLaunchPlan", scheduled("* 5-1 * * *"), INVALID, "Invalid cron expression"),
    ("CreateLaunchPlan", scheduled("*/0 * * * *"), INVALID, "Invalid cron expression"),
    ("CreateLaunchPlan", scheduled("@never"), INVALID, "Invalid cron expression"),
    ("CreateLaunchPlan", scheduled("0 0 * * *", of="wf"), INVALID, "[n] is required"),
    ("CreateLaunchPlan", scheduled("0 0 * * *", of="wf", kickoff_time_input_arg="n"), INVALID, "no datetime"),
    ("CreateLaunchPlan", scheduled("*/5 1-5 * jan-mar MON-fri"), OK, ""),
    ("UpdateLaunchPlan", launch_plan_pb2.LaunchPlanUpdateRequest(id=identifier(LAUNCH_PLAN, "scheduled"), state=1), OK, ""),
    ("UpdateLaunchPlan", launch_plan_pb2.LaunchPlanUpdateRequest(id=identifier(LAUNCH_PLAN, "quick"), state=7), INVALID, "Unrecognized launch plan state 7"),
    ("UpdateLaunchPlan", launch_plan_pb2.LaunchPlanUpdateRequest(), INVALID, "missing id"),
    ("GetActiveLaunchPlan", launch_plan_pb2.ActiveLaunchPlanRequest(), INVALID, "missing project"),
    ("GetActiveLaunchPlan", launch_plan_pb2.ActiveLaunchPlanRequest(id=listing("wf").id), NOT_FOUND, "No active launch plan could be found: flytesnacks:development:wf"),
    ("ListLaunchPlans", common_pb2.ResourceListRequest(limit=1), INVALID, "missing id"),
    ("ListLaunchPlans", listing(filters="eq(launchplan.version,v)"), INVALID, "'l.launchplan.version' is invalid filter"),
    ("ListLaunchPlans", listing(filters="eq(nope,v)"), INVALID, "'l.nope' is invalid filter"),
    ("ListLaunchPlans", listing(**by("nope")), INVALID, "invalid sort key 'nope'"),
    ("ListLaunchPlans", listing(token="a"), INVALID, "invalid pagination token a for ListLaunchPlans"),
    ("ListLaunchPlanIds", ids(project="", domain=""), OK, ""),
    ("ListLaunchPlanIds", ids(limit=0), INVALID, "missing and/or invalid parameters: limit"),
    ("ListLaunchPlanIds", ids(**by("created_at")), UNKNOWN, "must appear in the GROUP BY clause"),
    # launching
    ("CreateExecution", execution_pb2.ExecutionCreateRequest(), INVALID, "missing project"),
    ("CreateExecution", CREATE.execution(domain=""), INVALID, "missing domain"),
    ("CreateExecution", CREATE.execution(spec=None), INVALID, "missing spec"),
    ("CreateExecution", CREATE.execution(spec__launch_plan=None), INVALID, "missing id"),
    ("CreateExecution", CREATE.execution(spec__launch_plan__version=""), INVALID, "missing version"),
    ("CreateExecution", CREATE.execution(name="ran"), "ALREADY_EXISTS", "value with matching already exists"),
    ("CreateExecution", CREATE.execution(name="Bad_Name"), INVALID, "invalid name format: bad_name, does not match regex"),
    ("CreateExecution", CREATE.execution(name="1abc"), INVALID, "invalid name format: 1abc"),
    ("CreateExecution", CREATE.execution(name="a.b"), INVALID, "invalid name format: a.b"),
    ("CreateExecution", CREATE.execution(name="-a"), INVALID, "invalid name format: -a"),
    ("CreateExecution", CREATE.execution(name="\u00fc"), INVALID, "invalid name format: \u00fc"),
    ("CreateExecution", CREATE.execution(name="a" * 64), INVALID, "size of name exceeded length 63"),
    ("CreateExecution", CREATE.execution(project="nope"), INVALID, "err: [project [nope] not found]"),
    ("CreateExecution", execution("wf", WORKFLOW), INVALID, "Invalid reference entity resource type [WORKFLOW]"),
    ("CreateExecution", execution("wf", LAUNCH_PLAN), INVALID, "expected_inputs n missing"),
    ("CreateExecution", execution("wf", LAUNCH_PLAN, inputs=literals(n=text("x"))), INVALID, "Expected simple:INTEGER, but got simple:STRING"),
    ("CreateExecution", execution("t", inputs=literals(n=text("x"))), INVALID, "invalid n input wrong type"),
    ("CreateExecution", CREATE.execution(spec__labels=labels(a_b="c")), INVALID, "invalid label key [a b]"),
    ("CreateExecution", CREATE.execution(spec__metadata__parent_node_execution=in_node("n0", "nope")), NOT_FOUND, 'node execution with identifier node_id:"n0" execution_id:{project:'),
    ("RelaunchExecution", execution_pb2.ExecutionRelaunchRequest(), INVALID, "missing id"),
    ("RelaunchExecution", execution_pb2.ExecutionRelaunchRequest(id=at("nope")), NOT_FOUND, "missing entity of type execution"),
    ("RelaunchExecution", execution_pb2.ExecutionRelaunchRequest(id=at(), name="1"), INVALID, "invalid name format"),
    ("RelaunchExecution", execution_pb2.ExecutionRelaunchRequest(id=at()), OK, ""),
    ("RecoverExecution", execution_pb2.ExecutionRecoverRequest(id=at("nope")), NOT_FOUND, "missing entity of type execution"),
    ("RecoverExecution", execution_pb2.ExecutionRecoverRequest(id=at()), OK, ""),
    # executions
    ("GetExecution", execution_pb2.WorkflowExecutionGetRequest(), INVALID, "missing id"),
    ("GetExecutionData", execution_pb2.WorkflowExecutionGetDataRequest(), INVALID, "missing id"),
    ("GetExecutionMetrics", execution_pb2.WorkflowExecutionGetMetricsRequest(id=at(), depth=-1), OK, ""),
    ("TerminateExecution", execution_pb2.ExecutionTerminateRequest(), INVALID, "missing id"),
    ("UpdateExecution", execution_pb2.ExecutionUpdateRequest(id=at(), state=1), OK, ""),
    ("UpdateExecution", execution_pb2.ExecutionUpdateRequest(id=at("nope")), NOT_FOUND, "missing entity of type execution"),
    ("ListExecutions", common_pb2.ResourceListRequest(limit=1), INVALID, "missing id"),
    ("ListExecutions", listing(token="a"), INVALID, "invalid pagination token a for ListExecutions"),
    ("ListExecutions", listing(filters="eq(nope,1)"), INVALID, "'e.nope' is invalid filter"),
    ("ListExecutions", listing(filters="eq(name,x)"), INVALID, "'e.name' is invalid filter"),
    ("ListExecutions", listing(filters="gt(execution_created_at,2020-01-01T00:00:00Z)"), OK, ""),
    ("ListExecutions", listing(filters="gt(created_at,yesterday)"), OK, ""),
    ("ListExecutions", listing(filters="eq(parent_node_execution_id,1)"), OK, ""),
    ("ListExecutions", listing(filters="eq(error_kind,USER)"), OK, ""),
    ("ListExecutions", listing(**by("nope")), INVALID, "invalid sort key 'nope'"),
    ("ListExecutions", listing(**by("name")), INVALID, "invalid sort key 'name'"),
    ("ListExecutions", listing(**by("task.name")), INVALID, "invalid sort key 'task.name'"),
    ("ListExecutions", listing(**by("execution_created_at")), OK, ""),
    ("ListExecutions", listing(**by("cluster")), OK, ""),
    # nodes and their attempts
    ("ListNodeExecutions", node_execution_pb2.NodeExecutionListRequest(limit=1), INVALID, "missing execution_id"),
    ("ListNodeExecutions", node_execution_pb2.NodeExecutionListRequest(workflow_execution_id=at("nope"), limit=1), OK, ""),
    ("ListNodeExecutions", node_execution_pb2.NodeExecutionListRequest(workflow_execution_id=at(), limit=1, unique_parent_id="nope"), NOT_FOUND, "missing entity of type node execution"),
    ("GetNodeExecution", node_execution_pb2.NodeExecutionGetRequest(), NOT_FOUND, "identifier execution_id:{}"),
    ("GetNodeExecution", node_execution_pb2.NodeExecutionGetRequest(id=in_node()), NOT_FOUND, 'node_id:"nope" execution_id:{'),
    ("GetNodeExecution", node_execution_pb2.NodeExecutionGetRequest(id=in_node("n0", "nope")), NOT_FOUND, "type node execution"),
    ("GetNodeExecutionData", node_execution_pb2.NodeExecutionGetDataRequest(id=in_node()), NOT_FOUND, "type node execution"),
    ("GetDynamicNodeWorkflow", node_execution_pb2.GetDynamicNodeWorkflowRequest(id=in_node()), NOT_FOUND, "type node execution"),
    ("ListTaskExecutions", task_execution_pb2.TaskExecutionListRequest(node_execution_id=in_node(), limit=1), OK, ""),
    ("ListTaskExecutions", task_execution_pb2.TaskExecutionListRequest(node_execution_id=in_node()), INVALID, "invalid value for limit"),
    ("GetTaskExecution", task_execution_pb2.TaskExecutionGetRequest(), INVALID, "missing id"),
    ("GetTaskExecution", task_execution_pb2.TaskExecutionGetRequest(id=attempt()), NOT_FOUND, "type task execution with identifier task_id:{"),
    ("GetTaskExecution", task_execution_pb2.TaskExecutionGetRequest(id=attempt("n0", "t")), NOT_FOUND, "type task execution"),
    ("GetTaskExecutionData", task_execution_pb2.TaskExecutionGetDataRequest(id=attempt()), NOT_FOUND, "type task execution"),
    ("ListNodeExecutionsForTask", node_execution_pb2.NodeExecutionForTaskListRequest(task_execution_id=attempt(), limit=1), NOT_FOUND, "type task execution"),
    # files and values
    ("CreateUploadLocation", upload(), OK, ""),
    ("CreateUploadLocation", upload(filename="a/b"), OK, ""),
    ("CreateUploadLocation", upload(filename_root="a/b"), OK, ""),
    ("CreateUploadLocation", upload(org="o"), OK, ""),
    ("CreateUploadLocation", upload(expires_in=AN_HOUR_AND_MORE), INVALID, "expiresIn [25h0m0s] cannot exceed max allowed expiration [1h0m0s]"),
    ("CreateDownloadLocation", dataproxy_pb2.CreateDownloadLocationRequest(), "INTERNAL", "failed to create a signed url"),
    ("CreateDownloadLocation", dataproxy_pb2.CreateDownloadLocationRequest(native_url="nonsense"), "INTERNAL", "failed to create a signed url"),
    ("CreateDownloadLocation", dataproxy_pb2.CreateDownloadLocationRequest(native_url="/x", expires_in=AN_HOUR_AND_MORE), INVALID, "[25h0m0s] cannot exceed"),
    ("CreateDownloadLink", dataproxy_pb2.CreateDownloadLinkRequest(), INVALID, "invalid artifact type [ARTIFACT_TYPE_UNDEFINED]"),
    ("CreateDownloadLink", dataproxy_pb2.CreateDownloadLinkRequest(artifact_type=1, node_execution_id=in_node()), INVALID, "failed to find node execution"),
    ("GetData", data(""), INVALID, "source is required"),
    ("GetData", data("http://x"), INVALID, "request does not start with the correct prefix"),
    ("GetData", data("flyte://v1/a"), INVALID, "failed to parse [flyte://v1/a]"),
    ("GetData", data("flyte://v2/flytesnacks/development/nope/n0/i"), INVALID, "failed to parse artifact url"),
    ("GetData", data("flyte://v1/flytesnacks/development/nope/n0/i"), NOT_FOUND, "type node execution"),
    ("GetData", data("flyte://v1/flytesnacks/development/nope/n0/o/o0"), NOT_FOUND, "type node execution"),
    ("GetData", data("flyte://v1/flytesnacks/development/nope/n0/0/d"), INVALID, "no task executions were listed"),
    # signals
    ("ListSignals", signal_pb2.SignalListRequest(), INVALID, "missing execution_id"),
    ("ListSignals", signal_pb2.SignalListRequest(workflow_execution_id=at(), limit=1), OK, ""),
    ("SetSignal", signal_pb2.SignalSetRequest(id=identifier_pb2.SignalIdentifier(signal_id="s", execution_id=at())), INVALID, "missing value"),
    ("SetSignal", signal_pb2.SignalSetRequest(id=identifier_pb2.SignalIdentifier(signal_id="s", execution_id=at()), value=integer(1)), NOT_FOUND, "type signal"),
    ("GetOrCreateSignal", signal_pb2.SignalGetOrCreateRequest(), INVALID, "missing id"),
]  # fmt: skip


def service(stubs, method: str) -> Any:
    for name in (ADMIN, DATA, SIGNALS):
        calls = getattr(stubs, name)
        try:
            return getattr(calls, method)
        except AttributeError:
            continue
    raise AssertionError(method)


def answer(call: Any, request: Any) -> tuple[str, str]:
    try:
        call(request)
    except grpc.RpcError as error:
        return error.code().name, error.details()
    return OK, ""


@pytest.mark.parametrize(
    ("method", "request_", "code", "words"),
    ANSWERS,
    ids=[f"{number}-{method}-{code}" for number, (method, _, code, _) in enumerate(ANSWERS)],
)
def test_the_sandbox_answers_as_flyteadmin_does(stubs, method, request_, code, words):
    found, message = answer(service(stubs, method), request_)

    assert (found, words in message) == (code, True), message


COMPLETE = {
    "CreateTask": (CREATE.task, ("id", "spec", "spec.template", "spec.template.type", "spec.template.metadata",
                                 "spec.template.interface", "spec.template.container.image")),
    "CreateWorkflow": (CREATE.workflow, ("id", "spec", "spec.template", "spec.template.nodes")),
    "CreateLaunchPlan": (CREATE.plan, ("id", "spec", "spec.workflow_id")),
    "CreateExecution": (CREATE.execution, ("project", "domain", "spec", "spec.launch_plan", "spec.launch_plan.name")),
    "RegisterProject": (project, ("project", "project.id", "project.name")),
}  # fmt: skip
"""Requests that would be accepted, and the fields that they need."""


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data_=st.data())
def test_without_a_field_that_it_needs_no_request_is_accepted(stubs, data_):
    method = data_.draw(st.sampled_from(sorted(COMPLETE)))
    make, fields = COMPLETE[method]
    missing = data_.draw(st.sets(st.sampled_from(fields), min_size=1))
    request = make()
    for path in missing:
        *steps, last = path.split(".")
        parent = request
        for step in steps:
            parent = getattr(parent, step)
        parent.ClearField(last)

    assert answer(service(stubs, method), request)[0] == INVALID
