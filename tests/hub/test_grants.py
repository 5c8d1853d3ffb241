"""Consent by exchange: what a person may give, to which execution, and what its tasks get for it."""

from __future__ import annotations

import time
from itertools import count
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey
from running_hub import Hub, World, says, wait_for

from flytekitplugins.authagent.credential import Secret, claims
from flytekitplugins.authagent.sandbox.dialect import HUB_AUDIENCE, PUBLIC_URL

_numbers = count()


def fresh(project: str = "billing") -> str:
    return f"{project}:production:f{next(_numbers):020x}"


def test_a_task_gets_a_token_that_speaks_for_the_person_who_consented(hub: Hub, world: World) -> None:
    execution = fresh()
    grant = hub.granted("alice", execution)
    assert (grant["status"], grant["subject"], grant["execution"]) == ("active", "alice", execution)
    said = says(hub.ask(world.pod_of(execution)))
    assert (said["sub"], said["aud"], said["client_id"], said["scp"]) == ("alice", PUBLIC_URL, "hub", ["all"])
    assert world.of_hub("exchanges") == 1
    assert world.of_hub("refreshes") == 0


def test_fifty_requests_cost_the_identity_provider_nothing_more(hub: Hub, world: World) -> None:
    execution = fresh()
    hub.granted("alice", execution)
    pod = world.pod_of(execution)
    minted = world.counts["mints"]["hub"]
    tokens = {hub.ask(pod).json()["access_token"] for _ in range(50)}
    assert len(tokens) == 1
    assert world.counts["mints"]["hub"] == minted


def test_a_task_without_a_grant_gets_nothing_and_is_told_what_to_do(hub: Hub, world: World) -> None:
    execution = world.admin.launch(fresh(), "alice")
    began = time.monotonic()
    reply = hub.ask(world.pod_of(execution))
    assert (reply.status, reply.json()["error"]) == (400, "unauthorized_client")
    assert "authagent run" in reply.json()["error_description"]
    assert 2 <= time.monotonic() - began < 8  # the rule of this hub waits 2 s
    assert world.counts["mints"].get("hub", 0) == 0


def test_a_task_that_comes_before_the_grant_waits_for_it(hub: Hub, world: World) -> None:
    from concurrent.futures import ThreadPoolExecutor

    execution = world.admin.launch(fresh(), "alice")
    pod, token = world.pod_of(execution), world.token("alice")
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(hub.ask, pod)
        time.sleep(0.6)
        assert hub.deposit(token, execution).status == 201
        assert says(waiting.result())["sub"] == "alice"


def test_a_grant_before_the_launch_is_good_for_the_very_name_it_was_given_for(hub: Hub, world: World) -> None:
    execution = fresh()
    reply = hub.deposit(world.token("alice"), execution, launch="later")
    assert (reply.status, reply.json()["launched"]) == (201, False)
    world.admin.launch(execution, "alice")
    assert says(hub.ask(world.pod_of(execution)))["sub"] == "alice"
    assert hub.get(f"/grants/{reply.json()['id']}", world.token("alice")).json()["launched"] is True


def test_whoever_launches_first_under_the_name_of_a_grant_gets_nothing(hub: Hub, world: World) -> None:
    execution = fresh()
    grant = hub.deposit(world.token("alice"), execution, launch="later").json()
    world.admin.launch(execution, "mallory")
    assert hub.ask(world.pod_of(execution)).status == 400
    ended = wait_for(lambda: hub.records(outcome="ended", grant=grant["id"]))
    assert ended[0]["reason"] == "foreign"
    wait_for(lambda: world.of_hub("revocations") == 1)
    assert hub.ask(world.pod_of(execution)).status == 400


def test_looking_at_a_grant_does_not_make_anothers_execution_its_own(hub: Hub, world: World) -> None:
    """`authagent run` looks at its grant all the time: that must not pass for the look before the first token."""
    execution, alice = fresh(), world.token("alice")
    grant = hub.deposit(alice, execution, launch="later").json()
    pod = world.pod_of(execution)
    world.admin.launch(execution, "mallory")
    for _ in range(5):
        assert hub.get(f"/grants/{grant['id']}", alice).json()["launched"] is False
        assert hub.ask(pod).status == 400


@pytest.mark.parametrize(
    ("case", "status", "error"),
    [
        ("nobody's", 404, "not_found"),
        ("another's", 403, "access_denied"),
        ("over", 409, "conflict"),
        ("guessable", 400, "invalid_request"),
        ("taken", 409, "conflict"),
        ("no execution", 400, "invalid_request"),
        ("too long", 400, "invalid_request"),
        ("too short", 400, "invalid_request"),
        ("more scopes", 400, "invalid_scope"),
        ("odd parameter", 400, "invalid_request"),
    ],
)
def test_a_grant_that_cannot_be_is_refused_and_costs_nothing(
    hub: Hub, world: World, case: str, status: int, error: str
) -> None:
    token, execution = world.token("alice"), fresh()
    fields: dict[str, str] = {}
    match case:
        case "another's":
            world.admin.launch(execution, "bob")
        case "over":
            world.admin.launch(execution, "alice")
            world.admin.end(execution)
        case "guessable":
            execution, fields = "billing:production:nightly", {"launch": "later"}
        case "taken":
            world.admin.launch(execution, "alice")
            fields = {"launch": "later"}
        case "no execution":
            execution = "billing:production"
        case "too long":
            fields = {"expires_in": "86401"}
        case "too short":
            fields = {"expires_in": "1"}
        case "more scopes":
            fields = {"scope": "all admin"}
        case "odd parameter":
            fields = {"subject": "bob"}
    world.provider.counts.reset()
    reply = hub.deposit(token, execution, **fields)
    assert (reply.status, reply.json()["error"]) == (status, error), reply.body
    assert world.of_hub("exchanges") == 0
    assert hub.records(event="person", outcome=error)


def test_the_same_person_prolongs_and_another_cannot_take_over(hub: Hub, world: World) -> None:
    execution = fresh()
    first = hub.granted("alice", execution)
    longer = hub.deposit(world.token("alice"), execution, expires_in="7200")
    assert longer.status == 200
    assert longer.json()["id"] == first["id"]
    assert longer.json()["expires_at"] > first["expires_at"] + 3000
    world.admin.launch(execution, "bob")  # as a forged parent would make it look
    other = hub.deposit(world.token("bob"), execution)
    assert other.status == 409
    assert says(hub.ask(world.pod_of(execution)))["sub"] == "alice"
    assert world.of_hub("exchanges") == 1


def test_people_see_and_end_their_own_grants_only(hub: Hub, world: World) -> None:
    grant = hub.granted("alice", fresh())
    alice, bob = world.token("alice"), world.token("bob")
    assert grant["id"] in [one["id"] for one in hub.get("/grants", alice).json()["grants"]]
    assert grant["id"] not in [one["id"] for one in hub.get("/grants", bob).json()["grants"]]
    assert hub.get(f"/grants/{grant['id']}", bob).status == 404
    assert hub.revoke(bob, id=grant["id"]).status == 404
    assert hub.revoke(bob, execution=grant["execution"]).status == 404
    assert hub.get(f"/grants/{grant['id']}", alice).json()["status"] == "active"


def test_a_revoked_grant_is_revoked_at_the_provider_and_gives_nothing_more(hub: Hub, world: World) -> None:
    execution = fresh()
    grant = hub.granted("alice", execution)
    pod = world.pod_of(execution)
    given = hub.ask(pod).json()["access_token"]
    reply = hub.revoke(world.token("alice"), execution=execution)
    assert (reply.status, reply.json()["status"], reply.json()["revocation"]) == (200, "ended", "done")
    assert world.of_hub("revocations") == 1
    assert hub.ask(pod).status == 400
    # What was given out before lives until its end, for Flyte checks it offline: docs/delegation.md says so.
    assert world.provider.read(given).claims["exp"] > time.time()
    done = hub.records(event="revocation", grant=grant["id"])
    assert [record["outcome"] for record in done] == ["done"]


def test_a_grant_that_ended_may_be_followed_by_another(hub: Hub, world: World) -> None:
    execution = fresh()
    first = hub.granted("alice", execution)
    hub.revoke(world.token("alice"), id=first["id"])
    second = hub.granted("alice", execution)
    assert second["id"] != first["id"]
    assert says(hub.ask(world.pod_of(execution)))["sub"] == "alice"


# Whose tokens may do that


def forged(world: World, **changed: Any) -> str:
    """A token of ours, signed by a key that the issuer does not have."""
    key = RSAKey.generate_key(2048, auto_kid=True)
    content = dict(claims(Secret(world.token("alice")))) | changed
    kid = world.provider.issuer.keys().keys[0].kid
    return str(jwt.encode({"alg": "RS256", "typ": "at+jwt", "kid": kid}, content, key))


def unsigned(world: World) -> str:
    _, payload, _ = world.token("alice").split(".")
    header = "eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0"  # {"alg":"none","typ":"at+jwt"}
    return f"{header}.{payload}."


def delegated(hub: Hub, world: World) -> str:
    """What a task has: a token that was minted under a grant."""
    execution = fresh()
    hub.granted("alice", execution)
    return str(hub.ask(world.pod_of(execution)).json()["access_token"])


def acting(world: World) -> str:
    """A token for the hub's audience in which somebody acts for alice."""
    text, _ = world.provider.issuer.sign("batch", "alice", ["all"], actor={"sub": "batch"}, audience=HUB_AUDIENCE)
    return text


def of_the_hubs_client(world: World) -> str:
    """A token for the hub's audience that the hub's own client could get under a grant, at a careless provider."""
    return world.provider.issuer.sign("hub", "alice", ["all"], audience=HUB_AUDIENCE)[0]


def ended(world: World) -> str:
    text, _ = world.provider.issuer.sign("flytectl", "alice", ["all"], audience=HUB_AUDIENCE, ahead=-4000)
    return text


@pytest.mark.parametrize(
    "kind", ["Flyte's", "delegated", "acting", "the hub's client", "forged", "unsigned", "ended", "junk", "none"]
)
@pytest.mark.parametrize("what", ["deposit", "prolong", "list", "look", "revoke"])
def test_no_other_token_can_deposit_prolong_list_or_revoke(hub: Hub, world: World, kind: str, what: str) -> None:
    execution = fresh()
    grant = hub.granted("alice", execution)
    token = {
        "Flyte's": lambda: world.token("alice", PUBLIC_URL),
        "delegated": lambda: delegated(hub, world),
        "acting": lambda: acting(world),
        "the hub's client": lambda: of_the_hubs_client(world),
        "forged": lambda: forged(world),
        "unsigned": lambda: unsigned(world),
        "ended": lambda: ended(world),
        "junk": lambda: "j.u.nk",
        "none": lambda: None,
    }[kind]()
    world.admin.launch(other := fresh(), "alice")
    reply = {
        "deposit": lambda: hub.post("/grants", {"execution": other}, token),
        "prolong": lambda: hub.post("/grants", {"execution": execution, "expires_in": "80000"}, token),
        "list": lambda: hub.get("/grants", token),
        "look": lambda: hub.get(f"/grants/{grant['id']}", token),
        "revoke": lambda: hub.post("/grants/revoke", {"id": grant["id"]}, token),
    }[what]()
    assert reply.status == 401, reply.body
    assert reply.json()["error"] == "invalid_token"
    assert 'error="invalid_token"' in reply.headers["www-authenticate"]
    after = hub.get(f"/grants/{grant['id']}", world.token("alice")).json()
    assert (after["status"], after["expires_at"]) == ("active", grant["expires_at"])
    if token:
        assert token not in hub.log.read_text() + hub.audit.read_text()


# Who is the execution


def test_a_pod_whose_labels_claim_another_execution_gets_nothing_of_it(hub: Hub, world: World) -> None:
    victim = fresh()
    hub.granted("alice", victim)
    own = world.admin.launch(fresh(), "mallory")
    labels = {"execution-id": victim.split(":")[2], "project": "billing", "domain": "production"}
    assert hub.ask(world.pod_of(own, labels=labels)).status == 400
    assert hub.ask(world.pod_of(own, labels=labels), execution=victim).status == 400  # nor by saying so


def test_a_forged_owner_reference_is_no_execution(hub: Hub, world: World) -> None:
    from kubernetes_api import owner

    execution = fresh()
    hub.granted("alice", execution)
    world.pod(execution)
    workflow = world.api.workflows["billing-production", execution.split(":")[2]]
    forged = world.api.pod(name=f"forged-{next(_numbers)}", owners=[owner(workflow, uid="made-up")])
    assert hub.ask(world.api.token(forged)).status in (400, 401)
    stranger = world.api.pod(namespace="other-production", name=f"s-{next(_numbers)}", owners=[owner(workflow)])
    assert hub.ask(world.api.token(stranger)).status in (400, 401)


def test_a_pod_that_was_deleted_and_made_again_under_its_name_needs_its_own_token(hub: Hub, world: World) -> None:
    execution = fresh()
    hub.granted("alice", execution)
    pod = world.pod(execution)
    old = world.api.token(pod)
    assert hub.ask(old).status == 200
    world.api.delete(pod)
    again = world.api.pod(name=pod.name, namespace=pod.namespace)  # controlled by nothing
    assert hub.ask(world.api.token(again)).status == 400
    time.sleep(10.5)  # as long as a real API server remembers
    assert hub.ask(old).status == 401


def test_without_any_pod_nothing_is_given(hub: Hub, world: World) -> None:
    assert hub.ask(None).status == 401
    assert hub.ask("a.b.c").status == 401
    assert hub.adopt("a.b.c", fresh()).status == 401


def test_asking_for_a_person_by_name_gets_that_person_or_nothing(hub: Hub, world: World) -> None:
    execution = fresh()
    hub.granted("alice", execution)
    pod = world.pod_of(execution)
    assert says(hub.ask(pod, requested_subject="alice"))["sub"] == "alice"
    assert hub.ask(pod, requested_subject="bob").json()["error"] == "unauthorized_client"


def test_no_secret_gets_into_the_log_the_audit_file_or_the_database(hub: Hub, world: World) -> None:
    execution = fresh()
    hub.granted("alice", execution)
    person, pod = world.token("alice"), world.pod_of(execution)
    given = hub.ask(pod).json()["access_token"]
    hub.get("/grants", person)
    refreshes = [token.text for token in world.provider.issuer.refresh_tokens._live.values()]
    written = hub.log.read_bytes() + hub.audit.read_bytes()
    written += b"".join(file.read_bytes() for file in hub.directory.glob("hub.db*"))
    assert execution.encode() in written  # it would be found
    for secret in [person, pod, given, *refreshes]:
        assert secret.encode() not in written
        assert secret.rpartition(".")[2].encode() not in written
