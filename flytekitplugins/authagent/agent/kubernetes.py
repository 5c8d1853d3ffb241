"""
`attestor: kubernetes`: of which pod a caller is, and of which execution the pod.

A caller shows its projected token; the API server reviews it, the pod is looked at, and its controller reference is
followed to the FlyteWorkflow, whose `executionId` alone says which execution it is. Labels never do: whoever launches
an execution may choose them.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

from flytekitplugins.authagent.agent import projected_token
from flytekitplugins.authagent.agent.api_server import ApiServer
from flytekitplugins.authagent.agent.kubernetes_settings import KubernetesSettings
from flytekitplugins.authagent.agent.peer import Peer
from flytekitplugins.authagent.agent.pod_checks import Reference, Review, execution_of, pod_of, reviewed, workflow_of
from flytekitplugins.authagent.agent.projected_token import ProjectedToken
from flytekitplugins.authagent.agent.refusal import Refusal, unavailable
from flytekitplugins.authagent.agent.shared_threads import SharedThreads
from flytekitplugins.authagent.agent.workload import Pod, Workload
from flytekitplugins.authagent.bounded_cache import BoundedCache, text_size
from flytekitplugins.authagent.credential import Secret
from flytekitplugins.authagent.source import Clock

SECONDS = 5.0
"""For a whole attestation, queue included."""

FRESH = 10.0
"""Seconds for which an attestation is good, as the API server itself remembers a success."""

STALE = 300.0
"""Seconds for which one is good while the API server cannot be asked. A refusal of its ends that at once."""

IN_FLIGHT = 8
WAITING = 64
KNOWN_IN_FLIGHT = 4
"""
Calls at once: for tokens that were never reviewed well, and, so that a flood of those starves nobody, for others.

An address (a user, on the socket) may have all of the former to itself while nobody else wants them: behind one address
may be a node with many pods that start. Once others do, each has its share.
"""

PATIENCE = SECONDS - 1
"""Seconds for which one is queued, so that there is time to ask."""

REMEMBERED = 4096
EXECUTIONS = 1024
BYTES = 8 << 20
"""
Tokens, pods and executions that are kept, and the bytes of each kind, the least recently used dropped first. Only what
was attested is. Labels and the identity are written by whoever launches, at any length.
"""


HINT = 64
"""Bytes that a label has beside its text."""

Behind = tuple[str, Reference]
"""A workflow, by the namespace that it was looked for in and the reference to it: others are checked anew."""


@dataclass(frozen=True)
class _Known:
    """A pod that was attested. `checked` is by the steady clock."""

    pod: Pod
    checked: float


@dataclass(frozen=True)
class _Reviewed:
    """A token that was reviewed well. `at` is by the steady clock, `expires_at` by the wall clock."""

    pod_uid: str
    credential_id: str | None
    at: float
    expires_at: float


class _Found(NamedTuple):
    """What an attestation brought: `workflow` is the one behind the pod's `execution`."""

    review: Review
    pod: Pod
    checked: bool
    workflow: Behind | None


class Kubernetes:
    """See the module, and `Attestor`. Its memory is touched on the event loop only."""

    name = "kubernetes"

    def __init__(
        self, settings: KubernetesSettings, *, clock: Clock | None = None, api_server: ApiServer | None = None
    ) -> None:
        self._settings = settings.model_copy(update={"node_name": settings.node(os.environ), "node_name_env": None})
        self._clock = clock or Clock()
        self._api = api_server or ApiServer(settings)
        self._tokens: BoundedCache[bytes, _Reviewed] = BoundedCache(REMEMBERED, BYTES, _token_size)
        self._pods: BoundedCache[str, _Known] = BoundedCache(REMEMBERED, BYTES, _pod_size)
        self._executions: BoundedCache[Behind, dict[str, Any]] = BoundedCache(EXECUTIONS, BYTES, _execution_size)
        self._flights: dict[bytes, asyncio.Task[Pod]] = {}
        self._counts: Counter[str] = Counter()
        self._new = SharedThreads(
            "authagent-attest",
            at_once=IN_FLIGHT,
            each=IN_FLIGHT,
            waiting=WAITING,
            each_waiting=WAITING,
            patience=PATIENCE,
            refusal="too many callers are being attested",
        )
        self._again = ThreadPoolExecutor(KNOWN_IN_FLIGHT, "authagent-attest-again")

    def attest(self, peer: Peer, shown: Secret | None) -> Workload | Awaitable[Workload]:
        """See `Attestor`."""
        if shown is None:
            self._counts["nothing shown"] += 1
            what = "show the pod's projected token, as client_assertion or as a bearer token"
            raise Refusal(401, "invalid_client", what, "the caller showed no token of a pod")
        settings, now = self._settings, self._clock.wall()
        try:
            token = projected_token.read(
                shown, audience=settings.audience, max_lifetime=settings.max_token_lifetime, now=now
            )
        except Refusal:
            self._counts["junk"] += 1
            raise
        pod = self._remembered(token, FRESH)
        if pod is not None:
            self._counts["cached"] += 1
            return Workload(peer, pod)
        return self._attested(peer, token)

    def ready(self) -> str:
        """See `Attestor`."""
        return f"the Kubernetes API server cannot be asked: {self._api.trouble}" if self._api.trouble else ""

    def counts(self) -> dict[str, int]:
        """See `Attestor`."""
        return dict(self._counts)

    def close(self) -> None:
        """See `Attestor`."""
        self._new.close()
        self._again.shutdown(wait=False)

    async def _attested(self, peer: Peer, token: ProjectedToken) -> Workload:
        try:
            pod = await asyncio.wait_for(asyncio.shield(self._flight(peer, token)), SECONDS)
            self._counts["attested"] += 1
        except (Refusal, asyncio.TimeoutError) as failed:
            refusal = failed if isinstance(failed, Refusal) else unavailable("pods cannot be attested for now", "time")
            stale = self._remembered(token, STALE) if refusal.status == 503 else None
            if stale is None:
                self._counts[{503: "unavailable", 429: "busy"}.get(refusal.status, "refused")] += 1
                raise refusal from None
            self._counts["stale"] += 1
            pod = stale
        return Workload(peer, pod)

    def _flight(self, peer: Peer, token: ProjectedToken) -> asyncio.Task[Pod]:
        """The attestation of `token` that is going on, or a new one."""
        flight = self._flights.get(token.digest)
        if flight is None:
            flight = asyncio.get_running_loop().create_task(self._fly(peer, token))
            flight.add_done_callback(lambda done: done.cancelled() or done.exception())  # somebody may not wait for it
            self._flights[token.digest] = flight
        return flight

    async def _fly(self, peer: Peer, token: ProjectedToken) -> Pod:
        ask = partial(self._ask, token, time.monotonic() + SECONDS)
        try:
            if token.digest in self._tokens:
                found = await asyncio.get_running_loop().run_in_executor(self._again, ask)
            else:
                found = await self._new.run(peer.address or peer.uid, ask)
        except _Gone as gone:
            self._forget(gone.pod_uid)
            raise gone.refusal from None
        except RuntimeError:  # the pool is closed: the configuration has changed
            raise unavailable("pods cannot be attested for now", "the agent reads its configuration anew") from None
        except Refusal as refusal:
            if refusal.status == 401:
                self._tokens.pop(token.digest)  # this token opens nothing more; whoever else knows the pod stays
            raise
        finally:
            del self._flights[token.digest]
        return self._remember(token, found)

    def _ask(self, token: ProjectedToken, deadline: float) -> _Found:
        """The checks in order, in a thread. Raises `Refusal`, and `_Gone` for a pod that is dead for certain."""
        review = reviewed(self._api.review(token.secret, deadline), self._settings)
        known = self._pods.peek(review.pod_uid)
        if known is not None and self._clock.steady() < known.checked + FRESH:
            return _Found(review, known.pod, checked=False, workflow=None)
        try:
            content = self._api.pod(review.namespace, review.pod_name, deadline)
            pod = pod_of(content, review)
        except Refusal as refusal:
            raise (refusal if refusal.status == 503 else _Gone(review.pod_uid, refusal)) from None
        reference = workflow_of(content)
        if reference is None:
            return _Found(review, pod, checked=True, workflow=None)
        behind = (review.namespace, reference)
        execution = self._executions.peek(behind)
        if execution is None:
            workflow = self._api.workflow(review.namespace, reference.name, deadline)
            execution = execution_of(workflow, reference, review.namespace, self._settings)
        return _Found(review, replace(pod, **execution), checked=True, workflow=behind)

    def _remember(self, token: ProjectedToken, found: _Found) -> Pod:
        now, review, pod = self._clock.steady(), found.review, found.pod
        known = _Reviewed(review.pod_uid, review.credential_id, now, token.expires_at)
        self._tokens.put(token.digest, known)
        if found.checked:
            self._pods.put(review.pod_uid, _Known(pod, now))
        if found.workflow is not None:
            facts = {name: getattr(pod, name) for name in ("project", "domain", "execution", "identity")}
            self._executions.put(found.workflow, facts)
        return replace(found.pod, credential_id=review.credential_id)

    def _remembered(self, token: ProjectedToken, seconds: float) -> Pod | None:
        """The pod of a token that was attested at most `seconds` ago."""
        known = self._tokens.get(token.digest)
        pod = self._pods.get(known.pod_uid) if known else None
        if known is None or pod is None or self._clock.wall() >= known.expires_at:
            return None
        if self._clock.steady() >= min(known.at, pod.checked) + seconds:
            return None
        return replace(pod.pod, credential_id=known.credential_id)

    def _forget(self, pod_uid: str) -> None:
        self._pods.pop(pod_uid)
        self._tokens.drop(lambda _digest, known: known.pod_uid == pod_uid)


class _Gone(Exception):
    """A pod that is not there any more, or not as it was reviewed."""

    def __init__(self, pod_uid: str, refusal: Refusal) -> None:
        super().__init__(pod_uid)
        self.pod_uid = pod_uid
        self.refusal = refusal


def _token_size(digest: bytes, known: _Reviewed) -> int:
    return len(digest) + text_size(known.pod_uid, known.credential_id)


def _pod_size(uid: str, known: _Known) -> int:
    pod = known.pod
    hints = [text for pairs in (pod.labels, pod.identity) for pair in pairs.items() for text in pair]
    return text_size(uid, *pod.described().values(), *hints) + HINT * len(hints)


def _execution_size(behind: Behind, facts: dict[str, Any]) -> int:
    identity = [text for pair in facts["identity"].items() for text in pair]
    return text_size(behind[0], *behind[1], facts["project"], facts["domain"], facts["execution"], *identity)
