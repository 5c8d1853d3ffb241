"""Other people's OAuth clients at the agent's socket, each with what it insists on sending."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import requests
from authlib.integrations.httpx_client import OAuth2Client
from httpx import HTTPTransport
from oauthlib.oauth2 import BackendApplicationClient, InvalidScopeError
from requests.adapters import HTTPAdapter
from requests_oauthlib import OAuth2Session
from running_agent import Agent
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool

from flytekitplugins.authagent import wire

ENDPOINT = "http://agent/token"


class UnixAdapter(HTTPAdapter):
    """requests, over a Unix socket: the host name means nothing."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def get_connection_with_tls_context(self, *_: Any, **__: Any) -> HTTPConnectionPool:
        path = self.path

        class Connection(HTTPConnection):
            def connect(self) -> None:
                self.sock = socket.socket(socket.AF_UNIX)
                self.sock.connect(str(path))

        pool = HTTPConnectionPool("agent")
        pool.ConnectionCls = Connection  # type: ignore[assignment]
        return pool


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post", "none"])
def test_authlib(agent: Agent, method: str) -> None:
    transport = HTTPTransport(uds=str(agent.socket))
    with OAuth2Client("anybody", "", scope="all", token_endpoint_auth_method=method, transport=transport) as client:
        token = client.fetch_token(ENDPOINT, grant_type="client_credentials")

    assert agent.provider.read(token["access_token"])
    assert (token["token_type"], token["scope"]) == ("Bearer", "all")
    assert token["expires_at"] > 0


def test_authlib_hears_why_not(agent: Agent) -> None:
    with OAuth2Client("anybody", "", transport=HTTPTransport(uds=str(agent.socket))) as client:
        with pytest.raises(Exception, match="invalid_scope"):
            client.fetch_token(ENDPOINT, grant_type="client_credentials", scope="root")
        with pytest.raises(Exception, match="unsupported_grant_type"):
            client.fetch_token(ENDPOINT, grant_type=wire.TOKEN_EXCHANGE, subject_token="x", subject_token_type="y")


@pytest.mark.parametrize("in_body", [True, False])
def test_requests_oauthlib(agent: Agent, monkeypatch: pytest.MonkeyPatch, in_body: bool) -> None:
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")  # it does not know that a Unix socket is not a network
    with OAuth2Session(client=BackendApplicationClient("anybody", scope=["all"])) as session:
        session.mount("http://agent", UnixAdapter(agent.socket))
        more: dict[str, Any] = {"include_client_id": True} if in_body else {"auth": ("anybody", "")}
        token = session.fetch_token(ENDPOINT, **more)
        assert agent.provider.read(token["access_token"])
        with pytest.raises(InvalidScopeError):
            session.fetch_token(ENDPOINT, scope=["root"], **more)


def test_requests_keeps_its_connection(agent: Agent) -> None:
    with requests.Session() as session:
        session.mount("http://agent", UnixAdapter(agent.socket))
        answers = [session.post(ENDPOINT, {"grant_type": "client_credentials"}, timeout=10) for _ in range(5)]
        metadata = session.get("http://agent/.well-known/oauth-authorization-server", timeout=10).json()

    assert {answer.status_code for answer in answers} == {200}
    assert metadata["token_endpoint"] == ENDPOINT
