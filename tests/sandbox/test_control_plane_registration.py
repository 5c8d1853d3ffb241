"""Registering, finding and activating tasks, workflows and launch plans."""

from __future__ import annotations

import grpc
import pytest
from flyteidl.admin import common_pb2, launch_plan_pb2, project_pb2, schedule_pb2
from flyteidl.core import interface_pb2
from flyteidl.core import workflow_pb2 as core
from running_control_plane import running
from templates import (
    DOMAIN,
    LAUNCH_PLAN,
    PROJECT,
    TASK,
    WORKFLOW,
    identifier,
    integer,
    interface,
    launch_plan,
    literals,
    node,
    register,
    task,
    workflow,
)

pytestmark = pytest.mark.timeout(30)

ACTIVE = launch_plan_pb2.LaunchPlanState.ACTIVE


@pytest.fixture
def admin(tmp_path):
    with running(tmp_path) as control_plane:
        yield control_plane.stubs().admin


@pytest.fixture
def stubs(tmp_path):
    with running(tmp_path) as control_plane:
        yield control_plane.stubs()


def refusal(call, *request) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(*request)
    return caught.value.code().name, caught.value.details()


def test_the_same_task_again_exists_already_and_another_under_its_name_is_invalid(admin):
    admin.CreateTask(task("t", "true"))

    assert refusal(admin.CreateTask, task("t", "true")) == (
        "ALREADY_EXISTS",
        "task with identical structure already exists",
    )
    code, message = refusal(admin.CreateTask, task("t", "false"))
    assert code == "INVALID_ARGUMENT"
    assert message.startswith("t task with different structure already exists. (Please register a new version")
    assert admin.GetTask(get(TASK, "t")).closure.compiled_task.template.container.args == ["true"]


def test_the_same_holds_for_workflows_and_launch_plans(stubs):
    register(stubs, task("t", "true"), workflow("w", node("n0", "t")))
    another = workflow("w", node("n0", "t"), node("n1", "t"))
    fixed = launch_plan("w", fixed_inputs=literals(n=integer(1)))

    for create, same, kind in (
        (stubs.admin.CreateWorkflow, workflow("w", node("n0", "t")), "workflow"),
        (stubs.admin.CreateLaunchPlan, launch_plan("w"), "launch plan"),
    ):
        code, message = refusal(create, same)
        assert (code, message) == ("ALREADY_EXISTS", f"{kind} with identical structure already exists")
    assert refusal(stubs.admin.CreateWorkflow, another)[0] == "INVALID_ARGUMENT"
    assert refusal(stubs.admin.CreateLaunchPlan, fixed)[0] == "INVALID_ARGUMENT"


def test_a_workflow_is_compiled_with_its_tasks_sub_workflows_and_connections(stubs):
    inner = workflow("inner", node("n0", "t")).spec.template
    calls_inner = core.Node(
        id="n1",
        upstream_node_ids=["n0"],
        workflow_node=core.WorkflowNode(sub_workflow_ref=inner.id),
    )
    outer = workflow("outer", node("n0", "t"), calls_inner, sub_workflows=[inner])
    register(stubs, task("t", "true"), outer)

    closure = stubs.admin.GetWorkflow(get(WORKFLOW, "outer")).closure.compiled_workflow

    assert [task.template.id.name for task in closure.tasks] == ["t"]
    assert [sub.template.id.name for sub in closure.sub_workflows] == ["inner"]
    assert closure.primary.connections.upstream["n1"].ids == ["n0"]
    assert closure.primary.connections.downstream["start-node"].ids == ["n0"]


@pytest.mark.parametrize(
    ("made", "code", "message"),
    [
        (lambda: workflow("w", node("n0", "nowhere")), "INVALID_ARGUMENT", "missing entity of type TASK"),
        (lambda: workflow("w", node("n0", "t"), node("n0", "t")), "INVALID_ARGUMENT", "two of this name"),
        (lambda: workflow("w", node("../../n0", "t")), "INVALID_ARGUMENT", "'../../n0' is no name"),
        (
            lambda: workflow("w", node("n0", "t", a=("n7", "o"))),
            "INVALID_ARGUMENT",
            "Referenced node [n7] not found",
        ),
        (
            lambda: workflow("w", node("n0", "t", a=("n1", "o")), node("n1", "t", a=("n0", "o"))),
            "INVALID_ARGUMENT",
            "nodes n0, n1 wait for each other",
        ),
        (
            lambda: workflow(
                "w",
                core.Node(id="n0", workflow_node=core.WorkflowNode(sub_workflow_ref=identifier(WORKFLOW, "x"))),
            ),
            "INVALID_ARGUMENT",
            "its sub-workflow was not sent along",
        ),
        (
            lambda: workflow(
                "w",
                core.Node(id="n0", workflow_node=core.WorkflowNode(launchplan_ref=identifier(LAUNCH_PLAN, "x"))),
            ),
            "INVALID_ARGUMENT",
            "missing entity of type LAUNCH_PLAN",
        ),
    ],
    ids=["no task", "same name", "path", "no upstream", "circle", "no sub-workflow", "no launch plan"],
)
def test_a_workflow_that_cannot_run_is_not_registered(admin, made, code, message):
    admin.CreateTask(task("t", "true"))

    found = refusal(admin.CreateWorkflow, made())

    assert found[0] == code
    assert message in found[1]


@pytest.mark.parametrize("kind", [TASK, WORKFLOW, LAUNCH_PLAN])
def test_what_is_not_registered_is_named_in_flyteadmins_words(admin, kind):
    method, name = {
        TASK: (admin.GetTask, "TASK"),
        WORKFLOW: (admin.GetWorkflow, "WORKFLOW"),
        LAUNCH_PLAN: (admin.GetLaunchPlan, "LAUNCH_PLAN"),
    }[kind]

    assert refusal(method, get(kind, "x")) == (
        "NOT_FOUND",
        f'missing entity of type {name} with identifier project:"flytesnacks" domain:"development" '
        'name:"x" version:"v1"',
    )


def test_an_identity_must_be_complete_and_in_a_known_place(admin):
    incomplete, nowhere, no_domain = task("t", "true"), task("t", "true"), task("t", "true")
    incomplete.id.version = ""
    nowhere.id.project = "elsewhere"
    no_domain.id.domain = "elsewhere"

    assert refusal(admin.CreateTask, incomplete) == ("INVALID_ARGUMENT", "missing version")
    assert refusal(admin.CreateTask, no_domain)[1] == "domain [elsewhere] is unrecognized by system"
    assert refusal(admin.CreateTask, nowhere) == (
        "INVALID_ARGUMENT",
        "failed to validate that project [elsewhere] and domain [development] are registered, err: "
        "[project [elsewhere] not found]",
    )


def test_a_launch_plan_expects_what_it_neither_fixes_nor_has_a_default_for(stubs):
    number = interface("a").inputs.variables["a"]
    default = interface_pb2.Parameter(var=number, default=integer(1))
    register(stubs, task("t", "true"), workflow("w", node("n0", "t"), inputs=["a", "b", "c"]))
    register(
        stubs,
        launch_plan(
            "p",
            of="w",
            default_inputs=interface_pb2.ParameterMap(parameters={"a": default}),
            fixed_inputs=literals(b=integer(2)),
        ),
    )

    expected = stubs.admin.GetLaunchPlan(get(LAUNCH_PLAN, "p")).closure.expected_inputs.parameters

    assert {name: parameter.WhichOneof("behavior") for name, parameter in expected.items()} == {
        "a": "default",
        "c": "required",
    }


@pytest.mark.parametrize("field", ["fixed", "default"])
def test_a_launch_plan_cannot_speak_of_inputs_that_its_workflow_does_not_have(stubs, field):
    register(stubs, task("t", "true"), workflow("w", node("n0", "t")))
    parameters = interface_pb2.ParameterMap(parameters={"a": interface_pb2.Parameter(default=integer(1))})
    plan = (
        launch_plan("p", of="w", fixed_inputs=literals(a=integer(1)))
        if field == "fixed"
        else launch_plan("p", of="w", default_inputs=parameters)
    )

    assert refusal(stubs.admin.CreateLaunchPlan, plan) == ("INVALID_ARGUMENT", f"unexpected {field}_input a")


def test_one_version_of_a_launch_plan_is_active_at_a_time(stubs):
    register(stubs, task("t", "true"), workflow("w", node("n0", "t")))
    register(stubs, workflow("w", node("n0", "t"), version="v2"))
    by_name = launch_plan_pb2.ActiveLaunchPlanRequest(
        id=common_pb2.NamedEntityIdentifier(project=PROJECT, domain=DOMAIN, name="w")
    )

    assert refusal(stubs.admin.GetActiveLaunchPlan, by_name)[0] == "NOT_FOUND"
    for version in ("v1", "v2"):
        activate(stubs, "w", version)
        assert stubs.admin.GetActiveLaunchPlan(by_name).id.version == version
    listed = stubs.admin.ListActiveLaunchPlans(
        launch_plan_pb2.ActiveLaunchPlanListRequest(project=PROJECT, domain=DOMAIN, limit=10)
    )
    assert [plan.id.version for plan in listed.launch_plans] == ["v2"]


def test_a_schedule_can_be_activated_and_launches_nothing(stubs):
    schedule = schedule_pb2.Schedule(cron_schedule=schedule_pb2.CronSchedule(schedule="* * * * *"))
    register(stubs, task("t", "true"), workflow("w", node("n0", "t")))
    register(
        stubs,
        launch_plan("p", of="w", entity_metadata=launch_plan_pb2.LaunchPlanMetadata(schedule=schedule)),
    )

    activate(stubs, "p", "v1")

    assert stubs.admin.GetLaunchPlan(get(LAUNCH_PLAN, "p")).closure.state == ACTIVE


def test_the_latest_version_is_found_by_sorting(stubs):
    for version in ("v1", "v2", "v3"):
        register(stubs, task("t", version, version=version))
    newest_first = common_pb2.Sort(key="created_at", direction=common_pb2.Sort.DESCENDING)

    listed = stubs.admin.ListTasks(resources("t", limit=1, sort_by=newest_first))
    rest = stubs.admin.ListTasks(resources("t", limit=5, sort_by=newest_first, token=listed.token))

    assert [found.id.version for found in listed.tasks] == ["v3"]
    assert [found.id.version for found in rest.tasks] == ["v2", "v1"]
    assert rest.token == ""


def test_names_are_listed_once_each(stubs):
    for name, version in (("a", "v1"), ("a", "v2"), ("b", "v1")):
        register(stubs, task(name, version, version=version))

    listed = stubs.admin.ListTaskIds(
        common_pb2.NamedEntityIdentifierListRequest(project=PROJECT, domain=DOMAIN, limit=10)
    )

    assert [entity.name for entity in listed.entities] == ["a", "b"]


def test_projects_can_be_added_changed_and_closed(admin):
    admin.RegisterProject(project_pb2.ProjectRegisterRequest(project=project_pb2.Project(id="p", name="P")))
    admin.UpdateProject(project_pb2.Project(id="p", description="ours", state=project_pb2.Project.ARCHIVED))

    found = admin.GetProject(project_pb2.ProjectGetRequest(id="p"))
    listed = [project.id for project in admin.ListProjects(project_pb2.ProjectListRequest()).projects]
    into_closed = task("t", "true")
    into_closed.id.project = "p"

    assert (found.name, found.description) == ("P", "ours")
    assert [domain.id for domain in found.domains] == ["development", "staging", "production"]
    assert listed == ["flytesnacks"]
    assert refusal(admin.CreateTask, into_closed) == ("INVALID_ARGUMENT", "project [p] is not active")
    again = project_pb2.ProjectRegisterRequest(project=project_pb2.Project(id="p", name="P"))
    assert refusal(admin.RegisterProject, again)[0] == "ALREADY_EXISTS"


def get(kind: int, name: str) -> common_pb2.ObjectGetRequest:
    return common_pb2.ObjectGetRequest(id=identifier(kind, name))


def activate(stubs, name: str, version: str) -> None:
    plan = identifier(LAUNCH_PLAN, name, version)
    stubs.admin.UpdateLaunchPlan(launch_plan_pb2.LaunchPlanUpdateRequest(id=plan, state=ACTIVE))


def resources(name: str, **request) -> common_pb2.ResourceListRequest:
    named = common_pb2.NamedEntityIdentifier(project=PROJECT, domain=DOMAIN, name=name)
    return common_pb2.ResourceListRequest(id=named, **request)
