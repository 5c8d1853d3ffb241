"""What a task launches is told to its agent: once each, after the launch, and never at its expense."""

from __future__ import annotations

import itertools
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import flytekit
import grpc
import pytest
from flyte_place import Place, phase, use
from flyteidl.admin import execution_pb2
from flyteidl.core import identifier_pb2
from flyteidl.service import admin_pb2_grpc
from flytekit.clients.friendly import SynchronousFlyteClient
from flytekit.configuration import Config, PlatformConfig
from flytekit.exceptions.user import FlyteEntityAlreadyExistsException
from flytekit.loggers import logger
from flytekit.models.core.identifier import WorkflowExecutionIdentifier
from flytekit.models.security import Identity, SecurityContext
from flytekit.remote import FlyteRemote
from running_control_plane import Running, running
from scripted_agent import LATER, UNGRANTED, Answer, ScriptedAgent, answering
from templates import node, register, task, workflow

from flytekitplugins.authagent import AuthAgent, authenticated, remote
from flytekitplugins.authagent.launching_client import LaunchingClient
from flytekitplugins.authagent.providers.agent import AgentProvider
from flytekitplugins.authagent.sandbox.posture import Posture

pytestmark = pytest.mark.timeout(120)

TOLD = "/grants/children"
FOREIGN = {
    "error": "access_denied",
    "error_description": "that execution is not one that you launched, or names a parent itself",
}
OURS = {"PROJECT": "flytesnacks", "DOMAIN": "development", "ID": "ours"}
NAMES = (f"child-{n}" for n in itertools.count())


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A control plane in which `quick` ends at once, as a task, a workflow and a launch plan."""
    with running(tmp_path_factory.mktemp("plane"), Posture(issuer="external")) as it:
        register(it.stubs(it.issuer.token(sub="setup")), task("quick", "true"), workflow("quick", node("n0", "quick")))
        yield it


@pytest.fixture
def agent(plane: Running) -> Iterator[ScriptedAgent]:
    """An agent of that Flyte which keeps grants; we are in an execution that it serves."""
    with tempfile.TemporaryDirectory(prefix="aa-") as directory:
        path = Path(directory, "agent.sock")
        token = plane.issuer.token(sub="flyte-agent")
        with answering(path, lambda: token, plane.plane.endpoint, children=TOLD) as it:
            use({"AUTHAGENT_SOCKET": str(path)} | {f"FLYTE_INTERNAL_EXECUTION_{k}": v for k, v in OURS.items()})
            yield it


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What is logged by flytekit's logger, which does not pass it on."""
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


def launched(kind: str = "task", name: str = "") -> str:
    """`project:domain:name` of what a bound function launched."""
    flyte = flytekit.current_context().remote
    entity = getattr(flyte, f"fetch_{kind}")(name="quick", version="v1")
    id = flyte.execute(entity, execution_name=name or next(NAMES)).id
    return f"{id.project}:{id.domain}:{id.name}"


def warnings(said: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in said.records if record.levelno >= logging.WARNING]


class TestLaunches:
    @pytest.mark.parametrize("kind", ["task", "workflow", "launch_plan"])
    def test_one_is_told_of_once_and_not_before_flyte_has_it(
        self, agent: ScriptedAgent, plane: Running, kind: str
    ) -> None:
        known: list[bool] = []

        def told(asked: Any) -> Answer:
            names = {execution["id"]["name"] for execution in plane.plane.executions()}
            known.append(asked.form["execution"].rpartition(":")[2] in names)
            return 200, {"execution": asked.form["execution"], "expires_at": 1}

        agent.answers[TOLD] = told
        child = authenticated(launched)(kind)

        assert child.startswith("flytesnacks:development:child-")
        assert agent.children == [child]
        assert known == [True]
        assert agent.counts() == {"/grants/children": 1, "/identity": 1, "/token": 1}

    def test_tasks_of_a_process_share_the_connection_and_what_the_agent_said_of_itself(
        self, agent: ScriptedAgent
    ) -> None:
        clients = []

        @authenticated
        def work() -> str:
            clients.append(flytekit.current_context().remote.client)
            return launched()

        children = [work(), work()]

        assert agent.children == children
        assert clients[0] is clients[1]
        assert isinstance(clients[0], LaunchingClient)
        assert agent.counts() == {"/grants/children": 2, "/identity": 1, "/token": 1}

    def test_the_default_remote_tells_of_its_launches_too(self, agent: ScriptedAgent) -> None:
        flyte = remote.default()

        @authenticated
        def work() -> Any:
            return flyte.execute(flyte.fetch_task(name="quick", version="v1"), execution_name=next(NAMES)).id

        child = work()
        assert agent.children == [f"flytesnacks:development:{child.name}"]

    def test_what_flyte_names_itself_is_told_of_by_that_name(self, agent: ScriptedAgent) -> None:
        @authenticated
        def work() -> str:
            flyte = flytekit.current_context().remote
            return str(flyte.execute(flyte.fetch_task(name="quick", version="v1")).id.name)

        name = work()
        assert agent.children == [f"flytesnacks:development:{name}"]

    def test_what_flyte_refuses_is_not_told_of(self, agent: ScriptedAgent) -> None:
        @authenticated
        def work() -> None:
            flyte = flytekit.current_context().remote
            flyte.execute(flyte.fetch_task(name="quick", version="v1"), project="nowhere")

        with pytest.raises(Exception, match="nowhere"):
            work()
        assert agent.children == []

    def test_what_an_earlier_attempt_launched_and_did_not_tell_of_is_told_of(
        self, agent: ScriptedAgent, said: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        name = next(NAMES)

        def killed(*_: Any) -> bool:
            raise SystemExit

        with monkeypatch.context() as patch, pytest.raises(SystemExit):
            patch.setattr(AgentProvider, "adopt", killed)
            authenticated(launched)(name=name)
        assert agent.children == []

        assert authenticated(launched)(name=name) == f"flytesnacks:development:{name}"
        assert agent.children == [f"flytesnacks:development:{name}"]
        assert [line for line in warnings(said) if "grant" in line] == []

    def test_a_name_that_somebody_else_took_is_a_warning(
        self, agent: ScriptedAgent, said: pytest.LogCaptureFixture
    ) -> None:
        name = next(NAMES)
        child = authenticated(launched)(name=name)
        agent.answers[TOLD] = (403, FOREIGN)

        assert authenticated(launched)(name=name) == child
        assert agent.children == [child, child]
        [warning] = [line for line in warnings(said) if "grant" in line]
        assert warning.startswith(f"{child} was there already, and is not covered by the grant of this execution")
        assert "access_denied: that execution is not one that you launched, or names a parent itself" in warning
        assert f"authagent grant {child}" in warning

    def test_a_name_that_was_taken_where_no_grant_is_kept_is_nobodys_trouble(
        self, agent: ScriptedAgent, said: pytest.LogCaptureFixture
    ) -> None:
        name = next(NAMES)
        del agent.identity["children"]
        assert authenticated(launched)(name=name) == authenticated(launched)(name=name)
        assert agent.children == []
        assert [line for line in warnings(said) if "grant" in line] == []


class TestWhereNothingIsTold:
    def test_an_agent_that_keeps_no_grants(self, agent: ScriptedAgent, said: pytest.LogCaptureFixture) -> None:
        del agent.identity["children"]
        authenticated(launched)()

        assert agent.counts() == {"/identity": 1, "/token": 1}
        assert warnings(said) == []

    def test_outside_of_an_execution(self, agent: ScriptedAgent) -> None:
        for part in OURS:
            del os.environ[f"FLYTE_INTERNAL_EXECUTION_{part}"]

        @authenticated
        def work() -> str:
            flyte = flytekit.current_context().remote
            flyte._default_project, flyte._default_domain = OURS["PROJECT"], OURS["DOMAIN"]
            return launched()

        work()
        assert agent.counts() == {"/identity": 1, "/token": 1}

    def test_another_provider(self, agent: ScriptedAgent, plane: Running, tmp_path: Path) -> None:
        file = tmp_path / "token"
        file.touch(mode=0o600)
        file.write_text(agent.token())
        use({"FLYTE_PLATFORM_URL": plane.plane.endpoint, "FLYTE_PLATFORM_INSECURE": "1"})
        use({"AUTHAGENT_TOKEN_FILE": str(file), "AUTHAGENT_PROVIDER": "file"})

        authenticated(launched)()
        assert agent.counts() == {}


class TestWhatComesOfIt:
    def test_without_a_grant_nothing_is_said(self, agent: ScriptedAgent, said: pytest.LogCaptureFixture) -> None:
        agent.answers[TOLD] = UNGRANTED
        said.set_level(logging.DEBUG, logger="flytekit")

        child = authenticated(launched)()
        assert agent.children == [child]
        assert warnings(said) == []
        assert f"{child} is launched, and there is no grant to cover it" in said.text

    @pytest.mark.parametrize(
        ("answer", "says"),
        [
            ((401, {"error": "invalid_client"}), "invalid_client"),
            (
                (403, FOREIGN),
                "answered access_denied: that execution is not one that you launched, or names a parent itself",
            ),
            (
                (400, FOREIGN),
                "answered access_denied: that execution is not one that you launched, or names a parent itself",
            ),  # an agent has passed it on
            ((409, {"error": "conflict", "error_description": "another grant covers that execution"}), "another grant"),
            ((200, b"<html>"), "HTML page"),
            ((200, {"execution": "p:d:another"}), "does not say that it covers"),
        ],
        ids=str,
    )
    def test_a_refusal_or_nonsense_is_a_warning_that_says_what_to_do(
        self, agent: ScriptedAgent, said: pytest.LogCaptureFixture, answer: Answer, says: str
    ) -> None:
        agent.answers[TOLD] = answer
        child = authenticated(launched)()

        assert agent.children == [child]
        [warning] = warnings(said)
        assert warning.startswith(f"{child} runs, but is not covered by the grant")
        assert says in warning
        assert f"authagent grant {child}" in warning
        assert agent.token() not in warning

    def test_an_agent_that_is_busy_for_a_moment_is_no_trouble(
        self, agent: ScriptedAgent, said: pytest.LogCaptureFixture
    ) -> None:
        answers = iter([LATER, LATER])
        agent.answers[TOLD] = lambda asked: next(answers, (200, {"execution": asked.form["execution"]}))

        child = authenticated(launched)()

        assert agent.children == [child] * 3
        assert warnings(said) == []

    @pytest.mark.parametrize("state", ["hanging", "gone"])
    def test_an_agent_that_does_not_answer_costs_ten_seconds_and_not_the_launch(
        self, agent: ScriptedAgent, said: pytest.LogCaptureFixture, state: str
    ) -> None:
        agent.answers[TOLD] = agent.hang

        @authenticated
        def work() -> str:
            _ = flytekit.current_context().remote
            if state == "gone":
                agent.close()
            return launched()

        began = time.monotonic()
        child = work()

        assert 8 < time.monotonic() - began < 13
        [warning] = warnings(said)
        assert warning.startswith(f"{child} runs, but is not covered")


class TestFlytekitsOwnClient:
    """`FLYTE_CREDENTIALS_AUTH_MODE=authagent`: clients that flytekit, or the task, builds without us."""

    @pytest.fixture(autouse=True)
    def configured(self, agent: ScriptedAgent, plane: Running) -> None:
        use({"FLYTE_PLATFORM_URL": plane.plane.endpoint, "FLYTE_PLATFORM_INSECURE": "1"})
        use({"FLYTE_CREDENTIALS_AUTH_MODE": "authagent"})

    def launched(self, name: str | None = None, remote: FlyteRemote | None = None) -> str:
        flyte = remote or FlyteRemote(Config.auto(), OURS["PROJECT"], OURS["DOMAIN"])
        id = flyte.execute(flyte.fetch_task(name="quick", version="v1"), execution_name=name or next(NAMES)).id
        return f"{id.project}:{id.domain}:{id.name}"

    def test_it_tells_of_each_launch_once(self, agent: ScriptedAgent) -> None:
        flyte = FlyteRemote(Config.auto(), OURS["PROJECT"], OURS["DOMAIN"])
        children = [self.launched(remote=flyte), self.launched(remote=flyte)]

        assert agent.children == children
        assert type(flyte.client) is SynchronousFlyteClient
        assert agent.counts() == {"/grants/children": 2, "/identity": 2, "/token": 1}  # once for each

    def test_beside_it_our_own_tell_once_as_well(self, agent: ScriptedAgent) -> None:
        children = [self.launched(), authenticated(launched)()]
        assert agent.children == children

    def test_a_launch_that_could_not_be_told_of_is_a_warning(
        self, agent: ScriptedAgent, said: pytest.LogCaptureFixture
    ) -> None:
        agent.answers[TOLD] = (401, {"error": "invalid_client"})
        child = self.launched()
        assert warnings(said)[0].startswith(f"{child} runs, but is not covered by the grant")

    def test_a_name_that_was_taken_is_told_of_too(self, agent: ScriptedAgent) -> None:
        name = next(NAMES)
        assert self.launched(name) == self.launched(name)
        assert agent.children == [f"flytesnacks:development:{name}"] * 2

    def test_outside_of_an_execution_it_is_left_alone(self, agent: ScriptedAgent) -> None:
        for part in OURS:
            del os.environ[f"FLYTE_INTERNAL_EXECUTION_{part}"]
        self.launched()
        assert agent.children == []

    def test_a_client_that_is_not_authenticated_by_us_is_left_alone(self, agent: ScriptedAgent) -> None:
        self.launched()
        told = len(agent.children)
        by_command = PlatformConfig(
            endpoint=os.environ["FLYTE_PLATFORM_URL"],
            insecure=True,
            auth_mode="external_process",
            command=["printf", "%s", agent.token()],
        )
        self.launched(remote=FlyteRemote(Config(by_command), OURS["PROJECT"], OURS["DOMAIN"]))
        assert len(agent.children) == told

    @pytest.mark.parametrize("in_execution", [True, False])
    @pytest.mark.parametrize("mode", ["authagent", "pkce"])
    def test_it_is_changed_in_a_task_that_we_authenticate_and_nowhere_else(self, in_execution: bool, mode: str) -> None:
        program = "from flytekit.clients.friendly import SynchronousFlyteClient as Client\n"
        program += "print(hasattr(Client.create_execution, '__wrapped__'))"
        os.environ["FLYTE_CREDENTIALS_AUTH_MODE"] = mode
        for part in OURS if not in_execution else ():
            del os.environ[f"FLYTE_INTERNAL_EXECUTION_{part}"]
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert done.stdout.split() == [str(in_execution and mode == "authagent")]


class Relaunching(admin_pb2_grpc.AdminServiceServicer):
    """A Flyte that launches again what is there, which the sandbox's does not; names that are `taken` it refuses."""

    def __init__(self, taken: Collection[str]) -> None:
        self.taken = taken

    def RelaunchExecution(self, request: Any, context: Any) -> execution_pb2.ExecutionCreateResponse:
        return self._created(request.name or "relaunched", context)

    def RecoverExecution(self, request: Any, context: Any) -> execution_pb2.ExecutionCreateResponse:
        return self._created(request.name or "recovered", context)

    def _created(self, name: str, context: Any) -> execution_pb2.ExecutionCreateResponse:
        if name in self.taken:
            context.abort(grpc.StatusCode.ALREADY_EXISTS, "there is one")
        id = identifier_pb2.WorkflowExecutionIdentifier(project="p", domain="d", name=name)
        return execution_pb2.ExecutionCreateResponse(id=id)


@contextmanager
def relaunching(*, taken: Collection[str] = ()) -> Iterator[str]:
    """It, on loopback, while this is open."""
    server = grpc.server(futures.ThreadPoolExecutor(4))
    admin_pb2_grpc.add_AdminServiceServicer_to_server(Relaunching(taken), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait(5)


def test_what_is_launched_again_is_told_of(agent: ScriptedAgent) -> None:
    before = WorkflowExecutionIdentifier(project="p", domain="d", name="before")

    @authenticated
    def work() -> list[str]:
        client = flytekit.current_context().remote.client
        found = [client.relaunch_execution(before), client.recover_execution(before, name="named")]
        found += [client.relaunch_execution(id=before, name="again"), client.recover_execution(before, None)]
        return [id.name for id in found]

    with relaunching() as endpoint:
        agent.identity["flyte"]["endpoint"] = endpoint
        assert work() == ["relaunched", "named", "again", "recovered"]
    assert agent.children == ["p:d:relaunched", "p:d:named", "p:d:again", "p:d:recovered"]


def test_what_was_to_be_launched_again_under_a_name_that_is_taken_is_told_of(agent: ScriptedAgent) -> None:
    """Where Flyte was to choose the name nobody knows of what to tell."""
    before = WorkflowExecutionIdentifier(project="p", domain="d", name="before")

    @authenticated
    def work() -> None:
        client = flytekit.current_context().remote.client
        for launch in (client.relaunch_execution, client.recover_execution):
            with pytest.raises(FlyteEntityAlreadyExistsException):
                launch(before, name="taken")
            with pytest.raises(FlyteEntityAlreadyExistsException):
                launch(id=before)

    with relaunching(taken=("taken", "relaunched", "recovered")) as endpoint:
        agent.identity["flyte"]["endpoint"] = endpoint
        work()
    assert agent.children == ["p:d:taken"] * 2


class TestWhomATokenMustSpeakFor:
    """`requested_subject` on the wire; the agent alone decides whether it does."""

    def test_the_configuration_says_it(self, agent: ScriptedAgent) -> None:
        config = AuthAgent(run_as=Identity(execution_identity="alice"))
        authenticated(config)(lambda: flytekit.current_context().remote)()
        authenticated(lambda: flytekit.current_context().remote)()

        subjects = [asked.form.get("requested_subject") for asked in agent.requests("/token")]
        assert subjects == ["alice", None]

    def test_the_task_says_it(self, agent: ScriptedAgent) -> None:
        @flytekit.task(task_config=AuthAgent())
        def work() -> str:
            return str(flytekit.current_context().remote.default_project)

        work._security_ctx = SecurityContext(run_as=Identity(execution_identity="bob"))

        assert work() == "flytesnacks"
        [asked] = agent.requests("/token")
        assert asked.form["requested_subject"] == "bob"
        assert asked.form["execution"] == "flytesnacks:development:ours"


@pytest.fixture(scope="module")
def registered(shared_place: Place) -> Iterator[ScriptedAgent]:
    """The parents, and the agent that serves their pods."""
    shared_place.register("parents.py", version="1")
    path = shared_place.directory / "agent.sock"
    with answering(path, shared_place.mint, shared_place.plane.endpoint, children=TOLD) as it:
        shared_place.task_environment["AUTHAGENT_SOCKET"] = str(path)
        yield it


@pytest.fixture
def serving(registered: ScriptedAgent, place: Place) -> ScriptedAgent:
    """It, having been asked nothing."""
    registered.asked.clear()
    return registered


class TestInFlyte:
    def run(self, place: Place, plan: str, **inputs: Any) -> tuple[Any, set[str]]:
        """The execution at its end, and what it launched."""
        before = {e["id"]["name"] for e in place.plane.executions()}
        found = place.remote()
        execution = found.execute(found.fetch_launch_plan(name=f"parents.{plan}", version="1"), inputs=inputs)
        ended = place.ended(execution)
        assert phase(ended) == "SUCCEEDED", ended.error
        after = {e["id"]["name"] for e in place.plane.executions()}
        return ended, {f"flytesnacks:development:{name}" for name in after - before - {execution.id.name}}

    def test_both_children_of_our_eager_workflow_are_told_of(self, serving: ScriptedAgent, place: Place) -> None:
        ended, children = self.run(place, "parent", x=1)

        assert ended.outputs["o0"] == 3
        assert len(children) == 2
        assert sorted(serving.children) == sorted(children)
        parent = f"flytesnacks:development:{ended.id.name}"
        assert parent in {asked.form["execution"] for asked in serving.requests("/token")}

    def test_what_the_tasks_of_a_map_launch_is_told_of(self, serving: ScriptedAgent, place: Place) -> None:
        ended, children = self.run(place, "mapped", version="1")

        assert {f"flytesnacks:development:{name}" for name in ended.outputs["o0"]} == children
        assert len(children) == 2
        assert sorted(serving.children) == sorted(children)

    def test_flytekits_own_eager_tells_of_its_children_too(self, serving: ScriptedAgent, place: Place) -> None:
        _, children = self.run(place, "stock_parent", x=1)

        assert len(children) == 2
        assert sorted(serving.children) == sorted(children)

    def test_what_pyflyte_launches_inside_a_task_is_told_of(self, serving: ScriptedAgent, place: Place) -> None:
        ended, children = self.run(place, "launching_by_pyflyte", version="1")

        assert children == {f"flytesnacks:development:{ended.outputs['o0']}"}
        assert serving.children == sorted(children)
