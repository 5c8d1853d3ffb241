"""The sandbox's Kubernetes: a pod for each attempt, for as long as it runs, and what an agent makes of it."""

from __future__ import annotations

import asyncio
import json
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from flyteidl.admin import common_pb2, execution_pb2
from flyteidl.core import compiler_pb2
from foreign import tampered
from joserfc import jwt
from joserfc.jwk import RSAKey
from running_control_plane import Issuer, Stubs
from running_provider import Reply, send
from templates import ended, launched, literals, phase, ran, register, script

from flytekitplugins.authagent.agent.kubernetes import Kubernetes
from flytekitplugins.authagent.agent.kubernetes_settings import KubernetesSettings
from flytekitplugins.authagent.agent.peer import Peer
from flytekitplugins.authagent.agent.refusal import Refusal
from flytekitplugins.authagent.agent.workload import Pod as Attested
from flytekitplugins.authagent.credential import Secret
from flytekitplugins.authagent.sandbox import cluster as module
from flytekitplugins.authagent.sandbox.cluster import Cluster
from flytekitplugins.authagent.sandbox.control_plane import ControlPlane
from flytekitplugins.authagent.sandbox.counts import Counts
from flytekitplugins.authagent.sandbox.executor.records import ExecutionRecord
from flytekitplugins.authagent.sandbox.faults import Faults
from flytekitplugins.authagent.sandbox.pod import Pod, Workflow
from flytekitplugins.authagent.sandbox.pod_token import PodTokens
from flytekitplugins.authagent.sandbox.posture import Posture

pytestmark = pytest.mark.timeout(60)

REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews?fieldValidation=Strict"

WAIT = """
import time
place = outputs.parent
(place / "up").write_text(os.environ["AUTHAGENT_POD_TOKEN"])
while not (place / "go").exists():
    time.sleep(0.02)
"""
"""An attempt that says that it runs, and ends when it is told to."""


class Flyte:
    """A control plane whose attempts are pods."""

    def __init__(self, directory: Path) -> None:
        self.cluster, self.directory, self.issuer = Cluster(), directory, Issuer()
        self.plane = ControlPlane(
            issuer=self.issuer,
            counts=Counts(),
            faults=Faults(),
            posture=Posture(),
            directory=directory,
            task_environment={"AUTHAGENT_SOCKET": "/nowhere"},
            slots=8,
            pods=self.cluster,
        )

    def places(self, name: str) -> list[Path]:
        """Where the attempts of an execution are."""
        return sorted((self.directory / "executions" / name).glob("*"))

    def up(self, name: str) -> Path:
        """Where the only attempt of an execution is, once it runs."""
        deadline = time.monotonic() + 30
        while not (found := [place for place in self.places(name) if (place / "up").exists()]):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return found[0]

    def ask(self, method: str, path: str, body: Any = None, token: str | None = None) -> Reply:
        """What the API server says to an agent, or to whoever shows `token`."""
        shown = self.cluster.token.reveal() if token is None else token
        return send(method, self.cluster.url + path, json.dumps(body), {"Authorization": f"Bearer {shown}"})

    def review(self, token: str, *audiences: str) -> dict[str, Any]:
        spec = {"token": token, "audiences": list(audiences or ("authagent",))}
        reply = self.ask("POST", REVIEWS, {"kind": "TokenReview", "spec": spec})
        assert reply.status == 201, reply.body
        return dict(reply.json()["status"])

    def attested(self, token: str) -> Attested:
        """The pod that an agent finds behind `token`. Raises `Refusal`."""
        own = self.directory / "cluster-token"
        own.write_text(self.cluster.token.reveal())
        own.chmod(0o600)
        attestor = Kubernetes(KubernetesSettings(api_server=self.cluster.url, token_file=own))

        async def attest() -> Attested:
            found = attestor.attest(Peer(0, 1000, 1000), Secret(token))
            return (found if hasattr(found, "pod") else await found).pod

        try:
            return asyncio.run(attest())
        finally:
            attestor.close()


@pytest.fixture(scope="module")
def flyte(tmp_path_factory):
    it = Flyte(tmp_path_factory.mktemp("flyte"))
    it.cluster.start()
    it.plane.start()
    yield it
    it.plane.stop()
    it.cluster.stop()


@pytest.fixture(scope="module")
def stubs(flyte):
    stubs = Stubs(flyte.plane.endpoint, {"authorization": f"Bearer {flyte.issuer.token(sub='alice')}"})
    register(stubs, script("waits", WAIT))
    return stubs


@contextmanager
def waiting(flyte: Flyte, stubs: Stubs, **spec: Any) -> Iterator[tuple[Any, str, Path]]:
    """An execution whose only attempt runs: its id, the token of its pod, and its place. It ends with the block."""
    execution_id = launched(stubs, "waits", **spec)
    place = flyte.up(execution_id.name)
    try:
        yield execution_id, Path((place / "up").read_text()).read_text(), place
    finally:
        (place / "go").touch()
        ended(stubs, execution_id)


def recorded(name: str) -> ExecutionRecord:
    """An execution that somebody else runs."""
    message = execution_pb2.Execution(id={"project": "p", "domain": "d", "name": name})
    return ExecutionRecord(message, compiler_pb2.CompiledWorkflowClosure(), literals())


def labels(**values: str) -> common_pb2.Labels:
    return common_pb2.Labels(values={name.replace("_", "-"): value for name, value in values.items()})


def refused(flyte: Flyte, token: str) -> str:
    """Why an agent refuses a token, as its audit log has it."""
    with pytest.raises(Refusal) as caught:
        flyte.attested(token)
    assert caught.value.status == 401
    return caught.value.reason


def test_an_attempt_finds_the_token_of_its_pod_in_a_file_of_its_own(flyte, stubs):
    with waiting(flyte, stubs) as (execution_id, token, place):
        file = Path((place / "up").read_text())
        claims = jwt.decode(token, flyte.cluster.tokens.keys()).claims
        pod = next(pod for pod in flyte.cluster.pods() if pod.workflow.name == execution_id.name)

        assert (file.parent, stat.S_IMODE(file.stat().st_mode)) == (place, 0o600)
        namespace = "flytesnacks-development"
        assert (claims["aud"], claims["exp"] - claims["iat"]) == (["authagent"], 3600)
        assert claims["sub"] == f"system:serviceaccount:{namespace}:default"
        assert claims["kubernetes.io"]["pod"] == {"name": pod.name, "uid": pod.uid}
        assert claims["kubernetes.io"]["namespace"] == pod.namespace == namespace


def test_the_token_is_not_in_the_environment_of_the_attempt(flyte, stubs):
    register(stubs, script("tells", "(outputs.parent / 'told').write_text(repr(dict(os.environ)))"))
    execution = ran(stubs, "tells")

    (place,) = flyte.places(execution.id.name)
    assert f"'AUTHAGENT_POD_TOKEN': '{place / 'pod-token'}'" in (place / "told").read_text()
    assert (place / "pod-token").read_text() not in (place / "told").read_text()


def test_an_agent_finds_the_execution_behind_a_token(flyte, stubs):
    with waiting(flyte, stubs) as (execution_id, token, _):
        pod = flyte.attested(token)

    assert pod.execution == f"flytesnacks:development:{execution_id.name}"
    assert (pod.project, pod.domain) == ("flytesnacks", "development")
    assert (pod.namespace, pod.service_account) == ("flytesnacks-development", "default")
    assert pod.identity == {"execution_identity": "alice"}
    assert pod.labels["execution-id"] == execution_id.name
    assert pod.credential_id.startswith("JTI=")


def test_who_wears_the_labels_of_another_execution_is_still_its_own(flyte, stubs):
    with waiting(flyte, stubs) as (victim, _, _):
        forged = labels(execution_id=victim.name, project="payroll", domain="production", execution_identity="bob")
        with waiting(flyte, stubs, labels=forged) as (forger, token, _):
            pod = flyte.attested(token)

    assert (pod.labels["execution-id"], pod.labels["project"]) == (victim.name, "payroll")
    assert pod.labels["execution-identity"] == "bob"
    assert pod.execution == f"flytesnacks:development:{forger.name}"


def test_a_token_ends_with_the_attempt(flyte, stubs):
    with waiting(flyte, stubs) as (_, token, _):
        assert flyte.review(token)["authenticated"] is True
        running = flyte.attested(token)

    assert flyte.cluster.find(running.namespace, running.name).phase == "Succeeded"
    assert refused(flyte, token) == "the pod is not alive any more: Succeeded"
    assert phase(stubs, execution_id_of(running)) == "SUCCEEDED"


def execution_id_of(pod: Attested) -> Any:
    project, domain, name = str(pod.execution).split(":")
    return execution_pb2.WorkflowExecutionGetRequest(id={"project": project, "domain": domain, "name": name}).id


def test_the_pod_of_an_execution_that_is_aborted_is_gone(flyte, stubs):
    with waiting(flyte, stubs) as (execution_id, token, _):
        pod = flyte.attested(token)
        stubs.admin.TerminateExecution(execution_pb2.ExecutionTerminateRequest(id=execution_id, cause="enough"))
        ended(stubs, execution_id)

        status = flyte.review(token)
        assert "authenticated" not in status
        assert status["error"] == "[invalid bearer token, service account token has been invalidated]"
        assert flyte.ask("GET", f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}").status == 404
        assert refused(flyte, token) == "the API server does not take the token that was shown"


def test_every_attempt_is_a_pod_of_its_own_in_one_execution(flyte, stubs):
    source = "(outputs.parent / 'told').write_text(open(os.environ['AUTHAGENT_POD_TOKEN']).read())\nos._exit(1)"
    register(stubs, script("retried", source, retries=2))
    execution = ran(stubs, "retried")

    tokens = [(place / "told").read_text() for place in flyte.places(execution.id.name)]
    bound = [jwt.decode(token, flyte.cluster.tokens.keys()).claims["kubernetes.io"]["pod"] for token in tokens]
    found = [flyte.cluster.find("flytesnacks-development", one["name"]) for one in bound]
    assert len({one["uid"] for one in bound}) == len({one["name"] for one in bound}) == 3
    assert {(pod.workflow.name, pod.workflow.uid) for pod in found} == {
        (execution.id.name, flyte.cluster.workflow("flytesnacks-development", execution.id.name).uid)
    }


def test_another_execution_of_the_same_name_is_another_object(flyte, stubs, tmp_path):
    first, second = recorded("again"), recorded("again")

    async def of(record: ExecutionRecord) -> str:
        async with flyte.cluster.running(record, "n0-0", tmp_path):
            (pod,) = [pod for pod in flyte.cluster.pods() if pod.workflow.name == "again"]
            return str(pod.workflow.uid)

    async def all_of(*records: ExecutionRecord) -> list[str]:
        return [await of(record) for record in records]

    one, two, three, four = asyncio.run(all_of(first, first, second, second))
    assert one == two != three == four


def test_a_pod_that_runs_for_long_gets_the_next_token_in_time(flyte, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LIFETIME", 0.1)

    async def seen() -> set[str]:
        async with flyte.cluster.running(recorded("long"), "n0-0", tmp_path) as variables:
            file, tokens = Path(variables["AUTHAGENT_POD_TOKEN"]), set()
            deadline = time.monotonic() + 10
            while len(tokens) < 3 and time.monotonic() < deadline:
                tokens.add(file.read_text())
                await asyncio.sleep(0.01)
            return tokens

    assert len(asyncio.run(seen())) == 3


def test_pods_that_have_ended_are_forgotten_in_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_ENDED", 2)
    cluster = Cluster()

    async def names() -> list[str]:
        found, record = [], recorded("many")
        for _ in range(3):
            async with cluster.running(record, "n0-0", tmp_path):
                found.append(cluster.pods()[0].name)
        return found

    try:
        assert [cluster.find("p-d", name) is None for name in asyncio.run(names())] == [True, False, False]
        assert cluster.pods() == []
    finally:
        cluster.stop()


# What is shown


def test_a_token_that_begins_with_a_space_is_nobodys(flyte, stubs):
    with waiting(flyte, stubs) as (_, token, _):
        status = flyte.review(f" {token}")

    assert (status["authenticated"], status["audiences"]) == (True, ["authagent"])
    assert status["user"] == {"username": "system:anonymous", "groups": ["system:unauthenticated"]}


def test_other_white_space_around_a_token_is_taken_away(flyte, stubs):
    with waiting(flyte, stubs) as (_, token, _):
        assert flyte.review(f"\t{token} \n")["user"]["username"].startswith("system:serviceaccount:")


def test_a_token_is_for_its_audience_only(flyte, stubs):
    with waiting(flyte, stubs) as (_, token, _):
        pod = flyte.attested(token)
        known = flyte.cluster.find(pod.namespace, pod.name)
        other = flyte.cluster.tokens.sign(known, audience="vault").reveal()

        assert "authenticated" not in flyte.review(token, "vault")
        assert "authenticated" not in flyte.review(other)
        assert flyte.review(other, "vault", "authagent")["audiences"] == ["vault"]
        assert "authenticated" not in flyte.cluster.tokens.review(token, ())  # the API server's own


def test_a_token_of_nobodys_key_or_that_was_changed_is_refused(flyte, stubs):
    stranger = RSAKey.generate_key(2048, {"kid": flyte.cluster.tokens.keys().keys[0].kid})
    with waiting(flyte, stubs) as (_, token, _):
        claims = jwt.decode(token, flyte.cluster.tokens.keys()).claims
        forged = jwt.encode({"alg": "RS256", "kid": stranger.kid}, claims, stranger)
        bad = [
            forged,
            tampered(token, sub="system:serviceaccount:kube-system:default"),
            "a.b.c",
            "é",
            f"Bearer {token}",
        ]

        assert [flyte.review(one).get("authenticated") for one in [token, *bad]] == [True, *[None] * 5]
        assert all("username" not in flyte.review(one)["user"] for one in bad)


def test_a_token_ends_after_an_hour_to_the_second(flyte):
    pod, now = Pod(Workflow.of(recorded("timed").message), "timed-n0-0"), [1_000_000.5]
    tokens = PodTokens(lambda namespace, name: pod, now=lambda: now[0])
    token = tokens.sign(pod).reveal()

    said = []
    for now[0] in (1_003_599.9, 1_003_600.0):  # it was signed in the second before
        said.append(tokens.review(token, ["authagent"]).get("authenticated"))
    assert said == [True, None]


def test_a_pod_of_the_same_name_is_not_the_same_pod(flyte, stubs):
    with waiting(flyte, stubs) as (_, token, _):
        pod = flyte.attested(token)
        known = flyte.cluster.find(pod.namespace, pod.name)
        other = type(known)(known.workflow, known.name)
        stale = flyte.cluster.tokens.sign(other).reveal()

        assert flyte.review(stale)["error"].endswith("pod UID does not match service account pod ref claim]")


# Who asks, and for what


def test_the_api_server_answers_nobody_but_agents(flyte):
    paths = [("POST", REVIEWS), ("GET", "/api/v1/namespaces/p-d/pods/x"), ("GET", "/"), ("DELETE", "/api/v1/pods")]
    for token in ("", "wrong", "é".encode().decode("latin-1")):
        replies = [flyte.ask(method, path, {}, token) for method, path in paths]
        assert [(reply.status, reply.json()["reason"]) for reply in replies] == [(401, "Unauthorized")] * len(paths)


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {"spec": []},
        {"spec": {"token": ""}},
        {"spec": {"token": 1}},
        {"spec": {"token": "x", "audience": "authagent"}},
        {"spec": {"token": "x", "audiences": "authagent"}},
        {"spec": {"token": "x", "audiences": [1]}},
    ],
)
def test_what_is_no_review_is_refused_as_such(flyte, body):
    assert flyte.ask("POST", REVIEWS, body).status == 400


def test_what_is_not_there_is_told_from_a_path_that_is_not(flyte):
    missing = [
        "/api/v1/namespaces/p-d/pods/x",
        "/apis/flyte.lyft.com/v1alpha1/namespaces/p-d/flyteworkflows/x",
        "/api/v1/namespaces/p%2Fd/pods/%00",
    ]
    assert [flyte.ask("GET", path).json()["reason"] for path in missing] == ["NotFound"] * 3
    for method, path in (
        ("GET", "/api/v1/namespaces"),
        ("GET", REVIEWS),
        ("DELETE", missing[0]),
        ("PATCH", missing[0]),
    ):
        reply = flyte.ask(method, path)
        assert (reply.status, reply.headers["content-type"]) == (404, "text/plain")


def test_without_a_cluster_an_attempt_has_no_token(tmp_path):
    issuer = Issuer()
    plane = ControlPlane(
        issuer=issuer, counts=Counts(), faults=Faults(), posture=Posture(), directory=tmp_path, task_environment={}
    )
    plane.start()
    try:
        stubs = Stubs(plane.endpoint, {"authorization": f"Bearer {issuer.token()}"})
        register(stubs, script("tells", "(outputs.parent / 'told').write_text(repr(dict(os.environ)))"))
        execution = ran(stubs, "tells")
        (place,) = (tmp_path / "executions" / execution.id.name).iterdir()
        assert "AUTHAGENT" not in (place / "told").read_text()
        assert not (place / "pod-token").exists()
    finally:
        plane.stop()
