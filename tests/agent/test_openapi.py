"""docs/openapi.yaml: a good document, and what a running agent answers is what it says."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import jsonschema
import openapi_spec_validator
import pytest
import running_agent
import yaml
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012
from running_agent import Agent, read_all, reply, request
from running_provider import Reply, Running
from second_user import SecondUser

from flytekitplugins.authagent.agent.asked import PARAMETERS

FILE = Path(__file__).parent.parent.parent / "docs" / "openapi.yaml"
DOCUMENT: dict[str, Any] = yaml.safe_load(FILE.read_text())
REGISTRY: Any = Registry().with_resource("urn:openapi", Resource(DOCUMENT, DRAFT202012))
TOKEN = b"grant_type=client_credentials"


def part(node: dict[str, Any]) -> dict[str, Any]:
    """The node itself, or the named one that it refers to."""
    found: Any = node
    if "$ref" in node:
        found = DOCUMENT
        for name in node["$ref"].removeprefix("#/").split("/"):
            found = found[name]
    return dict(found)


def check(path: str, answer: Reply) -> tuple[str, int]:
    """Hold `answer` against what is documented for its path and status."""
    (operation,) = DOCUMENT["paths"][path].values()
    documented = part(operation["responses"][str(answer.status)])
    for name, header in documented.get("headers", {}).items():
        described, found = part(header), answer.headers.get(name.lower())
        assert found is not None or not described.get("required"), name
        if found is not None:
            validate(found, described["schema"])
    kind = answer.headers["content-type"].partition(";")[0]
    body: Any = json.loads(answer.body) if kind == "application/json" else answer.body.decode()
    validate(body, documented["content"][kind]["schema"])
    return path, answer.status


def validate(value: Any, schema: dict[str, Any]) -> None:
    local = json.loads(json.dumps(schema).replace('"#/', '"urn:openapi#/'))
    jsonschema.Draft202012Validator(local, registry=REGISTRY).validate(value)


def test_it_is_a_good_document() -> None:
    openapi_spec_validator.validate(DOCUMENT)


def test_it_has_the_parameters_that_are_understood(agent: Agent) -> None:
    documented = DOCUMENT["components"]["schemas"]["TokenRequest"]["properties"]
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
        seen = {check(path, agent.get(path)) for path in DOCUMENT["paths"] if path != "/token"}
        seen |= {check("/token", agent.ask(fields)) for fields in ({}, {"scope": "root"}, {"client_secret": "x"})}
        seen.add(check("/token", agent.post(TOKEN, {"Content-Type": "text/plain"})))
        seen |= {check(path, reply(agent.say(request("DELETE", path)))) for path in DOCUMENT["paths"]}
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
    with running_agent.running(provider, rules=nobody[:1]) as agent:
        seen |= {check("/token", agent.ask()), check("/identity", agent.get("/identity"))}

    pods, others = {("/token", 429), ("/identity", 429), ("/identity", 503)}, {("/metrics", 403)}
    documented = {
        (path, int(status))
        for path, operations in DOCUMENT["paths"].items()
        for operation in operations.values()
        for status in operation["responses"]
    }
    assert documented - pods - others == seen


@pytest.mark.peer
def test_the_numbers_are_not_for_another_user(provider: Running) -> None:
    second = SecondUser()
    with running_agent.running(provider, mode=0o666) as agent:
        agent.directory.chmod(0o755)
        agent.socket.parent.chmod(0o755)
        program = f"""
import socket
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


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
