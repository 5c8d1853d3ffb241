"""What somebody tries who did not write the hub: each test is an attack, and says what has to come of it."""

from __future__ import annotations

import base64
import http.client
import json
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
import running_hub
from consenting import Surfer, asked
from running_hub import Hub, World, says, wait_for
from running_provider import FORM
from test_grants import fresh
from test_hub_faults import granted_and_due, holding
from test_node_agent import node

from flytekitplugins.authagent.agent.refusal import Refusal
from flytekitplugins.authagent.agent.upstream import GrantSpec
from flytekitplugins.authagent.credential import Secret
from flytekitplugins.authagent.errors import AuthAgentError, ProviderError, ProviderUnavailable
from flytekitplugins.authagent.hub.consent import Consent, Minted
from flytekitplugins.authagent.hub.custody import Custody
from flytekitplugins.authagent.hub.grants import Deposit, Grants
from flytekitplugins.authagent.hub.records import Access
from flytekitplugins.authagent.hub.seal import Seal
from flytekitplugins.authagent.hub.store import Store, Tokens
from flytekitplugins.authagent.oauth.message import Request, Response

JWT = "urn:ietf:params:oauth:token-type:jwt"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"


def live_at_the_provider(world: World) -> list[Any]:
    issuer = world.provider.issuer
    return [
        token
        for token in issuer.refresh_tokens._live.values()
        if token.client_id == "hub" and not issuer.families.revoked(token.family)
    ]


# Whose token it is


def test_a_task_cannot_put_its_grant_over_anothers_running_execution(hub: Hub, world: World) -> None:
    """Bob's task names Alice's execution as its child: Alice's tasks must not act for Bob, nor Alice be kept out."""
    of_bob, of_alice = fresh(), fresh()
    hub.granted("bob", of_bob)
    world.admin.launch(of_alice, "alice")
    hub.adopt(world.pod_of(of_bob), of_alice)
    reply = hub.ask(world.pod_of(of_alice))
    assert reply.status == 400, says(reply)["sub"]


def test_a_task_cannot_squat_on_anothers_execution_before_they_consent(hub: Hub, world: World) -> None:
    of_bob, of_alice = fresh(), fresh()
    hub.granted("bob", of_bob)
    world.admin.launch(of_alice, "alice")
    hub.adopt(world.pod_of(of_bob), of_alice)
    reply = hub.deposit(world.token("alice"), of_alice)
    assert reply.status == 201, reply.body


def test_a_child_that_flyte_says_is_anothers_is_let_go_of_when_it_is_looked_at(hub: Hub, world: World) -> None:
    """It was Bob's when his task registered it, so Flyte said then."""
    parent, child = fresh(), fresh()
    grant = hub.granted("bob", parent)
    pod = world.pod_of(child)
    world.admin.launch(child, "bob")
    assert hub.adopt(world.pod_of(parent), child).status == 200
    assert says(hub.ask(pod))["sub"] == "bob"
    world.admin.launch(child, "alice")
    refused = wait_for(lambda: (r := hub.ask(pod)).status != 200 and r)
    assert (refused.status, refused.json()["error"]) == (400, "unauthorized_client")
    left = hub.get(f"/grants/{grant['id']}", world.token("bob")).json()
    assert (left["status"], left["children"]) == ("active", 0)  # the grant and its own execution are as they were
    assert says(hub.ask(world.pod_of(parent)))["sub"] == "bob"
    assert hub.deposit(world.token("alice"), child).status == 201  # and she can consent for what is hers


def test_a_token_of_alices_pod_shown_as_the_subject_gives_another_pod_nothing_of_hers(
    hub: Hub,
    world: World,
) -> None:
    of_alice, of_bob = fresh(), fresh()
    hub.granted("alice", of_alice)
    hub.granted("bob", of_bob)
    flyte_token = hub.ask(world.pod_of(of_alice)).json()["access_token"]
    shown = {
        "grant_type": EXCHANGE,
        "subject_token": flyte_token,
        "subject_token_type": JWT,
        "actor_token": flyte_token,
        "actor_token_type": JWT,
    }
    reply = hub.ask(world.pod_of(of_bob), **shown)
    assert (reply.status, reply.json()["error"]) == (400, "unauthorized_client"), reply.body
    assert hub.post("/token", shown).status == 401  # alone it attests nobody


def test_a_token_that_is_shown_beside_the_pods_own_is_not_ignored(hub: Hub, world: World) -> None:
    """RFC 8693: whoever shows a subject_token asks for a token about that subject; another one is no answer to it."""
    execution = fresh()
    hub.granted("alice", execution)
    reply = hub.ask(
        world.pod_of(execution),
        grant_type=EXCHANGE,
        subject_token=world.token("bob"),
        subject_token_type="urn:ietf:params:oauth:token-type:access_token",
    )
    assert reply.status == 400, says(reply)["sub"]


def test_asking_for_another_person_never_gives_ones_own_nor_a_service(world: World) -> None:
    give = {"otherwise": {"upstream": "service", "scopes": ["all"]}, "wait": "1s"}
    with running_hub.running(world, give=give) as hub:
        execution = fresh()
        hub.granted("bob", execution)
        pod = world.pod_of(execution)
        assert says(hub.ask(pod))["sub"] == "bob"
        for subject in ("alice", "BOB", "bob ", "flyte-agent", "*", "\u202ebob"):
            assert hub.ask(pod, requested_subject=subject).status == 400, subject
        bare = world.pod_of(world.admin.launch(fresh(), "alice"))
        assert hub.ask(bare, requested_subject="alice").status == 400
        assert hub.ask(bare, requested_subject="flyte-agent").status == 400
        assert hub.revoke(world.token("bob"), execution=execution).status == 200
        assert hub.ask(pod, requested_subject="bob").status == 400


@pytest.mark.parametrize("path", ["/grants", "/grants/revoke", "/grants/x", "/consent/x", "/grants/", "//grants"])
def test_the_socket_knows_nothing_of_people(hub: Hub, world: World, path: str) -> None:
    token = world.token("alice")
    body = urlencode({"execution": fresh(), "expires_in": "3600"})
    for method in ("GET", "POST"):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(str(hub.socket))
            connection.sendall(
                f"{method} {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nContent-Type: {FORM}\r\n"
                f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()
            )
            status = int(connection.recv(65536).split()[1])
        assert status == (404 if method == "GET" else 405)


def test_a_pods_projected_token_is_no_persons(hub: Hub, world: World) -> None:
    execution = fresh()
    grant = hub.granted("alice", execution)
    pod = world.pod_of(execution)
    given = hub.ask(pod).json()["access_token"]
    for token in (pod, given):
        assert hub.get("/grants", token).status == 401
        assert hub.get(f"/grants/{grant['id']}", token).status == 401
        assert hub.deposit(token, execution).status == 401
        assert hub.revoke(token, id=grant["id"]).status == 401


# What has ended stays ended


def test_a_token_that_was_being_refreshed_when_its_grant_was_revoked_is_not_given(world: World) -> None:
    with (
        holding(world) as proxy,
        running_hub.running(world, upstream={"token_endpoint": proxy.url}) as hub,
        ThreadPoolExecutor(1) as threads,
    ):
        execution, alice = fresh(), world.token("alice")
        grant = granted_and_due(hub, "alice", execution)
        proxy.hold.set()
        waiting = threads.submit(hub.ask, world.pod_of(execution))
        assert proxy.held.wait(15)
        assert hub.revoke(alice, id=grant["id"]).json()["status"] == "ended"
        assert not waiting.done()
        proxy.let_go.set()
        reply = waiting.result()
        assert reply.status == 400, "a token was given after the end of its grant"
        assert world.of_hub("refreshes") == 1


def test_a_token_whose_execution_was_being_looked_at_when_its_grant_was_revoked_is_not_given(
    hub: Hub,
    world: World,
) -> None:
    execution, alice = fresh(), world.token("alice")
    grant = hub.deposit(alice, execution, launch="later").json()
    pod = world.pod_of(execution)
    hub.get("/identity", pod)  # attested
    world.admin.slow = 2.5
    world.admin.launch(execution, "alice")
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(hub.ask, pod)
        time.sleep(0.7)
        assert hub.revoke(alice, id=grant["id"]).json()["status"] == "ended"
        reply = waiting.result()
    assert reply.status == 400, "a token was given 1.8 s after its grant had ended"


@pytest.mark.parametrize("revoked", [True, False], ids=["it has ended", "it lives"])
def test_the_old_token_does_not_stand_in_for_one_of_a_grant_that_ended_meanwhile(revoked: bool) -> None:
    with (
        running_hub.world(lifetime=10) as own,
        holding(own) as proxy,
        running_hub.running(own, upstream={"token_endpoint": proxy.url}) as hub,
        ThreadPoolExecutor(1) as threads,
    ):
        execution, alice = fresh(), own.token("alice")
        grant = hub.granted("alice", execution)
        pod = own.pod_of(execution)
        old = hub.ask(pod)
        time.sleep(max(0.0, says(old)["exp"] - 4.9 - time.time()))  # it is past half its life, so due
        own.provider.faults.put({"token_status": 503})
        proxy.hold.set()
        waiting = threads.submit(hub.ask, pod)
        assert proxy.held.wait(15)
        if revoked:
            assert hub.revoke(alice, id=grant["id"]).json()["status"] == "ended"
        proxy.let_go.set()
        reply = waiting.result()
        assert time.time() < says(old)["exp"] - 2, "too late to show anything: this machine is too busy"
        if revoked:
            assert reply.status == 400, "the token of a grant was given after its end"
        else:
            assert reply.json()["access_token"] == old.json()["access_token"]


def test_extending_a_grant_that_has_just_ended_does_not_say_that_it_lives() -> None:
    with closing(Store("memory", Seal.fresh())) as store:
        store.start()
        grants = _grants(store)
        person: Any = SimpleNamespace(subject="alice", client="cli", token=Secret("t"), name="")
        wanted = Deposit("p:d:f", 3600.0)
        first, _ = grants.deposit(person, wanted)
        assert first.status == "active"
        extend = store.extend

        def late(id: str, until: float) -> Any:
            store.end(id, "execution_ended")
            return extend(id, until)

        store.extend = late  # type: ignore[method-assign]
        with pytest.raises(Refusal) as refused:
            grants.deposit(person, wanted)
        assert refused.value.status == 409


def _grants(store: Store, consent: Any = None) -> Grants:
    seen = SimpleNamespace(over=False, principal="alice", scheduled=False)
    consent = consent or SimpleNamespace(
        way="exchange",
        spec=SimpleNamespace(scopes=("all",)),
        exchange=lambda shown, subject, scopes: Minted(
            Tokens(Secret("r"), accesses=(Access(Secret("a"), 9e9, scopes),))
        ),
        revoke=lambda refresh: True,
        give_back=lambda refresh: None,
    )
    return Grants(store, consent, SimpleNamespace(look=lambda execution: seen))  # type: ignore[arg-type]


# Nothing is left behind at the identity provider


class Provider:
    """An `OAuthClient` that gives what a test says, and notes what is sent."""

    client_id = "hub"
    in_pod = False

    def __init__(self, answer: dict[str, Any], status: int = 200) -> None:
        self.answer, self.status, self.sent, self.clock = answer, status, [], time.time
        self.metadata = SimpleNamespace(
            need=lambda name: f"https://idp/{name}",
            revocation_endpoint="https://idp/revoke",
            issuer="https://idp",
            grant_types_supported=(),
        )

    def authentication(self) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        return (), ()

    def send(self, request: Request) -> Response:
        self.sent.append(request)
        body = b"" if request.url.endswith("/revoke") else json.dumps(self.answer).encode()
        return Response(request.url, self.status, {"content-type": "application/json"}, body)


def _jwt(**said: Any) -> str:
    parts = ({"alg": "none"}, {"exp": int(time.time()) + 600, **said})
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts) + ".x"


@pytest.mark.parametrize("case", ["wider scopes", "somebody else"])
def test_a_refresh_token_of_an_exchange_that_is_not_taken_is_given_back(tmp_path: Path, case: str) -> None:
    answer = {
        "access_token": _jwt(sub="bob" if case == "somebody else" else "alice"),
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "token_type": "Bearer",
        "expires_in": 600,
        "refresh_token": "r-1",
        "scope": "all admin" if case == "wider scopes" else "all",
    }
    provider = Provider(answer)
    spec = GrantSpec(
        consent="exchange",
        issuer="https://idp",
        client_id="hub",
        client_secret_file=tmp_path / "s",
        audience="flyte",
        scopes=("all",),
    )
    with closing(Store("memory", Seal.fresh())) as store:
        store.start()
        grants = _grants(store, Consent(spec, provider))  # type: ignore[arg-type]
        person: Any = SimpleNamespace(subject="alice", client="cli", token=Secret("t"), name="")
        with pytest.raises(AuthAgentError):
            grants.deposit(person, Deposit("p:d:f", 3600.0))
        assert store.covering("p:d:f") is None
        left = [tokens.refresh for _, tokens in store.revocations.due(8)]
        assert left == [Secret("r-1")], "it lives on at the identity provider, and nobody knows of it"


def test_a_refresh_token_that_could_not_be_given_back_is_revoked_later() -> None:
    """The person revokes while the exchange is under way, and the provider's revocation is down at that moment."""
    with closing(Store("memory", Seal.fresh())) as store:
        store.start()

        def exchange(shown: Secret, subject: str, scopes: tuple[str, ...]) -> Minted:
            store.end(store.covering("p:d:f").id, "revoked")  # type: ignore[union-attr]
            return Minted(Tokens(Secret("r"), accesses=(Access(Secret("a"), 9e9, scopes),)))

        def down(refresh: Secret) -> bool:
            raise ProviderUnavailable("down")

        consent = SimpleNamespace(
            way="exchange",
            spec=SimpleNamespace(scopes=("all",)),
            exchange=exchange,
            revoke=down,
            give_back=lambda refresh: None,
        )
        person: Any = SimpleNamespace(subject="alice", client="cli", token=Secret("t"), name="")
        with pytest.raises(Exception, match="revoked before it began"):
            _grants(store, consent).deposit(person, Deposit("p:d:f", 3600.0))
        assert store.revocations.due(8), "nobody will ever try again"


def test_a_refresh_token_is_given_back_whatever_keeps_it_from_being_kept() -> None:
    with closing(Store("memory", Seal.fresh())) as store:
        store.start()
        given_back: list[str] = []

        def broken(id: str, tokens: Tokens) -> None:
            raise ProviderError("the store says something that nobody expects")

        store.activate = broken  # type: ignore[assignment,method-assign]
        consent = SimpleNamespace(
            way="exchange",
            spec=SimpleNamespace(scopes=("all",)),
            exchange=lambda shown, subject, scopes: Minted(
                Tokens(Secret("r"), accesses=(Access(Secret("a"), 9e9, scopes),))
            ),
            revoke=lambda refresh: given_back.append(refresh.reveal()) or True,
            give_back=lambda refresh: given_back.append(refresh.reveal()),
        )
        person: Any = SimpleNamespace(subject="alice", client="cli", token=Secret("t"), name="")
        with pytest.raises(ProviderError):
            _grants(store, consent).deposit(person, Deposit("p:d:f", 3600.0))
        assert given_back == ["r"] or [tokens.refresh for _, tokens in store.revocations.due(8)] == [Secret("r")]


def test_after_all_that_people_do_no_refresh_token_is_left(world: World) -> None:
    with running_hub.running(world) as hub, ThreadPoolExecutor(8) as threads:
        before = len(live_at_the_provider(world))
        alice = world.token("alice")
        executions = [world.admin.launch(fresh(), "alice") for _ in range(12)]
        list(threads.map(lambda e: hub.deposit(alice, e), executions * 2))  # each of them twice at once
        list(threads.map(lambda e: hub.ask(world.pod_of(e), min_lifetime="3598"), executions))
        list(threads.map(lambda e: hub.revoke(alice, execution=e), executions * 2))
        wait_for(lambda: len(live_at_the_provider(world)) <= before)


# Nothing without its record


def test_a_grant_that_could_not_be_written_down_is_not_active(world: World) -> None:
    with running_hub.running(world, audit="/dev/full") as hub:
        execution = world.admin.launch(fresh(), "alice")
        alice = world.token("alice")
        assert hub.deposit(alice, execution).status == 503
        kept = [g for g in hub.get("/grants", alice).json()["grants"] if g["execution"] == execution]
        assert [g["status"] for g in kept] in ([], ["ended"]), "it is active, and no record says so"


def test_a_child_that_could_not_be_written_down_is_not_covered(world: World) -> None:
    with running_hub.running(world) as hub:
        parent, child = fresh(), fresh()
        hub.granted("alice", parent)
        pod = world.pod_of(parent)
        changed = {**hub.content, "audit": "/dev/full"}
        hub.write(changed)
        hub.process.send_signal(signal.SIGHUP)
        wait_for(lambda: hub.adopt(pod, fresh()).status == 503)
        world.admin.launch(child, "alice")
        assert hub.adopt(pod, child).status == 503
        hub.write({**changed, "audit": str(hub.audit)})
        hub.process.send_signal(signal.SIGHUP)
        wait_for(lambda: hub.ask(pod).status == 200)
        assert hub.ask(world.pod_of(child)).status == 400, "it is covered, and no record says so"


def test_a_deposit_that_took_too_long_to_answer_is_written_down_if_it_is_active(world: World, tmp_path: Path) -> None:
    """
    Where the provider is slow, those who wait for a thread are told 503 after 30 s; their deposits go on.

    All of it ten times as fast: 3 s.
    """
    (tmp_path / "sitecustomize.py").write_text(
        f"import sys\nsys.path.append({str(Path(__file__).parents[2])!r})\n"
        "from flytekitplugins.authagent.hub import routes\n"
        "assert routes.ANSWER_SECONDS == 30\nroutes.ANSWER_SECONDS = 3.0\n"
    )
    environ = {"PYTHONPATH": str(tmp_path)}
    with running_hub.running(world, environ=environ) as hub, ThreadPoolExecutor(48) as threads:
        alice = world.token("alice")
        executions = [world.admin.launch(fresh(), "alice") for _ in range(40)]
        world.provider.faults.put({"token_delay_ms": 900})
        waiting = [threads.submit(hub.deposit, alice, execution) for execution in executions]
        statuses = [future.result().status for future in waiting]
        world.provider.faults.put({"token_delay_ms": 0})
        assert set(statuses) == {201, 503}
        time.sleep(1.2)  # what was at it then is done

        listed = {g["execution"]: g["status"] for g in hub.get("/grants", alice).json()["grants"]}
        active = {execution for execution in executions if listed.get(execution) == "active"}
        assert len(active) > statuses.count(201)  # they went on
        recorded = {record["execution"] for record in hub.records(event="grant", outcome="deposited")}
        assert active <= recorded, f"{len(active - recorded)} are active without a record"


# Nobody keeps it from the others


def test_a_task_that_wants_what_no_token_can_be_does_not_make_the_hub_refresh_each_time(
    hub: Hub,
    world: World,
) -> None:
    execution = fresh()
    hub.granted("alice", execution)
    pod = world.pod_of(execution)
    assert [hub.ask(pod, min_lifetime="999999").status for _ in range(20)] == [400] * 20
    assert world.of_hub("refreshes") <= 2, world.of_hub("refreshes")


def test_one_pod_cannot_take_all_threads_that_refresh(world: World) -> None:
    """32 requests with 32 lifetimes are 32 flights of one grant, of which one can be at it: 15 threads only wait."""
    with (
        holding(world) as proxy,
        running_hub.running(world, upstream={"token_endpoint": proxy.url}) as hub,
        ThreadPoolExecutor(40) as threads,
    ):
        of_mallory, of_alice = fresh(), fresh()
        granted_and_due(hub, "bob", of_mallory)
        granted_and_due(hub, "alice", of_alice)
        attack, victim = world.pod_of(of_mallory), world.pod_of(of_alice)
        hub.get("/identity", attack), hub.get("/identity", victim)
        proxy.hold.set()
        flood = [threads.submit(hub.ask, attack, min_lifetime=str(100 + n)) for n in range(32)]
        assert proxy.held.wait(15)
        proxy.hold.clear()  # for everybody else the provider answers
        time.sleep(1)  # all 32 are there
        assert {says(hub.ask(victim))["sub"] for _ in range(5)} == {"alice"}
        assert not any(future.done() for future in flood)
        assert world.of_hub("refreshes") == 2  # one for each of the two grants
        proxy.let_go.set()
        assert {says(future.result())["sub"] for future in flood} == {"bob"}
        assert world.of_hub("refreshes") == 2


def test_a_pod_without_a_grant_does_not_keep_the_others_of_its_node_from_their_tokens(
    world: World,
) -> None:
    with (
        running_hub.running(world, give={"wait": "6s"}) as hub,
        node(world, hub.url) as agent,
        ThreadPoolExecutor(40) as threads,
    ):
        execution = fresh()
        hub.granted("alice", execution)
        victim, attack = world.pod_of(execution), world.pod_of(world.admin.launch(fresh(), "bob"))
        assert agent.ask(victim).status == 200
        flood = [threads.submit(agent.ask, attack, task=f"t{n}") for n in range(32)]
        time.sleep(1)
        assert agent.ask(victim).status == 200
        assert not any(future.done() for future in flood), "it waited, for a token that the hub has at hand"
        agent.process.kill()  # they need not wait for their answers


def test_a_task_with_many_children_does_not_keep_the_ends_of_others_from_being_seen(
    hub: Hub,
    world: World,
) -> None:
    of_alice, of_bob = fresh(), fresh()
    grant = hub.granted("alice", of_alice)
    hub.granted("bob", of_bob)
    pod = world.pod_of(of_bob)
    where = urlsplit(hub.url)
    headers = {"Content-Type": FORM, "Authorization": f"Bearer {pod}"}
    with closing(http.client.HTTPConnection(where.netloc, timeout=20)) as connection:
        covered = 0
        while covered < 600:
            child = world.admin.launch(fresh(), "bob")
            connection.request("POST", "/grants/children", urlencode({"execution": child}), headers)
            response = connection.getresponse()
            response.read()
            assert response.status in (200, 429)
            covered += response.status == 200
            if response.status == 429:
                time.sleep(0.05)
    world.admin.end(of_alice)
    began = time.monotonic()
    wait_for(lambda: hub.records(event="grant", outcome="ended", grant=grant["id"]), 60)
    took = time.monotonic() - began
    assert took < 4, f"its end was seen after {took:.1f} s, and look_every is 1 s"


@contextmanager
def silent() -> Iterator[str]:
    """A server that takes connections and never says anything."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_while_the_issuers_keys_cannot_be_fetched_strangers_do_not_block_the_consent_pages(
    world: World,
) -> None:
    issuer = world.provider.issuer
    junk = ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
        for part in ({"alg": "RS256", "typ": "at+jwt", "kid": "nobodys"}, {"iss": issuer.issuer})
    )
    with silent() as nobody, ThreadPoolExecutor(32) as threads:
        people = {"issuer": issuer.issuer, "audience": "authagent-hub", "jwks_uri": f"{nobody}/jwks"}
        with running_hub.running(world, hub={"people": people}) as hub:
            flood = [threads.submit(hub.get, "/grants", f"{junk}.AAAA") for _ in range(24)]
            time.sleep(0.5)
            began = time.monotonic()
            assert hub.get("/consent/nothing").status == 404
            took = time.monotonic() - began
            began = time.monotonic()
            assert hub.ask("junk").status == 401
            assert time.monotonic() - began < 1  # workloads have threads of their own
            [future.result() for future in flood]
            assert took < 3, f"a page took {took:.1f} s, for nobody who has shown who they are"


def test_failures_of_grants_that_nobody_asks_about_again_are_forgotten() -> None:
    with closing(Store("memory", Seal.fresh())) as store:
        store.start()

        def mint(*_: Any) -> Tokens:
            raise ProviderUnavailable("down")

        custody = Custody(store, SimpleNamespace(mint=mint, client=Provider({})), ended=lambda grant, reason: None)  # type: ignore[arg-type]
        for number in range(300):
            grant = store.deposit(
                f"p:d:f{number}", "alice", "cli", ("all",), expires_at=time.time() + 99, launched=True,
                pending=Secret("{}"),
            )  # fmt: skip
            store.activate(grant.id, Tokens(refresh=Secret("r")))
            with pytest.raises(ProviderUnavailable):
                custody.renewed(grant, ("all",), 0)
            store.end(grant.id, "revoked")
        assert len(custody._failed) < 300


# A new configuration, and a database that is busy


def test_a_new_configuration_while_the_database_is_busy_is_adopted_or_refused_and_said_so(
    world: World,
) -> None:
    with running_hub.running(world) as hub:
        file = hub.directory / "hub.db"
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            hub.process.send_signal(signal.SIGHUP)
            wait_for(lambda: "the previous configuration stays in force" in hub.log.read_text(), 20)
            other.execute("ROLLBACK")
        time.sleep(0.5)
        log = hub.log.read_text()
        assert "never retrieved" not in log
        assert "Traceback" not in log, log[-1500:]


# What people see, and what is written


def test_nothing_that_a_person_can_choose_becomes_a_header_or_markup(world: World) -> None:
    with running_hub.running(world, upstream={"consent": "page"}) as hub:
        alice = world.token("alice")
        for name in ("a\r\nSet-Cookie: x=y", "<script>", "a b", "a\n", "a:b", "\u202ea", "a%0d%0a"):
            assert hub.deposit(alice, f"billing:production:{name}").status == 400, name
        grant = asked(hub, alice, world.admin.launch(fresh(), "alice"))
        page = hub.get(f"/consent/{grant['id']}")
        assert page.headers["cache-control"] == "no-store"
        assert page.headers["x-frame-options"] == "DENY"
        for query, status in {
            "state=%0d%0aX:y": 404,
            "state=%00.x": 404,
            f"state={grant['id']}.%3Cscript%3E&error=%3Cscript%3E": 403,
        }.items():
            reply = hub.get(f"/consent/callback?{query}")
            assert reply.status == status
            assert b"<script" not in reply.body


def test_an_answer_to_one_grant_is_none_to_another() -> None:
    """Mallory's browser begins for a grant of Mallory's; Alice's finishes it, by either's link."""
    with running_hub.world() as world, running_hub.running(world, upstream={"consent": "page"}) as hub:
        of_bob = asked(hub, world.token("bob"), world.admin.launch(fresh(), "bob"))
        of_alice = asked(hub, world.token("alice"), world.admin.launch(fresh(), "alice"))
        mallory, alice = Surfer(), Surfer()
        back = mallory.sign_in(mallory.begin(of_bob["consent_uri"]), "bob")
        assert alice.hub.get(back).status == 403  # no cookie of that browser
        alice.begin(of_alice["consent_uri"])
        assert alice.hub.get(back).status == 403
        swapped = back.replace(of_bob["id"], of_alice["id"])
        assert alice.hub.get(swapped).status == 403
        assert mallory.hub.get(swapped).status == 403
        assert world.of_hub("codes") == 0
        assert alice.consent(of_bob["consent_uri"], "alice").status == 403  # somebody else signed in
        wait_for(lambda: not [t for t in live_at_the_provider(world) if t.user == "alice"])


def test_a_hub_keeps_its_secrets_out_of_its_environment_and_arguments(hub: Hub, world: World) -> None:
    hub.granted("alice", fresh())
    about = Path(f"/proc/{hub.process.pid}")
    line = (about / "cmdline").read_bytes()
    assert world.provider.secret("hub").encode() not in line
    for name in ("hub.db", "hub.db-wal", "hub.db-shm", "hub.db.lock", "audit.jsonl"):
        path = hub.directory / name
        assert not path.exists() or path.stat().st_mode & 0o077 == 0, name


def test_the_name_that_must_be_a_secret_until_the_launch_is_in_no_process_list() -> None:
    """Whoever knows it and launches first, with a forged parent of Alice's, acts for Alice: see ADR 19."""
    import sys

    from flytekitplugins.authagent.cli import launcher

    name, environ = launcher.new_name(), {"PATH": str(Path(sys.executable).parent)}  # where there is a real one
    launch = launcher.plan(
        ["pyflyte", "run", "--remote", "x.py", "main"], name, environ, project="flytesnacks", domain="development"
    )
    assert Path(launch.argv[0]).name.startswith("python")
    assert not any(name in argument for argument in launch.argv)


def test_whoever_learns_the_name_and_forges_a_parent_of_alices_gets_nothing(
    hub: Hub,
    world: World,
) -> None:
    """Mallory's execution has the name, and Alice's `principal`, as flyteadmin gives it to whoever names her parent."""
    execution, alice = fresh(), world.token("alice")
    grant = hub.deposit(alice, execution, launch="later").json()
    world.admin.launch(execution, "alice", parent="f-of-alices")
    assert hub.ask(world.pod_of(execution)).status == 400
    wait_for(lambda: hub.records(outcome="ended", grant=grant["id"], reason="foreign"))


def test_nobody_consents_for_an_execution_that_was_made_to_look_like_theirs(hub: Hub, world: World) -> None:
    forged = world.admin.launch(fresh(), "alice", parent="f-of-alices")
    assert hub.deposit(world.token("alice"), forged).status == 403
    parent = fresh()
    hub.granted("alice", parent)
    assert hub.adopt(world.pod_of(parent), forged).json()["error"] == "access_denied"


@pytest.mark.parametrize("listen", ["http://127.0.0.1.evil.com:1", "http://localhost.:1", "http://[::ffff:0.0.0.0]:1",
                                    "http://0.0.0.0:1", "http://0:1", "http://127.1:1", "http://[::]:1"])  # fmt: skip
def test_plaintext_is_for_loopback_however_it_is_spelled(listen: str) -> None:
    from flytekitplugins.authagent.agent.hub_settings import _listen

    with pytest.raises(ValueError, match="plaintext"):
        _listen(listen)


def test_a_slow_reader_of_large_answers_is_ended(hub: Hub) -> None:
    """It asks and asks, and reads nothing: where the kernel takes no more for it, it has five seconds."""
    where = urlsplit(hub.url)
    assert where.port is not None
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((where.hostname, where.port))
        ends = f"0100007F:{where.port:04X} 0100007F:{connection.getsockname()[1]:04X} 01 "  # of the hub, established

        def is_held() -> bool:
            return ends in Path("/proc/net/tcp").read_text()

        assert is_held()
        connection.settimeout(1)
        ask = b"GET /.well-known/oauth-authorization-server HTTP/1.1\r\nHost: a\r\n\r\n"
        with pytest.raises((TimeoutError, ConnectionResetError)):  # nothing more is read of it either, or it has ended
            while True:
                connection.sendall(ask)
                time.sleep(0.0002)  # as one request after the other, and no heap of them
        wait_for(lambda: not is_held())
    assert hub.get("/livez").status == 200


def test_a_rule_that_was_taken_away_while_a_task_waited_gives_it_nothing(world: World) -> None:
    with running_hub.running(world, give={"wait": "9s"}) as hub, ThreadPoolExecutor(1) as threads:
        execution = world.admin.launch(fresh(), "alice")
        pod, alice = world.pod_of(execution), world.token("alice")
        waiting = threads.submit(hub.ask, pod)
        time.sleep(1)
        (rule,) = hub.content["rules"]
        hub.write({**hub.content, "rules": [{**rule, "give": {**rule["give"], "principal": "nobody"}}]})
        hub.process.send_signal(signal.SIGHUP)
        time.sleep(1)
        assert hub.ask(pod, requested_subject="alice").status == 400  # the new rules are in force
        assert hub.deposit(alice, execution).status == 201
        reply = waiting.result()
        assert reply.status == 400, "a token by a rule that is not there any more"


def test_a_flyte_that_hangs_does_not_keep_ended_grants_from_being_revoked_at_the_provider(world: World) -> None:
    """Looks and revocations share four threads and one round; a look that hangs takes five seconds, or ten."""
    with running_hub.running(world, hub={"longest": "24h"}) as hub, ThreadPoolExecutor(8) as threads:
        executions, alice = [fresh() for _ in range(40)], world.token("alice")
        for execution in executions:
            world.admin.launch(execution, "alice")
        list(threads.map(lambda execution: hub.deposit(alice, execution), executions))
        short = world.admin.launch(fresh(), "bob")
        grant = hub.deposit(world.token("bob"), short).json()
        world.admin.slow = 30
        time.sleep(2.5)  # the round with 32 looks has begun
        with closing(sqlite3.connect(hub.directory / "hub.db", timeout=10)) as other, other:
            other.execute("UPDATE grants SET expires_at = ? WHERE id = ?", (time.time(), grant["id"]))
        began = time.monotonic()
        wait_for(lambda: hub.records(event="revocation", grant=grant["id"]), 90)
        took = time.monotonic() - began
        world.admin.slow = 0
        assert took < 10, f"revoked {took:.0f} s after its end"


def test_what_was_rotated_after_the_end_is_revoked_and_resurrects_nothing() -> None:
    with closing(Store("memory", Seal.fresh())) as store:
        store.start()
        grant = store.deposit(
            "p:d:f", "alice", "cli", ("all",), expires_at=time.time() + 99, launched=True, pending=Secret("{}")
        )
        store.activate(grant.id, Tokens(refresh=Secret("r1")))
        with store.custody.of(grant.id) as held:
            assert held is not None
        assert store.end(grant.id, "revoked") is not None
        ((_, tokens),) = store.revocations.due(8)
        assert tokens.refresh == Secret("r1")
        store.revocations.finished(grant.id, "done")
        held.keep(
            Tokens(Secret("r2"), accesses=(Access(Secret("a2"), 9e9, ("all",)),))
        )  # the database was away till now
        assert store.of_execution("p:d:f") is None
        ((again, tokens),) = store.revocations.due(8)
        assert (again.status, tokens.refresh) == ("ended", Secret("r2"))
        assert store.activate(grant.id, Tokens(refresh=Secret("r3"))) is None
        assert store.extend(grant.id, time.time() + 999) is None


def test_one_network_of_ipv6_is_one_stranger() -> None:
    from flytekitplugins.authagent.hub.rates import Rates

    rates = Rates(1.0)
    assert sum(rates.allows(f"2001:db8::{number:x}", 0.0) for number in range(1000)) < 100


def test_a_grant_that_is_dead_by_its_clock_is_dead_for_children_and_extension() -> None:
    now = [1000.0]
    with closing(Store("memory", Seal.fresh(), now=lambda: now[0])) as store:
        store.start()
        grant = store.deposit("p:d:f", "alice", "cli", (), expires_at=1100.0, launched=True, pending=Secret("{}"))
        store.activate(grant.id, Tokens(refresh=Secret("r")))
        now[0] = 1100.0
        assert store.children.adopt("p:d:g", "p:d:f") is None
        assert store.extend(grant.id, 9999.0) is None
        assert store.of_execution("p:d:f") is None
        with store.custody.of(grant.id) as held:
            assert held is None


def test_a_record_that_is_said_to_be_written_is_in_the_file_and_in_no_other(tmp_path: Path) -> None:
    """SIGHUP opens the file anew on the event loop, while revocations and consents write to it from threads."""
    import os

    from flytekitplugins.authagent.agent.audit import Audit
    from flytekitplugins.authagent.agent.file import AuditFile

    tmp_path.chmod(0o700)
    file = AuditFile(path=tmp_path / "audit.jsonl")
    audit, stop = Audit(file), threading.Event()

    def write(thread: int) -> tuple[int, int]:
        said = [0, 0]
        while not stop.is_set():
            said[audit.write({"thread": thread})] += 1
        return said[0], said[1]

    def others() -> int:
        """What else the hub opens all the time, such as its database; nobody writes to these."""
        found, number = 0, 0
        while not stop.is_set():
            number += 1
            other = os.open(tmp_path / f"other{number % 8}", os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
            time.sleep(0.0005)
            found += os.fstat(other).st_size > 0
            os.close(other)
        return found

    with ThreadPoolExecutor(7) as threads:
        writing, foreign = [threads.submit(write, thread) for thread in range(6)], threads.submit(others)
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            audit.open(file)
            time.sleep(0.002)
        stop.set()
        refused, said = (sum(counts) for counts in zip(*(future.result() for future in writing), strict=True))
    audit.close()
    there = len((tmp_path / "audit.jsonl").read_text().splitlines())
    assert (foreign.result(), there - said, refused > 0) == (0, 0, False)


def test_people_of_one_issuer_are_not_asserted_to_another(world: World, tmp_path: Path) -> None:
    """`sub` is unique at its issuer only: on_behalf_of would let A's `alice` act for B's, who never signed in."""
    import yaml

    from flytekitplugins.authagent.agent import daemon
    from flytekitplugins.authagent.errors import ConfigError

    tmp_path.chmod(0o700)
    upstream = {
        "consent": "on_behalf_of",
        "issuer": "https://another.example.com",
        "assertion_key_file": str(tmp_path / "key"),
        "assertion_issuer": "hub",
    }
    content = running_hub.configuration(world, tmp_path, upstream=upstream)
    file = tmp_path / "agent.yaml"
    file.write_text(yaml.safe_dump(content))
    file.chmod(0o600)
    with pytest.raises(ConfigError, match="issuer"):
        daemon.load(file)


@pytest.mark.parametrize(
    "hub",
    [
        {"store": "postgresql://u:s3cr3t@h/d", "store_file": "/tmp/x"},
        {"store": "postgresql://u:s3cr3t@h/d", "nonsense": 1},
        {"store": ["postgresql://u:s3cr3t@h/d"]},
        {"stores": "postgresql://u:s3cr3t@h/d"},
        {"store": "postgresql://u:s3cr3t@h:port/d"},
        {"store": "postgresql:/u:s3cr3t@h/d"},
        {"url": "https://u:s3cr3t@h"},
        {"url": "http://u:s3cr3t@h"},
        {"people": {"issuer": "https://i", "audience": "a", "proxy": "ftp://u:s3cr3t@h"}},
        {"people": {"issuer": "https://u:s3cr3t@h", "audience": "a"}},
    ],
)
def test_no_secret_of_a_configuration_that_cannot_be_used_is_repeated(
    world: World, tmp_path: Path, hub: dict[str, Any]
) -> None:
    import subprocess
    import sys

    import yaml

    tmp_path.chmod(0o700)
    content = running_hub.configuration(world, tmp_path, hub=hub)
    if "store_file" not in hub and "store" in hub and isinstance(hub["store"], str) and "nonsense" not in hub:
        content["hub"]["store"] = hub["store"]
    file = tmp_path / "agent.yaml"
    file.write_text(yaml.safe_dump(content))
    file.chmod(0o600)
    done = subprocess.run(
        [sys.executable, "-m", "flytekitplugins.authagent", "serve", "--config", str(file)],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert b"s3cr3t" not in done.stdout + done.stderr, done.stderr


@pytest.mark.parametrize("name", ["hub.keys", "hub.secret", "agent.yaml"])
def test_files_that_others_could_read_are_not_used(world: World, name: str) -> None:
    with running_hub.running(world) as hub:
        hub.stop()
        (hub.directory / name).chmod(0o644)
        hub.process = hub._started()
        if name == "agent.yaml":  # it holds no secret; what it names does
            hub.wait_until_it_answers()
            return
        if name == "hub.secret":  # read when it is needed
            hub.wait_until_it_answers()
            reply = hub.deposit(world.token("alice"), world.admin.launch(fresh(), "alice"))
            assert (reply.status, reply.json()["error"]) == (500, "server_error")
            return
        assert hub.process.wait(timeout=20) != 0
        assert b"k" * 32 not in hub.log.read_bytes()
        assert running_hub.KEY not in hub.log.read_text()


def test_an_identity_provider_that_is_broken_for_a_moment_costs_nobody_their_grant(tmp_path: Path) -> None:
    """500 `server_error` is what Hydra, Okta and others say while their database is away."""
    provider = Provider({"error": "server_error"}, 500)
    spec = GrantSpec(
        consent="exchange", issuer="https://idp", client_id="hub", client_secret_file=tmp_path / "s", scopes=("all",)
    )
    grant: Any = SimpleNamespace(subject="alice")
    with pytest.raises(ProviderUnavailable):
        Consent(spec, provider).mint(grant, Secret("r"), ("all",))  # type: ignore[arg-type]


def test_a_grant_that_lives_can_be_revoked_by_its_execution_whatever_came_after_it() -> None:
    with closing(Store("memory", Seal.fresh())) as store:
        store.start()
        grants = _grants(store)
        person: Any = SimpleNamespace(subject="alice", client="cli", token=Secret("t"), name="")
        grants.deposit(person, Deposit("p:d:old", 3600.0))
        for number in range(201):
            later, _ = grants.deposit(person, Deposit(f"p:d:f{number}", 3600.0))
            store.end(later.id, "execution_ended")
        assert "p:d:old" in [grant.execution for grant in grants.mine(person)], "it lives, and is not listed"
        assert grants.revoke(person, grant_id=None, execution="p:d:old").status == "ended"


def test_the_page_does_not_say_of_flyte_what_it_did_not_say(world: World) -> None:
    import grpc

    with running_hub.running(world, upstream={"consent": "page"}) as hub:
        grant = asked(hub, world.token("alice"), world.admin.launch(fresh(), "alice"))
        world.admin.failing = grpc.StatusCode.UNAVAILABLE
        page = hub.get(f"/consent/{grant['id']}")
        assert page.status == 200
        assert b"Nobody yet, so Flyte says" not in page.body


def test_the_time_for_the_launch_begins_when_the_person_has_consented(world: World) -> None:
    with running_hub.running(world, upstream={"consent": "page"}, hub={"appears_within": "1s"}) as hub:
        alice = world.token("alice")
        grant = asked(hub, alice, fresh(), launch="later")
        time.sleep(4)  # they read the page
        assert hub.get(f"/grants/{grant['id']}", alice).json()["status"] == "pending"


def test_strangers_are_not_told_where_the_database_is_nor_what_is_wrong_with_it(world: World) -> None:
    with running_hub.running(world) as hub:
        with closing(sqlite3.connect(hub.directory / "hub.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            reply = wait_for(lambda: (r := hub.get("/readyz")).status == 503 and r, 25)
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(hub.socket))
                connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                told = connection.recv(65536)
            other.execute("ROLLBACK")
        assert reply.body == b"not ready\n"
        assert str(hub.directory).encode() in told  # who is on the machine is told all of it
        wait_for(lambda: hub.get("/readyz").status == 200)


def test_an_exchange_that_was_cut_short_by_a_kill_does_not_send_its_person_to_a_page_that_is_not_there() -> None:
    """What a hub that is killed between the exchange and its end leaves: a pending row, for ten minutes."""
    with closing(Store("memory", Seal.fresh())) as store:
        store.start()
        store.deposit(
            "p:d:f", "alice", "cli", ("all",), expires_at=time.time() + 3600, launched=True, pending=Secret("{}")
        )
        person: Any = SimpleNamespace(subject="alice", client="cli", token=Secret("t"), name="")
        with pytest.raises(Refusal) as refused:  # and no 202, with a consent_uri, where there is no page
            _grants(store).deposit(person, Deposit("p:d:f", 3600.0))
        assert refused.value.status == 503


def test_forged_pod_tokens_of_one_address_do_not_keep_new_pods_of_others_out(world: World) -> None:
    """Unsigned, but well-formed: each is a TokenReview, which takes 150 ms here; 200 a second are allowed."""
    import uuid

    def forged() -> str:
        now = int(time.time())
        said = {
            "aud": ["authagent"], "iat": now, "exp": now + 600, "jti": str(uuid.uuid4()),
            "kubernetes.io": {"pod": {"name": "x", "uid": str(uuid.uuid4())}},
        }  # fmt: skip
        return _jwt(**said)

    with running_hub.running(world) as hub:
        execution = fresh()
        hub.granted("alice", execution)
        pod, review, stop = world.pod_of(execution), world.api.review, threading.Event()
        world.api.review = lambda *what, **more: (time.sleep(0.15), review(*what, **more))[1]  # type: ignore[method-assign]
        answers: list[int] = []

        def flood() -> None:
            while not stop.is_set():
                answers.append(hub.ask(forged()).status)

        with ThreadPoolExecutor(100) as threads:
            flooding = [threads.submit(flood) for _ in range(100)]
            time.sleep(2)
            where = urlsplit(hub.url)
            body = urlencode(
                {
                    "grant_type": "client_credentials",
                    "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                    "client_assertion": pod,
                }
            )
            found = []
            for _ in range(5):
                other = http.client.HTTPConnection(where.netloc, timeout=30, source_address=("127.0.0.9", 0))
                other.request("POST", "/token", body, {"Content-Type": FORM})
                found.append(other.getresponse().status)
                other.close()
            stop.set()
            [future.result() for future in flooding]
        world.api.review = review  # type: ignore[method-assign]
        assert found[0] == 200, found
