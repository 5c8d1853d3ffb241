"""The flow suite at npm's oidc-provider, through its own pages."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flow_peer import Peer
from flow_suite import FlowSuite
from identity_provider import FLYTE, IdentityProvider
from kubernetes_issuer import KubernetesIssuer
from login_pages import Visitor

pytestmark = pytest.mark.peer

NOT_OFFERED = {
    "federated": "wants `iss` and `sub` of an assertion to be the client; use the JWT grant or an exchange",
}


@pytest.fixture(scope="module")
def peer(
    oidc_provider: IdentityProvider, kubernetes: KubernetesIssuer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Peer]:
    alice = oidc_provider.users["alice"]
    yield Peer(
        name="oidc-provider",
        issuer=oidc_provider.issuer,
        audience=FLYTE,
        clients=oidc_provider.clients,
        approve=lambda url, redirect: Visitor(alice).approve(url, redirect=redirect),
        projected=kubernetes.token,
        directory=tmp_path_factory.mktemp("flows"),
        not_offered=NOT_OFFERED,
        exchange_scopes=("all",),
    )


class TestOidcProviderFlows(FlowSuite):
    """See `flow_suite`."""
