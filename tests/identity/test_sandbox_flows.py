"""The flow suite at the sandbox's own identity provider."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import running_provider
from browsing import Browser
from flow_peer import Peer
from flow_suite import FlowSuite
from foreign import Cluster, projected
from identity_provider import Client
from joserfc.jwk import ECKey, KeySet

from flytekitplugins.authagent.sandbox import client as sandbox_client

NOT_OFFERED: dict[str, str] = {}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("flows")


@pytest.fixture(scope="module")
def peer(directory: Path) -> Iterator[Peer]:
    cluster = Cluster()
    with running_provider.running("external", trusted=[cluster.trusted()]) as provider:
        key = ECKey.generate_key("P-256", parameters={"use": "sig", "alg": "ES256"}, auto_kid=True)
        provider.issuer.clients["key-jwt"] = sandbox_client.Client(
            "key-jwt", None, sandbox_client.OF_SERVICES, keys=KeySet([ECKey.import_key(key.as_dict(private=False))])
        )
        odd, batch = "night:ly +job", provider.secret("batch")
        yield Peer(
            name="sandbox",
            issuer=provider.issuer.issuer,
            audience=provider.issuer.audience,
            clients={
                "basic": Client(odd, "client_secret_basic", provider.secret(odd)),
                "post": Client("batch", "client_secret_post", batch),
                "secret_jwt": Client("batch", "client_secret_jwt", batch),
                "key_jwt": Client("key-jwt", "private_key_jwt", key=key),
                "app": Client("flytectl", "none"),
                "device": Client("flytectl", "none"),
            },
            approve=approve,
            projected=projected,
            directory=directory,
            not_offered=NOT_OFFERED,
            offline="offline",
        )


def approve(url: str, redirect: str) -> str:
    answer = Browser().decide(url, "alice")
    return answer.headers["location"] if redirect else answer.body.decode()


class TestSandboxFlows(FlowSuite):
    """See `flow_suite`."""
