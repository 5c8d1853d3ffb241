"""
A real hub in a process of its own: before it a real provider, a Flyte and an API server that tests tell what there is.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import flyte_admin
import running_agent
import running_provider
import yaml
from kubernetes_api import FakeApiServer, Pod
from running_provider import FORM, Reply

from flytekitplugins.authagent.credential import Secret, claims
from flytekitplugins.authagent.sandbox.client import FLYTECTL
from flytekitplugins.authagent.sandbox.dialect import HUB_AUDIENCE, PUBLIC_URL
from flytekitplugins.authagent.sandbox.port import free_port

KEY = base64.b64encode(b"k" * 32).decode()


@dataclass
class World:
    """What stands around hubs: an identity provider, a Flyte, a Kubernetes API server; one for all replicas."""

    provider: running_provider.Running
    admin: flyte_admin.Admin
    flyte: str
    api: FakeApiServer
    directory: Path
    hubs: list[Hub] = field(default_factory=list)

    def token(self, user: str, audience: str = HUB_AUDIENCE, **more: str) -> str:
        """An access token of somebody who signed in at their own client."""
        signed_in = self.provider.issuer.sign_in(user)
        reply = self.provider.refresh(signed_in, FLYTECTL, audience=audience, **more)
        assert reply.status == 200, reply.body
        return str(reply.json()["access_token"])

    def pod_of(self, execution: str, **more: Any) -> str:
        """The projected token of a pod of `execution`."""
        return self.api.token(self.pod(execution, **more))

    def pod(self, execution: str, **more: Any) -> Pod:
        """A pod that propeller made for `execution`."""
        project, domain, name = execution.split(":")
        workflow = self.api.workflows.get((f"{project}-{domain}", name))
        workflow = workflow or self.api.workflow(name, project=project, domain=domain)
        count = len(self.api.pods)
        return self.api.pod_of(workflow, namespace=f"{project}-{domain}", name=f"{name}-n{count}-0", **more)

    @property
    def counts(self) -> dict[str, Any]:
        return self.provider.counts.snapshot()

    def of_hub(self, event: str) -> int:
        """How often the hub's client did `event` at the identity provider."""
        return int(self.counts[event].get("hub", 0))


class Hub:
    """One replica."""

    def __init__(self, world: World, directory: Path, content: dict[str, Any], environ: dict[str, str]) -> None:
        self.world, self.directory, self.content = world, directory, content
        self.url = str(content["listen"])
        self.file, self.log = directory / "agent.yaml", directory / "hub.log"
        self.audit, self.socket = directory / "audit.jsonl", Path(content.get("socket", directory / "none"))
        self.environ = {**os.environ, **environ}
        self.context: ssl.SSLContext | None = None
        self.write(content)
        self.process = self._started()

    def write(self, content: dict[str, Any]) -> None:
        self.content = content
        self.file.write_text(yaml.safe_dump(content))
        self.file.chmod(0o600)

    def _started(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "flytekitplugins.authagent", "serve", "--config", str(self.file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environ,
            )

    def wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + 30
        while True:
            try:
                if self.get("/livez").status == 200:
                    return
            except OSError:
                assert self.process.poll() is None, self.log.read_text()
                assert time.monotonic() < deadline, self.log.read_text()
                time.sleep(0.02)

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait(timeout=15)

    def start(self) -> None:
        self.process = self._started()
        self.wait_until_it_answers()

    def send(
        self, method: str, path: str, body: bytes | str | None = None, headers: dict[str, str] | None = None
    ) -> Reply:
        """One request on a connection of its own."""
        where = urlsplit(self.url)
        if where.scheme == "https":
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                where.netloc, timeout=40, context=self.context
            )
        else:
            connection = http.client.HTTPConnection(where.netloc, timeout=40)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return Reply(
                response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
            )
        finally:
            connection.close()

    def get(self, path: str, token: str | None = None, **headers: str) -> Reply:
        shown = {"Authorization": f"Bearer {token}"} if token else {}
        return self.send("GET", path, None, shown | headers)

    def on_socket(self, path: str) -> Reply:
        """What it tells those who are on its machine."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(40)
            connection.connect(str(self.socket))
            connection.sendall(running_agent.request("GET", path))
            return running_agent.reply(running_agent.read_all(connection))

    def post(self, path: str, fields: dict[str, str], token: str | None = None, **headers: str) -> Reply:
        shown = {"Authorization": f"Bearer {token}"} if token else {}
        return self.send("POST", path, urlencode(fields), {"Content-Type": FORM} | shown | headers)

    # What people and tasks do

    def deposit(self, token: str, execution: str, **fields: str) -> Reply:
        return self.post("/grants", {"execution": execution, "expires_in": "3600", **fields}, token)

    def granted(self, user: str, execution: str, **fields: str) -> dict[str, Any]:
        """A grant of `user` for an execution that runs, and that Flyte says is theirs."""
        self.world.admin.launch(execution, user)
        reply = self.deposit(self.world.token(user), execution, **fields)
        assert reply.status == 201, reply.body
        return dict(reply.json())

    def revoke(self, token: str, **fields: str) -> Reply:
        return self.post("/grants/revoke", fields, token)

    def ask(self, pod_token: str | None, **fields: str) -> Reply:
        """A token, for the pod that shows its own."""
        form = {"grant_type": "client_credentials", **fields}
        if pod_token is not None:
            form |= {
                "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                "client_assertion": pod_token,
            }
        return self.post("/token", form)

    def adopt(self, pod_token: str, child: str) -> Reply:
        return self.post("/grants/children", {"execution": child}, pod_token)

    def records(self, **wanted: Any) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in self.audit.read_text().splitlines()]
        return [record for record in found if wanted.items() <= record.items()]


def says(reply: Reply) -> dict[str, Any]:
    """The claims of the token in an answer."""
    assert reply.status == 200, reply.body
    return claims(Secret(reply.json()["access_token"]))


def wait_for(what: Any, seconds: float = 10.0) -> Any:
    """What `what` gives once it gives something; an assertion where it does not in time."""
    deadline = time.monotonic() + seconds
    while True:
        found = what()
        if found:
            return found
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


@contextmanager
def world(**settings: Any) -> Iterator[World]:
    """A provider of the external kind, a Flyte, and an API server."""
    with (
        running_provider.running("external", **settings) as provider,
        flyte_admin.serving() as (admin, flyte),
        tempfile.TemporaryDirectory(prefix="ah-") as name,
    ):
        api = FakeApiServer()
        made = World(provider, admin, flyte, api, Path(name))
        try:
            yield made
        finally:
            for hub in made.hubs:
                hub.stop()
            api.close()


def configuration(world: World, directory: Path, **changed: Any) -> dict[str, Any]:
    """
    An `agent.yaml`; `changed` replaces keys of it. `upstream`, `hub` and `give` complete what stands under
    `upstreams: people`, `hub` and the only rule's `give`.
    """
    issuer = world.provider.issuer
    url = f"http://127.0.0.1:{free_port()}"
    for name, text in {
        "hub.secret": world.provider.secret("hub"),
        "service.secret": world.provider.secret("flyte-agent"),
        "hub.keys": KEY,
        "cluster-token": world.api.own_token,
    }.items():
        (directory / name).write_text(text)
        (directory / name).chmod(0o600)
    people = {
        "kind": "grant",
        "consent": "exchange",
        "issuer": issuer.issuer,
        "client_id": "hub",
        "client_secret_file": str(directory / "hub.secret"),
        "audience": PUBLIC_URL,
        "scopes": ["all"],
    }
    service = {
        "kind": "client_credentials",
        "token_endpoint": issuer.token_endpoint,
        "client_id": "flyte-agent",
        "client_secret_file": str(directory / "service.secret"),
        "scopes": ["all"],
    }
    hub = {
        "url": url,
        "people": {"issuer": issuer.issuer, "audience": HUB_AUDIENCE},
        "store": f"sqlite:///{directory / 'hub.db'}",
        "keys_file": str(directory / "hub.keys"),
        "ask_flyte_as": "service",
        "look_every": "1s",
    }
    give = {"upstream": "people", "scopes": ["all"], "wait": "2s"}
    return {
        "socket": str(directory / "run" / "hub.sock"),
        "listen": url,
        "audit": str(directory / "audit.jsonl"),
        "attestor": "kubernetes",
        "kubernetes": {"api_server": world.api.url, "token_file": str(directory / "cluster-token")},
        "flyte": {"endpoint": f"dns:///{world.flyte}", "insecure": True},
        "hub": hub | changed.pop("hub", {}),
        "upstreams": {"service": service, "people": people | changed.pop("upstream", {})}
        | changed.pop("upstreams", {}),
        "rules": changed.pop(
            "rules", [{"name": "people", "who": {"namespace": "*"}, "give": give | changed.pop("give", {})}]
        ),
        **changed,
    }


@contextmanager
def running(world: World, *, environ: dict[str, str] | None = None, wait: bool = True, **changed: Any) -> Iterator[Hub]:
    """A hub that answers."""
    with tempfile.TemporaryDirectory(prefix="ah-", dir=world.directory) as name:
        directory = Path(name)
        hub = Hub(world, directory, configuration(world, directory, **changed), environ or {})
        world.hubs.append(hub)
        try:
            if wait:
                hub.wait_until_it_answers()
            yield hub
        finally:
            hub.stop()
            with contextlib.suppress(ValueError):
                world.hubs.remove(hub)
