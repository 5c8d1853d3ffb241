"""The client's side of the socket: what it waits for, whom it trusts, what it makes of answers."""

from __future__ import annotations

import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import running_agent
import running_provider
from scripted_agent import answering
from scripted_server import ScriptedServer

from flytekitplugins.authagent.cli.agent_facts import look
from flytekitplugins.authagent.context import Context
from flytekitplugins.authagent.errors import AuthAgentError, ConfigError, Denied, ProviderError, ProviderUnavailable
from flytekitplugins.authagent.providers import Wanted
from flytekitplugins.authagent.providers.agent import AgentProvider


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="aa-") as name:
        yield Path(name)


class FakeAgent(ScriptedServer):
    """One on a Unix socket."""

    def __init__(self, path: Path, answer: bytes) -> None:
        self.path = path
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(path))
        super().__init__(listening, answer)


def answer(status: int, body: bytes, extra: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d X\r\n%sContent-Length: %d\r\n\r\n%s" % (status, extra, len(body), body)


@pytest.mark.parametrize(
    ("raw", "error", "says"),
    [
        (b"", ProviderUnavailable, "ended before"),
        (b"SSH-2.0-OpenSSH_9\r\n\r\n", ProviderUnavailable, "not HTTP"),
        (answer(200, b"<html>"), ProviderError, "HTML page"),
        (answer(200, b"{}"), ProviderError, "without an access_token"),
        (answer(404, b"nothing"), ProviderError, "not as an agent does"),
        (answer(400, b'{"error":"invalid_scope","error_description":"the rule gives fewer scopes"}'), Denied, "fewer"),
        (answer(401, b'{"error":"invalid_client"}'), Denied, "invalid_client"),
        (answer(400, b'{"error":"unsupported_grant_type"}'), ProviderError, "another release"),
        (answer(503, b'{"error":"temporarily_unavailable"}'), ProviderUnavailable, "temporarily_unavailable"),
        (answer(429, b'{"error":"temporarily_unavailable"}'), ProviderUnavailable, "temporarily_unavailable"),
        (answer(429, b'{"error":"slow_down"}', b"Retry-After: 60\r\n"), ProviderUnavailable, "slow_down"),
        (answer(429, b'{"error":"slow_down"}', b"Retry-After: soon\r\n"), ProviderUnavailable, "slow_down"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n", ProviderUnavailable, "length"),
    ],
)
def test_what_comes_back_is_one_error_of_ours(directory: Path, raw: bytes, error: type[Exception], says: str) -> None:
    fake = FakeAgent(directory / "agent.sock", raw)
    with pytest.raises(error, match=says) as caught:
        AgentProvider(fake.path).fetch(Wanted())
    assert type(caught.value) is error
    fake.close()


def test_only_what_is_known_is_sent_and_only_parameters_of_the_contract(directory: Path) -> None:
    token = answer(200, b'{"access_token":"abc","token_type":"Bearer","expires_in":60}')
    fake = FakeAgent(directory / "agent.sock", token)
    provider = AgentProvider(fake.path)
    context = Context(project="p", domain="d", execution="e", task="t")
    provider.fetch(Wanted())
    provider.fetch(Wanted(audience="a", scopes=("x", "y"), subject="s", context=context), min_lifetime=9.7)

    bodies = [heard.partition(b"\r\n\r\n")[2] for heard in fake.heard if heard.startswith(b"POST /token ")]
    assert bodies == [
        b"grant_type=client_credentials",
        b"grant_type=client_credentials&audience=a&scope=x%20y&requested_subject=s&min_lifetime=9"
        b"&execution=p%3Ad%3Ae&task=t",
    ]
    fake.close()


def test_it_waits_for_a_socket_that_appears_late_and_finds_one_that_was_replaced(directory: Path) -> None:
    with running_provider.running() as provider:
        socket_path = directory / "agent.sock"
        answers: list[object] = []
        asking = threading.Thread(target=lambda: answers.append(AgentProvider(socket_path, wait=20).fetch(Wanted())))
        asking.start()
        time.sleep(0.3)
        with running_agent.running(provider, socket=str(socket_path)):
            asking.join(20)
            client = AgentProvider(socket_path, wait=5)
            assert client.fetch(Wanted())
        with running_agent.running(provider, socket=str(socket_path)):
            assert client.fetch(Wanted())
    assert len(answers) == 1


def test_without_a_directory_nobody_waits(directory: Path) -> None:
    started = time.monotonic()
    assert AgentProvider(directory / "none" / "agent.sock", wait=30).fetch(Wanted()) is None
    assert AgentProvider(directory / "agent.sock").fetch(Wanted()) is None
    assert time.monotonic() - started < 1


def test_what_is_no_socket(directory: Path) -> None:
    (directory / "file").write_text("")
    with pytest.raises(AuthAgentError):
        AgentProvider(directory / "file").fetch(Wanted())
    with pytest.raises(ConfigError, match="too long for a Unix socket"):
        AgentProvider(directory / ("x" * 120)).fetch(Wanted())


TOKEN = "eyJhbGciOiJub25lIn0.cGw0bnRlZC1wb2QtdG9rZW4.c2lnbmF0dXJl"

# One line for each page on which an agent may repeat the pod's token.
REPEATED: dict[str, tuple[str, tuple[int, object]]] = {
    "why it is not ready": ("/readyz", (503, f"no token: {TOKEN}".encode())),
    "what it has counted": ("/metrics", (200, f'authagent_requests_total{{outcome="{TOKEN}"}} 1\n'.encode())),
    "whom it takes us for": ("/identity", (200, {"uid": 0, "attestor": TOKEN})),
}


@pytest.mark.parametrize(("path", "said"), REPEATED.values(), ids=REPEATED)
def test_people_are_not_shown_the_pods_token(directory: Path, path: str, said: tuple[int, object]) -> None:
    pod_token = directory / "token"
    pod_token.write_text(TOKEN)
    pod_token.chmod(0o600)
    with answering(directory / "agent.sock", lambda: "t") as agent:
        agent.answers[path] = said
        facts = look(agent.path, pod_token)
    assert facts
    assert "cGw0bnRlZC1wb2QtdG9rZW4" not in repr(facts)
