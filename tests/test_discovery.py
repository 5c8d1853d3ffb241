"""What a Flyte says of itself: asked once, in time, over whatever TLS it has."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from certificates import Issued, issue
from flyteidl.service import auth_pb2, auth_pb2_grpc, identity_pb2, identity_pb2_grpc
from scripted_server import ScriptedServer

from flytekitplugins.authagent import discovery, endpoint
from flytekitplugins.authagent.credential import Secret
from flytekitplugins.authagent.discovery import FlyteServer
from flytekitplugins.authagent.errors import ConfigError, ProviderError, ProviderUnavailable, Rejected
from flytekitplugins.authagent.oauth.userinfo import Person
from flytekitplugins.authagent.providers.oauth_client import OAuthClient
from flytekitplugins.authagent.specs import DeviceSpec


class Flyte(auth_pb2_grpc.AuthMetadataServiceServicer, identity_pb2_grpc.IdentityServiceServicer):
    """Answers as it is told, and counts."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.seen: list[tuple[str, str]] = []
        self.refuses: grpc.StatusCode | None = None
        self.token_endpoint = "https://idp.example.com/token"

    def GetPublicClientConfig(self, request: Any, context: Any) -> Any:
        self._ask("client", context)
        return auth_pb2.PublicClientAuthConfigResponse(
            client_id="flytectl",
            redirect_uri="http://localhost:53593/callback",
            scopes=["all"],
            authorization_metadata_key="Flyte-Authorization",
            audience="aud",
        )

    def GetOAuth2Metadata(self, request: Any, context: Any) -> Any:
        self._ask("metadata", context)
        return auth_pb2.OAuth2MetadataResponse(
            issuer="https://idp.example.com",
            token_endpoint=self.token_endpoint,
            device_authorization_endpoint="https://idp.example.com/device",
        )

    def UserInfo(self, request: Any, context: Any) -> Any:
        self._ask("user", context)
        return identity_pb2.UserInfoResponse(subject="alice", name="Alice\x1b[31m", email="a@example.com")

    def _ask(self, what: str, context: Any) -> None:
        self.asked.append(what)
        self.seen.extend((name, value) for name, value in context.invocation_metadata() if "authorization" in name)
        if self.refuses is not None:
            context.abort(self.refuses, "refused: invalid audience [pl4nted], wanted [map[x:{}]]")


@contextmanager
def serving(flyte: Flyte | None, issued: Issued | None = None) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
    if flyte is not None:
        auth_pb2_grpc.add_AuthMetadataServiceServicer_to_server(flyte, server)
        identity_pb2_grpc.add_IdentityServiceServicer_to_server(flyte, server)
    if issued:
        pair = [(issued.key.read_bytes(), issued.certificate.read_bytes())]
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials(pair))
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"localhost:{port}"
    finally:
        server.stop(0).wait(5)


def at(address: str, **how: Any) -> FlyteServer:
    return FlyteServer(endpoint.parse(address), **({"insecure": True} | how))


def test_it_is_asked_once_by_however_many() -> None:
    flyte = Flyte()
    with serving(flyte) as address:
        server = at(address)
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda _: (discovery.public_client(server), discovery.metadata(server)), range(16)))
    client, metadata = answers[0]
    assert client is not None
    assert metadata is not None
    assert sorted(flyte.asked) == ["client", "metadata"]
    assert (client.client_id, client.header, client.audience) == ("flytectl", "flyte-authorization", "aud")
    assert metadata.device_authorization_endpoint == "https://idp.example.com/device"
    assert all(answer == answers[0] for answer in answers)


def test_a_failure_is_not_remembered() -> None:
    flyte = Flyte()
    flyte.refuses = grpc.StatusCode.UNAVAILABLE
    with serving(flyte) as address:
        with pytest.raises(ProviderUnavailable, match="UNAVAILABLE"):
            discovery.public_client(at(address))
        flyte.refuses = None
        assert discovery.public_client(at(address)) is not None


def test_a_flyte_without_authentication_is_not_an_error() -> None:
    with serving(None) as address:
        assert discovery.public_client(at(address)) is None
        assert discovery.metadata(at(address)) is None
        assert discovery.user_info(at(address), "authorization", Secret("t")) is None


def test_that_there_is_no_authentication_is_kept_unless_it_is_doubted() -> None:
    flyte = Flyte()
    flyte.refuses = grpc.StatusCode.UNIMPLEMENTED
    with serving(flyte) as address:
        assert discovery.public_client(at(address)) is None
        flyte.refuses = None
        assert discovery.public_client(at(address)) is None
        assert len(flyte.asked) == 1
        assert discovery.public_client(at(address), doubt_none=True) is not None
        assert discovery.public_client(at(address)) is not None
        assert len(flyte.asked) == 2


def test_a_client_finds_authentication_that_is_switched_on_while_it_runs() -> None:
    flyte = Flyte()
    flyte.refuses = grpc.StatusCode.UNIMPLEMENTED
    with serving(flyte) as address:
        client = OAuthClient(DeviceSpec(), "device", at(address))
        assert not client.is_needed
        flyte.refuses = None
        assert client.is_needed
        assert client.metadata.need("token_endpoint") == flyte.token_endpoint


def test_metadata_without_a_token_endpoint_is_an_error() -> None:
    flyte = Flyte()
    flyte.token_endpoint = ""
    with serving(flyte) as address, pytest.raises(ProviderError, match="names no token endpoint"):
        discovery.metadata(at(address))


def test_one_that_never_answers_has_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        started = time.monotonic()
        with pytest.raises(ProviderUnavailable):
            at(f"127.0.0.1:{listening.getsockname()[1]}", timeout=0.5).call(
                "GetPublicClientConfig", auth_pb2.PublicClientAuthConfigRequest(), auth_pb2_grpc.AuthMetadataServiceStub
            )
        assert time.monotonic() - started < 5


def test_a_web_server_in_its_place_is_named() -> None:
    page = b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: 6\r\nConnection: close\r\n\r\n<html>"
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = ScriptedServer(listening, page)
        with pytest.raises(ProviderError) as caught:
            discovery.public_client(at(f"127.0.0.1:{listening.getsockname()[1]}"))
        server.close()
    assert caught.value.hint


def test_its_own_authority_is_trusted_where_it_is_named(tmp_path: Path) -> None:
    issued = issue(tmp_path, "localhost")
    with serving(Flyte(), issued) as address:
        with pytest.raises(ProviderError, match="certificate that is not trusted"):
            discovery.public_client(at(address, insecure=False))
        assert discovery.public_client(at(address, insecure=False, ca_file=issued.authority)) is not None
        with pytest.raises(ConfigError, match="is not there"):
            discovery.public_client(at(address, insecure=False, ca_file=tmp_path / "none.pem"))


def test_whatever_it_shows_is_taken_where_that_is_asked_for(tmp_path: Path) -> None:
    with serving(Flyte(), issue(tmp_path, "another.example.com", "*.example.com")) as address:
        assert discovery.public_client(at(address, insecure=False, skip_verify=True)) is not None


def test_what_shows_no_certificate_is_unavailable() -> None:
    with pytest.raises(ProviderUnavailable, match="shows no certificate"):
        discovery.public_client(at("127.0.0.1:9", insecure=False, skip_verify=True))


def test_a_proxy_before_it_sees_its_own_token(tmp_path: Path) -> None:
    flyte = Flyte()
    with serving(flyte) as address:
        discovery.public_client(at(address, proxy_command=("echo", "for-the-proxy")))
    assert flyte.seen == [("proxy-authorization", "Bearer for-the-proxy")]


def test_who_a_token_is_and_who_it_is_not() -> None:
    flyte = Flyte()
    with serving(flyte) as address:
        said = discovery.user_info(at(address), "flyte-authorization", Secret("t0ken"))
        assert said == Person("alice", "Alice [31m", "a@example.com")
        assert flyte.seen == [("flyte-authorization", "Bearer t0ken")]
        flyte.refuses = grpc.StatusCode.UNAUTHENTICATED
        with pytest.raises(Rejected, match="audience") as caught:
            discovery.user_info(at(address), "flyte-authorization", Secret("t0ken"))
    assert "pl4nted" not in str(caught.value)
    assert "t0ken" not in str(caught.value)


def test_after_a_fork_it_can_be_asked() -> None:
    held, release = threading.Event(), threading.Event()

    def ask(_: FlyteServer) -> str:
        held.set()
        release.wait(20)
        return "answer"

    server = at("127.0.0.1:9")
    thread = threading.Thread(target=discovery._once, args=(server, "slow", ask))
    thread.start()
    assert held.wait(20)
    child = os.fork()
    if child == 0:
        os._exit(0 if discovery._once(server, "slow", lambda _: "its own") == "its own" else 1)
    release.set()
    thread.join(20)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
