"""`current_context().identity`: what is found out, from whom, how often, and what is made of nothing and of lies."""

from __future__ import annotations

import base64
import concurrent.futures
import contextvars
import json
import os
import pickle
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import flytekit
import grpc
import pytest
from flyte_place import use
from flyteidl.admin import execution_pb2
from flyteidl.core import security_pb2
from flyteidl.service import admin_pb2_grpc, auth_pb2_grpc, identity_pb2, identity_pb2_grpc
from flytekit.models.security import Identity as FlytekitsIdentity
from running_control_plane import Running, running
from scripted_agent import LATER, ScriptedAgent
from scripted_agent import answering as serving
from templates import launched, ran, register, task

from flytekitplugins.authagent import (
    AuthAgent,
    AuthAgentError,
    ConfigError,
    NoCredential,
    ProviderError,
    ProviderUnavailable,
    Rejected,
    authenticated,
    user_info,
)
from flytekitplugins.authagent.context import Context, RunAs
from flytekitplugins.authagent.credential import Credential, Secret
from flytekitplugins.authagent.identity import Fact, Identity, current, find
from flytekitplugins.authagent.sandbox.posture import Posture
from flytekitplugins.authagent.sources import process_wide
from flytekitplugins.authagent.user_info import UserInfo

pytestmark = pytest.mark.timeout(60)

NAMED = {"sub": "alice", "user_info": {"name": "Alice Liddell"}}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A control plane in which `quick` ends at once."""
    with running(tmp_path_factory.mktemp("plane"), Posture(issuer="external")) as plane:
        register(plane.stubs(plane.issuer.token(sub="setup")), task("quick", "true"))
        yield plane


@pytest.fixture
def plane(shared: Running) -> Running:
    """It, with zero counts and no faults."""
    shared.faults.put(dict.fromkeys(shared.faults.snapshot(), 0))
    shared.counts.reset()
    return shared


def become(endpoint: str, token: str) -> None:
    """Let this process show `token` to the Flyte at `endpoint`."""
    file = Path.home() / "token"
    file.touch(mode=0o600)
    file.write_text(token)
    use({"FLYTE_PLATFORM_URL": endpoint, "FLYTE_PLATFORM_INSECURE": "1", "AUTHAGENT_TOKEN_FILE": str(file)})


def enter(execution: Any) -> None:
    """Let this process be a task of an execution, as propeller says it."""
    use(
        {
            "FLYTE_INTERNAL_EXECUTION_PROJECT": execution.project,
            "FLYTE_INTERNAL_EXECUTION_DOMAIN": execution.domain,
            "FLYTE_INTERNAL_EXECUTION_ID": execution.name,
        }
    )


@authenticated
def asked() -> Identity:
    """What a bound task is told."""
    return flytekit.current_context().identity


def client_of(endpoint: str) -> Any:
    """The client of a remote for `endpoint`, which shows a token that nobody signed."""
    become(endpoint, jwt(sub="ada"))
    return authenticated(lambda: flytekit.current_context().remote.client)()


def calls(plane: Running) -> dict[str, int]:
    """The RPCs so far, by method, and none of them rejected."""
    rpcs = plane.counts.snapshot()["rpcs"]
    assert not any(n["rejected"] for n in rpcs.values())
    return {method: n["accepted"] for method, n in rpcs.items() if method != "GetPublicClientConfig"}


def execution_of(plane: Running, subject: str, **spec: Any) -> Any:
    """An execution that `subject` launched; its id."""
    found = launched(plane.stubs(plane.issuer.token(sub=subject, client_id="cli")), "quick", **spec)
    plane.counts.reset()
    return found


def jwt(**claims: Any) -> str:
    """A token that nobody signed."""
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in ({"alg": "none"}, claims)]
    return b".".join([*parts, b"c2ln"]).decode()


class TestInAnExecution:
    def test_the_launcher_is_the_principal_and_not_whose_token_the_task_has(self, plane: Running) -> None:
        become(plane.plane.endpoint, plane.issuer.token(sub="flyte-agent", client_id="flyte-agent"))
        enter(execution_of(plane, "alice"))

        identity = asked()

        assert identity == Identity(
            subject=Fact("alice", "control_plane"),
            name=Fact(),
            run_as=Fact(RunAs(execution_identity="alice"), "control_plane"),
        )
        assert (str(identity.subject), bool(identity.subject)) == ("alice", True)
        assert (str(identity.name), bool(identity.name)) == ("", False)
        assert str(identity.run_as) == "execution_identity=alice"
        assert calls(plane) == {"GetExecution": 1, "UserInfo": 1}

    def test_the_name_is_that_of_the_same_person_only(self, plane: Running) -> None:
        become(plane.plane.endpoint, plane.issuer.token(**NAMED))
        enter(execution_of(plane, "alice"))
        assert asked().name == Fact("Alice Liddell", "control_plane")

        enter(execution_of(plane, "bob"))
        assert asked().subject == Fact("bob", "control_plane")
        assert asked().name == Fact()

    def test_without_a_principal_nobody_asks_for_a_name(self, plane: Running) -> None:
        become(plane.plane.endpoint, plane.issuer.token(**NAMED))
        enter(execution_of(plane, ""))

        assert asked() == Identity()
        assert calls(plane) == {"GetExecution": 1}

    def test_run_as_is_what_the_execution_says_and_else_what_the_task_declares(self, plane: Running) -> None:
        secret = "never-shown-to-anybody"
        run_as = security_pb2.Identity(
            iam_role="arn:role",
            k8s_service_account="batch",
            execution_identity="mallory",
            oauth2_client=security_pb2.OAuth2Client(
                client_id="lake", client_secret=security_pb2.Secret(group=secret, key=secret)
            ),
        )
        become(plane.plane.endpoint, plane.issuer.token(sub="flyte-agent"))
        enter(execution_of(plane, "alice", security_context=security_pb2.SecurityContext(run_as=run_as)))
        declared = AuthAgent(run_as=FlytekitsIdentity(iam_role="arn:declared"))

        found = authenticated(declared)(lambda: flytekit.current_context().identity)()

        assert found.run_as == Fact(RunAs("mallory", "lake", "batch", "arn:role"), "control_plane")
        assert found.subject == Fact("alice", "control_plane")
        assert secret not in repr(found)

        enter(execution_of(plane, ""))
        found = authenticated(declared)(lambda: flytekit.current_context().identity)()
        assert found == Identity(run_as=Fact(RunAs(iam_role="arn:declared"), "hint"))

    def test_whoever_may_launch_can_look_like_somebody_else(self, plane: Running) -> None:
        """Which is why nothing of this is authorisation: docs/tasks.md says so."""
        alices = ran(plane.stubs(plane.issuer.token(sub="alice")), "quick")
        parent = execution_pb2.ExecutionMetadata()
        parent.parent_node_execution.node_id = next(n for n in _nodes(plane, alices.id))
        parent.parent_node_execution.execution_id.CopyFrom(alices.id)
        become(plane.plane.endpoint, plane.issuer.token(sub="flyte-agent"))
        enter(execution_of(plane, "mallory", metadata=parent))

        assert asked().subject == Fact("alice", "control_plane")

    @pytest.mark.parametrize("missing", ["ID", "PROJECT"])
    def test_what_flyte_does_not_know_is_empty_and_no_error(self, missing: str, plane: Running) -> None:
        become(plane.plane.endpoint, plane.issuer.token(**NAMED))
        execution = execution_of(plane, "alice")
        enter(execution)
        if missing == "ID":
            use({"FLYTE_INTERNAL_EXECUTION_ID": "nobody-knows-this"})
        else:
            os.environ.pop("FLYTE_INTERNAL_EXECUTION_PROJECT")

        assert asked() == Identity()  # and not the subject of our own token, which launched nothing
        assert "UserInfo" not in calls(plane)

    def test_without_a_credential_the_error_is_that_of_the_remote(self, plane: Running) -> None:
        become(plane.plane.endpoint, plane.issuer.token(sub="flyte-agent"))
        enter(execution_of(plane, "alice"))
        (Path.home() / "token").unlink()

        with pytest.raises(AuthAgentError) as of_the_remote:
            authenticated(lambda: flytekit.current_context().remote)()
        with pytest.raises(AuthAgentError) as ours:
            asked()
        assert (type(ours.value), str(ours.value)) == (type(of_the_remote.value), str(of_the_remote.value))

    def test_a_rejected_credential_is_an_error_that_says_why(self, plane: Running) -> None:
        token = plane.issuer.token(sub="flyte-agent", aud=["https://somewhere.else"])
        become(plane.plane.endpoint, token)
        enter(execution_of(plane, "alice"))

        with pytest.raises(Rejected, match="rejected the credential: invalid audience") as refused:
            asked()

        assert token not in str(refused.value)
        assert plane.counts.snapshot()["rpcs"]["GetExecution"] == {"accepted": 0, "rejected": 2}


class TestOfAnAgentThatAttests:
    """The person whose grant covers this execution, which Kubernetes says it is: nobody else can make it look so."""

    @pytest.fixture
    def agent(self, plane: Running) -> Iterator[ScriptedAgent]:
        token = plane.issuer.token(sub="flyte-agent", client_id="flyte-agent")
        with tempfile.TemporaryDirectory(prefix="aa-") as directory:
            path = Path(directory, "agent.sock")
            with serving(path, lambda: token, plane.plane.endpoint) as it:
                use({"AUTHAGENT_SOCKET": str(path)})
                yield it

    def attest(self, agent: ScriptedAgent, execution: Any, subject: Any = "alice") -> None:
        agent.identity["pod"] = {"execution": f"{execution.project}:{execution.domain}:{execution.name}"}
        agent.identity["grant"] = {"subject": subject, "expires_at": 1}

    def test_the_launcher_is_attested_whatever_the_principal_says(self, plane: Running, agent: ScriptedAgent) -> None:
        execution = execution_of(plane, "mallory")
        enter(execution)
        self.attest(agent, execution)

        identity = asked()

        assert identity.subject == Fact("alice", "attested")
        assert identity.run_as == Fact(RunAs(execution_identity="mallory"), "control_plane")
        assert identity.name == Fact()
        assert calls(plane) == {"GetExecution": 1, "UserInfo": 1}
        assert agent.counts() == {"/identity": 2, "/token": 1}  # with the token, and now

    def test_the_name_is_that_of_the_same_person(self, plane: Running, agent: ScriptedAgent) -> None:
        token = plane.issuer.token(**NAMED)
        agent.token = lambda: token
        execution = execution_of(plane, "mallory")
        enter(execution)
        self.attest(agent, execution)

        assert asked().name == Fact("Alice Liddell", "control_plane")

    def test_what_flyte_does_not_know_is_attested_all_the_same(self, plane: Running, agent: ScriptedAgent) -> None:
        enter(_Id)
        self.attest(agent, _Id)

        assert asked() == Identity(Fact("alice", "attested"))

    def test_without_a_grant_and_of_another_execution_it_is_what_flyte_says(
        self, plane: Running, agent: ScriptedAgent
    ) -> None:
        execution = execution_of(plane, "ada")
        enter(execution)
        for pod, grant in (
            ({"namespace": "n"}, {"subject": "alice"}),
            ({"execution": "flytesnacks:development:another"}, {"subject": "alice"}),
            ({"execution": f"flytesnacks:development:{execution.name}"}, None),
        ):
            process_wide.clear()
            agent.identity |= {"pod": pod, "grant": grant}
            assert asked().subject == Fact("ada", "control_plane")

    def test_outside_of_an_execution_nobody_is_attested(self, plane: Running, agent: ScriptedAgent) -> None:
        self.attest(agent, _Id)

        assert asked().subject == Fact("flyte-agent", "control_plane")
        assert agent.counts() == {"/identity": 1, "/token": 1}

    def test_where_nobody_asks_nothing_is_asked(self, plane: Running, agent: ScriptedAgent) -> None:
        execution = execution_of(plane, "alice")
        enter(execution)
        self.attest(agent, execution)

        assert authenticated(lambda: flytekit.current_context().has_attr("identity"))() is True
        assert agent.counts() == {}
        authenticated(lambda: flytekit.current_context().remote)()
        assert agent.counts() == {"/identity": 1, "/token": 1}
        assert plane.counts.snapshot()["rpcs"] == {}

    def test_a_task_with_fifty_threads_asks_once(self, plane: Running, agent: ScriptedAgent) -> None:
        execution = execution_of(plane, "alice")
        enter(execution)
        self.attest(agent, execution)

        @authenticated
        def work() -> set[Identity]:
            context = flytekit.current_context()
            with concurrent.futures.ThreadPoolExecutor(50) as pool:
                return set(pool.map(lambda _: context.identity, range(50)))

        assert [identity.subject.source for identity in work()] == ["attested"]
        assert agent.counts() == {"/identity": 2, "/token": 1}

    def test_an_agent_that_cannot_say_it_now_is_an_error_and_nobody_is_taken_for_another(
        self, plane: Running, agent: ScriptedAgent
    ) -> None:
        execution = execution_of(plane, "mallory")
        enter(execution)
        self.attest(agent, execution)

        @authenticated
        def work() -> Identity:
            _ = flytekit.current_context().remote
            agent.answers["/identity"] = LATER
            with pytest.raises(ProviderUnavailable, match="pods cannot be attested for now"):
                _ = flytekit.current_context().identity
            del agent.answers["/identity"]
            return flytekit.current_context().identity

        assert work().subject == Fact("alice", "attested")


class TestOnALaptop:
    def test_it_is_whom_flyte_takes_us_for(self, plane: Running) -> None:
        become(plane.plane.endpoint, plane.issuer.token(**NAMED))

        assert asked() == Identity(Fact("alice", "control_plane"), Fact("Alice Liddell", "control_plane"))
        assert calls(plane) == {"UserInfo": 1}

    def test_a_name_that_only_our_own_token_has_is_a_hint(self, plane: Running) -> None:
        become(plane.plane.endpoint, plane.issuer.token(sub="alice", name="Alice of the token"))

        assert asked() == Identity(Fact("alice", "control_plane"), Fact("Alice of the token", "hint"))

    def test_where_flyte_does_not_know_its_callers_our_own_token_hints(self, tmp_path: Path) -> None:
        with running(tmp_path / "open", Posture(use_auth=False)) as plane:
            become(plane.plane.endpoint, plane.issuer.token(sub="alice", name="Alice"))
            assert asked() == Identity(Fact("alice", "hint"), Fact("Alice", "hint"))
        with running(tmp_path / "anonymous", Posture(disable_for_grpc=True)) as plane:
            become(plane.plane.endpoint, jwt(sub="eve", name=["not", "text"]))
            assert asked() == Identity(Fact("eve", "hint"))

    @pytest.mark.parametrize("claims", [{}, {"sub": 7}, {"sub": ["a"], "name": "x"}, {"sub": ""}, {"name": "nobody"}])
    def test_odd_claims_hint_at_nobody(self, claims: dict[str, Any], tmp_path: Path) -> None:
        with running(tmp_path / "open", Posture(use_auth=False)) as plane:
            become(plane.plane.endpoint, jwt(**claims))
            assert asked() == Identity()
            become(plane.plane.endpoint, "opaque-token")
            assert asked() == Identity()

    def test_an_id_token_is_asked_before_the_access_token(self) -> None:
        def found(access: str, identity: str | None) -> Identity:
            own = Credential(Secret(access), id_token=Secret(identity) if identity else None)
            return find(Context(), lambda: remote, lambda: own)

        with answering(Scripted(grpc.StatusCode.UNIMPLEMENTED)) as (endpoint, _):
            client_of(endpoint)
            remote = authenticated(lambda: flytekit.current_context().remote)()

            named = jwt(sub="alice", name="Alice")
            assert found(jwt(sub="app"), named) == Identity(Fact("alice", "hint"), Fact("Alice", "hint"))
            assert found(named, jwt(aud="no subject")) == Identity(Fact("alice", "hint"), Fact("Alice", "hint"))
            assert found("opaque", None) == Identity()

    def test_with_nothing_configured_there_is_what_the_task_declares(self) -> None:
        config = AuthAgent(run_as=FlytekitsIdentity(k8s_service_account="batch"))
        found = authenticated(config)(lambda: flytekit.current_context().identity)()

        assert found == Identity(run_as=Fact(RunAs(k8s_service_account="batch"), "hint"))
        with pytest.raises(NoCredential):
            authenticated(lambda: flytekit.current_context().remote)()

    def test_a_broken_credential_is_an_error(self, plane: Running) -> None:
        become(plane.plane.endpoint, "two words")

        with pytest.raises(AuthAgentError, match="does not hold a bearer token"):
            asked()

    def test_a_rejected_credential_is_an_error(self, plane: Running) -> None:
        become(plane.plane.endpoint, jwt(sub="alice"))

        with pytest.raises(Rejected, match="rejected the credential"):
            asked()

    def test_flytekits_own_authentication_serves_too(self, plane: Running) -> None:
        become(plane.plane.endpoint, plane.issuer.token(**NAMED))
        command = f"cat,{os.environ.pop('AUTHAGENT_TOKEN_FILE')}"
        use({"FLYTE_CREDENTIALS_AUTH_MODE": "ExternalCommand", "FLYTE_CREDENTIALS_COMMAND": command})

        assert asked().subject == Fact("alice", "control_plane")


class TestHowOften:
    def test_never_where_nobody_asks(self, plane: Running) -> None:
        become(plane.plane.endpoint, plane.issuer.token(**NAMED))
        enter(execution_of(plane, "alice"))

        assert authenticated(lambda: flytekit.current_context().has_attr("identity"))() is True
        assert plane.counts.snapshot()["rpcs"] == {}

    def test_once_for_a_task_with_fifty_threads(self, plane: Running) -> None:
        become(plane.plane.endpoint, plane.issuer.token(**NAMED))
        enter(execution_of(plane, "alice"))

        @authenticated
        def work() -> set[Identity]:
            context = flytekit.current_context()
            with concurrent.futures.ThreadPoolExecutor(50) as pool:
                found = set(pool.map(lambda _: context.identity, range(50)))
                found |= set(pool.map(lambda _: current(), range(50)))
            carried = contextvars.copy_context()
            thread = threading.Thread(
                target=carried.run, args=(lambda: found.add(flytekit.current_context().identity),)
            )
            thread.start()
            thread.join(10)
            return found | {context.get("identity"), context.get("IDENTITY"), context.identity, current()}

        assert [str(identity.name) for identity in work()] == ["Alice Liddell"]
        assert calls(plane) == {"GetExecution": 1, "UserInfo": 1}

    def test_forked_processes_know_it_and_can_find_it_out(self, plane: Running) -> None:
        become(plane.plane.endpoint, plane.issuer.token(**NAMED))
        enter(execution_of(plane, "alice"))

        @authenticated
        def work(first: bool) -> str:
            if first:
                assert flytekit.current_context().identity
            return forked(lambda: f"{flytekit.current_context().identity.name} {current().subject}")

        assert work(True) == "Alice Liddell alice"
        assert calls(plane) == {"GetExecution": 1, "UserInfo": 1}
        assert work(False) == "Alice Liddell alice"
        assert calls(plane) == {"GetExecution": 2, "UserInfo": 2}

    def test_a_server_without_the_service_is_asked_once_and_not_four_times(self, tmp_path: Path) -> None:
        with running(tmp_path / "open", Posture(use_auth=False)) as plane:
            become(plane.plane.endpoint, plane.issuer.token(sub="alice"))
            assert asked().subject == Fact("alice", "hint")
        with answering(Scripted(grpc.StatusCode.UNIMPLEMENTED)) as (endpoint, server):
            become(endpoint, jwt(sub="alice"))
            assert asked().subject == Fact("alice", "hint")
            assert server.asked == ["UserInfo"]

    def test_it_is_gone_when_the_function_ends_and_what_was_found_stays(self, plane: Running) -> None:
        become(plane.plane.endpoint, plane.issuer.token(**NAMED))
        kept: list[Any] = []

        @authenticated
        def work() -> Identity:
            kept.append(flytekit.current_context())
            return flytekit.current_context().identity

        found = work()

        assert not flytekit.current_context().has_attr("identity")
        with pytest.raises(AssertionError, match="IDENTITY not available"):
            _ = flytekit.current_context().identity
        with pytest.raises(ConfigError, match="has ended"):
            _ = kept[0].identity
        assert pickle.loads(pickle.dumps(found)) == found
        assert str(found.subject) == "alice"


class TestFlyteThatFails:
    @pytest.mark.parametrize("code", [grpc.StatusCode.NOT_FOUND, grpc.StatusCode.PERMISSION_DENIED])
    def test_what_it_does_not_say_is_missing_and_is_asked_once(self, code: grpc.StatusCode) -> None:
        with answering(Scripted(code)) as (endpoint, server):
            become(endpoint, jwt(sub="alice"))
            enter(_Id)
            assert asked() == Identity()
            assert server.asked == ["GetExecution"]

    def test_out_of_order_it_is_an_error_that_flyte_tries_again_and_the_next_use_asks_again(self) -> None:
        with answering(Scripted(grpc.StatusCode.UNAVAILABLE)) as (endpoint, server):
            become(endpoint, jwt(sub="alice"))
            enter(_Id)

            @authenticated
            def work() -> Identity:
                with pytest.raises(ProviderUnavailable, match="does not say who launched this execution: UNAVAILABLE"):
                    _ = flytekit.current_context().identity
                server.code = None
                return flytekit.current_context().identity

            assert work().subject == Fact("ada", "control_plane")
            assert server.asked == ["GetExecution", "GetExecution", "UserInfo"]

    def test_a_name_that_cannot_be_had_is_no_error(self) -> None:
        with answering(Scripted(grpc.StatusCode.INTERNAL, method="UserInfo")) as (endpoint, server):
            become(endpoint, jwt(sub="ada", name="hint of a name"))
            enter(_Id)
            assert asked() == Identity(Fact("ada", "control_plane"))
            assert server.asked == ["GetExecution", "UserInfo"]

    def test_one_that_never_answers_is_waited_for_until_the_deadline_and_not_asked_again(self) -> None:
        with answering(Scripted(None, hang=30)) as (endpoint, server):
            become(endpoint, jwt(sub="ada"))
            enter(_Id)
            began = time.monotonic()
            with pytest.raises(ProviderUnavailable, match="DEADLINE_EXCEEDED"):
                asked()
            assert 4.5 < time.monotonic() - began < 10
            assert server.asked == ["GetExecution"]


class TestUserInfo:
    @pytest.mark.parametrize(
        ("code", "error"),
        [
            (grpc.StatusCode.UNAVAILABLE, ProviderUnavailable),
            (grpc.StatusCode.INTERNAL, ProviderError),
            (grpc.StatusCode.PERMISSION_DENIED, ProviderError),
            (grpc.StatusCode.UNAUTHENTICATED, Rejected),
        ],
    )
    def test_a_failure_is_an_error_of_ours(self, code: grpc.StatusCode, error: type[AuthAgentError]) -> None:
        with answering(Scripted(code)) as (endpoint, server):
            with pytest.raises(error) as failed:
                user_info.ask(client_of(endpoint))
            assert type(failed.value) is error
            assert "scripted" not in str(failed.value)
            assert failed.value.__context__ is None
            assert server.asked == ["UserInfo"] * (2 if error is Rejected else 1)

    def test_each_call_has_a_deadline(self) -> None:
        with answering(Scripted(None, hang=30)) as (endpoint, server):
            with pytest.raises(ProviderUnavailable, match="who its caller is: DEADLINE_EXCEEDED"):
                user_info.ask(client_of(endpoint), timeout=0.3)
            assert server.asked == ["UserInfo"]

    def test_the_answer_is_plain_data_without_the_claims(self, plane: Running) -> None:
        become(plane.plane.endpoint, plane.issuer.token(**NAMED, email="alice@example.com", department="cellar"))
        found = authenticated(lambda: user_info.ask(flytekit.current_context().remote.client))()

        assert found == UserInfo("alice", "Alice Liddell", "alice@example.com")
        assert "cellar" not in repr(found)

    def test_a_name_may_come_in_parts(self) -> None:
        with answering(Scripted(None)) as (endpoint, _):
            assert user_info.ask(client_of(endpoint)) == UserInfo("ada", "Ada Lovelace")

    def test_a_server_without_it_and_one_with_nothing_to_say_give_nothing(self, tmp_path: Path) -> None:
        for directory, posture in {"a": Posture(use_auth=False), "b": Posture(disable_for_grpc=True)}.items():
            with running(tmp_path / directory, posture) as plane:
                become(plane.plane.endpoint, jwt(sub="eve"))
                assert authenticated(lambda: user_info.ask(flytekit.current_context().remote.client))() is None


HOSTILE = '</td><script>alert("x")</script> & \u202egnp.exe\x00\x1b[31m $BODY_HTML ${x}'


class TestDeck:
    def show(self, identity: Identity) -> str:
        before = len(flytekit.current_context().decks)
        deck = identity.deck()
        assert flytekit.current_context().decks[before:] == [deck]
        assert deck.name == "Identity"
        return str(deck.html)

    def test_hostile_values_are_text_and_nothing_else(self) -> None:
        html = self.show(
            Identity(
                Fact(HOSTILE, "control_plane"),
                Fact("\u202e" + HOSTILE, "hint"),
                Fact(RunAs(HOSTILE, HOSTILE, HOSTILE, HOSTILE), "attested"),
            )
        )

        assert "<script" not in html
        assert html.count("&lt;script&gt;alert(&quot;x&quot;)") == 6
        assert not {"\x00", "\x1b", "\u202e"} & set(html)
        assert all(word in html for word in ("control plane", "hint", "attested"))

    def test_long_values_are_cut(self) -> None:
        html = self.show(Identity(Fact("a" * 1_000_000, "hint")))
        assert len(html) < 10_000
        assert "a" * 200 + "\N{HORIZONTAL ELLIPSIS}" in html

    def test_what_is_not_known_is_said(self) -> None:
        assert self.show(Identity()).count("not known") == 3

    def test_no_token_and_no_claim_gets_into_it(self, plane: Running) -> None:
        token = plane.issuer.token(**NAMED, department="cellar")
        become(plane.plane.endpoint, token)
        identity = asked()

        for shown in (self.show(identity), repr(identity), str(identity)):
            assert "Alice Liddell" in shown
            assert "cellar" not in shown
            assert not any(part in shown for part in token.split("."))


class _Id:
    project, domain, name = "flytesnacks", "development", "e"


class Scripted(
    admin_pb2_grpc.AdminServiceServicer,
    identity_pb2_grpc.IdentityServiceServicer,
    auth_pb2_grpc.AuthMetadataServiceServicer,
):
    """A Flyte that answers `code` to one method, or to all, or takes `hang` seconds."""

    def __init__(self, code: grpc.StatusCode | None, *, method: str = "", hang: float = 0.0) -> None:
        self.code, self.method, self.hang = code, method, hang
        self.asked: list[str] = []
        self.over = threading.Event()

    def GetExecution(self, _request: Any, context: grpc.ServicerContext) -> execution_pb2.Execution:
        self._answer("GetExecution", context)
        metadata = execution_pb2.ExecutionMetadata(principal="ada")
        return execution_pb2.Execution(spec=execution_pb2.ExecutionSpec(metadata=metadata))

    def UserInfo(self, _request: Any, context: grpc.ServicerContext) -> identity_pb2.UserInfoResponse:
        self._answer("UserInfo", context)
        return identity_pb2.UserInfoResponse(subject="ada", given_name="Ada", family_name="Lovelace")

    def _answer(self, method: str, context: grpc.ServicerContext) -> None:
        self.asked.append(method)
        self.over.wait(self.hang)
        if self.code is not None and self.method in ("", method):
            context.abort(self.code, "scripted")


@contextmanager
def answering(service: Scripted) -> Iterator[tuple[str, Scripted]]:
    """`service` on loopback, while this is open."""
    server = grpc.server(futures.ThreadPoolExecutor(4))
    admin_pb2_grpc.add_AdminServiceServicer_to_server(service, server)
    identity_pb2_grpc.add_IdentityServiceServicer_to_server(service, server)
    auth_pb2_grpc.add_AuthMetadataServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}", service
    finally:
        service.over.set()
        server.stop(0).wait(5)


def forked(work: Any) -> str:
    """What `work` says in a process of its own."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writing, str(work()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        found = answer.read()
    os.waitpid(pid, 0)
    return found


def _nodes(plane: Running, execution_id: Any) -> list[str]:
    from templates import nodes_of

    return list(nodes_of(plane.stubs(), execution_id))
