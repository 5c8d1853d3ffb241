"""`attestor: kubernetes`, facts and lies, at a fake API server that repeats recorded shapes (kubernetes_api.py)."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import pytest
from attesting import Place
from kubernetes_api import EXTRA, encoded, owner

pytestmark = pytest.mark.timeout(60)


def test_a_pod_is_attested_down_to_its_execution_with_three_calls(place: Place) -> None:
    run_as = {"run_as": {"execution_identity": "alice", "oauth2_client": {"client_id": "c", "client_secret": "s3cret"}}}
    workflow = place.api.workflow(securityContext=run_as)
    pod = place.api.pod_of(workflow, labels={"team": "red"})
    token = place.api.token(pod)

    found = place.one(token)

    assert (found.namespace, found.service_account, found.name, found.uid, found.node) == (
        "billing-production", "runner", "f1-n0-0", pod.uid, "node-1",
    )  # fmt: skip
    assert (found.project, found.domain, found.execution) == ("billing", "production", "billing:production:f1")
    assert dict(found.labels) == {"team": "red"}
    assert dict(found.identity) == {"execution_identity": "alice", "oauth2_client": "c"}
    assert str(found.credential_id).startswith("JTI=")
    assert place.api.calls == {"review": 1, "pod": 1, "workflow": 1}
    assert place.api.seen[0]["path"].endswith("?fieldValidation=Strict")
    assert place.api.seen[0]["spec"] == {"token": token, "audiences": ["authagent"]}
    assert token not in repr(found)


def test_fifty_callers_of_one_pod_cost_one_attestation_and_the_next_ten_seconds_none(place: Place) -> None:
    token = place.api.token(place.api.pod_of(place.api.workflow()))

    place.attest(*[token] * 50)
    place.attest(*[f" \n{token}\t"] * 5)  # white space makes no other token of it

    assert place.api.calls == {"review": 1, "pod": 1, "workflow": 1}
    place.ahead = 10.1
    place.one(token)
    assert place.api.calls == {"review": 2, "pod": 2, "workflow": 1}
    assert place.attestor.counts() == {"attested": 51, "cached": 5}


def test_a_rotated_token_of_a_known_pod_needs_its_own_review_and_nothing_else(place: Place) -> None:
    pod = place.api.pod_of(place.api.workflow())
    one, other = place.one(place.api.token(pod)), place.one(place.api.token(pod))

    assert one == other or one.credential_id != other.credential_id
    assert place.api.calls == {"review": 2, "pod": 1, "workflow": 1}


def test_a_pod_that_no_workflow_controls_is_no_execution(place: Place) -> None:
    alone = place.one(place.api.token(place.api.pod(name="alone", labels={"execution-id": "f1", "project": "billing"})))
    of_ray = {"apiVersion": "ray.io/v1", "kind": "RayCluster", "name": "r", "uid": "u", "controller": True}
    ray = place.one(place.api.token(place.api.pod(name="ray", owners=[of_ray])))

    for found in (alone, ray):
        assert (found.project, found.domain, found.execution) == (None, None, None)
        assert found.service_account == "runner"


def test_labels_that_claim_another_execution_change_nothing(place: Place) -> None:
    place.api.workflow("victim")
    pod = place.api.pod_of(place.api.workflow("mine"), labels={"execution-id": "victim", "project": "other"})

    assert place.one(place.api.token(pod)).execution == "billing:production:mine"


def forged(place: Place) -> dict[str, Any]:
    victim = place.api.workflow("victim")
    foreign = place.api.workflow("f9", project="other", domain="development")
    renamed = place.api.workflow("renamed")
    renamed["executionId"] = {"project": "billing", "domain": "production", "name": "victim"}
    deleting = place.api.workflow("deleting")
    deleting["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    abroad = place.api.workflow("abroad")
    abroad["executionId"] = {"project": "other", "domain": "production", "name": "abroad"}
    empty = place.api.workflow("empty")
    empty["executionId"] = {}
    return {
        "made-up uid": [owner(victim, uid="made-up")],
        "another namespace": [owner(foreign)],
        "not the controller": [owner(victim, controller=False)],
        "two": [owner(victim), owner(place.api.workflow("f2"), controller=False)],
        "another kind": [owner(victim, kind="LaunchPlan")],
        "another version": [owner(victim, apiVersion="flyte.lyft.com/v1")],
        "executionId of another": [owner(renamed)],
        "being deleted": [owner(deleting)],
        "namespace of another project": [owner(abroad)],
        "no executionId": [owner(empty)],
    }


@pytest.mark.parametrize("which", [
    "made-up uid", "another namespace", "not the controller", "two", "another kind", "another version",
    "executionId of another", "being deleted", "namespace of another project", "no executionId",
])  # fmt: skip
def test_a_forged_owner_reference_is_refused(place: Place, which: str) -> None:
    token = place.api.token(place.api.pod(owners=forged(place)[which]))

    refusal = place.refused(token)

    assert (refusal.status, refusal.error) == (401, "invalid_client")
    assert "workflow" in refusal.reason or "executions of" in refusal.reason
    assert refusal.description == "this agent has no rule for you"


def test_a_workflow_that_is_known_in_one_namespace_is_not_believed_in_another(place: Place) -> None:
    workflow = place.api.workflow()
    place.one(place.api.token(place.api.pod_of(workflow)))

    thief = place.api.pod(namespace="thief-production", owners=[owner(workflow)])
    assert place.refused(place.api.token(thief)).status == 401


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ({EXTRA + "pod-uid": []}, "not bound to one pod"),
        ({EXTRA + "pod-uid": ["a", "b"]}, "not bound to one pod"),
        ({EXTRA + "pod-name": []}, "not bound to one pod"),
    ],
)
def test_a_review_without_exactly_one_pod_is_refused(place: Place, extra: dict[str, Any], says: str) -> None:
    assert says in place.refused(place.api.token(place.api.pod(), **extra)).reason
    assert place.api.calls == {"review": 1}


JUNK = {
    "nothing": None,
    "empty": "",
    "a word": "junk",
    "two parts": "a.b",
    "huge": "a.b." + "c" * 20000,
    "not base64": "ä.b.c",
    "with a space": "a.b c.d",
    "no claims": f"{encoded({})}.{encoded({})}.x",
    "alg none, no signature": f"{encoded({'alg': 'none'})}.{encoded({'aud': ['authagent']})}.",
}


@pytest.mark.parametrize("junk", JUNK.values(), ids=JUNK.keys())
def test_junk_costs_no_request(place: Place, junk: str | None) -> None:
    assert place.refused(junk).status == 401
    assert not place.api.calls


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"audience": "https://kubernetes.default.svc"}, "another audience"),
        ({"now": time.time() - 900}, "has ended"),
        ({"life": 90000}, "lives longer than"),
    ],
)
def test_a_token_that_is_not_for_us_or_has_ended_costs_no_request(place: Place, changed: dict, says: str) -> None:
    refusal = place.refused(place.api.token(place.api.pod(), **changed))
    assert says in refusal.reason
    assert not place.api.calls


def test_a_tampered_token_and_one_with_a_leading_space_are_refused(place: Place) -> None:
    token = place.api.token(place.api.pod())
    head, body, _ = token.split(".")

    assert "does not take" in place.refused(f"{head}.{body}.{encoded('other')}").reason
    assert place.one(" " + token)  # what the API server would call anonymous: it never sees the space
    assert all(not str(seen["spec"]["token"]).startswith(" ") for seen in place.api.seen)


def test_pods_of_other_nodes_are_refused_where_a_node_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE_NAME", "node-2")
    place = Place(tmp_path, node_name_env="NODE_NAME")
    try:
        here, there = place.api.pod(name="a", node="node-2"), place.api.pod(name="b", node="node-1")
        assert place.one(place.api.token(here))
        assert "another node" in place.refused(place.api.token(there)).reason
    finally:
        place.attestor.close()
        place.api.close()


def test_nothing_secret_is_logged_or_said(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    token = place.api.token(place.api.pod(owners=forged(place)["made-up uid"]))
    refusal = place.refused(token)
    place.api.faults["*"] = [403, "always"]
    unavailable = place.refused(place.api.token(place.api.pod(name="other")))

    said = caplog.text + repr(refusal) + str(refusal) + repr(unavailable) + str(unavailable)
    assert "cannot be asked" in caplog.text
    for secret in [*place.api.tokens, place.api.own_token]:
        assert secret not in said
        assert secret.split(".")[-1] not in said
