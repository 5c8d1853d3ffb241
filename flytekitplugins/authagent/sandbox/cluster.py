"""
The Kubernetes of the sandbox, as far as an agent asks it: an API server that knows of each attempt as a pod.

Its answers have the shapes of a real one, and its pods are there as long as the processes that they stand for.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import secrets
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from flytekitplugins.authagent.credential import Secret
from flytekitplugins.authagent.sandbox import private
from flytekitplugins.authagent.sandbox.exchange import Answer, Call, json_answer
from flytekitplugins.authagent.sandbox.executor.records import ExecutionRecord
from flytekitplugins.authagent.sandbox.loopback import LoopbackServer
from flytekitplugins.authagent.sandbox.pod import Pod, Workflow
from flytekitplugins.authagent.sandbox.pod_token import LIFETIME, PodTokens

TOKEN_VARIABLE = "AUTHAGENT_POD_TOKEN"  # noqa: S105 - a name
"""Where an attempt finds the path of its pod's token."""

FRESH = 0.8
"""Of a token's life, after which the kubelet puts the next one into its place."""

MAX_ENDED = 1_000
"""Pods that have ended and can still be looked at; the oldest is gone for a further one."""

REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"

_POD = re.compile(r"/api/v1/namespaces/([^/]+)/pods/([^/]+)")
_WORKFLOW = re.compile(r"/apis/flyte\.lyft\.com/v1alpha1/namespaces/([^/]+)/flyteworkflows/([^/]+)")

_Named = tuple[str, str]
"""A namespace, and a name in it."""


class Cluster:
    """
    The API server, at `url`, for whoever shows `token`. Safe to use from any thread.

    `running` makes pods, on the executor's loop.
    """

    def __init__(self) -> None:
        self.token = Secret(secrets.token_urlsafe(32))
        self.tokens = PodTokens(self.find)
        self._lock = threading.Lock()
        self._pods: dict[_Named, Pod] = {}
        self._ended: OrderedDict[_Named, Pod] = OrderedDict()
        self._workflows: dict[_Named, tuple[ExecutionRecord, Workflow]] = {}
        self._server = LoopbackServer("cluster", self._answer)
        self.url = self._server.url

    def start(self) -> None:
        """Begin to answer."""
        self._server.start()

    def stop(self) -> None:
        """Answer nobody any more."""
        self._server.stop()

    @asynccontextmanager
    async def running(self, execution: ExecutionRecord, node: str, directory: Path) -> AsyncIterator[dict[str, str]]:
        """
        A pod of `execution` that runs while this is open, with its token in `directory`.

        Gives what its environment has more: where the token is. A pod that is left by an exception is deleted, as
        Flyte deletes those that it aborts; one that ends by itself is there for a while.
        """
        pod = self._begin(execution, node)
        file = directory / "pod-token"
        private.write(file, self.tokens.sign(pod).reveal())
        kubelet = asyncio.ensure_future(self._keep_fresh(pod, file))
        try:
            yield {TOKEN_VARIABLE: str(file)}
            self._end(pod, "Succeeded")
        finally:
            kubelet.cancel()
            self._end(pod, "")

    def find(self, namespace: str, name: str) -> Pod | None:
        """The pod, whether it runs or has ended; `None` where it is gone."""
        with self._lock:
            return self._pods.get((namespace, name)) or self._ended.get((namespace, name))

    def pods(self) -> list[Pod]:
        """Those that run."""
        with self._lock:
            return list(self._pods.values())

    def workflow(self, namespace: str, name: str) -> Workflow | None:
        """The FlyteWorkflow of the execution of that name."""
        with self._lock:
            found = self._workflows.get((namespace, name))
        return found[1] if found else None

    def _begin(self, execution: ExecutionRecord, node: str) -> Pod:
        made = Workflow.of(execution.message)
        named = (made.namespace, made.name)
        with self._lock:
            known = self._workflows.get(named)
            if known is None or known[0] is not execution:  # another execution of that name is another object
                known = self._workflows[named] = (execution, made)
            pod = Pod(known[1], _pod_name(made.name, node))
            self._pods[pod.namespace, pod.name] = pod
        return pod

    def _end(self, pod: Pod, phase: str) -> None:
        """It is in `phase` from now on, or gone where that is empty; once is enough."""
        named = (pod.namespace, pod.name)
        with self._lock:
            if self._pods.pop(named, None) is None or not phase:
                return
            self._ended[named] = replace(pod, phase=phase)
            if len(self._ended) > MAX_ENDED:
                self._ended.popitem(last=False)

    async def _keep_fresh(self, pod: Pod, file: Path) -> None:
        with contextlib.suppress(OSError):  # the task removed its own directory
            while True:
                await asyncio.sleep(LIFETIME * FRESH)
                private.write(file, self.tokens.sign(pod).reveal())

    def _answer(self, call: Call) -> Answer:
        if not _same(call.headers.get("authorization", ""), f"Bearer {self.token.reveal()}"):
            return _status(401, "Unauthorized", "Unauthorized")
        if call.path == REVIEWS and call.method == "POST":
            return self._review(call)
        for pattern, find in self._objects():
            match = pattern.fullmatch(call.path)
            if match and call.method == "GET":
                namespace, name = map(unquote, match.groups())
                found = find(namespace, name)
                return json_answer(200, found.content()) if found else _missing(name)
        # A path that is not there must not look like an object that is not.
        return Answer(404, b"404 page not found\n", (("Content-Type", "text/plain"),))

    def _objects(self) -> tuple[tuple[re.Pattern[str], Callable[[str, str], Pod | Workflow | None]], ...]:
        return (_POD, self.find), (_WORKFLOW, self.workflow)

    def _review(self, call: Call) -> Answer:
        """A TokenReview, checked as with `fieldValidation=Strict`, whether the query says so or not."""
        spec = _spec(call.body)
        if spec is None:
            return _status(400, "BadRequest", "this is no TokenReview")
        token, audiences = spec.get("token"), spec.get("audiences", [])
        if not isinstance(token, str) or not token:
            return _status(400, "BadRequest", "token is required for TokenReview in authentication")
        if not isinstance(audiences, list) or not all(isinstance(one, str) for one in audiences):
            return _status(400, "BadRequest", "audiences are a list of names")
        return json_answer(
            201,
            {
                "kind": "TokenReview",
                "apiVersion": "authentication.k8s.io/v1",
                "spec": spec,
                "status": self.tokens.review(token, audiences),
            },
        )


def _spec(body: bytes) -> Mapping[str, Any] | None:
    """What a TokenReview asks, `None` where it is none or says more than one does."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return None
    spec = content.get("spec") if isinstance(content, dict) else None
    return spec if isinstance(spec, dict) and spec.keys() <= {"token", "audiences"} else None


def _pod_name(execution: str, node: str) -> str:
    """A name that no other pod has; what comes before its last part is for people."""
    readable = re.sub(r"[^a-z0-9]+", "-", f"{execution}-{node}".lower()).strip("-")[:200]
    return f"{readable}-{secrets.token_hex(4)}"


def _same(one: str, other: str) -> bool:
    return secrets.compare_digest(one.encode(), other.encode())


def _missing(name: str) -> Answer:
    return _status(404, "NotFound", f"{json.dumps(name)} not found")


def _status(code: int, reason: str, message: str) -> Answer:
    content = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return json_answer(code, {**content, "message": message, "reason": reason, "code": code})
