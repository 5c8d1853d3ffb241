"""The sandbox's hub: a daemon that keeps people's grants, and gives tasks tokens that speak for those people."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from joserfc.jwk import KeySet, RSAKey

from flytekitplugins.authagent.sandbox import client, private
from flytekitplugins.authagent.sandbox.cluster import Cluster
from flytekitplugins.authagent.sandbox.daemon_process import DaemonProcess
from flytekitplugins.authagent.sandbox.dialect import HUB_AUDIENCE
from flytekitplugins.authagent.sandbox.issuer import Issuer
from flytekitplugins.authagent.sandbox.port import free_port
from flytekitplugins.authagent.sandbox.trusted_issuer import TrustedIssuer
from flytekitplugins.authagent.sandbox.users import USERS

ON_BEHALF_OF = "on_behalf_of"

CONSENTS = ("exchange", "page", ON_BEHALF_OF)
"""The ways in which a hub gets tokens that speak for people, the usual one first."""

KEY_BYTES = 32


class HubProcess(DaemonProcess):
    """
    Serves `socket`, in `directory`, for tasks, and `url` for people and for other agents.

    `consent` is one of `CONSENTS`. It can be stopped and started again: what it keeps is in `directory`.
    """

    def __init__(self, directory: Path, consent: str) -> None:
        super().__init__("hub", directory)
        self.url = f"http://127.0.0.1:{free_port()}"
        self.consent = consent
        self._seal = base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()
        self._key = RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256"}, auto_kid=True)

    def trusted(self) -> list[TrustedIssuer]:
        """Whom the provider must trust for it: the hub itself where it says on whose behalf it asks, else nobody."""
        if self.consent != ON_BEHALF_OF:
            return []
        public = KeySet([RSAKey.import_key(self._key.as_dict(private=False))])
        return [TrustedIssuer(self.url, lambda: public, {user: user for user in USERS})]

    def start(
        self, issuer: Issuer, cluster: Cluster, endpoint: str, interrupted: Callable[[], bool] = lambda: False
    ) -> None:
        """
        Start it and wait until it answers, or until `interrupted`.

        It asks `cluster` who its callers are, and Flyte at `endpoint` how executions are. Raises `ProviderUnavailable`.
        """
        self._serve(self.configuration(issuer, cluster, endpoint), interrupted)

    def configuration(self, issuer: Issuer, cluster: Cluster, endpoint: str) -> dict[str, Any]:
        """Its `agent.yaml`, whose secrets stand in files beside it, which this writes."""
        return {
            "listen": self.url,
            "audit": str(self._directory / "hub-audit.jsonl"),
            "attestor": "kubernetes",
            "kubernetes": {
                "api_server": cluster.url,
                "token_file": self._file("hub.cluster-token", cluster.token.reveal()),
            },
            "flyte": {"endpoint": endpoint, "insecure": True},
            "hub": {
                "url": self.url,
                "people": {"issuer": issuer.issuer, "audience": HUB_AUDIENCE, "types": ["at+jwt"]},
                "store": f"sqlite:///{self._directory / 'hub.db'}",
                "keys_file": self._file("hub.keys", self._seal),
                "ask_flyte_as": "service",
            },
            "upstreams": {"service": self._service(issuer), "people": self._people(issuer)},
            "rules": [
                {
                    "name": "for whoever launched it",
                    "who": {"namespace": "*"},
                    "give": {"upstream": "people", "scopes": ["all"], "wait": "10s"},
                }
            ],
        }

    def _service(self, issuer: Issuer) -> dict[str, Any]:
        """The upstream whose tokens ask Flyte about executions."""
        return {"kind": "client_credentials", **self._client(issuer, client.AGENT)}

    def _people(self, issuer: Issuer) -> dict[str, Any]:
        """The upstream whose tokens speak for people."""
        upstream = {"kind": "grant", "consent": self.consent, **self._client(issuer, client.HUB)}
        if self.consent == ON_BEHALF_OF:
            upstream |= {
                "assertion_key_file": self._file("hub.pem", self._key.as_pem(private=True).decode()),
                "assertion_issuer": self.url,
                "assertion_key_id": self._key.kid,
            }
        return upstream

    def _client(self, issuer: Issuer, id: str) -> dict[str, Any]:
        """Who asks for tokens, and for which."""
        secret = issuer.clients[id].secret
        return {
            "issuer": issuer.issuer,
            "client_id": id,
            "client_secret_file": self._file(f"{id}.secret", secret.reveal() if secret else ""),
            "audience": issuer.audience,
            "scopes": ["all"],
        }

    def _file(self, name: str, text: str) -> str:
        """Where `text` is from now on."""
        return str(private.write(self._directory / name, text))
