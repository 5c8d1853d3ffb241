"""`POST /token` and its neighbours, row by row of the contract."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import running_agent
from peers import need
from running_agent import Agent, reply, request, rule
from running_provider import Running

from flytekitplugins.authagent import wire


def test_a_token_comes_with_all_that_rfc_6749_and_rfc_8693_want(agent: Agent) -> None:
    answer = agent.ask()

    assert answer.status == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-type"] == "application/json"
    content = answer.json()
    assert content.keys() == {"access_token", "issued_token_type", "token_type", "expires_in", "scope"}
    assert content["issued_token_type"] == "urn:ietf:params:oauth:token-type:access_token"
    assert (content["token_type"], content["scope"]) == ("Bearer", "all")
    assert 0 < content["expires_in"] <= 300
    claims = agent.provider.read(content["access_token"]).claims
    assert abs(claims["exp"] - time.time() - content["expires_in"]) < 3


def test_fifty_cold_callers_cost_one_mint(cold_agent: Agent) -> None:
    cold_agent.provider.faults.put({"token_delay_ms": 500})
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: cold_agent.ask(), range(50)))

    assert {a.status for a in answers} == {200}
    assert len({a.json()["access_token"] for a in answers}) == 1
    assert cold_agent.mints == 1


@pytest.mark.peer
def test_fifty_cold_processes_cost_one_mint(cold_agent: Agent) -> None:
    need("curl", shutil.which("curl"))
    command = ["curl", "--silent", "--fail", "--unix-socket", str(cold_agent.socket)]
    command += ["--data", "grant_type=client_credentials", "http://agent/token"]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(50)]
    tokens = {json.loads(process.communicate(timeout=60)[0])["access_token"] for process in started}

    assert len(tokens) == 1
    assert cold_agent.mints == 1


@pytest.mark.parametrize(
    ("fields", "status", "error"),
    [
        ({"scope": "all"}, 200, None),
        ({"audience": ""}, 200, None),  # RFC 6749 section 3.2: empty means left out
        ({"client_id": "whoever"}, 200, None),
        ({"client_id": "whoever", "client_secret": ""}, 200, None),
        ({"min_lifetime": "10"}, 200, None),
        ({"requested_token_type": "urn:ietf:params:oauth:token-type:access_token"}, 200, None),
        ({"execution": "p:d:name", "task": "a.b"}, 200, None),
        ({"scope": "admin"}, 400, "invalid_scope"),
        ({"scope": "all admin"}, 400, "invalid_scope"),
        ({"audience": "https://elsewhere.example.com"}, 400, "invalid_target"),
        ({"resource": "https://elsewhere.example.com"}, 400, "invalid_target"),
        ({"requested_subject": "alice"}, 400, "unauthorized_client"),
        ({"min_lifetime": "99999"}, 400, "invalid_request"),
        ({"min_lifetime": "-1"}, 400, "invalid_request"),
        ({"min_lifetime": "٣"}, 400, "invalid_request"),
        ({"min_lifetime": "1e9"}, 400, "invalid_request"),
        ({"requested_token_type": "urn:ietf:params:oauth:token-type:id_token"}, 400, "invalid_request"),
        ({"subject_token": "x", "subject_token_type": "y"}, 400, "invalid_request"),
        ({"client_assertion": "x"}, 400, "invalid_request"),
        ({"client_assertion": "x", "client_assertion_type": "y"}, 400, "invalid_request"),
        ({"client_assertion": "x.y.z", "client_assertion_type": wire.ASSERTION_TYPE}, 200, None),  # means nothing here
        ({"unknown": "1"}, 400, "invalid_request"),
        ([("scope", "all"), ("scope", "all")], 400, "invalid_request"),
        ({"client_id": "x", "client_secret": "y"}, 401, "invalid_client"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict | list) else None,
)
def test_parameters(agent: Agent, fields: object, status: int, error: str | None) -> None:
    answer = agent.ask(fields)

    assert answer.status == status, answer.body
    assert answer.json().get("error") == error
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"scope=all", "invalid_request"),
        (b"grant_type=password&username=a&password=b", "invalid_request"),
        (b"grant_type=authorization_code", "unsupported_grant_type"),
        (
            b"grant_type=urn:ietf:params:oauth:grant-type:token-exchange&subject_token=a&subject_token_type=b",
            "unsupported_grant_type",
        ),
        (b"\xff\xfe=1", "invalid_request"),
        (b"grant_type", "invalid_request"),
        (b"&".join([b"scope=all"] * 200), "invalid_request"),
        (b'{"grant_type": "client_credentials"}', "invalid_request"),
    ],
)
def test_bodies_that_are_refused(agent: Agent, body: bytes, error: str) -> None:
    answer = agent.post(body)

    assert (answer.status, answer.json()["error"]) == (400, error)


def test_basic_with_an_empty_password_means_nothing_and_a_secret_is_refused(agent: Agent) -> None:
    def basic(pair: str) -> dict[str, str]:
        return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}

    assert agent.ask(headers=basic("anybody:")).status == 200
    refused = agent.ask(headers=basic("anybody:s3cr3t"))
    assert (refused.status, refused.json()["error"]) == (401, "invalid_client")
    assert refused.headers["www-authenticate"].startswith("Basic")
    assert b"s3cr3t" not in refused.body
    assert agent.ask(headers={"Authorization": "Bearer abc"}).status == 401
    assert agent.ask(headers={"Authorization": "Basic ***"}).status == 401


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/token", 405),
        ("HEAD", "/token", 405),
        ("POST", "/identity", 405),
        ("GET", "/nothing", 404),
        ("GET", "/livez", 200),
        ("GET", "/readyz", 200),
        ("GET", "/metrics", 200),
        ("DELETE", "/livez", 405),
    ],
)
def test_paths_and_methods(agent: Agent, method: str, path: str, status: int) -> None:
    assert reply(agent.say(request(method, path))).status == status


def test_a_query_and_another_content_type_are_refused(agent: Agent) -> None:
    body = b"grant_type=client_credentials"
    form = {"Content-Type": running_agent.FORM}
    assert reply(agent.say(request("POST", "/token?scope=all", body, form))).status == 400
    assert reply(agent.say(request("POST", "/token", body, {"Content-Type": "application/json"}))).status == 415
    with_charset = {"Content-Type": running_agent.FORM + "; charset=utf-8"}
    assert reply(agent.say(request("POST", "/token", body, with_charset))).status == 200


def test_the_metadata_lists_what_is_understood(agent: Agent) -> None:
    document = agent.get("/.well-known/oauth-authorization-server").json()

    assert document["grant_types_supported"] == ["client_credentials"]
    assert {"min_lifetime", "execution", "task"} <= set(document["token_request_parameters_supported"])


def test_identity_says_what_the_agent_knows(agent: Agent) -> None:
    assert agent.get("/identity").json() == {
        "uid": os.geteuid(),
        "gid": os.getegid(),
        "attestor": "kernel",
        "flyte": {"endpoint": "dns:///flyte.example.com", "insecure": False},
    }


def test_the_header_that_the_server_wants_is_told(provider: Running) -> None:
    flyte = {"endpoint": "dns:///flyte.example.com", "authorization_metadata_key": "flyte-authorization"}
    with running_agent.running(provider, flyte=flyte) as agent:
        assert agent.ask().json()["authorization_metadata_key"] == "flyte-authorization"


def test_hints_narrow_and_never_widen(provider: Running) -> None:
    rules = [rule("billing", narrow={"task": "billing.*"})]
    with running_agent.running(provider, rules=rules) as agent:
        assert agent.ask({"task": "billing.daily"}).status == 200
        for fields in ({}, {"task": "other"}, {"task": ""}):
            refused = agent.ask(fields)
            assert (refused.status, refused.json()["error"]) == (400, "unauthorized_client")


def test_a_token_that_lives_longer_than_the_rule_allows_is_refused_when_minted(provider: Running) -> None:
    give = {"upstream": "flyte", "scopes": ["all"], "max_lifetime": "1m"}
    with running_agent.running(provider, rules=[rule("short", give=give)]) as agent:
        refused = agent.ask()

        assert (refused.status, refused.json()["error"]) == (400, "unauthorized_client")
        assert "longer than the 60 s" in agent.records()[-1]["reason"]


@pytest.mark.parametrize("fault", [{"token_status": 503}, {"token_html": -1}], ids=["503", "html"])
def test_a_provider_that_is_down_is_unavailable_and_the_agent_not_ready(cold_agent: Agent, fault: dict) -> None:
    cold_agent.provider.faults.put(fault)

    answer = cold_agent.ask()

    assert (answer.status, answer.json()["error"]) == (503, "temporarily_unavailable")
    assert int(answer.headers["retry-after"]) >= 1
    assert cold_agent.get("/readyz").status == 503
    assert cold_agent.get("/livez").status == 200


def test_a_provider_that_is_down_does_not_take_away_a_valid_token(agent: Agent) -> None:
    token = agent.ask().json()["access_token"]
    agent.provider.faults.put({"token_status": {"value": 503, "count": -1}})

    assert {agent.ask().json()["access_token"] for _ in range(50)} == {token}


def test_what_is_cached_is_answered_while_a_mint_hangs(provider: Running) -> None:
    both = ("all", "offline")
    rules = [rule("two", give={"upstream": "flyte", "scopes": list(both)})]
    with running_agent.running(provider, upstream_scopes=both, rules=rules) as agent:
        assert agent.ask({"scope": "all"}).status == 200
        provider.faults.put({"token_hang": -1})
        with agent.connect() as waiting:
            body = b"grant_type=client_credentials&scope=offline"
            waiting.sendall(request("POST", "/token", body, {"Content-Type": running_agent.FORM}))
            answers = [agent.ask({"scope": "all"}).status for _ in range(200)]
        assert answers == [200] * 200
        assert agent.mints == 1


@pytest.mark.peer
def test_curl_gets_a_token(agent: Agent) -> None:
    need("curl", shutil.which("curl"))
    command = ["curl", "--silent", "--fail", "--unix-socket", str(agent.socket), "--user", "any:"]
    command += ["--data", "grant_type=client_credentials", "http://agent/token"]
    done = subprocess.run(command, capture_output=True, timeout=20, check=True)

    assert json.loads(done.stdout)["token_type"] == "Bearer"
