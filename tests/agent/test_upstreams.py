"""What the agent can mint from beside a client with a secret: a pod's own token, shown or exchanged."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import grpc
import pytest
import running_agent
import running_provider
from flyteidl.service import auth_pb2, auth_pb2_grpc
from foreign import Cluster, projected
from scripted_server import ScriptedServer
from tokens import jwt

from flytekitplugins.authagent.oauth import token_exchange

TESTS = str(Path(__file__).parent.parent)


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


def ask(provider: running_provider.Running, upstream: dict[str, Any], **give: Any) -> Any:
    rules = [running_agent.rule("r", give={"upstream": "flyte", **give})]
    with running_agent.running(provider, upstreams={"flyte": upstream}, rules=rules) as agent:
        answers = [agent.ask() for _ in range(3)]
        assert len({answer.status for answer in answers}) == 1
        return answers[0], agent.records()[-1]


def own_token(provider: running_provider.Running) -> str:
    return str(provider.own_token("batch", scope="all").json()["access_token"])


@pytest.mark.parametrize("kind", ["file", "command", "agent"])
def test_a_file_a_command_and_another_agent_are_upstreams_too(
    provider: running_provider.Running, tmp_path: Path, kind: str
) -> None:
    file = written(tmp_path, "token", own_token(provider))
    with running_agent.running(provider) as other:
        upstream = {
            "file": {"kind": "file", "path": file},
            "command": {"kind": "command", "command": ["/bin/cat", file]},
            "agent": {"kind": "agent", "socket": str(other.socket)},
        }[kind]
        answer, _ = ask(provider, upstream)

    assert answer.status == 200, answer.body
    assert provider.read(answer.json()["access_token"]).claims["scp"] == ["all"]


KEEP_A_LOGIN = """
import sys
from session_servers import ended
from flytekitplugins.authagent.providers import Wanted, build
from flytekitplugins.authagent.specs import KeyringSpec
person = build(KeyringSpec(issuer=sys.argv[1], client_id="flytectl", scopes=("all",)), {}, in_pod=False)
person.store.save(person.key(Wanted(scopes=("all",))), ended(sys.stdin.read()))
"""


def test_a_persons_login_is_renewed_and_a_rotated_refresh_token_outlives_the_agent(
    provider: running_provider.Running, tmp_path: Path
) -> None:
    """The provider takes each refresh token once: one that was lost, or spent twice, would end the login."""
    environ = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join([TESTS, *sys.path])}
    environ["PYTHON_KEYRING_BACKEND"] = "session_servers.HomeKeyring"
    command = [sys.executable, "-c", KEEP_A_LOGIN, provider.issuer.issuer]
    subprocess.run(command, input=provider.issuer.sign_in("alice"), env=environ, text=True, timeout=60, check=True)
    upstream = {"kind": "keyring", "issuer": provider.issuer.issuer, "client_id": "flytectl", "scopes": ["all"]}
    rules = [running_agent.rule("r", give={"upstream": "flyte", "scopes": ["all"], "principal": "alice"})]
    tokens = []
    for _ in range(3):  # what it has lives in the keyring, not in the process
        with running_agent.running(provider, environ=environ, upstreams={"flyte": upstream}, rules=rules) as agent:
            answer = agent.ask()
            assert answer.status == 200, agent.audit.read_text()
            tokens.append(answer.json()["access_token"])
            agent.process.kill()
            time.sleep(1.1)  # a new token lives a second longer than this one
            long_enough = provider.read(tokens[-1]).claims["exp"] - time.time() + 1
            agent.process.wait(timeout=10)
    assert len(set(tokens)) == 1
    with running_agent.running(provider, environ=environ, upstreams={"flyte": upstream}, rules=rules) as agent:
        assert agent.ask().json()["access_token"] == tokens[-1]  # the agent holds it now, and is asked for more at once
        longer = agent.ask({"min_lifetime": str(int(long_enough))})
        assert longer.status == 200, agent.audit.read_text()
    assert provider.read(longer.json()["access_token"]).claims["sub"] == "alice"
    assert provider.counts.snapshot()["mints"] == {"flytectl": 2}


class KeepsTheLoginsTime(BaseHTTPRequestHandler):
    """A token endpoint that refreshes as flyteadmin's own does: `iat` stays that of the login, `exp` is new."""

    LIFE = 1800
    minted: ClassVar[list[int]] = []

    def do_POST(self) -> None:
        now = int(time.time())
        self.minted.append(now)
        token = jwt(iat=now - 3 * 24 * 3600, exp=now + self.LIFE, sub="alice", jti=str(len(self.minted)))
        answer = {"access_token": token, "token_type": "bearer", "expires_in": self.LIFE, "refresh_token": "again"}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


def test_a_login_whose_refresh_keeps_its_iat_is_renewed_again_and_again_within_max_lifetime(
    provider: running_provider.Running, tmp_path: Path
) -> None:
    environ = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join([TESTS, *sys.path])}
    environ["PYTHON_KEYRING_BACKEND"] = "session_servers.HomeKeyring"
    server = ThreadingHTTPServer(("127.0.0.1", 0), KeepsTheLoginsTime)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}/token"
    command = [sys.executable, "-c", KEEP_A_LOGIN.replace("issuer=sys", "token_endpoint=sys"), endpoint]
    subprocess.run(command, input="of-the-login", env=environ, text=True, timeout=60, check=True)
    upstream = {"kind": "keyring", "token_endpoint": endpoint, "client_id": "flytectl", "scopes": ["all"]}
    give = {"upstream": "flyte", "scopes": ["all"], "max_lifetime": "31m"}
    rules = [running_agent.rule("r", give=give)]
    try:
        for n in range(5):
            with running_agent.running(provider, environ=environ, upstreams={"flyte": upstream}, rules=rules) as agent:
                answer = agent.ask({"min_lifetime": str(KeepsTheLoginsTime.LIFE - 1)})
                assert answer.status == 200, agent.audit.read_text()
                assert len(KeepsTheLoginsTime.minted) == n + 1
            time.sleep(max(KeepsTheLoginsTime.minted[-1] + 3.1 - time.time(), 0))  # the next has to live for longer
        rules[0]["give"]["max_lifetime"] = "29m"
        with running_agent.running(provider, environ=environ, upstreams={"flyte": upstream}, rules=rules) as agent:
            assert agent.ask().status == 400
            assert "live 1800 s, longer than the 1740 s" in agent.records()[-1]["reason"]
    finally:
        server.shutdown()
        server.server_close()


def test_a_token_that_speaks_for_somebody_else_than_the_rule_says_is_refused(
    provider: running_provider.Running, tmp_path: Path
) -> None:
    of_alice = provider.refresh(provider.issuer.sign_in("alice"), scope="all").json()["access_token"]
    upstream = {"kind": "file", "path": written(tmp_path, "token", of_alice)}

    given, _ = ask(provider, upstream, principal="alice")
    refused, record = ask(provider, upstream, principal="bob")
    nameless, why = ask(
        provider, {"kind": "file", "path": written(tmp_path, "own", own_token(provider))}, principal="b"
    )

    assert given.status == 200
    assert (refused.status, refused.json()["error"]) == (400, "unauthorized_client")
    assert "speaks for 'alice'" in record["reason"]
    assert record["principal"] == "bob"
    assert nameless.status == 400
    assert "whom it does not name" in why["reason"]


def test_an_upstream_that_has_nothing_is_unavailable_and_says_why_in_the_audit_file(
    provider: running_provider.Running, tmp_path: Path
) -> None:
    answer, record = ask(provider, {"kind": "agent", "socket": str(tmp_path / "nobody.sock")})

    assert (answer.status, answer.json()["error"]) == (503, "temporarily_unavailable")
    assert "there is no socket at" in record["reason"]


class _Flyte(auth_pb2_grpc.AuthMetadataServiceServicer):
    """What a flyteadmin says over gRPC, whatever its HTTP gateway says."""

    def __init__(self, issuer: str, token_endpoint: str) -> None:
        self._answer = auth_pb2.OAuth2MetadataResponse(issuer=issuer, token_endpoint=token_endpoint)

    def GetOAuth2Metadata(self, request: object, context: object) -> auth_pb2.OAuth2MetadataResponse:
        return self._answer


@pytest.mark.parametrize(
    ("gateway", "speaks_for", "is_known", "status"),
    [
        ("503 Service Unavailable", "the issuer", True, 200),
        ("500 Internal Server Error", "the issuer", True, 200),
        ("404 Not Found", "the issuer", True, 200),
        ("200 OK", "the issuer", True, 200),  # a page
        ("503 Service Unavailable", "another", True, 503),
        ("503 Service Unavailable", "nobody", True, 503),
        ("503 Service Unavailable", "the issuer", False, 503),
    ],
)
def test_a_flyte_whose_gateway_does_not_answer_is_asked_over_grpc(
    gateway: str, speaks_for: str, is_known: bool, status: int
) -> None:
    page = f"HTTP/1.1 {gateway}\r\nContent-Type: text/html\r\nContent-Length: 6\r\nConnection: close\r\n\r\n<html>"
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
    with running_provider.running() as provider, socket.create_server(("127.0.0.1", 0)) as listening:
        issuer = f"http://localhost:{listening.getsockname()[1]}"
        named = {"the issuer": issuer, "another": "https://idp.example.com", "nobody": ""}[speaks_for]
        http = ScriptedServer(listening, page.encode())
        auth_pb2_grpc.add_AuthMetadataServiceServicer_to_server(_Flyte(named, provider.issuer.token_endpoint), server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            with tempfile.TemporaryDirectory() as name:
                secret = written(Path(name), "secret", provider.secret("flyte-agent"))
                upstream = {"kind": "client_credentials", "issuer": issuer, "client_id": "flyte-agent"}
                upstream |= {"client_secret_file": secret, "scopes": ["all"]}
                known = {"flyte": {"endpoint": f"localhost:{port}", "insecure": True}} if is_known else {}
                with running_agent.running(provider, upstreams={"flyte": upstream}, **known) as agent:
                    answers = [agent.ask() for _ in range(2)]
                    assert [answer.status for answer in answers] == [status] * 2, answers[0].body
                    assert agent.mints == (status == 200)
        finally:
            server.stop(0).wait(5)
            http.close()
