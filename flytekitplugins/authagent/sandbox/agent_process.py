"""The sandbox's agent, for whoever runs as the same user: one upstream, one rule."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from flytekitplugins.authagent.sandbox import client, private
from flytekitplugins.authagent.sandbox.daemon_process import DaemonProcess
from flytekitplugins.authagent.sandbox.issuer import Issuer


class AgentProcess(DaemonProcess):
    """Serves `socket`, in `directory`, with tokens of `issuer`."""

    def __init__(self, directory: Path, issuer: Issuer) -> None:
        super().__init__("agent", directory)
        self._issuer = issuer

    def start(self, endpoint: str, interrupted: Callable[[], bool] = lambda: False) -> None:
        """
        Start it and wait until it answers, or until `interrupted`. It tells those who ask that Flyte is at `endpoint`.

        Raises `ProviderUnavailable`.
        """
        secret = self._issuer.clients[client.AGENT].secret
        secret_file = private.write(self._directory / "client_secret", secret.reveal() if secret else "")
        upstream = {
            "kind": "client_credentials",
            "token_endpoint": self._issuer.token_endpoint,
            "client_id": client.AGENT,
            "client_secret_file": str(secret_file),
            "scopes": ["all"],
        }
        rule = {"name": "you", "who": {"uid": [os.getuid()]}, "give": {"upstream": "flyte", "scopes": ["all"]}}
        configuration = {
            "audit": str(self._directory / "audit.jsonl"),
            "upstreams": {"flyte": upstream},
            "rules": [rule],
            "flyte": {"endpoint": endpoint, "insecure": True},
        }
        self._serve(configuration, interrupted)
