"""docs/openapi.yaml: a good document, and what a running agent answers is what it says."""

from __future__ import annotations

import socket
import time

import openapi_spec_validator
import pytest
import running_agent
from documented import Documented
from running_agent import Agent, read_all, reply, request
from running_provider import Reply, Running
from second_user import SecondUser

from flytekitplugins.authagent.agent.asked import PARAMETERS
from flytekitplugins.authagent.sandbox.port import free_port

DOCUMENT = Documented("openapi.yaml")
TOKEN = b"grant_type=client_credentials"


def check(path: str, answer: Reply) -> tuple[str, int]:
    """Hold `answer` against what is documented for its path and status."""
    return DOCUMENT.check(path, answer)[1:]


def test_it_is_a_good_document() -> None:
    openapi_spec_validator.validate(DOCUMENT.content)


def test_it_has_the_parameters_that_are_understood(agent: Agent) -> None:
    documented = DOCUMENT.content["components"]["schemas"]["TokenRequest"]["properties"]
    listed = agent.get("/.well-known/oauth-authorization-server").json()["token_request_parameters_supported"]
    assert set(documented) == set(PARAMETERS) == set(listed)


def sent_too_slowly(agent: Agent) -> Reply:
    with agent.connect() as slow:
        slow.sendall(b"POST /token HTTP/1.1\r\nHost: a\r\n")
        return reply(read_all(slow))


def test_every_answer_is_documented_and_every_documented_answer_is_given(provider: Running) -> None:
    """Each path and status of the document, but one that needs 33 pending exchanges: test_exchange.py has that one."""
    port = free_port()
    with running_agent.running(provider, health=f"127.0.0.1:{port}") as agent:
        seen = {check(path, agent.get(path)) for path in DOCUMENT.content["paths"] if path != "/token"}
        seen |= {check("/token", agent.ask(fields)) for fields in ({}, {"scope": "root"}, {"client_secret": "x"})}
        seen.add(check("/token", agent.post(TOKEN, {"Content-Type": "text/plain"})))
        seen |= {check(path, reply(agent.say(request("DELETE", path)))) for path in DOCUMENT.content["paths"]}
        seen.add(check("/token", agent.post(b"grant_type=" + b"x" * 70000)))
        seen.add(check("/token", agent.post(TOKEN, {f"X-{n}": "y" for n in range(80)})))
        seen.add(check("/token", sent_too_slowly(agent)))
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(request("GET", "/metrics"))
            seen.add(check("/metrics", reply(read_all(connection))))
        provider.faults.put({"token_status": {"value": 503, "count": -1}})
    nobody = [running_agent.rule("others", uid=4242), running_agent.rule("ours")]
    with running_agent.running(provider, rules=nobody[1:]) as agent:
        seen |= {check("/token", agent.ask()), check("/readyz", agent.get("/readyz"))}
        (agent.directory / "client_secret").unlink()
        time.sleep(1.1)  # a failure answers everybody for a second
        seen.add(check("/token", agent.ask()))
    with running_agent.running(provider, rules=nobody[:1]) as agent:
        seen |= {check("/token", agent.ask()), check("/identity", agent.get("/identity"))}

    pods, others = {("/token", 429), ("/identity", 429), ("/identity", 503)}, {("/metrics", 403)}
    documented = {(path, status) for _, path, status in DOCUMENT.answers}
    assert documented - pods - others == seen


@pytest.mark.peer
def test_the_numbers_are_not_for_another_user(provider: Running) -> None:
    second = SecondUser()
    with running_agent.running(provider, mode=0o666) as agent:
        agent.directory.chmod(0o755)
        agent.socket.parent.chmod(0o755)
        program = f"""
import socket
import time
with socket.socket(socket.AF_UNIX) as s:
    s.connect({str(agent.socket)!r})
    s.sendall({request("GET", "/metrics")!r})
    said = b""
    while piece := s.recv(65536):
        said += piece
print(said.hex())
"""
        answer = reply(bytes.fromhex(second.run(program)))
    assert check("/metrics", answer) == ("/metrics", 403)
