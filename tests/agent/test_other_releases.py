"""
A client and an agent that differ by a release: bytes that were recorded from each, and bytes of a newer one.

`wire/0.1.0` has what that release put on the wire (the token replaced by letters). A release that changes it adds a
directory; the last one stays until the next.
"""

from __future__ import annotations

import json
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from running_agent import FORM, Agent, reply, request
from scripted_server import ScriptedServer

from flytekitplugins.authagent.errors import Denied
from flytekitplugins.authagent.providers import Wanted
from flytekitplugins.authagent.providers.agent import AgentProvider

RELEASES = sorted((Path(__file__).parent / "wire").iterdir())


@pytest.fixture
def speaking() -> Iterator[Callable[[bytes], AgentProvider]]:
    """Our client, in front of an agent that says these bytes."""
    with tempfile.TemporaryDirectory(prefix="aa-") as name:
        servers: list[ScriptedServer] = []

        def started(answer: bytes) -> AgentProvider:
            path = Path(name) / f"{len(servers)}.sock"
            listening = socket.socket(socket.AF_UNIX)
            listening.bind(str(path))
            servers.append(ScriptedServer(listening, answer))
            return AgentProvider(path)

        yield started
        for server in servers:
            server.close()


@pytest.mark.parametrize("release", RELEASES, ids=lambda path: path.name)
def test_a_client_of_another_release_is_answered(agent: Agent, release: Path) -> None:
    recorded = sorted(release.glob("*.request"))
    assert len(recorded) >= 4
    for file in recorded:
        answer = reply(agent.say(file.read_bytes()))
        assert answer.status == 200, (file.name, answer.body)
        if file.name != "identity.request":
            assert agent.provider.read(answer.json()["access_token"])


@pytest.mark.parametrize("release", RELEASES, ids=lambda path: path.name)
def test_an_agent_of_another_release_is_understood(speaking: Callable[[bytes], AgentProvider], release: Path) -> None:
    identity = speaking((release / "identity.answer").read_bytes()).identity()
    assert (identity or {})["flyte"] == {"endpoint": "dns:///flyte.example.com", "insecure": False}
    given = speaking((release / "token.answer").read_bytes()).fetch(Wanted())
    assert given is not None
    assert given.token.reveal() == "A" * 40
    assert given.scopes == ("all",)
    with pytest.raises(Denied, match="invalid_scope"):
        speaking((release / "refused.answer").read_bytes()).fetch(Wanted())


def test_what_a_newer_agent_says_more_is_left_alone(speaking: Callable[[bytes], AgentProvider]) -> None:
    content = {"access_token": "B" * 40, "token_type": "Bearer", "expires_in": 60, "cnf": {"jkt": "x"}, "new": [1]}
    body = json.dumps(content).encode()
    head = f"HTTP/1.1 200 OK\r\nX-New: yes\r\nServer-Timing: a;dur=1\r\nContent-Length: {len(body)}\r\n\r\n"

    given = speaking(head.encode() + body).fetch(Wanted())

    assert given is not None
    assert given.token.reveal() == "B" * 40


def test_what_a_newer_client_asks_more_is_refused_by_name_for_it_might_have_narrowed(agent: Agent) -> None:
    body = b"grant_type=client_credentials&authorization_details=%5B%5D"
    answer = reply(agent.say(request("POST", "/token", body, {"Content-Type": FORM})))

    assert (answer.status, answer.json()["error"]) == (400, "invalid_request")
    assert "authorization_details" in answer.json()["error_description"]
