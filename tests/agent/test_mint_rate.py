"""How many mints one caller can cause: counted at a real provider."""

from __future__ import annotations

import itertools
import json
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest
import running_agent
from running_agent import Agent, rule
from running_provider import Running

from flytekitplugins.authagent import wire
from flytekitplugins.authagent.agent.crowd import BURST, LIMIT, Crowd
from flytekitplugins.authagent.agent.peer import Peer
from flytekitplugins.authagent.agent.workload import Pod, Workload
from flytekitplugins.authagent.providers import Wanted
from flytekitplugins.authagent.providers.agent import AgentProvider
from flytekitplugins.authagent.source import Source, Throttled

SCOPES = tuple(f"s{number}" for number in range(11))
RATE = 2


class TokenEndpoint:
    """A token endpoint on loopback, which gives what is asked and counts."""

    def __init__(self) -> None:
        self.mints = 0
        self.pause = 0.0
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                form = dict(parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
                endpoint.mints += 1
                time.sleep(endpoint.pause)
                token = {"access_token": f"t{endpoint.mints}", "token_type": "Bearer", "expires_in": 3600}
                token |= {"scope": form.get("scope", ""), "issued_token_type": wire.ACCESS_TOKEN_TYPE}
                body = json.dumps(token).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_words: object) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.socket.listen(128)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/token"


@pytest.fixture
def endpoint() -> Iterator[TokenEndpoint]:
    endpoint = TokenEndpoint()
    yield endpoint
    endpoint.server.shutdown()
    endpoint.server.server_close()


def running(
    provider: Running, endpoint: TokenEndpoint, kind: str = "client_credentials", **changed: Any
) -> AbstractContextManager[Agent]:
    """An agent whose rule has 2,047 sets of scopes."""
    upstream = {
        "kind": kind,
        "token_endpoint": endpoint.url,
        "client_id": "flyte-agent",
        "client_secret_env": "SECRET",
        "scopes": list(SCOPES),
    }
    rules = [rule("ours", give={"upstream": "flyte", "scopes": list(SCOPES)})]
    environ = {"SECRET": "s3cret"}
    return running_agent.running(provider, environ=environ, upstreams={"flyte": upstream}, rules=rules, **changed)


@pytest.fixture
def many(provider: Running, endpoint: TokenEndpoint) -> Iterator[Agent]:
    with running(provider, endpoint) as agent:
        yield agent


def subsets() -> Iterator[str]:
    for length in range(1, len(SCOPES) + 1):
        yield from map(" ".join, itertools.combinations(SCOPES, length))


def test_one_caller_causes_a_bounded_number_of_mints(many: Agent, endpoint: TokenEndpoint) -> None:
    began = time.monotonic()
    answers = [many.ask({"scope": scope}) for scope in itertools.islice(subsets(), 400)]
    seconds = time.monotonic() - began

    assert endpoint.mints <= BURST + RATE * (seconds + 1) + 1
    slowed = [answer for answer in answers if answer.status == 429]
    assert slowed
    assert {answer.json()["error"] for answer in slowed} == {"temporarily_unavailable"}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in slowed)
    assert many.ask({"scope": SCOPES[0]}).status == 200, "a token that is there costs nothing"
    time.sleep(2 / RATE)
    assert many.ask({"scope": " ".join(SCOPES)}).status == 200, "and a new one can be had after a while"


# One line for each way to say the same in other words.
SAME: dict[str, list[dict[str, str]]] = {
    "orders of scopes": [{"scope": " ".join(order)} for order in itertools.permutations(SCOPES[:4])],
    "repeated scopes": [{"scope": " ".join(SCOPES[:2] * number)} for number in range(1, 30)],
    "white space": [{"scope": f"{SCOPES[0]}{' ' * number}{SCOPES[1]}"} for number in range(1, 30)],
    "all of them, or none named": [{}, {"scope": " ".join(SCOPES)}, {"scope": " ".join(reversed(SCOPES))}],
    "tasks": [{"task": f"app.t{number}"} for number in range(100)],
    "executions": [{"execution": f"p:d:x{number}"} for number in range(100)],
    "lifetimes that the token has": [{"min_lifetime": str(number)} for number in range(100)],
    "clients without a secret": [{"client_id": f"c{number}"} for number in range(100)],
}


@pytest.mark.parametrize("fields", SAME.values(), ids=SAME)
def test_the_same_in_other_words_is_one_mint(
    many: Agent, endpoint: TokenEndpoint, fields: list[dict[str, str]]
) -> None:
    for each in random.sample(fields, len(fields)):
        assert many.ask(each).status == 200
    assert endpoint.mints == 1


@pytest.mark.parametrize(("tasks", "pause"), [(LIMIT + 8, 0.5), (BURST + 4, 0.0)], ids=["waiting", "new"])
def test_tasks_of_a_user_that_start_at_once_are_all_served(
    many: Agent, endpoint: TokenEndpoint, tasks: int, pause: float
) -> None:
    endpoint.pause = pause
    provider = AgentProvider(many.socket)
    wanted = [Wanted(scopes=tuple(scope.split())) for scope in itertools.islice(subsets(), tasks)]
    with ThreadPoolExecutor(tasks) as pool:
        assert all(pool.map(provider.fetch, wanted))
    assert endpoint.mints == tasks


def test_lifetimes_that_no_token_has_do_not_multiply_mints(many: Agent, endpoint: TokenEndpoint) -> None:
    for number in range(200):
        assert many.ask({"min_lifetime": str(100_000 + number)}).status in (400, 429)
    assert endpoint.mints <= 2


def test_tokens_that_are_shown_multiply_no_mints_beyond_the_rate(provider: Running, endpoint: TokenEndpoint) -> None:
    with running(provider, endpoint, kind="token_exchange") as agent:
        began = time.monotonic()
        answers = []
        for number in range(300):
            shown = {"subject_token": f"t{number}", "subject_token_type": "urn:ietf:params:oauth:token-type:jwt"}
            form = [("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"), *shown.items()]
            answers.append(agent.post(urlencode(form).encode()).status)
        assert endpoint.mints <= BURST + RATE * (time.monotonic() - began + 1) + 1
        assert set(answers) == {200, 429}


def test_the_rate_is_configured(provider: Running, endpoint: TokenEndpoint) -> None:
    with running(provider, endpoint, mint_rate=1000.0) as agent:
        assert {agent.ask({"scope": scope}).status for scope in itertools.islice(subsets(), 200)} == {200}
        assert endpoint.mints == 200


@pytest.mark.parametrize("wrong", [0, -1, 1e9, "much"])
def test_a_rate_that_is_none_is_refused(provider: Running, wrong: Any) -> None:
    with pytest.raises(AssertionError, match="mint_rate"), running_agent.running(provider, mint_rate=wrong):
        pass


def workload(number: int) -> Workload:
    return Workload(Peer(0, 0, 1), Pod("n", "s", f"p{number}", f"uid-{number}"))


def test_each_pod_has_its_own() -> None:
    crowd = Crowd(RATE)
    assert [crowd.may_mint(workload(1)) for _ in range(BURST + 1)] == [True] * BURST + [False]
    assert crowd.may_mint(workload(2))
    assert crowd.slower().retry_after == 1
    assert Crowd(0.1).slower().retry_after == 10


def test_a_reload_with_the_same_rate_fills_no_bucket() -> None:
    crowd = Crowd(RATE)
    for _ in range(BURST):
        crowd.may_mint(workload(1))
    crowd.use(RATE)
    assert not crowd.may_mint(workload(1))
    crowd.use(RATE * 2)
    assert crowd.may_mint(workload(1))


def test_a_renewal_before_its_time_needs_leave_too_and_what_is_valid_is_given_without() -> None:
    from flytekitplugins.authagent.credential import Credential, Secret
    from flytekitplugins.authagent.source import Clock

    now = 1000.0
    clock = Clock(wall=lambda: now, steady=lambda: now)
    fetched: list[float] = []

    def fetch(_least: float | None) -> Credential:
        fetched.append(now)
        return Credential(Secret("t"), expires_at=now + 100)

    source = Source(fetch, clock=clock, jitter=lambda low, high: high)
    with pytest.raises(Throttled):
        source.ask(may_fetch=lambda: False)
    assert source.get().token == Secret("t")
    now += 60
    assert isinstance(source.ask(may_fetch=lambda: False), Credential)
    with pytest.raises(Throttled):
        source.ask(min_lifetime=90, may_fetch=lambda: False)
    assert len(fetched) == 1
