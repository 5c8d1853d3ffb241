"""What the hub does when others fail, or it does: nothing is spent twice, nothing is lost that could be kept."""

from __future__ import annotations

import contextlib
import http.client
import json
import resource
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import postgres as servers
import pytest
import running_hub
from running_hub import Hub, World, says, wait_for
from test_grants import fresh

UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


class Holding(ThreadingHTTPServer):
    """
    Stands before a token endpoint. While `hold` is set, an answer of it is kept back once it is there, until `let_go`
    is, too; while `widen` is, it says that it gives more than was asked for.
    """

    daemon_threads = True

    def __init__(self, endpoint: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind = urlsplit(endpoint)
        self.hold, self.held, self.let_go, self.widen = (threading.Event() for _ in range(4))
        self.url = f"http://127.0.0.1:{self.server_port}{self.behind.path}"
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, Holding)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        behind = http.client.HTTPConnection(server.behind.netloc, timeout=10)
        headers = {name: self.headers[name] for name in ("Content-Type", "Authorization") if self.headers[name]}
        behind.request("POST", server.behind.path, body, headers)
        answer = behind.getresponse()
        content = answer.read()
        if server.widen.is_set() and answer.status == 200:
            content = json.dumps(json.loads(content) | {"scope": "all admin"}).encode()
        if server.hold.is_set():
            server.held.set()
            server.let_go.wait(30)
        self.send_response(answer.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@contextlib.contextmanager
def holding(world: World) -> Iterator[Holding]:
    server = Holding(world.provider.issuer.token_endpoint)
    try:
        yield server
    finally:
        server.let_go.set()
        server.shutdown()
        server.server_close()


def granted_and_due(hub: Hub, user: str, execution: str) -> dict[str, Any]:
    """A grant whose first token is so short that nobody gets it: whoever asks waits for the next, which lives on."""
    issuer, token = hub.world.provider.issuer, hub.world.token(user)
    hub.world.admin.launch(execution, user)
    lifetime, issuer.lifetime = issuer.lifetime, 2
    try:
        reply = hub.deposit(token, execution)
    finally:
        issuer.lifetime = lifetime
    assert reply.status == 201, reply.body
    return dict(reply.json())


@pytest.mark.peer
def test_two_replicas_and_fifty_tasks_spend_a_rotating_refresh_token_once(postgres: servers.Postgres) -> None:
    store = {"store": postgres.new_database()}
    with (
        running_hub.world(lifetime=8) as world,
        running_hub.running(world, hub=store) as one,
        running_hub.running(world, hub=store) as other,
    ):
        execution = fresh()
        granted_and_due(one, "alice", execution)
        pods = [world.pod_of(execution) for _ in range(50)]
        for round_ in range(1, 4):
            if round_ > 1:
                time.sleep(4.2)  # past half of its life, so it is due
            with ThreadPoolExecutor(50) as threads:
                hubs = [one, other] * 25
                replies = list(threads.map(lambda hub, pod: hub.ask(pod), hubs, pods))
            assert {reply.status for reply in replies} == {200}
            assert world.of_hub("refreshes") == round_
            assert len({reply.json()["access_token"] for reply in replies}) == 1
        assert {says(reply)["sub"] for reply in replies} == {"alice"}


@pytest.mark.peer
def test_a_database_that_is_gone_is_a_refusal_for_now_and_nothing_is_lost_when_it_is_back(
    postgres: servers.Postgres,
) -> None:
    with (
        running_hub.world(lifetime=60) as world,
        running_hub.running(world, hub={"store": postgres.new_database()}) as hub,
    ):
        execution = fresh()
        grant = hub.granted("alice", execution)
        pod, alice = world.pod_of(execution), world.token("alice")
        assert hub.ask(pod).status == 200
        postgres.stop()
        try:
            for answer in (hub.ask(pod), hub.get("/grants", alice), hub.revoke(alice, id=grant["id"])):
                assert (answer.status, answer.json()["error"]) == (503, "temporarily_unavailable")
                assert int(answer.headers["retry-after"]) > 0
            assert wait_for(lambda: (r := hub.on_socket("/readyz")).status == 503 and b"database" in r.body)
            assert hub.get("/livez").status == 200
        finally:
            postgres.start()
        wait_for(lambda: hub.ask(pod).status == 200)
        assert hub.get(f"/grants/{grant['id']}", alice).json()["status"] == "active"
        wait_for(lambda: hub.get("/readyz").status == 200)
        assert world.of_hub("exchanges") == 1


@pytest.mark.parametrize("rotates", [True, False])
def test_a_process_killed_between_refresh_and_persist_says_that_consent_is_needed_again(rotates: bool) -> None:
    """
    The identity provider has spent the refresh token, and nobody has the next one: no store can help that. What counts
    is that it is found out, said, and does not become another identity.
    """
    with running_hub.world() as world, holding(world) as proxy:
        world.provider.issuer.refresh_tokens.rotates = rotates
        upstream = {"token_endpoint": proxy.url}
        with running_hub.running(world, upstream=upstream) as hub:
            execution, other = fresh(), fresh()
            grant = granted_and_due(hub, "alice", execution)
            granted_and_due(hub, "bob", other)
            pod, of_bob = world.pod_of(execution), world.pod_of(other)
            proxy.hold.set()
            with ThreadPoolExecutor(1) as threads:
                asked = threads.submit(hub.ask, pod)
                assert proxy.held.wait(15)
                hub.stop(signal.SIGKILL)
                with pytest.raises(OSError):  # a reset, or an end
                    asked.result()
            proxy.hold.clear()
            assert world.of_hub("refreshes") == 1
            hub.start()
            reply = hub.ask(pod)
            if rotates:
                assert (reply.status, reply.json()["error"]) == (400, "unauthorized_client")
                assert "consent again" in reply.json()["error_description"]
                assert wait_for(lambda: hub.records(outcome="ended", grant=grant["id"], reason="lost"))
            else:
                assert says(reply)["sub"] == "alice"
            assert says(hub.ask(of_bob))["sub"] == "bob"


@pytest.mark.peer
def test_a_replica_killed_in_the_middle_of_a_refresh_holds_up_the_other_for_a_moment_only(
    postgres: servers.Postgres,
) -> None:
    store = {"store": postgres.new_database()}
    with running_hub.world() as world, holding(world) as proxy:
        world.provider.issuer.refresh_tokens.rotates = False
        with (
            running_hub.running(world, hub=store, upstream={"token_endpoint": proxy.url}) as one,
            running_hub.running(world, hub=store) as other,
        ):
            execution = fresh()
            granted_and_due(one, "alice", execution)
            pod = world.pod_of(execution)
            proxy.hold.set()
            with ThreadPoolExecutor(2) as threads:
                threads.submit(one.ask, pod)
                assert proxy.held.wait(15)
                waiting = threads.submit(other.ask, pod)
                time.sleep(0.5)
                assert not waiting.done()  # the row is locked by the first
                one.stop(signal.SIGKILL)
                began = time.monotonic()
                assert says(waiting.result())["sub"] == "alice"
                assert time.monotonic() - began < 5
            proxy.hold.clear()


def test_where_the_disk_is_full_nobody_gets_what_could_not_be_kept_and_nothing_is_lost() -> None:
    with running_hub.world(lifetime=10) as world, running_hub.running(world) as hub:
        hub.stop()
        hub.write(hub.content | {"audit": {"path": str(hub.audit), "required": False}})
        hub.start()
        execution, issuer = fresh(), world.provider.issuer
        hub.granted("alice", execution)
        pod = world.pod_of(execution)
        first = hub.ask(pod)
        old, end = first.json()["access_token"], says(first)["exp"]
        time.sleep(max(0.0, end - 4.9 - time.time()))  # past half of its life, so it is due
        resource.prlimit(hub.process.pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        issuer.lifetime = 2  # of the next one, so whoever gets one after that gets what its refresh token gave
        answer = hub.ask(pod)
        assert answer.json()["access_token"] == old  # the next one exists, and is in no database
        assert world.of_hub("refreshes") == 1
        issuer.lifetime = 60
        time.sleep(max(0.0, end - 1.9 - time.time()))  # too short to arrive
        answer = hub.ask(pod)
        assert (answer.status, answer.json()["error"]) == (503, "temporarily_unavailable")
        assert hub.deposit(world.token("alice"), execution, expires_in="7200").status == 503
        resource.prlimit(hub.process.pid, resource.RLIMIT_FSIZE, UNLIMITED)
        said = wait_for(lambda: (r := hub.ask(pod)).status == 200 and says(r))
        assert (said["sub"], said["exp"] > end + 30) == ("alice", True)
        # The refresh token of the first answer was kept in memory and used; the one before it was never tried again.
        assert world.of_hub("refreshes") == 2


def test_a_restart_under_load_costs_nobody_their_grant() -> None:
    with running_hub.world(lifetime=4) as world, running_hub.running(world) as hub:
        executions = [fresh() for _ in range(8)]
        for execution in executions:
            hub.granted("alice", execution)
        pods = [world.pod_of(execution) for execution in executions]
        refused: list[Any] = []
        given = [0]
        over = threading.Event()

        def ask(pod: str) -> None:
            while not over.is_set():
                try:
                    answer = hub.ask(pod)
                except OSError:  # nobody listens for a moment
                    time.sleep(0.05)
                    continue
                if answer.status == 200:
                    given[0] += 1
                elif answer.status != 503:
                    refused.append(answer.body)
                time.sleep(0.02)

        with ThreadPoolExecutor(8) as threads:
            for pod in pods:
                threads.submit(ask, pod)
            for _ in range(3):
                time.sleep(2)
                assert hub.stop() == 0
                hub.start()
            time.sleep(2)
            over.set()
        assert not refused
        assert given[0] > 100
        assert world.of_hub("refreshes") >= 16  # every grant's token was replaced, and more than once
        alice = world.token("alice")
        live = [one for one in hub.get("/grants", alice).json()["grants"] if one["status"] == "active"]
        assert {one["execution"] for one in live} == set(executions)
        assert all(says(hub.ask(pod))["sub"] == "alice" for pod in pods)


def test_an_answer_that_is_refused_costs_nobody_their_consent() -> None:
    """What was shown for it is spent: the next refresh token is kept, also where nobody may have the access token."""
    with (
        running_hub.world() as world,
        holding(world) as proxy,
        running_hub.running(world, upstream={"token_endpoint": proxy.url}) as hub,
    ):
        execution = fresh()
        granted_and_due(hub, "alice", execution)
        pod = world.pod_of(execution)
        proxy.widen.set()
        for _ in range(5):
            assert hub.ask(pod).status == 503
        assert world.of_hub("refreshes") == 1  # it is not tried again for each of them
        proxy.widen.clear()
        assert wait_for(lambda: (r := hub.ask(pod)).status == 200 and says(r))["sub"] == "alice"
        assert world.of_hub("refreshes") == 2


@pytest.mark.parametrize("ahead", [3600, -3600])
def test_a_clock_an_hour_off_takes_no_word_of_people_and_says_why(ahead: int, tmp_path: Path) -> None:
    shifted = tmp_path / "sitecustomize.py"  # the clock of that machine, as its Python sees it
    shifted.write_text(f"import time\n_right = time.time\ntime.time = lambda: _right() + {ahead}\n")
    with running_hub.world() as world, running_hub.running(world) as hub:
        execution = fresh()
        hub.granted("alice", execution)
        hub.stop()
        hub.environ = hub.environ | {"PYTHONPATH": str(tmp_path)}
        hub.start()
        for token in (world.token("alice"), world.provider.issuer.sign("flytectl", "alice", ["all"], ahead=-4000)[0]):
            answer = hub.deposit(token, execution)
            assert (answer.status, answer.json()["error"]) == (503, "temporarily_unavailable")
        reasons = [record["reason"] for record in hub.records(event="person")]
        assert any("clock" in reason for reason in reasons), reasons
        assert wait_for(lambda: (r := hub.on_socket("/readyz")).status == 503 and b"clock" in r.body)
        assert hub.get("/livez").status == 200


def test_a_provider_that_hangs_keeps_nobody_from_a_token_that_is_there() -> None:
    with (
        running_hub.world() as world,
        holding(world) as proxy,
        running_hub.running(world, upstream={"token_endpoint": proxy.url}) as hub,
        ThreadPoolExecutor(20) as threads,
    ):
        held, stuck = fresh(), fresh()
        hub.granted("alice", held)
        granted_and_due(hub, "bob", stuck)
        pod, of_bob = world.pod_of(held), world.pod_of(stuck)
        proxy.hold.set()
        waiting = [threads.submit(hub.ask, of_bob) for _ in range(20)]
        assert proxy.held.wait(15)
        time.sleep(0.5)  # the others wait, too
        assert world.of_hub("refreshes") == 1  # it was asked, and does not answer
        assert {says(hub.ask(pod))["sub"] for _ in range(20)} == {"alice"}
        assert not any(future.done() for future in waiting)
        proxy.let_go.set()
        assert {says(future.result())["sub"] for future in waiting} == {"bob"}
        assert world.of_hub("refreshes") == 1
