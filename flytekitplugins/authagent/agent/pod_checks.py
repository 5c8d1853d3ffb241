"""
What must be true of the API server's answers before a pod is believed to be what it says.

Answers in, facts out; nothing is asked here. Each check that fails raises `Refusal`, whose reason names it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from flytekitplugins.authagent.agent.kubernetes_settings import KubernetesSettings
from flytekitplugins.authagent.agent.refusal import unknown_peer
from flytekitplugins.authagent.agent.workload import Pod

GROUP_VERSION = "flyte.lyft.com/v1alpha1"

_USERNAME = re.compile(r"system:serviceaccount:([^:]+):([^:]+)")
_EXTRA = "authentication.kubernetes.io/"
_ALIVE = ("Pending", "Running")
_IDENTITY = {
    "iam_role": ("iam_role", "iamRole"),
    "k8s_service_account": ("k8s_service_account", "k8sServiceAccount"),
    "execution_identity": ("execution_identity", "executionIdentity"),
}


class Review(NamedTuple):
    """A pod, as a token says it, and the API server that it is the token's."""

    namespace: str
    service_account: str
    pod_name: str
    pod_uid: str
    node: str
    credential_id: str | None


class Reference(NamedTuple):
    """A pod's controller, by name and uid."""

    name: str
    uid: str


def reviewed(status: Mapping[str, Any], settings: KubernetesSettings) -> Review:
    """
    The pod of a TokenReview's `status`.

    A token that begins with a space is authenticated too, as anonymous and with our audience echoed: so the name of a
    service account and the uid of a pod must be there.
    """
    if status.get("authenticated") is not True:
        raise unknown_peer("the API server does not take the token that was shown")
    if settings.audience not in _list(status.get("audiences")):
        raise unknown_peer("the review does not name our audience")
    user = _dict(status.get("user"))
    account = _USERNAME.fullmatch(str(user.get("username")))
    if account is None:
        raise unknown_peer("the token that was shown is not a service account's")
    extra = _dict(user.get("extra"))
    names, uids = _list(extra.get(_EXTRA + "pod-name")), _list(extra.get(_EXTRA + "pod-uid"))
    if len(names) != 1 or len(uids) != 1:
        raise unknown_peer("the token that was shown is not bound to one pod")
    node = next(iter(_list(extra.get(_EXTRA + "node-name"))), "")
    if settings.node_name and node != settings.node_name:
        raise unknown_peer("the pod runs on another node")
    credential_id = next(iter(_list(extra.get(_EXTRA + "credential-id"))), None)
    return Review(account[1], account[2], names[0], uids[0], node, credential_id)


def pod_of(content: Mapping[str, Any] | None, review: Review) -> Pod:
    """The pod that was reviewed, if it is the one that is there now, and lives."""
    if content is None:
        raise unknown_peer("the pod is gone")
    metadata, spec = _dict(content.get("metadata")), _dict(content.get("spec"))
    if metadata.get("uid") != review.pod_uid:
        raise unknown_peer("another pod has the name of the one that was reviewed")
    if metadata.get("deletionTimestamp"):
        raise unknown_peer("the pod is being deleted")
    phase = _dict(content.get("status")).get("phase")
    if phase not in _ALIVE:
        raise unknown_peer(f"the pod is not alive any more: {phase}")
    if spec.get("serviceAccountName") != review.service_account:
        raise unknown_peer("the pod has another service account than its token")
    node = str(spec.get("nodeName") or "")
    if review.node and node != review.node:
        raise unknown_peer("the pod runs on another node than its token says")
    labels = {str(name): str(value) for name, value in _dict(metadata.get("labels")).items()}
    return Pod(
        namespace=review.namespace,
        service_account=review.service_account,
        name=review.pod_name,
        uid=review.pod_uid,
        node=node,
        labels=MappingProxyType(labels),
    )


def workflow_of(content: Mapping[str, Any] | None) -> Reference | None:
    """
    The FlyteWorkflow that controls a pod; `None` where something else does, or nothing.

    Kinds are compared without case: Flyte writes `flyteworkflow`, and the resource is `FlyteWorkflow`.
    """
    owners = _list(_dict(_dict(content).get("metadata")).get("ownerReferences"))
    controllers = [owner for owner in owners if isinstance(owner, dict) and owner.get("controller") is True]
    flyte = [
        owner
        for owner in owners
        if isinstance(owner, dict) and str(owner.get("apiVersion")).startswith(GROUP_VERSION.partition("/")[0] + "/")
    ]
    if not flyte:
        return None
    owner = flyte[0]
    kind = str(owner.get("kind")).lower()
    if len(flyte) != 1 or controllers != flyte or owner.get("apiVersion") != GROUP_VERSION or kind != "flyteworkflow":
        raise unknown_peer("the pod's reference to a workflow is not that of its one controller")
    return Reference(str(owner.get("name")), str(owner.get("uid")))


def execution_of(
    workflow: Mapping[str, Any] | None, reference: Reference, namespace: str, settings: KubernetesSettings
) -> dict[str, Any]:
    """`project`, `domain`, `execution` and the hint `identity` of the workflow that `reference` names."""
    if workflow is None:
        raise unknown_peer("the workflow that the pod names is not there")
    metadata = _dict(workflow.get("metadata"))
    if metadata.get("uid") != reference.uid:
        raise unknown_peer("the workflow that the pod names is another one now")
    if metadata.get("deletionTimestamp"):
        raise unknown_peer("the workflow that the pod names is being deleted")
    found = _dict(workflow.get("executionId"))
    project, domain, name = (found.get(key) for key in ("project", "domain", "name"))
    if not all(isinstance(part, str) and part and ":" not in part for part in (project, domain, name)):
        raise unknown_peer("the workflow that the pod names has no executionId")
    if metadata.get("name") != name:
        raise unknown_peer("the workflow that the pod names has the executionId of another")
    if settings.namespace(str(project), str(domain)) != namespace:
        raise unknown_peer(f"executions of {project}:{domain} do not run in the namespace of the pod")
    return {
        "project": project,
        "domain": domain,
        "execution": f"{project}:{domain}:{name}",
        "identity": MappingProxyType(_identity(workflow)),
    }


def _identity(workflow: Mapping[str, Any]) -> dict[str, str]:
    """What the launcher asked to run as: hints, and nothing secret."""
    context = workflow.get("securityContext") or workflow.get("security_context")
    run_as = _dict(_dict(context).get("run_as") or _dict(context).get("runAs"))
    found = {name: next((run_as[key] for key in keys if run_as.get(key)), None) for name, keys in _IDENTITY.items()}
    client = _dict(run_as.get("oauth2_client") or run_as.get("oauth2Client"))
    found["oauth2_client"] = client.get("client_id") or client.get("clientId")
    return {name: value for name, value in found.items() if isinstance(value, str)}


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
