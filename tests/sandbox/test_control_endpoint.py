"""The control endpoint: what it answers, and whom it does not."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from running_provider import send

from flytekitplugins.authagent.sandbox.control import Control
from flytekitplugins.authagent.sandbox.counts import Counts
from flytekitplugins.authagent.sandbox.faults import FLAGS, VALUES, Faults

pytestmark = pytest.mark.timeout(30)

EXECUTION = {"id": {"project": "p", "domain": "d", "name": "n"}, "phase": "SUCCEEDED", "error": None}


@pytest.fixture(scope="module")
def counts():
    return Counts()


@pytest.fixture(scope="module")
def faults():
    return Faults()


@pytest.fixture(scope="module")
def control(counts, faults):
    it = Control(counts, faults, lambda: [EXECUTION])
    it.start()
    yield it
    it.stop()


@pytest.fixture(autouse=True)
def _clean(counts, faults):
    counts.reset()
    faults.put(dict.fromkeys((*FLAGS, *VALUES), 0))


def put(control: Control, body: object, **headers: str):
    text = body if isinstance(body, str | bytes) else json.dumps(body)
    return send("PUT", f"{control.url}/faults", text, headers)


def test_counts_are_what_was_counted(control, counts):
    counts.mint("batch")
    counts.rpc("GetTask", "batch", accepted=True)
    counts.rpc("GetTask", "anonymous", accepted=False)

    answer = send("GET", f"{control.url}/counts")

    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()["mints"] == {"batch": 1}
    assert answer.json()["rpcs"] == {"GetTask": {"accepted": 1, "rejected": 1}}


def test_counts_start_again_from_zero(control, counts):
    counts.mint("batch")

    answer = send("POST", f"{control.url}/counts/reset")

    assert answer.status == 200
    assert answer.json() == send("GET", f"{control.url}/counts").json() == Counts().snapshot()


def test_faults_are_set_and_told(control, faults):
    answer = put(control, {"reject_rpc": 2, "token_delay_ms": 50, "token_status": {"value": 500, "count": 3}})

    assert answer.status == 200
    assert answer.json() == send("GET", f"{control.url}/faults").json()
    assert answer.json() == {
        "reject_rpc": {"value": 1, "count": 2},
        "token_delay_ms": {"value": 50, "count": -1},
        "token_status": {"value": 500, "count": 3},
    }
    assert faults.take("reject_rpc") == 1


def test_a_fault_is_taken_away_by_zero(control):
    put(control, {"reject_rpc": -1, "token_delay_ms": 10, "expire_now": 1})

    assert put(control, {"reject_rpc": 0, "token_delay_ms": 0}).json().keys() == {"expire_now"}


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"expire_later": 1, "reject_rpc": 1}, "expire_later"),
        ({"reject_rpc": 1, "token_html": "yes"}, "token_html"),
        ({"reject_rpc": 1, "token_hang": -2}, "token_hang"),
        ({"reject_rpc": 1, "same_token": True}, "same_token"),
        ({"reject_rpc": 1, "token_status": {"value": 500, "times": 1}}, "token_status"),
        ({"reject_rpc": 1, "clock_skew_s": 1.5}, "clock_skew_s"),
        ({"reject_rpc": 1, "expire_now": None}, "expire_now"),
        ([1], "JSON object"),
        ("{", "JSON object"),
        ("", "JSON object"),
        (b"\xff", "JSON object"),
        ("[" * 60000, "JSON object"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_no_fault_is_named_and_nothing_changes(control, body, named):
    answer = put(control, body)

    assert answer.status == 400
    assert named in answer.json()["error"]
    assert send("GET", f"{control.url}/faults").json() == {}


@settings(max_examples=150, deadline=None)
@given(
    body=st.binary(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from([*FLAGS, *VALUES, "value", "count"]) | st.text(max_size=5), inner, max_size=4
            )
        ),
        max_leaves=6,
    ).map(json.dumps)
)
def test_any_body_is_a_fault_or_refused(control, body):
    assert put(control, body).status in (200, 400)


def test_executions_are_those_of_the_control_plane(control):
    assert send("GET", f"{control.url}/executions").json() == [EXECUTION]


@pytest.mark.parametrize(
    ("method", "path", "status", "allowed"),
    [
        ("POST", "/counts", 405, "GET"),
        ("GET", "/counts/reset", 405, "POST"),
        ("DELETE", "/faults", 405, "PUT, GET"),
        ("OPTIONS", "/faults", 405, "PUT, GET"),
        ("PUT", "/executions", 405, "GET"),
        ("GET", "/", 404, None),
        ("GET", "/counts/", 404, None),
        ("GET", "/../counts", 404, None),
    ],
)
def test_what_is_not_there_is_said_to_be_so(control, method, path, status, allowed):
    answer = send(method, f"{control.url}{path}")

    assert answer.status == status
    assert {word for word in answer.headers.get("allow", "").split(", ") if word} == set(
        (allowed or "").split(", ")
    ) - {""}
    assert answer.json()["error"]


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:8000", ""])
@pytest.mark.parametrize(("method", "path"), [("GET", "/counts"), ("POST", "/counts/reset"), ("PUT", "/faults")])
def test_a_web_page_cannot_drive_it(control, counts, method, path, origin):
    counts.mint("batch")

    answer = send(method, f"{control.url}{path}", '{"reject_rpc": -1}', {"Origin": origin})

    assert answer.status == 403
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert send("GET", f"{control.url}/faults").json() == {}
    assert counts.snapshot()["mints"] == {"batch": 1}


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "0.0.0.0", "169.254.0.1", ""]
)
def test_a_name_that_was_made_to_point_here_is_refused(control, host):
    answer = put(control, {"reject_rpc": -1}, Host=host)

    assert answer.status == 421
    assert send("GET", f"{control.url}/faults").json() == {}


def test_no_answer_lets_another_origin_read_it(control):
    for method, path in (("GET", "/counts"), ("GET", "/faults"), ("GET", "/executions"), ("OPTIONS", "/faults")):
        assert not [name for name in send(method, control.url + path).headers if name.startswith("access-control")]
