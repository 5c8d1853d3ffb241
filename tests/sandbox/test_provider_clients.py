"""Clients that others wrote, against the sandbox's provider."""

from __future__ import annotations

import base64
import http.client
import shutil
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
import requests
from authlib.integrations.requests_client import OAuth2Session
from flytekit.clients.auth.authenticator import ClientConfig, ClientConfigStore, ClientCredentialsAuthenticator
from flytekit.clients.auth.token_client import GrantType, get_token
from peers import need
from running_provider import Running, running, send

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module", params=["internal", "external"])
def provider(request):
    with running(request.param) as it:
        yield it


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_authlib_gets_a_token(provider: Running, method):
    secret = provider.secret("batch")
    with OAuth2Session("batch", secret, scope="all", token_endpoint_auth_method=method) as session:
        token = session.fetch_token(provider.issuer.token_endpoint, grant_type="client_credentials")

    assert provider.read(token["access_token"]).claims["scp"] == ["all"]


def test_authlib_refreshes_what_somebody_signed_in_for(provider: Running):
    with OAuth2Session("flytectl", token_endpoint_auth_method="none") as session:
        token = session.refresh_token(provider.issuer.token_endpoint, refresh_token=provider.issuer.sign_in("alice"))

    assert provider.read(token["access_token"]).claims["sub"] == "alice"


def test_requests_gets_a_token_where_its_unencoded_header_is_legal(provider: Running):
    form = {"grant_type": "client_credentials"}

    plain = requests.post(provider.issuer.token_endpoint, form, auth=("batch", provider.secret("batch")), timeout=10)

    assert plain.status_code == 200


class Store(ClientConfigStore):
    """What flytekit asks for the token endpoint."""

    def __init__(self, provider: Running) -> None:
        self._provider = provider

    def get_client_config(self) -> ClientConfig:
        issuer = self._provider.issuer
        return ClientConfig(
            token_endpoint=issuer.token_endpoint,
            authorization_endpoint=issuer.authorization_endpoint,
            redirect_uri="http://localhost:53593/callback",
            client_id="flytectl",
            scopes=["all"],
            header_key="flyte-authorization",
        )


@pytest.mark.parametrize("client_id", ["flyte-agent", "batch", "ci"])
def test_flytekits_own_authenticator_gets_a_token(provider: Running, client_id):
    authenticator = ClientCredentialsAuthenticator(
        endpoint="localhost", client_id=client_id, client_secret=provider.secret(client_id), cfg_store=Store(provider)
    )

    authenticator.refresh_credentials()

    key, value = authenticator.fetch_grpc_call_auth_metadata()
    assert key == "flyte-authorization"
    claims = provider.read(value.removeprefix("Bearer ")).claims
    assert provider.issuer.client_of(claims["jti"]) == client_id


def test_flytekit_refreshes_a_users_token(provider: Running):
    access_token, refresh_token, expires_in = get_token(
        provider.issuer.token_endpoint,
        client_id="flytectl",
        grant_type=GrantType.REFRESH_TOKEN,
        refresh_token=provider.issuer.sign_in("bob"),
    )

    assert provider.read(access_token).claims["sub"] == "bob"
    assert refresh_token
    assert 0 < expires_in <= 300


@pytest.mark.peer
def test_curl_that_waits_to_be_told_to_go_on_is_told(provider: Running):
    need("curl", shutil.which("curl"))
    secret = base64.b64encode(f"batch:{provider.secret('batch')}".encode()).decode()
    command = [
        "curl", "--silent", "--show-error", "--max-time", "10", "--expect100-timeout", "9",
        "--header", "Expect: 100-continue",
        "--header", "@-", "--data", "grant_type=client_credentials", "--write-out", "%{http_code} %{time_total}",
        "--output", "/dev/null", provider.issuer.token_endpoint,
    ]  # fmt: skip

    header = f"Authorization: Basic {secret}"
    done = subprocess.run(command, input=header, capture_output=True, text=True, timeout=20, check=True)

    status, seconds = done.stdout.split()
    assert status == "200"
    assert float(seconds) < 5, "it waited out its patience: nobody said 100 Continue"


def test_a_connection_is_kept_for_further_requests(provider: Running):
    where = urlsplit(provider.issuer.jwks_uri)
    connection = http.client.HTTPConnection(where.netloc, timeout=10)
    try:
        ports = set()
        for _ in range(3):
            connection.request("GET", where.path)
            ports.add(connection.sock.getsockname()[1])
            assert connection.getresponse().read()
    finally:
        connection.close()

    assert len(ports) == 1


def test_forty_clients_at_once_each_get_an_answer(provider: Running):
    barrier = threading.Barrier(40)

    def ask(_: int) -> int:
        barrier.wait(10)
        return provider.own_token().status

    with ThreadPoolExecutor(40) as pool:
        assert set(pool.map(ask, range(40))) == {200}


def test_a_stopped_provider_answers_nobody_not_even_who_is_connected():
    with running() as provider, requests.Session() as session:
        url = provider.issuer.jwks_uri
        assert session.get(url, timeout=5).status_code == 200
        provider.provider.stop()

        with pytest.raises(requests.exceptions.ConnectionError):
            session.get(url, timeout=5)
        with pytest.raises(OSError):
            send("GET", url)
