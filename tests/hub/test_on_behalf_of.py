"""Consent of which nothing is kept: each time the hub signs that the person consented, and the provider trusts it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import running_hub
from joserfc.jwk import KeySet, RSAKey
from running_hub import Hub, World, says
from test_grants import fresh

from flytekitplugins.authagent.credential import Secret, claims
from flytekitplugins.authagent.sandbox.trusted_issuer import TrustedIssuer

KEY = RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256"}, auto_kid=True)
NAME = "https://hub.example.com"


def write_actor(world: World, actor: Path) -> None:
    """The hub's own token, which lives no longer than others and is replaced in its file by whoever runs the hub."""
    actor.write_text(world.provider.own_token("hub").json()["access_token"])
    actor.chmod(0o600)


@pytest.fixture(autouse=True)
def fresh_actor(trusting: tuple[World, Hub]) -> None:
    fresh_actor_of(*trusting)


def fresh_actor_of(world: World, hub: Hub) -> None:
    named = hub.content["upstreams"]["people"].get("actor_token_file")
    if named:
        write_actor(world, Path(named))


@pytest.fixture(scope="module", params=["jwt_bearer", "token_exchange"])
def trusting(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Hub]]:
    directory: Path = tmp_path_factory.mktemp("keys")
    key = directory / "hub.pem"
    key.write_bytes(KEY.as_pem(private=True))
    key.chmod(0o600)
    public = KeySet([RSAKey.import_key(KEY.as_dict(private=False))])
    people = {"alice": "alice", "bob": "bob"}
    with running_hub.world(trusted=[TrustedIssuer(NAME, lambda: public, people)], lifetime=8) as world:
        upstream: dict[str, Any] = {
            "consent": "on_behalf_of",
            "grant": request.param,
            "assertion_key_file": str(key),
            "assertion_issuer": NAME,
            "assertion_key_id": KEY.kid,
        }
        if request.param == "token_exchange":
            actor = directory / "actor"
            write_actor(world, actor)
            upstream |= {
                "actor_token_file": str(actor),
                "actor_token_type": "urn:ietf:params:oauth:token-type:access_token",
            }
        with running_hub.running(world, upstream=upstream) as hub:
            yield world, hub


def test_the_token_speaks_for_the_person_and_names_the_actor_where_the_provider_does(
    trusting: tuple[World, Hub],
) -> None:
    world, hub = trusting
    execution = fresh()
    hub.granted("alice", execution)
    said = says(hub.ask(world.pod_of(execution)))
    assert said["sub"] == "alice"
    exchanged = hub.content["upstreams"]["people"]["grant"] == "token_exchange"
    assert said.get("act", {}).get("sub") == ("hub" if exchanged else None)
    assert hub.records(outcome="given")[-1].get("actor") == ("hub" if exchanged else None)


def test_nothing_is_kept_so_nothing_is_revoked_and_nothing_is_given_after_the_end(trusting: tuple[World, Hub]) -> None:
    world, hub = trusting
    execution = fresh()
    grant = hub.granted("bob", execution)
    pod = world.pod_of(execution)
    assert says(hub.ask(pod))["sub"] == "bob"
    world.provider.counts.reset()
    reply = hub.revoke(world.token("bob"), id=grant["id"])
    assert (reply.json()["status"], reply.json()["revocation"]) == ("ended", "none")
    assert hub.ask(pod).status == 400
    assert world.of_hub("revocations") == 0


def test_the_next_token_is_minted_before_the_last_one_ends(trusting: tuple[World, Hub]) -> None:
    world, hub = trusting
    execution = fresh()
    hub.granted("alice", execution)
    pod = world.pod_of(execution)
    first = hub.ask(pod).json()["access_token"]
    assert hub.ask(pod).json()["access_token"] == first
    time.sleep(4.5)
    fresh_actor_of(world, hub)
    second = hub.ask(pod).json()["access_token"]
    assert second != first
    assert claims(Secret(second))["exp"] > claims(Secret(first))["exp"]


def test_a_person_of_whom_the_provider_knows_nothing_can_give_no_grant(trusting: tuple[World, Hub]) -> None:
    world, hub = trusting
    execution = world.admin.launch(fresh(), "mallory")
    reply = hub.deposit(world.token("mallory"), execution)
    # RFC 7523 has invalid_grant for it, a word about the person; RFC 8693 has invalid_request, which could mean us.
    exchanged = hub.content["upstreams"]["people"]["grant"] == "token_exchange"
    assert reply.status == (503 if exchanged else 403), reply.body
    live = [one for one in hub.get("/grants", world.token("mallory")).json()["grants"] if one["status"] != "ended"]
    assert not live
    assert hub.records(event="person", outcome=reply.json()["error"], subject="mallory")
