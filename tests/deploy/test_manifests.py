"""deploy/kubernetes: what a cluster would be told, held against the published schemas and what it must not say."""

from __future__ import annotations

import copy
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from peers import need

from flytekitplugins.authagent import wire, yaml_file
from flytekitplugins.authagent.agent.file import AgentFile

DEPLOY = Path(__file__).parent.parent.parent / "deploy" / "kubernetes"
OVERLAYS = sorted(file.parent.name for file in DEPLOY.glob("*/kustomization.yaml"))
SCHEMAS = ("1.29", "1.32", "1.37")
"""Of the first Kubernetes with native sidecars, one between, and the newest that the schemas know."""


def built(name: str) -> list[dict[str, Any]]:
    kubectl, own = shutil.which("kubectl"), DEPLOY.parent.parent / ".peers" / "bin" / "kustomize"
    need("kubectl, or kustomize (make peers)", kubectl or own.exists())
    command = [kubectl, "kustomize"] if kubectl else [str(own), "build"]
    done = subprocess.run([*command, DEPLOY / name], capture_output=True, timeout=60, check=True)
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def written(name: str) -> Iterator[dict[str, Any]]:
    """The same without kubectl: the files as they are, but for what kustomize puts into them."""
    for resource in kustomization(name)["resources"]:
        if resource.startswith("../"):
            yield from written(resource.removeprefix("../"))
        else:
            yield from yaml.safe_load_all((DEPLOY / name / resource).read_text())


def kustomization(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((DEPLOY / name / "kustomization.yaml").read_text()))


def patches(name: str) -> list[dict[str, Any]]:
    """What an overlay changes in the files of another."""
    return [
        yaml.safe_load((DEPLOY / name / patch["path"]).read_text()) for patch in kustomization(name).get("patches", ())
    ]


def pod_specs(documents: Any) -> Iterator[dict[str, Any]]:
    for document in documents:
        if document["kind"] in ("DaemonSet", "Deployment", "PodTemplate"):
            yield document.get("spec", document)["template"]["spec"]


def containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [*spec.get("initContainers", []), *spec["containers"]]


def secrets(value: Any, place: str = "") -> Iterator[str]:
    """Every place in which a manifest reaches for a Secret, whatever it calls it."""
    if isinstance(value, dict):
        for key, inner in value.items():
            lower = key.lower()
            by_name = lower in ("secret", "secretkeyref", "secretref", "imagepullsecrets")
            by_driver = lower.startswith("nodepublishsecret") or (lower == "driver" and "secret" in str(inner))
            if by_name or by_driver:
                yield f"{place}.{key}"
            yield from secrets(inner, f"{place}.{key}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from secrets(inner, f"{place}[{number}]")


@pytest.mark.parametrize("version", SCHEMAS)
@pytest.mark.parametrize("name", OVERLAYS)
def test_what_is_written_follows_the_published_schemas(name: str, version: str) -> None:
    for document in written(name):
        if not (version == "1.29" and document["kind"].startswith("ValidatingAdmission")):  # they came with 1.30
            kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.peer
@pytest.mark.parametrize("name", OVERLAYS)
def test_what_kustomize_makes_of_it_follows_them_too(name: str) -> None:
    documents = built(name)
    assert documents
    for document in documents:
        kubernetes_validate.validate(document, SCHEMAS[-1], strict=True)


def test_a_schema_finds_a_mistake() -> None:
    document = next(d for d in written("node") if d["kind"] == "DaemonSet")
    document["spec"]["template"]["spec"]["containers"][0]["readyProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, SCHEMAS[-1], strict=True)


@pytest.mark.parametrize("name", OVERLAYS)
def test_nothing_but_the_hub_mounts_or_reads_a_secret_and_nothing_contains_one(name: str) -> None:
    documents = [*written(name), *patches(name)]
    assert len(list(secrets(documents))) == (2 if name == "hub" else 0)
    assert not [document for document in documents if document["kind"] == "Secret"]
    assert "secretGenerator" not in kustomization(name)


def test_the_hub_reaches_for_two_secrets_by_their_names_in_files_that_only_it_can_read() -> None:
    volumes = [volume["secret"] for volume in next(pod_specs(written("hub")))["volumes"] if "secret" in volume]
    assert volumes == [
        {"secretName": "authagent-hub", "defaultMode": 0o440},
        {"secretName": "authagent-hub-tls", "defaultMode": 0o440},
    ]


@pytest.mark.parametrize("name", ["sidecar", "node", "hub", "node-with-hub"])
@pytest.mark.parametrize(
    "planted",
    [
        {"volumes": [{"name": "s", "secret": {"secretName": "flyte"}}]},
        {"volumes": [{"name": "s", "projected": {"sources": [{"secret": {"name": "flyte"}}]}}]},
        {"volumes": [{"name": "s", "csi": {"driver": "secrets-store.csi.k8s.io"}}]},
        {"volumes": [{"name": "s", "csi": {"driver": "x", "nodePublishSecretRef": {"name": "flyte"}}}]},
        {"initContainers": [{"env": [{"name": "S", "valueFrom": {"secretKeyRef": {"name": "f", "key": "k"}}}]}]},
        {"initContainers": [{"envFrom": [{"secretRef": {"name": "flyte"}}]}]},
    ],
)
def test_a_secret_that_is_planted_is_found(planted: dict[str, Any], name: str) -> None:
    spec = copy.deepcopy(next(pod_specs([*patches(name), *written(name)])))
    before = len(list(secrets(spec)))
    for key, values in planted.items():
        spec[key] = spec.get(key, []) + values
    assert len(list(secrets(spec))) >= before + 1


def test_the_sidecar_does_not_keep_a_pod_alive_and_starts_before_the_task() -> None:
    spec = next(pod_specs(written("sidecar")))
    (sidecar,) = spec["initContainers"]
    assert sidecar["restartPolicy"] == "Always"
    assert sidecar["startupProbe"]
    assert [container["name"] for container in spec["containers"]] == ["default"]


@pytest.mark.parametrize("name", ["node", "sidecar", "hub"])
def test_the_agents_container_can_do_nothing_but_its_work(name: str) -> None:
    spec = next(pod_specs(written(name)))
    (agent,) = [container for container in containers(spec) if container["image"] == "authagent"]
    security = agent["securityContext"]
    assert security["allowPrivilegeEscalation"] is False
    assert security["readOnlyRootFilesystem"] is True
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert "privileged" not in security
    assert (security.get("seccompProfile") or spec["securityContext"]["seccompProfile"]) == {"type": "RuntimeDefault"}
    assert agent["resources"]["limits"]["memory"]
    assert not spec.get("hostNetwork")
    assert not spec.get("hostPID")


def test_the_role_is_the_three_calls_and_no_more() -> None:
    assert list(written("roles")) == [d for d in written("hub") if d["kind"] == "ClusterRole"]  # one text for both
    rules = [rule for document in written("node") if document["kind"] == "ClusterRole" for rule in document["rules"]]
    assert sorted((rule["apiGroups"][0], rule["resources"], rule["verbs"]) for rule in rules) == [
        ("", ["pods"], ["get"]),
        ("authentication.k8s.io", ["tokenreviews"], ["create"]),
        ("flyte.lyft.com", ["flyteworkflows"], ["get"]),
    ]
    for name in ("node", "hub"):
        everywhere = [d["roleRef"]["name"] for d in written(name) if d["kind"] == "ClusterRoleBinding"]
        assert everywhere == ["authagent-reviews"]  # what is read is given namespace by namespace


@pytest.mark.parametrize(
    ("name", "kind", "bindings"), [("node", "DaemonSet", "namespace"), ("hub", "Deployment", "namespace-with-hub")]
)
def test_selectors_and_accounts_agree(name: str, kind: str, bindings: str) -> None:
    documents = list(written(name))
    daemon = next(d for d in documents if d["kind"] == kind)
    labels = daemon["spec"]["template"]["metadata"]["labels"]
    assert daemon["spec"]["selector"]["matchLabels"] == labels
    assert next(d for d in documents if d["kind"] == "NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == labels
    account = next(d for d in documents if d["kind"] == "ServiceAccount")["metadata"]["name"]
    assert daemon["spec"]["template"]["spec"]["serviceAccountName"] == account
    namespace = kustomization(name)["namespace"]
    own = yaml.safe_load((DEPLOY / bindings / "binding.yaml").read_text())
    for binding in [*documents, own]:
        for subject in binding.get("subjects", []):
            assert (subject["name"], subject["namespace"]) == (account, namespace)


@pytest.mark.parametrize("name", ["node", "sidecar"])
def test_its_configuration_is_a_good_one_and_names_what_is_mounted(name: str) -> None:
    checked(name, next(pod_specs(written(name))))


@pytest.mark.peer
def test_a_node_that_has_a_hub_has_no_token_for_the_identity_provider_and_what_its_configuration_names() -> None:
    spec = next(pod_specs(built("node-with-hub")))
    checked("node-with-hub", spec)
    projected = [source for volume in spec["volumes"] for source in volume.get("projected", {}).get("sources", ())]
    assert [source["serviceAccountToken"] for source in projected if "serviceAccountToken" in source] == [
        {"path": "token", "expirationSeconds": 3600}  # for the API server
    ]
    (network,) = [d for d in built("hub") if d["kind"] == "Service"]
    name, namespace = network["metadata"]["name"], network["metadata"]["namespace"]
    file = yaml_file.parse((DEPLOY / "node-with-hub" / "agent.yaml").read_bytes(), AgentFile, name="node-with-hub")
    assert [getattr(upstream, "url", None) for upstream in file.upstreams.values()] == [
        f"https://{name}.{namespace}.svc"
    ]


def checked(name: str, spec: dict[str, Any]) -> None:
    """That what the configuration names is mounted."""
    file = yaml_file.parse((DEPLOY / name / "agent.yaml").read_bytes(), AgentFile, name=name)
    (agent,) = [one for one in containers(spec) if one["image"].partition(":")[0] == "authagent"]
    mounts = [Path(mount["mountPath"]) for mount in agent["volumeMounts"]]
    named = ("client_assertion_file", "ca_file")
    paths = [getattr(upstream, key, None) for upstream in file.upstreams.values() for key in named]
    paths = [file.socket, *filter(None, paths)]
    paths += [file.audit.path] if file.audit else []
    paths += [file.kubernetes.token_file, file.kubernetes.ca_file] if file.kubernetes else []
    for path in paths:
        assert any(mount in path.parents for mount in mounts), path
    if file.health:
        (health,) = [port["containerPort"] for port in agent["ports"] if port["name"] == "health"]
        assert health == int(file.health.rpartition(":")[2])


def test_a_tasks_pod_finds_the_socket_and_its_token_where_the_client_looks() -> None:
    spec = next(pod_specs(written("flyte")))
    mounts = {mount["mountPath"]: mount for mount in spec["containers"][0]["volumeMounts"]}
    assert mounts["/var/run/authagent"]["readOnly"] is True
    assert "subPath" not in str(mounts)  # such a mount never sees a new socket, nor a new token
    (token,) = [volume for volume in spec["volumes"] if "projected" in volume]
    (source,) = token["projected"]["sources"]
    assert f"/var/run/secrets/authagent/{source['serviceAccountToken']['path']}" == wire.POD_TOKEN
    node = yaml_file.parse((DEPLOY / "node" / "agent.yaml").read_bytes(), AgentFile, name="node")
    assert node.kubernetes
    assert source["serviceAccountToken"]["audience"] == node.kubernetes.audience


def test_propellers_part_names_the_template_and_nothing_secret() -> None:
    content = yaml.safe_load((DEPLOY / "flyte" / "propeller.yaml").read_text())["plugins"]["k8s"]
    assert content["default-pod-template-name"] == next(iter(written("flyte")))["metadata"]["name"]
    variables = {name: value for pair in content["default-env-vars"] for name, value in pair.items()}
    assert variables.keys() == {"FLYTE_PLATFORM_URL", "FLYTE_CREDENTIALS_AUTH_MODE"}
