"""A node's agent whose upstream is a hub: the pod asks its socket, and the hub decides."""

from __future__ import annotations

import json
import os
import socket as sockets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import running_hub
import yaml
from running_agent import read_all, reply, request
from running_hub import Hub, World, says, wait_for
from running_provider import FORM, Reply
from test_grants import fresh

from flytekitplugins.authagent.providers import Wanted
from flytekitplugins.authagent.providers.agent import AgentProvider

ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class Node:
    """An agent on a node, with a socket and no secret at all."""

    def __init__(self, directory: Path, world: World, hub_url: str, **upstream: Any) -> None:
        self.socket = directory / "run" / "agent.sock"
        self.audit, self.log = directory / "audit.jsonl", directory / "agent.log"
        (directory / "cluster-token").write_text(world.api.own_token)
        (directory / "cluster-token").chmod(0o600)
        content = {
            "socket": str(self.socket),
            "audit": str(self.audit),
            "attestor": "kubernetes",
            "kubernetes": {"api_server": world.api.url, "token_file": str(directory / "cluster-token")},
            "flyte": {"endpoint": f"dns:///{world.flyte}", "insecure": True},
            "upstreams": {"hub": {"kind": "hub", "url": hub_url, **upstream}},
            "rules": [{"name": "people", "who": {"namespace": "*"}, "give": {"upstream": "hub", "scopes": ["all"]}}],
        }
        file = directory / "agent.yaml"
        file.write_text(yaml.safe_dump(content))
        file.chmod(0o600)
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "flytekitplugins.authagent", "serve", "--config", str(file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(os.environ),
            )
        wait_for(lambda: self.process.poll() is None and self._answers(), 20)

    def _answers(self) -> bool:
        try:
            return self.say(request("GET", "/livez")).status == 200
        except OSError:
            return False

    def say(self, raw: bytes) -> Reply:
        with sockets.socket(sockets.AF_UNIX) as connection:
            connection.settimeout(40)
            connection.connect(str(self.socket))
            connection.sendall(raw)
            return reply(read_all(connection))

    def post(self, path: str, fields: dict[str, str]) -> Reply:
        return self.say(request("POST", path, urlencode(fields).encode(), {"Content-Type": FORM}))

    def ask(self, pod_token: str, **fields: str) -> Reply:
        shown = {"client_assertion_type": ASSERTION, "client_assertion": pod_token}
        return self.post("/token", {"grant_type": "client_credentials"} | shown | fields)

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.audit.read_text().splitlines()]


@contextmanager
def node(world: World, hub_url: str, **upstream: Any) -> Iterator[Node]:
    with tempfile.TemporaryDirectory(prefix="an-") as name:
        made = Node(Path(name), world, hub_url, **upstream)
        try:
            yield made
        finally:
            made.process.terminate()
            made.process.wait(timeout=15)


@pytest.fixture(scope="module")
def shared_node(shared_world: World, shared_hub: Hub) -> Iterator[Node]:
    with node(shared_world, shared_hub.url) as made:
        yield made


def test_a_pod_gets_its_persons_token_through_the_agent_of_its_node(
    hub: Hub,
    world: World,
    shared_node: Node,
) -> None:
    execution = fresh()
    hub.granted("alice", execution)
    assert says(shared_node.ask(world.pod_of(execution)))["sub"] == "alice"
    given = shared_node.records()[-1]
    assert (given["outcome"], given["speaks_for"], given["pod"]["execution"]) == ("given", "alice", execution)
    assert hub.records(outcome="given")[-1]["pod"]["execution"] == execution  # it attested the pod itself


def test_the_hubs_refusals_reach_the_pod_in_its_own_words(hub: Hub, world: World, shared_node: Node) -> None:
    execution = world.admin.launch(fresh(), "alice")
    answer = shared_node.ask(world.pod_of(execution))
    assert (answer.status, answer.json()["error"]) == (400, "unauthorized_client")
    assert "authagent run" in answer.json()["error_description"]
    granted = fresh()
    hub.granted("alice", granted)
    assert shared_node.ask(world.pod_of(granted), requested_subject="bob").json()["error"] == "unauthorized_client"


def test_what_is_revoked_at_the_hub_is_refused_at_the_node_at_once(hub: Hub, world: World, shared_node: Node) -> None:
    execution = fresh()
    hub.granted("alice", execution)
    pod = world.pod_of(execution)
    assert shared_node.ask(pod).status == 200
    hub.revoke(world.token("alice"), execution=execution)
    assert shared_node.ask(pod).status == 400


def test_a_child_is_registered_through_the_node(hub: Hub, world: World, shared_node: Node) -> None:
    parent, child = fresh(), fresh()
    hub.granted("alice", parent)
    world.admin.launch(child, "alice")
    shown = {"client_assertion_type": ASSERTION, "client_assertion": world.pod_of(parent)}
    answer = shared_node.post("/grants/children", {"execution": child, **shown})
    assert (answer.status, answer.json()["execution"]) == (200, child)
    assert says(shared_node.ask(world.pod_of(child)))["sub"] == "alice"
    known = shared_node.say(request("GET", "/identity", headers={"Authorization": f"Bearer {world.pod_of(child)}"}))
    assert known.json()["grant"]["subject"] == "alice"
    assert known.json()["children"] == "/grants/children"


def test_the_tasks_own_provider_is_served(hub: Hub, world: World, shared_node: Node, tmp_path: Path) -> None:
    execution = fresh()
    hub.granted("alice", execution)
    shown = tmp_path / "token"
    shown.write_text(world.pod_of(execution))
    credential = AgentProvider(shared_node.socket, token_file=shown).fetch(Wanted(subject="alice"))
    assert credential is not None
    assert credential.remaining(0) > 0


def test_while_the_hub_is_down_a_pod_goes_on_with_its_own_valid_token_and_no_other(world: World) -> None:
    with running_hub.running(world) as hub, node(world, hub.url, timeout=2) as its_node:
        execution = fresh()
        hub.granted("alice", execution)
        pod, other = world.pod_of(execution), world.pod_of(execution)
        token = its_node.ask(pod).json()["access_token"]
        hub.stop()
        assert its_node.ask(pod).json()["access_token"] == token
        answer = its_node.ask(other)  # one that has not been given any
        assert (answer.status, answer.json()["error"]) == (503, "temporarily_unavailable")
        hub.start()
        assert its_node.ask(other).status == 200


def test_a_generic_client_exchanges_the_pods_token(hub: Hub, world: World) -> None:
    execution = fresh()
    hub.granted("alice", execution)
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token": world.pod_of(execution),
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
    }
    assert says(hub.post("/token", form))["sub"] == "alice"
    person = form | {"subject_token": world.token("alice")}
    assert hub.post("/token", person).status == 401  # a person is no pod


def test_fifty_pods_that_start_at_once_on_one_node_all_get_their_tokens(world: World) -> None:
    """The hub attests all of them behind one address, and the node's agent before it."""
    with (
        running_hub.running(world) as hub,
        node(world, hub.url) as its_node,
        ThreadPoolExecutor(50) as threads,
    ):
        execution = fresh()
        hub.granted("alice", execution)
        pods = [world.pod_of(execution) for _ in range(50)]
        answers = list(threads.map(its_node.ask, pods))
        assert [says(answer)["sub"] for answer in answers] == ["alice"] * 50
