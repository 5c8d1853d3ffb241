"""
Real peers, one of each for all the tests of a worker.

Keycloak takes a quarter of a minute and 350 MB: `--dist=loadfile` gives a file to one worker, so every test that asks
for `keycloak` belongs into test_keycloak.py. The others start in less than a second, anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator

import keycloak as keycloak_peer
import oidc_provider as npm
import pytest
from identity_provider import IdentityProvider
from kubernetes_issuer import KubernetesIssuer, kubernetes_issuer


@pytest.fixture(scope="session")
def kubernetes() -> Iterator[KubernetesIssuer]:
    """An issuer of service account tokens that both providers trust."""
    with kubernetes_issuer() as issuer:
        yield issuer


@pytest.fixture(scope="session")
def oidc_provider(kubernetes: KubernetesIssuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[IdentityProvider]:
    """npm's oidc-provider."""
    with npm.oidc_provider(tmp_path_factory.mktemp("oidc-provider"), trusted=[kubernetes.url]) as provider:
        yield provider


@pytest.fixture(scope="session")
def keycloak(kubernetes: KubernetesIssuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[IdentityProvider]:
    """Keycloak; only for test_keycloak.py, see above."""
    with keycloak_peer.keycloak(tmp_path_factory.mktemp("keycloak"), cluster=kubernetes.url) as provider:
        yield provider
