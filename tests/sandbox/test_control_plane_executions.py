"""Launching, looking at and listing executions, and whose they are."""

from __future__ import annotations

import json
import time

import grpc
import pytest
from flyteidl.admin import common_pb2, execution_pb2
from flyteidl.admin import node_execution_pb2 as nodes
from flyteidl.admin import task_execution_pb2 as tasks
from flyteidl.core import identifier_pb2, interface_pb2, security_pb2
from flyteidl.core import workflow_pb2 as core
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
    phase,
    ran,
    register,
    task,
    text,
    workflow,
)

from flytekitplugins.authagent.sandbox.posture import Posture

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def plane(tmp_path_factory):
    """A control plane in which `quick` ends at once, `slow` does not, and `w` and its plans do little."""
    with running(tmp_path_factory.mktemp("plane"), Posture(issuer="external"), slots=4) as control_plane:
        stubs = control_plane.stubs(control_plane.issuer.token(sub="setup"))
        register(
            stubs,
            task("quick", "true"),
            task("slow", "sleep", "60"),
            task("counted", "true", inputs=["n"]),
            workflow("w", node("n0", "counted", n=("", "n")), inputs=["n"]),
        )
        whole = interface("n").inputs.variables["n"]
        default = interface_pb2.ParameterMap(parameters={"n": interface_pb2.Parameter(var=whole, default=integer(5))})
        register(
            stubs,
            launch_plan("by default", of="w", default_inputs=default),
            launch_plan("fixed", of="w", fixed_inputs=literals(n=integer(7))),
        )
        yield control_plane


@pytest.fixture
def stubs(plane):
    return plane.stubs(plane.issuer.token(sub="alice", client_id="cli"))


def refusal(call, *request) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(*request)
    return caught.value.code().name, caught.value.details()


def data(stubs, execution_id):
    return stubs.admin.GetExecutionData(execution_pb2.WorkflowExecutionGetDataRequest(id=execution_id))


def listed(stubs, filters: str = "", limit: int = 100, **request):
    named = common_pb2.NamedEntityIdentifier(project=PROJECT, domain=DOMAIN)
    return stubs.admin.ListExecutions(common_pb2.ResourceListRequest(id=named, limit=limit, filters=filters, **request))


def names(executions) -> list[str]:
    return [found.id.name for found in executions.executions]


# whose an execution is


def test_the_caller_becomes_the_principal_and_the_execution_identity(stubs):
    request = execution("quick")
    request.spec.metadata.principal = "placeholder"

    spec = ended(stubs, stubs.admin.CreateExecution(request).id).spec

    assert spec.metadata.principal == "alice"
    assert spec.security_context.run_as.execution_identity == "alice"


def test_an_execution_identity_that_the_caller_sets_is_kept(stubs):
    run_as = security_pb2.Identity(execution_identity="mallory", k8s_service_account="default")

    spec = ran(stubs, "quick", security_context=security_pb2.SecurityContext(run_as=run_as)).spec

    assert spec.metadata.principal == "alice"
    assert spec.security_context.run_as.execution_identity == "mallory"
    assert spec.security_context.run_as.k8s_service_account == "default"


def test_client_credentials_of_flyteadmins_own_server_leave_both_empty(tmp_path):
    with running(tmp_path, Posture(issuer="internal")) as control_plane:
        stubs = control_plane.stubs()
        register(stubs, task("quick", "true"))

        spec = ran(stubs, "quick").spec

        assert (spec.metadata.principal, spec.security_context.run_as.execution_identity) == ("", "")


def test_a_parent_that_the_caller_names_gives_its_principal_but_not_its_identity(plane, stubs):
    parent = ran(stubs, "quick")
    of_parent = nodes.NodeExecutionListRequest(workflow_execution_id=parent.id, limit=1)
    node_id = stubs.admin.ListNodeExecutions(of_parent).node_executions[0].id.node_id
    mallory = plane.stubs(plane.issuer.token(sub="mallory", client_id="cli"))
    named = identifier_pb2.NodeExecutionIdentifier(node_id=node_id, execution_id=parent.id)

    child = ran(mallory, "quick", metadata=execution_pb2.ExecutionMetadata(parent_node_execution=named))

    assert (child.spec.metadata.principal, child.spec.metadata.nesting) == ("alice", 1)
    assert child.spec.security_context.run_as.execution_identity == "mallory"
    named.node_id = "nowhere"
    request = execution("quick", metadata=execution_pb2.ExecutionMetadata(parent_node_execution=named))
    assert refusal(stubs.admin.CreateExecution, request)[0] == "NOT_FOUND"


# what can be launched, and with what


def test_a_task_alone_is_a_workflow_of_one_node(stubs):
    message = ran(stubs, "quick")

    assert message.closure.workflow_id.name == ".flytegen.quick"
    assert message.spec.launch_plan.resource_type == TASK
    listed_nodes = stubs.admin.ListNodeExecutions(
        nodes.NodeExecutionListRequest(workflow_execution_id=message.id, limit=10)
    )
    assert len(listed_nodes.node_executions) == 1


@pytest.mark.parametrize(
    ("plan", "given", "found"),
    [
        ("w", literals(n=integer(1)), 1),
        ("by default", literals(), 5),
        ("by default", literals(n=integer(1)), 1),
        ("fixed", literals(), 7),
    ],
)
def test_inputs_are_given_or_default_or_fixed(stubs, plan, given, found):
    message = ran(stubs, plan, LAUNCH_PLAN, inputs=given)

    assert data(stubs, message.id).full_inputs == literals(n=integer(found))


@pytest.mark.parametrize(
    ("plan", "given", "message"),
    [
        ("w", literals(), "expected_inputs n missing"),
        ("w", literals(n=integer(1), m=integer(1)), "invalid input m"),
        ("w", literals(n=text("one")), "invalid n input wrong type. Expected simple:INTEGER, but got simple:STRING"),
        ("fixed", literals(n=integer(1)), "fixed_inputs n cannot be overridden"),
    ],
)
def test_inputs_that_do_not_fit_are_invalid(stubs, plan, given, message):
    request = execution(plan, LAUNCH_PLAN, inputs=given)

    assert refusal(stubs.admin.CreateExecution, request) == ("INVALID_ARGUMENT", message)


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        (execution("nothing"), "NOT_FOUND", "missing entity of type TASK with identifier"),
        (execution("nothing", LAUNCH_PLAN), "NOT_FOUND", "missing entity of type LAUNCH_PLAN"),
        (execution("w", WORKFLOW), "INVALID_ARGUMENT", "only [TASK, LAUNCH_PLAN] allowed"),
        (execution("quick", project="elsewhere"), "INVALID_ARGUMENT", "project [elsewhere] and domain"),
        (execution("quick", domain="elsewhere"), "INVALID_ARGUMENT", "domain [elsewhere] is unrecognized"),
        (execution("quick", project=""), "INVALID_ARGUMENT", "missing project"),
        (execution("quick", name="../up"), "INVALID_ARGUMENT", "invalid name format: ../up"),
        (execution("quick", name="a" * 64), "INVALID_ARGUMENT", "size of name exceeded length 63"),
        (
            execution_pb2.ExecutionCreateRequest(project=PROJECT, domain=DOMAIN),
            "INVALID_ARGUMENT",
            "missing spec",
        ),
    ],
)
def test_what_cannot_be_launched_is_refused_with_the_reason(stubs, request_, code, message):
    found = refusal(stubs.admin.CreateExecution, request_)

    assert found[0] == code
    assert message in found[1]


def test_two_executions_cannot_have_one_name(stubs):
    launched(stubs, "quick", name="only-one")

    code, message = refusal(stubs.admin.CreateExecution, execution("quick", name="only-one"))

    assert code == "ALREADY_EXISTS"
    assert 'violates unique constraint "executions_pkey"' in message


def test_what_the_sandbox_does_not_run_is_refused_at_launch_with_what_it_does(stubs):
    a_launch_plan = core.WorkflowNode(launchplan_ref=identifier(LAUNCH_PLAN, "w"))
    mapped = core.Node(id="n0", array_node=core.ArrayNode(node=core.Node(id="s", workflow_node=a_launch_plan)))
    register(stubs, workflow("maps", mapped))

    code, message = refusal(stubs.admin.CreateExecution, execution("maps", LAUNCH_PLAN))

    assert code == "UNIMPLEMENTED"
    assert "a map over launch plans" in message
    assert "The sandbox runs @task, map tasks" in message


# looking


def test_everything_of_an_execution_that_does_not_exist_is_not_found(stubs):
    nobody = identifier_pb2.WorkflowExecutionIdentifier(project=PROJECT, domain=DOMAIN, name="nobody")
    node_id = identifier_pb2.NodeExecutionIdentifier(node_id="n0", execution_id=nobody)
    attempt = identifier_pb2.TaskExecutionIdentifier(node_execution_id=node_id)
    admin = stubs.admin

    execution_words = 'project:"flytesnacks" domain:"development" name:"nobody"'
    node_words = f'node_id:"n0" execution_id:{{{execution_words}}}'
    of_execution = f"execution with identifier {execution_words}"
    of_node = f"node execution with identifier {node_words}"
    of_task = f"task execution with identifier node_execution_id:{{{node_words}}}"
    for call, request, words in (
        (admin.GetExecution, execution_pb2.WorkflowExecutionGetRequest(id=nobody), of_execution),
        (admin.GetExecutionData, execution_pb2.WorkflowExecutionGetDataRequest(id=nobody), of_execution),
        (admin.TerminateExecution, execution_pb2.ExecutionTerminateRequest(id=nobody), of_execution),
        (admin.GetNodeExecution, nodes.NodeExecutionGetRequest(id=node_id), of_node),
        (admin.GetNodeExecutionData, nodes.NodeExecutionGetDataRequest(id=node_id), of_node),
        (admin.GetTaskExecution, tasks.TaskExecutionGetRequest(id=attempt), of_task),
        (admin.GetTaskExecutionData, tasks.TaskExecutionGetDataRequest(id=attempt), of_task),
    ):
        assert refusal(call, request) == ("NOT_FOUND", f"missing entity of type {words}")
    for call, request in (
        (admin.ListNodeExecutions, nodes.NodeExecutionListRequest(workflow_execution_id=nobody, limit=1)),
        (admin.ListTaskExecutions, tasks.TaskExecutionListRequest(node_execution_id=node_id, limit=1)),
    ):
        assert not call(request).ByteSize()


def test_an_execution_that_has_ended_cannot_be_terminated(stubs):
    message = ran(stubs, "quick")

    request = execution_pb2.ExecutionTerminateRequest(id=message.id, cause="too late")

    assert refusal(stubs.admin.TerminateExecution, request) == (
        "FAILED_PRECONDITION",
        "Cannot abort an already terminated workflow execution",
    )


def test_who_terminated_an_execution_and_why_is_on_record(plane, stubs):
    execution_id = launched(stubs, "slow")
    bob = plane.stubs(plane.issuer.token(sub="bob", client_id="cli"))

    bob.admin.TerminateExecution(execution_pb2.ExecutionTerminateRequest(id=execution_id, cause="enough"))
    closure = ended(stubs, execution_id).closure

    assert phase(stubs, execution_id) == "ABORTED"
    assert (closure.abort_metadata.cause, closure.abort_metadata.principal) == ("enough", "bob")


def test_the_summary_for_the_control_endpoint_is_json_and_names_parent_and_principal(plane, stubs):
    labels = common_pb2.Labels(values={"eager-exec": "its-parent"})
    message = ran(stubs, "quick", labels=labels)

    summary = json.loads(json.dumps(plane.plane.executions()))[-1]

    assert summary["id"] == {"project": PROJECT, "domain": DOMAIN, "name": message.id.name}
    assert (summary["phase"], summary["principal"], summary["parent"]) == ("SUCCEEDED", "alice", "its-parent")
    assert (summary["error"], summary["deck_uris"]) == (None, [])


# listing


@pytest.fixture(scope="module")
def family(plane):
    """Three executions with labels and tags, in another domain so that no others are listed."""
    stubs = plane.stubs(plane.issuer.token(sub="carol", client_id="cli"))
    requests = [
        execution("quick", name="one", labels=common_pb2.Labels(values={"team": "a", "eager-exec": "x"})),
        execution("quick", name="two", labels=common_pb2.Labels(values={"team": "b", "size": "a"})),
        execution("slow", name="three", tags=["team:a", "plain"]),
    ]
    for request in requests:
        request.domain = "staging"
    ids = [stubs.admin.CreateExecution(request).id for request in requests]
    for execution_id in ids[:2]:
        ended(stubs, execution_id)
    deadline = time.monotonic() + 10
    while phase(stubs, ids[2]) != "RUNNING":
        assert time.monotonic() < deadline
    yield stubs
    stubs.admin.TerminateExecution(execution_pb2.ExecutionTerminateRequest(id=ids[2]))


def found(stubs, filters: str, **request) -> set[str]:
    named = common_pb2.NamedEntityIdentifier(project=PROJECT, domain="staging")
    wanted = common_pb2.ResourceListRequest(id=named, limit=100, filters=filters, **request)
    return {execution.id.name for execution in stubs.admin.ListExecutions(wanted).executions}


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ("", {"one", "two", "three"}),
        ("eq(phase,SUCCEEDED)", {"one", "two"}),
        ("ne(phase,SUCCEEDED)", {"three"}),
        ("value_in(phase,UNDEFINED;QUEUED;RUNNING)", {"three"}),
        ("value_not_in(phase, RUNNING;FAILED)", {"one", "two"}),
        ("contains(execution_name,o)", {"one", "two"}),
        ("contains(execution_name,e)+eq(phase,SUCCEEDED)", {"one"}),
        ("eq(task.name,slow)", {"three"}),
        ("eq(execution.user,carol)", {"one", "two", "three"}),
        ("gt(created_at,yesterday)", {"one", "two", "three"}),
        ("gt(execution_created_at,tomorrow)", set()),
        ("eq(error_kind,USER)", set()),
        ("gt(created_at,2020-01-01T00:00:00Z)", {"one", "two", "three"}),
        ("lt(created_at,2020-01-01T00:00:00.123456789Z)", set()),
        ("lt(created_at,2020-01-01T00:00:00.5Z)", set()),
        ("gte(duration,50)", set()),
        ("value_in(execution_tag.key,eager-exec)+value_in(execution_tag.value,x)", {"one"}),
        ("eq(execution_tag.key,team)+eq(execution_tag.value,a)", {"one", "three"}),
        ("eq(admin_tag.name,plain)", {"three"}),
    ],
)
def test_filters_are_flyteadmins(family, filters, names):
    assert found(family, filters) == names


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ("phase", "invalid value for filters"),
        ("eq(phase)", "invalid value for filters"),
        ("like(phase,R)", "unrecognized filter function: like"),
        ("eq(secrets,1)", "'e.secrets' is invalid filter"),
        ("eq(execution_tag.colour,1)", "'e.colour' is invalid filter"),
        ("eq(phase,A;B)", "invalid single value filter expression: eq"),
        ("gt(duration,long)", "Failed to parse [long]"),
    ],
)
def test_a_filter_that_makes_no_sense_is_invalid(family, filters, message):
    with pytest.raises(grpc.RpcError) as caught:
        found(family, filters)

    assert (caught.value.code().name, caught.value.details()) == ("INVALID_ARGUMENT", message)


@settings(max_examples=150, deadline=1000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    filters=st.one_of(
        st.text(max_size=40).filter(lambda text: "\x00" not in text and text.isprintable()),
        st.from_regex(r"(eq|gt|value_in|contains)\((phase|created_at|duration|user), ?[a-zA-Z0-9:.;+-]{1,12}\)"),
    ),
    token=st.one_of(st.just(""), st.text("0123456789-x", max_size=6)),
)
def test_whatever_filter_or_token_is_sent_there_is_a_list_or_flyteadmins_refusal(family, filters, token):
    try:
        found(family, filters, token=token)
    except grpc.RpcError as error:
        database = "failed database operation with invalid input syntax for type"
        unknown = error.code() is grpc.StatusCode.UNKNOWN and error.details().startswith(database)
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT or unknown  # or there is a list


def test_pages_follow_each_other_in_the_order_asked_for(plane, stubs):
    made = [launched(stubs, "quick", name=f"page-{letter}").name for letter in "abc"]
    newest_first = common_pb2.Sort(key="created_at", direction=common_pb2.Sort.DESCENDING)
    filters = "contains(execution_name,page-)"

    first = listed(stubs, filters, limit=2, sort_by=newest_first)
    second = listed(stubs, filters, limit=2, sort_by=newest_first, token=first.token)

    assert names(first) + names(second) == made[::-1]
    assert (first.token, second.token) == ("2", "")
    assert names(listed(stubs, filters)) == made


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"limit": 0}, "invalid value for limit"),
        ({"token": "next"}, "invalid pagination token next for ListExecutions"),
        ({"sort_by": common_pb2.Sort(key="colour")}, "invalid sort key 'colour'"),
    ],
)
def test_a_page_that_makes_no_sense_is_invalid(stubs, request_, message):
    with pytest.raises(grpc.RpcError) as caught:
        listed(stubs, **request_)

    assert (caught.value.code().name, caught.value.details()) == ("INVALID_ARGUMENT", message)
