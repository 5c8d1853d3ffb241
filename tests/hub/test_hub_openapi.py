"""docs/openapi-hub.yaml: a good document, and what running hubs answer is what it says."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import grpc
import openapi_spec_validator
import running_hub
from consenting import Surfer, asked, proof
from documented import Documented
from running_agent import read_all, reply
from running_hub import Hub, World, wait_for
from running_provider import FORM, Reply, send
from test_grants import fresh

from flytekitplugins.authagent.sandbox.port import free_port

DOCUMENT = Documented("openapi-hub.yaml")
Answers = set[tuple[str, str, int]]
PAGES = {"upstream": {"consent": "page"}}


def test_it_is_a_good_document() -> None:
    openapi_spec_validator.validate(DOCUMENT.content)


def test_every_answer_is_documented_and_every_documented_answer_is_given(hub: Hub, world: World) -> None:
    seen = what_people_get(hub, world) | what_connections_get(hub) | what_executions_get(hub, world)
    seen |= while_people_cannot_be_known(world)
    seen |= while_too_much_is_asked(world)
    with running_hub.running(world, **PAGES) as paged:
        seen |= what_browsers_get(paged, world) | while_the_provider_is_away(paged, world)
    assert seen == DOCUMENT.answers


def test_what_a_hub_says_of_a_covered_caller_is_documented_with_what_every_agent_says(hub: Hub, world: World) -> None:
    execution, agents = fresh(), Documented("openapi.yaml")
    hub.granted("alice", execution)
    answer = hub.get("/identity", world.pod_of(execution))
    assert agents.check("/identity", answer) == ("get", "/identity", 200)
    assert {"address", "children", "grant"} <= answer.json().keys()
    assert agents.check("/token", hub.ask(world.pod_of(execution))) == ("post", "/token", 200)


def what_people_get(hub: Hub, world: World) -> Answers:
    alice, execution = world.token("alice"), fresh()
    world.admin.launch(execution, "alice")
    deposits = [hub.deposit(alice, execution), hub.deposit(alice, execution), hub.deposit("j.u.nk", execution)]
    grant = deposits[0].json()
    deposits += [hub.deposit(alice, execution, expires_in="1"), hub.deposit(alice, fresh())]
    deposits += [hub.deposit(world.token("bob"), execution), hub.deposit(alice, execution, launch="later")]
    deposits.append(hub.send("POST", "/grants", b"{}", {"Authorization": f"Bearer {alice}"}))
    later = hub.deposit(alice, fresh(), launch="later")
    one = [hub.get(f"/grants/{grant['id']}", alice), hub.get("/grants/x", alice), hub.get("/grants/x")]
    one.append(hub.post("/grants/x", {}, alice))
    world.admin.failing = grpc.StatusCode.UNAVAILABLE
    deposits.append(hub.deposit(alice, execution))
    one.append(hub.get(f"/grants/{later.json()['id']}", alice))
    revoked = hub.revoke(alice, id=later.json()["id"])
    assert revoked.json()["status"] == "ended"  # whether Flyte can be asked or not
    world.admin.failing = None
    revokes = [revoked, hub.revoke(alice), hub.revoke(alice, id="x"), hub.revoke("j.u.nk", id="x")]
    revokes += [hub.send("POST", "/grants/revoke", b"{}", {"Authorization": f"Bearer {alice}"})]
    revokes += [hub.get("/grants/revoke", alice)]
    lists = [hub.get("/grants", alice), hub.get("/grants"), hub.send("DELETE", "/grants")]
    resource = "/.well-known/oauth-protected-resource"
    facts = [hub.get(resource), hub.send("DELETE", resource)]
    assert lists[-1].headers["allow"] == "GET, POST"
    assert revokes[-1].headers["allow"] == "POST"
    seen = checked("/grants", "post", [*deposits, later]) | checked("/grants", "get", lists)
    seen |= checked("/grants/{id}", "get", one) | checked("/grants/revoke", "post", revokes)
    return seen | checked(resource, "get", facts)


def what_connections_get(hub: Hub) -> Answers:
    """What is answered before it is known who asks."""
    form = {"Content-Type": FORM}
    answers = [hub.send("POST", "/grants", b"execution=" + b"x" * 70000, form)]
    answers.append(hub.send("POST", "/grants", b"execution=x", form | {f"X-{n}": "y" for n in range(80)}))
    where = urlsplit(hub.url)
    with socket.create_connection((where.hostname, where.port), timeout=20) as slow:
        slow.sendall(b"POST /grants HTTP/1.1\r\nHost: a\r\n")
        answers.append(reply(read_all(slow)))
    assert [answer.status for answer in answers] == [413, 431, 408]
    return checked("/grants", "post", answers)


def what_executions_get(hub: Hub, world: World) -> Answers:
    parent = fresh()
    hub.granted("alice", parent)
    pod = world.pod_of(parent)
    child = world.admin.launch(fresh(), "alice")
    answers = [hub.adopt(pod, child), hub.adopt(pod, parent), hub.adopt(pod, fresh()), hub.adopt("a.b.c", fresh())]
    answers += [hub.send("POST", "/grants/children", b"{}"), hub.get("/grants/children")]
    other = world.pod_of(fresh())
    world.api.faults["*"] = [500, "always"]
    answers.append(hub.adopt(other, fresh()))
    world.api.faults.clear()
    return checked("/grants/children", "post", answers)


def while_people_cannot_be_known(world: World) -> Answers:
    nobody = f"http://127.0.0.1:{free_port()}"
    people: dict[str, Any] = {"issuer": world.provider.issuer.issuer, "audience": running_hub.HUB_AUDIENCE}
    alice = world.token("alice")
    with running_hub.running(world, hub={"people": people | {"jwks_uri": f"{nobody}/keys"}}) as hub:
        seen = checked("/grants", "get", [hub.get("/grants", alice)])
        seen |= checked("/grants", "post", [hub.deposit(alice, fresh())])
        seen |= checked("/grants/{id}", "get", [hub.get("/grants/x", alice)])
        seen |= checked("/grants/revoke", "post", [hub.revoke(alice, id="x")])
    assert {status for _, _, status in seen} == {503}
    return seen


def while_too_much_is_asked(world: World) -> Answers:
    """A hub that takes one request in a hundred seconds."""
    with running_hub.running(world, hub={"rate": 0.01}) as hub:
        seen = {
            DOCUMENT.check(path, hub.send(method.upper(), path.replace("{id}", "x")), method)
            for path in DOCUMENT.content["paths"]
            for method in DOCUMENT.operations(path)
        }
    assert {status for _, _, status in seen} == {429}
    return seen


def what_browsers_get(hub: Hub, world: World) -> Answers:
    pages, forms, returns = [], [], []

    def begun(user: str = "alice") -> tuple[Surfer, str]:
        surfer, grant = Surfer(), ask(hub)
        return surfer, surfer.sign_in(surfer.begin(grant["consent_uri"]), user)

    grant, surfer = ask(hub), Surfer()
    link = grant["consent_uri"]
    pages.append(surfer.hub.get(link))
    shown = proof(pages[0])
    forms += [surfer.post(link, "made up"), surfer.post(f"{hub.url}/consent/x", shown)]
    forms.append(undecided(surfer, link, shown))
    forms.append(surfer.post(link, shown))
    pages += [surfer.hub.get(f"{hub.url}/consent/x"), send("DELETE", link)]
    for user in ("alice", "bob"):
        surfer, where = begun(user)
        returns.append(surfer.hub.get(where))
    returns += [send("GET", f"{hub.url}/consent/callback"), send("POST", f"{hub.url}/consent/callback")]
    surfer, where = begun()
    world.provider.faults.put({"token_status": {"value": 503, "count": 8}})
    returns.append(surfer.hub.get(where))
    world.provider.faults.put({"token_status": 0})
    grant, surfer = ask(hub), Surfer()
    where = surfer.sign_in(surfer.begin(grant["consent_uri"]), "alice")
    world.provider.faults.put({"token_delay_ms": {"value": 1500, "count": 1}})
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(surfer.hub.get, where)
        wait_for(lambda: not world.provider.faults.snapshot().get("token_delay_ms"))
        hub.revoke(world.token("alice"), id=grant["id"])
        returns.append(waiting.result())
    seen = checked("/consent/{id}", "get", pages) | checked("/consent/{id}", "post", forms)
    again = hub.deposit(world.token("alice"), world.admin.launch(fresh(), "alice"))
    seen |= checked("/grants", "post", [again])
    seen |= checked("/grants/{id}", "get", [hub.get(f"/grants/{again.json()['id']}", world.token("alice"))])
    return seen | checked("/consent/callback", "get", returns)


def while_the_provider_is_away(hub: Hub, world: World) -> Answers:
    """The same hub, started again where its provider cannot be reached."""
    grant, surfer = ask(hub), Surfer()
    link, people = grant["consent_uri"], hub.content["upstreams"]["people"]
    shown = proof(surfer.hub.get(link))
    restart(hub, people | {"proxy": f"http://127.0.0.1:{free_port()}"})
    seen = checked("/consent/{id}", "get", [surfer.hub.get(link)])
    seen |= checked("/consent/{id}", "post", [surfer.post(link, shown)])
    assert {status for _, _, status in seen} == {503}
    return seen


def ask(hub: Hub) -> dict[str, Any]:
    execution = hub.world.admin.launch(fresh(), "alice")
    return asked(hub, hub.world.token("alice"), execution)


def undecided(surfer: Surfer, link: str, shown: str) -> Reply:
    return send("POST", link, f"proof={shown}", {"Content-Type": FORM, "Cookie": surfer.hub.cookie or ""})


def restart(hub: Hub, people: dict[str, Any]) -> None:
    hub.stop()
    hub.write(hub.content | {"upstreams": hub.content["upstreams"] | {"people": people}})
    hub.start()


def checked(path: str, method: str, answers: list[Reply]) -> Answers:
    return {DOCUMENT.check(path, answer, method) for answer in answers}
