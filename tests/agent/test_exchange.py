"""A workload shows somebody's token, and gets one in return (RFC 8693)."""

from __future__ import annotations

import hashlib
import select
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import running_agent
import running_provider
from foreign import Cluster, projected
from running_agent import Agent, rule
from running_provider import Reply, Running

from flytekitplugins.authagent import wire
from flytekitplugins.authagent.oauth import token_exchange

pytestmark = pytest.mark.timeout(60)

BOTH = [
    rule("exchange", narrow={"task": "as.*"}, give={"upstream": "people", "scopes": ["all"], "max_lifetime": "1h"}),
    rule("own"),
]


@pytest.fixture(scope="module")
def external() -> Iterator[Running]:
    with running_provider.running("external", trusted=[Cluster().trusted()]) as provider:
        yield provider


@pytest.fixture(scope="module")
def exchanging(external: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    directory = tmp_path_factory.mktemp("exchange")
    own = running_agent.configuration(directory, external)["upstreams"]["flyte"]
    people: dict[str, Any] = {**own, "kind": "token_exchange"}
    with running_agent.running(external, upstreams={"flyte": own, "people": people}, rules=BOTH) as agent:
        yield agent


def of(provider: Running, person: str) -> str:
    answer = provider.refresh(provider.issuer.sign_in(person), scope="all offline")
    return str(answer.json()["access_token"])


def exchange(agent: Agent, token: str, **more: str) -> Reply:
    fields = {"grant_type": wire.TOKEN_EXCHANGE, "subject_token": token, "task": "as.person"}
    fields |= {"subject_token_type": token_exchange.ACCESS_TOKEN} | more
    return agent.post(wire.form([(name, value) for name, value in fields.items() if value]))


def test_somebodys_token_becomes_one_that_speaks_for_them(exchanging: Agent) -> None:
    token = of(exchanging.provider, "alice")
    exchanging.provider.counts.reset()
    answers = [exchange(exchanging, token) for _ in range(5)]

    assert {answer.status for answer in answers} == {200}, answers[0].body
    content = answers[0].json()
    assert content["issued_token_type"] == token_exchange.ACCESS_TOKEN
    claims = exchanging.provider.read(content["access_token"]).claims
    assert (claims["sub"], claims["client_id"], claims["scp"]) == ("alice", "flyte-agent", ["all"])
    assert exchanging.mints == 1
    record = exchanging.records()[-1]
    assert record["rule"] == "exchange"
    assert record["subject_token"] == hashlib.sha256(token.encode()).hexdigest()[:16]
    assert token not in exchanging.audit.read_text() + exchanging.log.read_text()


def test_each_person_gets_their_own(exchanging: Agent) -> None:
    given = {person: exchange(exchanging, of(exchanging.provider, person)).json() for person in ("alice", "bob")}

    for person, answer in given.items():
        assert exchanging.provider.read(answer["access_token"]).claims["sub"] == person


def test_an_actor_that_is_shown_is_passed_on(exchanging: Agent) -> None:
    pod = projected(exchanging.provider.issuer.issuer)
    answer = exchange(
        exchanging, of(exchanging.provider, "alice"), actor_token=pod, actor_token_type=token_exchange.JWT
    )
    assert "act" in exchanging.provider.read(answer.json()["access_token"]).claims


@pytest.mark.parametrize(
    ("changed", "status", "error"),
    [
        ({"subject_token": ""}, 400, "invalid_request"),
        ({"subject_token_type": ""}, 400, "invalid_request"),
        ({"subject_token_type": "urn:x:made-up"}, 400, "invalid_request"),
        ({"actor_token": "x"}, 400, "invalid_request"),
        ({"subject_token": "not a token"}, 400, "invalid_request"),
        ({"subject_token": "x" * 40000}, 400, "invalid_request"),
        ({"subject_token": "made.up.token"}, 400, "invalid_request"),
        ({"scope": "offline"}, 400, "invalid_scope"),
        ({"task": "other"}, 400, "unauthorized_client"),  # its rule gives the agent's own token, not an exchange
        ({"requested_token_type": token_exchange.ID_TOKEN}, 400, "invalid_request"),
    ],
)
def test_what_cannot_be_exchanged_is_refused(
    exchanging: Agent, changed: dict[str, str], status: int, error: str
) -> None:
    refused = exchange(exchanging, "made.up.token", **changed)
    assert (refused.status, refused.json()["error"]) == (status, error), refused.body


def test_an_exchange_gives_nothing_to_who_shows_nothing(exchanging: Agent) -> None:
    refused = exchanging.ask({"task": "as.person"})
    assert (refused.status, refused.json()["error"]) == (400, "unauthorized_client")


def test_a_token_that_is_no_good_does_not_make_the_agent_unready(exchanging: Agent) -> None:
    assert exchange(exchanging, "made.up.token").status == 400
    assert exchanging.get("/readyz").status == 200


def test_the_metadata_says_that_it_exchanges(exchanging: Agent) -> None:
    document = exchanging.get("/.well-known/oauth-authorization-server").json()
    assert document["grant_types_supported"] == ["client_credentials", wire.TOKEN_EXCHANGE]


def test_one_caller_cannot_make_the_agent_wait_for_ever_more_exchanges(external: Running, tmp_path: Path) -> None:
    own = running_agent.configuration(tmp_path, external)["upstreams"]["flyte"]
    rules = [rule("exchange", give={"upstream": "people", "scopes": ["all"]})]
    with running_agent.running(external, upstreams={"people": {**own, "kind": "token_exchange"}}, rules=rules) as agent:
        external.faults.put({"token_hang": -1})
        held = []
        try:
            for n in range(40):
                form = [("grant_type", wire.TOKEN_EXCHANGE), ("subject_token", f"token.of.{n}")]
                body = wire.form([*form, ("subject_token_type", token_exchange.ACCESS_TOKEN)])
                connection = agent.connect()
                held.append(connection)
                connection.sendall(running_agent.request("POST", "/token", body, {"Content-Type": running_agent.FORM}))
            refused: list[Reply] = []
            while len(refused) < 8:  # whichever they are: connections are served in no order
                readable, _, _ = select.select(held, [], [], 5)
                assert readable, f"{len(refused)} were refused"
                refused += [running_agent.reply(running_agent.read_all(connection)) for connection in readable]
                held = [connection for connection in held if connection not in readable]
        finally:
            external.faults.put({"token_hang": 0})
            for connection in held:
                connection.close()
        assert [answer.status for answer in refused] == [429] * 8
        assert {answer.headers["retry-after"] for answer in refused} == {"1"}
