"""deploy/kubernetes/hub: what is particular to it, and its configuration, served."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import running_hub
import yaml
from consenting import Surfer, asked, title
from running_hub import KEY, Hub, World, says
from running_provider import send
from test_command_line import authagent
from test_grants import fresh
from test_manifests import DEPLOY, pod_specs, written

from flytekitplugins.authagent import yaml_file
from flytekitplugins.authagent.agent.file import AgentFile
from flytekitplugins.authagent.sandbox.client import FLYTECTL
from flytekitplugins.authagent.sandbox.dialect import HUB_AUDIENCE, PUBLIC_URL
from flytekitplugins.authagent.sandbox.port import free_port

FILE = DEPLOY / "hub" / "agent.yaml"


def of_kind(kind: str, name: str = "hub") -> dict[str, Any]:
    (found,) = [document for document in written(name) if document["kind"] == kind]
    return found


def test_two_replicas_share_what_can_be_shared_and_one_of_them_is_always_there() -> None:
    deployment, budget = of_kind("Deployment")["spec"], of_kind("PodDisruptionBudget")["spec"]
    labels = deployment["selector"]["matchLabels"]
    assert deployment["replicas"] == 2
    assert deployment["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert (budget["selector"]["matchLabels"], budget["maxUnavailable"]) == (labels, 1)
    spec = deployment["template"]["spec"]
    (apart,) = spec["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    (spread,) = spec["topologySpreadConstraints"]
    for term in (apart["podAffinityTerm"], spread):
        assert term["labelSelector"]["matchLabels"] == labels
    hub = yaml.safe_load(FILE.read_text())["hub"]
    assert "store" not in hub  # a file of the Secret says where: an address with a password is in no ConfigMap


def test_it_is_nobody_with_no_power_as_its_namespace_demands() -> None:
    spec = next(pod_specs(written("hub")))
    security = spec["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] == security["runAsGroup"] == security["fsGroup"] > 1000
    assert spec["automountServiceAccountToken"] is False
    assert of_kind("Namespace")["metadata"]["labels"] == {"pod-security.kubernetes.io/enforce": "restricted"}


def test_its_ports_and_probes_are_those_of_its_configuration_and_the_network_lets_them_in() -> None:
    file = yaml_file.parse(FILE.read_bytes(), AgentFile, name="hub")
    (container,) = next(pod_specs(written("hub")))["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"https": urlsplit(file.listen or "").port, "health": int((file.health or "").rpartition(":")[2])}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] == "health"
    assert [port["targetPort"] for port in of_kind("Service")["spec"]["ports"]] == ["https"]
    assert of_kind("Service")["spec"]["selector"] == of_kind("Deployment")["spec"]["selector"]["matchLabels"]
    policy = of_kind("NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert {port["port"] for rule in policy["ingress"] for port in rule["ports"]} == set(ports.values())
    assert {port["port"] for rule in policy["egress"] for port in rule["ports"]} == {53, 443, 6443, 5432}


def test_every_file_that_its_configuration_names_is_mounted_where_it_says() -> None:
    file = yaml_file.parse(FILE.read_bytes(), AgentFile, name="hub")
    (container,) = next(pod_specs(written("hub")))["containers"]
    mounts = [Path(mount["mountPath"]) for mount in container["volumeMounts"]]
    assert file.hub
    assert file.tls
    assert file.kubernetes
    paths = [file.hub.store_file, file.hub.keys_file, file.tls.certificate_file, file.tls.key_file]
    paths += [file.kubernetes.token_file, file.kubernetes.ca_file]
    paths += [getattr(upstream, "client_secret_file", None) for upstream in file.upstreams.values()]
    for path in paths:
        assert path is not None
        assert any(mount == path.parent for mount in mounts), path


def test_the_image_has_what_a_hub_needs() -> None:
    locked = (DEPLOY.parent.parent / "requirements" / "image.txt").read_text()
    for name in ("alembic", "cryptography", "httptools", "prometheus-client", "psycopg-binary", "sqlalchemy", "uvloop"):
        assert f"\n{name}==" in locked


@pytest.mark.parametrize("name", ["hub", "node-with-hub"])
def test_the_commands_for_operators_find_nothing_wrong(name: str) -> None:
    file = str(DEPLOY / name / "agent.yaml")
    done = authagent("policy", "check", "--rules-only", file)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


# Served


@pytest.fixture(scope="module")
def served() -> Iterator[Hub]:
    """With this machine's files and addresses in the place of a cluster's, and nothing else changed."""
    with running_hub.world() as world:
        port, health = free_port(), free_port()
        text = FILE.read_text().replace("/etc/authagent-hub/secrets", str(world.directory))
        content = yaml.safe_load(text)
        issuer = world.provider.issuer.issuer
        files = {
            "store": f"sqlite:///{world.directory / 'hub.db'}",
            "keys": KEY,
            "people-client": world.provider.secret("hub"),
            "service-client": world.provider.secret("flyte-agent"),
            "token": world.api.own_token,
        }
        for name, value in files.items():
            (world.directory / name).write_text(value + "\n" if name != "token" else value)
            (world.directory / name).chmod(0o600)
        url = f"http://127.0.0.1:{port}"
        del content["tls"]
        content |= {"listen": url, "health": f"127.0.0.1:{health}"}
        content["kubernetes"] |= {"api_server": world.api.url, "token_file": str(world.directory / "token")}
        del content["kubernetes"]["ca_file"]
        content["flyte"] = {"endpoint": f"dns:///{world.flyte}", "insecure": True}
        content["hub"] |= {"url": url}
        content["hub"]["people"] |= {"issuer": issuer, "audience": HUB_AUDIENCE, "clients": [FLYTECTL]}
        content["upstreams"]["people"] |= {"issuer": issuer, "client_id": "hub", "audience": PUBLIC_URL}
        content["upstreams"]["service"] |= {"issuer": issuer, "client_id": "flyte-agent"}
        hub = Hub(world, world.directory, content, {})
        world.hubs.append(hub)
        hub.wait_until_it_answers()
        yield hub


@pytest.fixture
def world(served: Hub) -> World:
    return served.world


def test_served_it_lets_a_person_consent_and_a_task_act_for_them(served: Hub, world: World) -> None:
    execution = world.admin.launch(fresh().replace("production", "development"), "alice")
    grant = asked(served, world.token("alice"), execution)
    assert title(Surfer().consent(grant["consent_uri"], "alice")) == "Allowed"
    assert says(served.ask(world.pod_of(execution)))["sub"] == "alice"
    elsewhere = world.admin.launch(fresh(), "alice")
    assert served.ask(world.pod_of(elsewhere)).status == 401  # its rule is for development


def test_served_its_probes_answer_and_its_audit_records_are_on_standard_output(served: Hub, world: World) -> None:
    health = f"http://{served.content['health']}"
    assert [send("GET", health + path).status for path in ("/livez", "/readyz", "/metrics", "/token")] == [
        200,
        200,
        200,
        404,
    ]
    assert served.deposit("j.u.nk", fresh()).status == 401
    lines = [json.loads(line) for line in served.log.read_text().splitlines() if line.startswith("{")]
    assert any(line.get("event") == "person" and line["outcome"] == "invalid_token" for line in lines)
