"""An attestor of pods in front of a fake API server, and a clock that only tests move."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from kubernetes_api import FakeApiServer

from flytekitplugins.authagent.agent.kubernetes import Kubernetes
from flytekitplugins.authagent.agent.kubernetes_settings import KubernetesSettings
from flytekitplugins.authagent.agent.peer import Peer
from flytekitplugins.authagent.agent.refusal import Refusal
from flytekitplugins.authagent.agent.workload import Pod, Workload
from flytekitplugins.authagent.credential import Secret
from flytekitplugins.authagent.source import Clock

PEER = Peer(1000, 1000, 0)


class Place:
    """A fake API server, an attestor that asks it, and a clock that only we move."""

    def __init__(self, directory: Path, **changed: Any) -> None:
        self.api = FakeApiServer()
        self.own = directory / "own-token"
        self.own.write_text(self.api.own_token)
        self.ahead = 0.0
        clock = Clock(wall=lambda: time.time() + self.ahead, steady=lambda: time.monotonic() + self.ahead)
        self.api.clock = clock.steady
        settings = {"api_server": self.api.url, "token_file": str(self.own), **changed}
        self.attestor = Kubernetes(KubernetesSettings.model_validate(settings), clock=clock)

    def attest(self, *tokens: str | None) -> list[Pod | Refusal]:
        """All at once, each as a caller of its own."""
        return asyncio.run(self._all(tokens))

    def one(self, token: str | None) -> Pod:
        (found,) = self.attest(token)
        if isinstance(found, Refusal):
            raise found
        return found

    def refused(self, token: str | None) -> Refusal:
        (found,) = self.attest(token)
        assert isinstance(found, Refusal), found
        return found

    async def _all(self, tokens: tuple[str | None, ...]) -> list[Pod | Refusal]:
        return list(await asyncio.gather(*(self._one(token) for token in tokens)))

    async def _one(self, token: str | None, peer: Peer = PEER) -> Pod | Refusal:
        try:
            found = self.attestor.attest(peer, None if token is None else Secret(token))
            workload = found if isinstance(found, Workload) else await found
        except Refusal as refusal:
            return refusal
        assert workload.peer == peer
        assert workload.pod is not None
        return workload.pod
