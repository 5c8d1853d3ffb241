"""
A FAKE Kubernetes API server, not a real one: it repeats shapes that were recorded from kube-apiserver 1.36.3.

It knows the three calls of the agent, believes every owner reference and label as the real one does, and goes wrong in
the ways in which that one was seen to. It verifies no signature: a token is good if it was handed out here.
"""

from __future__ import annotations

import base64
import json
import ssl
import threading
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

REMEMBERED = 10.0
"""Seconds for which a real one remembers a review that went well, whatever happens to the pod meanwhile."""

LEEWAY = 60.0
"""Seconds for which it takes a token that has ended."""

INVALIDATED = "service account token has been invalidated"
EXTRA = "authentication.kubernetes.io/"
AUDIENCE = "authagent"


def encoded(content: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


@dataclass
class Pod:
    namespace: str = "billing-production"
    name: str = "f1-n0-0"
    service_account: str = "runner"
    node: str = "node-1"
    uid: str = field(default_factory=lambda: str(uuid.uuid4()))
    phase: str = "Running"
    deleting: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    owners: list[dict[str, Any]] = field(default_factory=list)

    def content(self) -> dict[str, Any]:
        metadata = {"name": self.name, "namespace": self.namespace, "uid": self.uid, "labels": self.labels}
        metadata |= {"ownerReferences": self.owners} if self.owners else {}
        metadata |= {"deletionTimestamp": "2026-01-01T00:00:30Z"} if self.deleting else {}
        spec = {"serviceAccountName": self.service_account, "nodeName": self.node}
        return {"kind": "Pod", "apiVersion": "v1", "metadata": metadata, "spec": spec, "status": {"phase": self.phase}}


class FakeApiServer:
    """Answers on loopback; `calls` counts by kind, `faults` maps a kind (or `*`) to a fault and how often it shows."""

    def __init__(self, own_token: str = "agents-own", tls: ssl.SSLContext | None = None) -> None:
        self.own_token = own_token
        self.calls: Counter[str] = Counter()
        self.pods: dict[tuple[str, str], Pod] = {}
        self.workflows: dict[tuple[str, str], dict[str, Any]] = {}
        self.tokens: dict[str, tuple[Pod, dict[str, Any]]] = {}
        self.faults: dict[str, list[Any]] = {}
        self.seen: list[dict[str, Any]] = []
        self.ports: set[int] = set()
        self.clock = time.monotonic
        self._remembered: dict[str, tuple[float, dict[str, Any]]] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.fake = self  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
            self.url = f"https://localhost:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    # What a cluster would do

    def workflow(self, name: str = "f1", project: str = "billing", domain: str = "production", **more: Any) -> dict:
        content = {
            "kind": "FlyteWorkflow",
            "apiVersion": "flyte.lyft.com/v1alpha1",
            "metadata": {"name": name, "namespace": f"{project}-{domain}", "uid": str(uuid.uuid4())},
            "executionId": {"project": project, "domain": domain, "name": name},
            **more,
        }
        self.workflows[content["metadata"]["namespace"], name] = content
        return content

    def pod_of(self, workflow: dict[str, Any], **more: Any) -> Pod:
        """As propeller makes it: the kind of its owner in lower case."""
        return self.pod(owners=[owner(workflow)], **more)

    def pod(self, **more: Any) -> Pod:
        pod = Pod(**more)
        self.pods[pod.namespace, pod.name] = pod
        return pod

    def token(
        self, pod: Pod, *, audience: str = AUDIENCE, life: float = 600, now: float | None = None, **extra: Any
    ) -> str:
        """As kubelet asks for it. `extra` replaces keys of the review's `extra`."""
        now = time.time() if now is None else now
        jti = str(uuid.uuid4())
        bound = {
            "namespace": pod.namespace,
            "pod": {"name": pod.name, "uid": pod.uid},
            "serviceaccount": {"name": pod.service_account, "uid": "x"},
        }
        claims = {"aud": [audience], "exp": int(now + life), "iat": int(now), "nbf": int(now), "jti": jti}
        claims |= {"iss": "https://cluster", "sub": f"system:serviceaccount:{pod.namespace}:{pod.service_account}"}
        text = ".".join([encoded({"alg": "RS256"}), encoded(claims | {"kubernetes.io": bound}), encoded(jti)])
        said = {
            EXTRA + "credential-id": [f"JTI={jti}"],
            EXTRA + "node-name": [pod.node],
            EXTRA + "pod-name": [pod.name],
            EXTRA + "pod-uid": [pod.uid],
        } | extra
        self.tokens[text] = (pod, {name: value for name, value in said.items() if value})
        return text

    def delete(self, pod: Pod) -> None:
        del self.pods[pod.namespace, pod.name]

    # What it answers

    def review(self, spec: dict[str, Any]) -> dict[str, Any]:
        token, audiences = str(spec.get("token")), spec.get("audiences") or ["https://kubernetes.default.svc"]
        if token.startswith(" "):
            anonymous = {"username": "system:anonymous", "groups": ["system:unauthenticated"]}
            return {"authenticated": True, "audiences": audiences, "user": anonymous}
        at, remembered = self._remembered.get(token, (float("-inf"), {}))
        if self.clock() < at + REMEMBERED:
            return remembered
        wrong = self._wrong(token.strip(), audiences)
        if wrong:
            return {"user": {}, "error": f"[invalid bearer token, {wrong}]"}
        pod, extra = self.tokens[token.strip()]
        name = f"system:serviceaccount:{pod.namespace}:{pod.service_account}"
        user = {"username": name, "uid": "x", "groups": ["system:serviceaccounts"], "extra": extra}
        status = {"authenticated": True, "audiences": audiences, "user": user}
        self._remembered[token] = (self.clock(), status)
        return status

    def _wrong(self, token: str, audiences: list[str]) -> str:
        if token not in self.tokens:
            return "go-jose/go-jose: error in cryptographic primitive"
        pod, _ = self.tokens[token]
        if self.pods.get((pod.namespace, pod.name)) is not pod:
            return INVALIDATED
        claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
        if not set(claims["aud"]) & set(audiences):
            return f"token audiences {json.dumps(claims['aud'])} is invalid for the target audiences"
        return "service account token has expired" if claims["exp"] + LEEWAY < time.time() else ""

    def fault(self, kind: str) -> Any:
        for name in (kind, "*"):
            waiting = self.faults.get(name)
            if waiting:
                return (
                    waiting[0]
                    if waiting[0] == "hang" or (len(waiting) > 1 and waiting[1] == "always")
                    else waiting.pop(0)
                )
        return None


def owner(workflow: dict[str, Any], **changed: Any) -> dict[str, Any]:
    metadata = workflow["metadata"]
    return {
        "apiVersion": "flyte.lyft.com/v1alpha1",
        "kind": "flyteworkflow",
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    } | changed


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    @property
    def fake(self) -> FakeApiServer:
        return self.server.fake  # type: ignore[attr-defined]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.fake.seen.append({"path": self.path, **body})
        if self._spoiled("review"):
            return
        status = self.fake.review(body["spec"])
        self._say(201, {"kind": "TokenReview", "spec": body["spec"], "status": status})

    def do_GET(self) -> None:
        parts = urlsplit(self.path).path.split("/")
        kind = "pod" if "pods" in parts else "workflow"
        if self._spoiled(kind):
            return
        namespace, name = parts[-3], parts[-1]
        if kind == "pod":
            pod = self.fake.pods.get((namespace, name))
            content = pod.content() if pod else None
        else:
            content = self.fake.workflows.get((namespace, name))
        if content is None:
            self._say(404, {"kind": "Status", "reason": "NotFound", "message": f"{kind} {name!r} not found"})
        else:
            self._say(200, content)

    def _spoiled(self, kind: str) -> bool:
        fake = self.fake
        fake.calls[kind] += 1
        fake.ports.add(self.client_address[1])
        if self.headers["Authorization"] != f"Bearer {fake.own_token}":
            self._say(401, {"kind": "Status", "reason": "Unauthorized"})
            return True
        fault = fake.fault(kind)
        if fault is None:
            return False
        if fault == "hang":
            time.sleep(4)
            self.close_connection = True
        elif fault == "close":
            self.close_connection = True
        elif fault == "invalidated":  # what a hung store looks like for a pod that is not in the cache
            self._say(
                201,
                {"status": {"user": {}, "error": "[invalid bearer token, service account token has been invalidated]"}},
            )
        elif fault == "large":
            self._say(200 if kind != "review" else 201, {"x": "y" * (3 << 20)})
        elif fault == "html":
            self._raw(200 if kind != "review" else 201, b"<html>", {})
        elif fault == 429:
            self._raw(429, b"Too many requests, please try again later.\n", {"Retry-After": "1"})
        else:
            reason = {403: "Forbidden", 401: "Unauthorized", 504: "Timeout"}.get(fault, "InternalError")
            self._say(fault, {"kind": "Status", "status": "Failure", "reason": reason})
        return True

    def _say(self, status: int, content: dict[str, Any]) -> None:
        self._raw(status, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _raw(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing."""
