"""The API server goes wrong: nobody is denied because of it, who was attested goes on, and nothing floods it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import pytest
from attesting import Place
from kubernetes_api import encoded

from flytekitplugins.authagent.agent.peer import UNKNOWN, Peer
from flytekitplugins.authagent.agent.refusal import Refusal
from flytekitplugins.authagent.agent.workload import Pod

pytestmark = pytest.mark.timeout(60)


WRONG: dict[str, Any] = {
    "403": [403, "always"],
    "500": [500, "always"],
    "504": [504, "always"],
    "429 for ever": [429, "always"],
    "closed": ["close", "always"],
    "hangs": ["hang"],
    "html": ["html", "always"],
    "too large": ["large", "always"],
}


@pytest.mark.parametrize("kind", ["review", "pod", "workflow"])
@pytest.mark.parametrize("fault", WRONG.values(), ids=WRONG.keys())
def test_an_api_server_that_cannot_be_asked_denies_nobody(place: Place, kind: str, fault: list[Any]) -> None:
    token = place.api.token(place.api.pod_of(place.api.workflow()))
    place.api.faults[kind] = list(fault)
    began = time.monotonic()

    refusal = place.refused(token)

    assert (refusal.status, refusal.error, refusal.retry_after) == (503, "temporarily_unavailable", 1)
    assert time.monotonic() - began < 5.5
    assert place.attestor.ready() != ""
    place.api.faults.clear()
    assert place.one(token).execution == "billing:production:f1"
    assert place.attestor.ready() == ""


def test_it_is_asked_again_after_429_and_a_connection_that_was_closed(place: Place) -> None:
    token = place.api.token(place.api.pod_of(place.api.workflow()))
    place.api.faults = {"review": [429], "pod": ["close"]}

    assert place.one(token)
    assert place.api.calls == {"review": 2, "pod": 2, "workflow": 1}


def test_the_agents_own_token_is_read_again_when_it_is_not_taken(place: Place) -> None:
    token = place.api.token(place.api.pod())
    place.own.write_text("replaced")
    refusal = place.refused(token)
    assert (refusal.status, "the agent's own token" in refusal.reason) == (503, True)

    place.api.own_token = "replaced"
    assert place.one(token)


@pytest.mark.parametrize("fault", [["hang"], [403, "always"], ["close", "always"], [429, "always"]])
def test_who_was_attested_goes_on_while_it_cannot_be_asked_and_not_for_ever(place: Place, fault: list[Any]) -> None:
    token = place.api.token(place.api.pod_of(place.api.workflow()), life=3600)
    place.one(token)
    place.api.faults["*"] = list(fault)
    place.ahead = 60

    assert place.one(token).execution == "billing:production:f1"
    assert place.attestor.counts()["stale"] == 1
    place.ahead = 311
    assert place.refused(token).status == 503


def test_a_token_that_has_ended_is_never_served_stale(place: Place) -> None:
    token = place.api.token(place.api.pod(), life=30)
    place.one(token)
    place.api.faults["*"] = [403, "always"]
    place.ahead = 31

    assert "has ended" in place.refused(token).reason


@pytest.mark.parametrize("end", ["deleted", "recreated", "deleting", "Succeeded", "Failed"])
def test_a_pod_that_is_gone_is_dropped_at_the_next_check_and_not_served_stale(place: Place, end: str) -> None:
    pod = place.api.pod_of(place.api.workflow())
    token, rotated = place.api.token(pod), place.api.token(pod)
    place.attest(token, rotated)
    if end == "deleted":
        place.api.delete(pod)
    elif end == "recreated":
        place.api.pod_of(place.api.workflow("f2"))
    elif end == "deleting":
        pod.deleting = True
    else:
        pod.phase = end
    place.ahead = 9.9  # the API server still remembers that the token was good
    assert place.one(token)
    place.ahead = 10.1

    assert place.refused(token).status == 401
    place.api.faults["*"] = [403, "always"]
    assert {refusal.status for refusal in place.attest(token, rotated) if isinstance(refusal, Refusal)} <= {503}


def test_a_pod_deleted_between_the_review_and_the_look_at_it_is_refused(place: Place) -> None:
    pod = place.api.pod()
    token = place.api.token(pod)
    place.api.review({"token": token, "audiences": ["authagent"]})  # remembered there for ten seconds
    place.api.delete(pod)

    assert place.refused(token).reason == "the pod is gone"
    place.api.pod()  # another one of its name
    assert "another pod" in place.refused(token).reason


def test_a_refusal_is_not_remembered_and_takes_nothing_from_others(place: Place) -> None:
    """A store that hangs makes the API server say `invalidated` for pods that are alive."""
    pod, other = place.api.pod(), place.api.pod(name="other")
    token, others = place.api.token(pod), place.api.token(other)
    place.one(others)
    place.api.faults["review"] = ["invalidated"]

    assert place.refused(token).status == 401
    assert place.one(token)
    place.one(others)
    assert place.api.calls["review"] == 3


def test_junk_that_looks_right_neither_floods_the_api_server_nor_starves_or_evicts_anybody(place: Place) -> None:
    good = [place.api.token(place.api.pod(name=f"p{n}")) for n in range(5)]
    assert all(isinstance(found, Pod) for found in place.attest(*good))
    place.ahead = 10.1
    template = good[0].split(".")
    junk = [".".join([*template[:2], encoded(n)]) for n in range(500)]
    seen = place.api.calls["review"]

    async def all_at_once() -> list[Pod | Refusal]:
        flood = asyncio.gather(*(place._one(token) for token in junk))
        await asyncio.sleep(0)
        known = await asyncio.gather(*(place._one(token) for token in good))
        assert all(isinstance(found, Pod) for found in known)
        return list(await flood)

    answers = asyncio.run(all_at_once())

    statuses = [answer.status for answer in answers if isinstance(answer, Refusal)]
    assert len(statuses) == 500
    assert set(statuses) == {401, 429}
    assert place.api.calls["review"] - seen <= 72 + 5
    assert len(place.api.ports) <= 8 + 4 + 5  # connections: one for each that asks, kept alive
    place.api.faults["*"] = [403, "always"]
    assert all(isinstance(found, Pod) for found in place.attest(*good))


def test_those_who_wait_behind_one_address_make_room_for_another(place: Place) -> None:
    """A node's agent may send many pods at once; somebody who sends junk keeps nobody of another address out."""
    node = [place.api.token(place.api.pod(name=f"p{n}")) for n in range(50)]
    assert all(isinstance(found, Pod) for found in place.attest(*node))  # alone it may have it all
    good = [place.api.token(place.api.pod(name=f"q{n}")) for n in range(20)]
    template = good[0].split(".")
    junk = [".".join([*template[:2], encoded(n)]) for n in range(200)]

    async def all_at_once() -> list[Pod | Refusal]:
        flood = asyncio.gather(*(place._one(token) for token in junk))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        others = Peer(UNKNOWN, UNKNOWN, 0, "10.0.0.2")
        known = await asyncio.gather(*(place._one(token, others) for token in good))
        assert all(isinstance(found, Pod) for found in known), known
        return list(await flood)

    answers = asyncio.run(all_at_once())
    statuses = Counter(answer.status for answer in answers if isinstance(answer, Refusal))
    assert statuses.keys() == {401, 429}
    assert statuses.total() == 200
    assert 72 - 20 <= statuses[401] <= 72  # who was answered before the others came made room already
