"""Nothing that a caller says fills the memory: an agent is attacked with valid requests, and its size is measured."""

from __future__ import annotations

import contextlib
import gc
import socket
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlencode

import pytest
import running_agent
from attesting import Place
from running_agent import FORM, Agent, request, rule
from running_provider import Running

from flytekitplugins.authagent.agent import kubernetes
from flytekitplugins.authagent.agent.asked import Asked
from flytekitplugins.authagent.agent.decision import Decision, Given
from flytekitplugins.authagent.agent.settled import DECISION_BYTES, _size
from flytekitplugins.authagent.bounded_cache import ENTRY, BoundedCache, text_size
from flytekitplugins.authagent.sources import BYTES, Sources

pytestmark = pytest.mark.timeout(300)

REQUESTS = 4200
"""More than any cache has entries."""

GROWTH = 12 << 10
"""KiB that an agent may grow by, whatever it is sent."""


def resident(agent: Agent) -> int:
    """KiB."""
    status = Path(f"/proc/{agent.process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


def post(fields: dict[str, str], *headers: str) -> bytes:
    body = urlencode({"grant_type": "client_credentials"} | fields).encode()
    lines = [
        "POST /token HTTP/1.1", "Host: a", f"Content-Type: {FORM}", f"Content-Length: {len(body)}", *headers, "", ""
    ]  # fmt: skip
    return "\r\n".join(lines).encode() + body


def some(number: int, length: int) -> str:
    """A text that no other request has."""
    return f"{number:06}" + "x" * (length - 6)


# One line for each part of a request that a caller makes as long as it likes, and each time another.
ATTACKS: dict[str, Callable[[int], bytes]] = {
    "cookies": lambda n: post({}, f"Cookie: {some(n, 70_000)}"),
    "origins": lambda n: post({}, f"Origin: https://{some(n, 15_000)}", f"Sec-Fetch-Site: {some(n, 15_000)}"),
    "headers that nobody knows": lambda n: post({}, f"X-{some(n, 15_000)}: {some(n, 40_000)}"),
    "tasks": lambda n: post({"task": some(n, 60_000)}),
    "short tasks": lambda n: post({"task": some(n, 1900)}),
    "short tasks of wide characters": lambda n: post({"task": f"{n:06}" + "\U0001f600" * 400}),
    "executions": lambda n: post({"execution": f"p:d:{some(n, 60_000)}"}),
    "subjects": lambda n: post({"requested_subject": some(n, 60_000)}),
    "audiences": lambda n: post({"audience": some(n, 60_000)}),
    "resources": lambda n: post({"resource": some(n, 60_000)}),
    "scopes": lambda n: post({"scope": some(n, 60_000)}),
    "orders of scopes": lambda n: post({"scope": " ".join(["all", "offline"][:: 1 - 2 * (n % 2)] * (1 + n % 30))}),
    "lifetimes": lambda n: post({"min_lifetime": str(n % 60)}),
    "client ids": lambda n: post({"client_id": some(n, 60_000)}),
    "assertions": lambda n: post(
        {
            "client_assertion": some(n, 60_000),
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        }
    ),
    "authorizations": lambda n: post({}, f"Authorization: Basic {some(n, 60_000)}"),
    "paths": lambda n: request("GET", f"/{some(n, 15_000)}").replace(b"Connection: close\r\n", b""),
    "queries": lambda n: request("GET", f"/livez?{some(n, 15_000)}").replace(b"Connection: close\r\n", b""),
    "methods": lambda n: request("PUT", f"/token?{some(n, 15_000)}").replace(b"Connection: close\r\n", b""),
}


def send(agent: Agent, raws: Iterator[bytes]) -> None:
    with contextlib.ExitStack() as stack:
        connection = None
        for raw in raws:
            connection = connection or stack.enter_context(agent.connect())
            connection.sendall(raw)
            answer = connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 ")
            if b"Connection: close" in answer:
                connection = None


def attack(agent: Agent, raw: Callable[[int], bytes], number: int = REQUESTS) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda first: send(agent, map(raw, range(first, number, 4))), range(4)))


@pytest.fixture(scope="module")
def attacked(shared_provider: Running) -> Iterator[Agent]:
    both = ("all", "offline")
    rules = [rule("ours", give={"upstream": "flyte", "scopes": list(both)})]
    with running_agent.running(shared_provider, upstream_scopes=both, rules=rules) as agent:
        for raw in ATTACKS.values():  # what is needed once is there, code and arenas
            attack(agent, raw, 40)
        yield agent


@pytest.mark.parametrize("raw", ATTACKS.values(), ids=ATTACKS)
def test_what_callers_say_does_not_stay(attacked: Agent, raw: Callable[[int], bytes]) -> None:
    before = resident(attacked)
    attack(attacked, raw)
    grown = resident(attacked) - before
    assert grown < GROWTH, f"{grown} KiB for {REQUESTS} requests"
    assert attacked.ask().status == 200


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    "start",
    [
        b"POST /token HTTP/1.1\r\nHost: a\r\nCookie: " + b"x" * 70_000,
        b"POST /token HTTP/1.1\r\nHost: a\r\nContent-Length: 65000\r\n\r\n" + b"x" * 60_000,
        b"POST /token HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: " + b"x" * 70_000,
    ],
    ids=["headers", "body", "trailer"],
)
def test_requests_that_do_not_end_have_their_share_of_the_memory(attacked: Agent, start: bytes) -> None:
    before = resident(attacked)
    with contextlib.ExitStack() as stack:
        largest = 0
        for _ in range(500):
            connection = stack.enter_context(attacked.connect())
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(start)
            largest = max(largest, resident(attacked) - before)
        assert largest < (16 << 10) + GROWTH  # half of MAX_HELD, twice: as pieces, and as what they are put into
    until(lambda: attacked.ask().status == 200)


def test_answers_that_nobody_reads_have_their_share_of_the_memory(attacked: Agent) -> None:
    attacked.ask()
    before = resident(attacked)
    pipelined = post({}) * 500
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            connection = stack.enter_context(attacked.connect())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            connection.setblocking(False)
            with contextlib.suppress(OSError):
                while True:
                    connection.send(pipelined)
        assert attacked.ask().status == 200
        assert resident(attacked) - before < 100 * 160 + GROWTH  # 64 KiB each, and what was being put there


def test_tokens_that_callers_show_do_not_stay(shared_provider: Running) -> None:
    upstream = {
        "kind": "token_exchange",
        "token_endpoint": shared_provider.issuer.token_endpoint,
        "client_id": "flyte-agent",
    }

    def raw(number: int) -> bytes:
        shown = {"subject_token": some(number, 30_000), "subject_token_type": "urn:ietf:params:oauth:token-type:jwt"}
        return post({"grant_type": "urn:ietf:params:oauth:grant-type:token-exchange"} | shown)

    with running_agent.running(shared_provider, mint_rate=1000) as plain:
        secret = plain.directory / "client_secret"
        upstream["client_secret_file"] = str(secret)
        with running_agent.running(shared_provider, upstreams={"flyte": upstream}, mint_rate=1000) as agent:
            attack(agent, raw, 200)
            before = resident(agent)
            attack(agent, raw, 2000)
            assert resident(agent) - before < (BYTES >> 10) * 2 + GROWTH


def test_a_cache_is_bounded_by_its_bytes_and_by_its_number() -> None:
    cache: BoundedCache[str, str] = BoundedCache(10, 20 * ENTRY, text_size)
    for number in range(100):
        cache.put(f"{number:02}", "x" * ENTRY)
        assert cache.size <= 20 * ENTRY
    assert len(cache) == 9
    assert cache.get("91") is not None and cache.get("90") is None
    cache.put("new", "y")
    cache.put("newer", "y")
    assert "91" in cache and "92" not in cache, "what was used last stays"
    cache.put("91", "x" * 100 * ENTRY)
    assert "91" not in cache, "what has no room is not kept, nor what was there before"
    for number in range(100):
        cache.put(str(number), "")
    assert len(cache) == 10
    cache.drop(lambda key, _value: key != "99")
    cache.pop("98")
    assert (len(cache), cache.peek("99")) == (1, "")
    cache.clear()
    assert (len(cache), cache.size) == (0, 0)


def test_wide_characters_count_four_times() -> None:
    assert text_size("abc", None, "\U0001f600") == 7


def test_a_decision_counts_what_was_asked_its_record_and_its_answer() -> None:
    asked = Asked(task="t" * 100)
    decision = Decision(asked, None, None, {}, key=(0, 0, asked))  # type: ignore[arg-type]
    decision.given = Given(None, "r" * 10, b"b" * 1000, b"a" * 5)  # type: ignore[arg-type]
    assert _size((0, 0, asked), decision) == 100 + 30 + 1005
    assert DECISION_BYTES <= 8 << 20


def test_sources_are_bounded_by_the_bytes_of_their_keys() -> None:
    sources = Sources(1000, lambda key: len(str(key)))
    for number in range(1000):
        sources.get(f"{number:05}" + "x" * 60_000, object)  # type: ignore[arg-type,return-value]
    assert len(sources) <= BYTES / 60_000


def test_pods_with_endless_labels_and_identities_do_not_stay(place: Place) -> None:
    """Whoever launches an execution writes both, a megabyte of them if it likes."""
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(40):
            identity = {"run_as": {"execution_identity": some(number, 500_000)}}
            workflow = place.api.workflow(name=f"f{number}", securityContext=identity)
            labels = {f"label-{part}": some(number, 63) for part in range(4000)}
            pod = place.one(place.api.token(place.api.pod_of(workflow, name=f"p{number}", labels=labels)))
            assert pod.execution
            for kept_by_the_fake in (place.api.pods, place.api.workflows, place.api.tokens, place.api.seen):
                kept_by_the_fake.clear()
            place.api._remembered.clear()
            del workflow, labels, pod
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    attestor = place.attestor
    assert max(attestor._pods.size, attestor._executions.size, attestor._tokens.size) <= kubernetes.BYTES
    assert 0 < len(attestor._pods) < 40
    assert kept < 2 * kubernetes.BYTES + (8 << 20)
