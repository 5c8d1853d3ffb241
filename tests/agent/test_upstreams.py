"""What the agent can mint from beside a client with a secret: a pod's own token, shown or exchanged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import running_agent
import running_provider
from foreign import Cluster, projected

from flytekitplugins.authagent.oauth import token_exchange

FLYTE = {"upstream": "flyte", "scopes": ["all"]}


def written(directory: Path, name: str, text: str) -> str:
    file = directory / name
    file.write_text(text)
    file.chmod(0o600)
    return str(file)


@pytest.mark.parametrize("kind", ["federated", "exchange", "jwt_bearer"])
def test_a_projected_token_is_all_that_it_needs(tmp_path: Path, kind: str) -> None:
    with running_provider.running("external", trusted=[Cluster().trusted()]) as provider:
        file = written(tmp_path, "projected", projected(provider.issuer.issuer))
        upstream: dict[str, Any] = {"token_endpoint": provider.issuer.token_endpoint, "scopes": ["all"]}
        upstream |= {"issuer": provider.issuer.issuer}
        if kind == "federated":
            upstream |= {"kind": "client_credentials", "client_assertion_file": file}
        else:
            grant = {"exchange": "token_exchange"}.get(kind, kind)
            upstream |= {"kind": "token_exchange", "grant": grant, "subject_token_file": file, "client_id": "batch"}
            upstream |= {"client_secret_file": written(tmp_path, "secret", provider.secret("batch"))}
            upstream |= {"subject_token_type": token_exchange.JWT}
        with running_agent.running(provider, upstreams={"flyte": upstream}) as agent:
            answers = [agent.ask() for _ in range(3)]
        assert [answer.status for answer in answers] == [200] * 3, answers[0].body
        assert provider.read(answers[0].json()["access_token"]).claims["scp"] == ["all"]
        assert provider.counts.snapshot()["mints"] == {"batch": 1}
