"""
The fault matrix, with counts.

While there is a valid token no call fails; afterwards there is one typed error; nothing is lost.
"""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import running_agent
import running_provider
from running_agent import rule
from running_provider import Running

pytestmark = pytest.mark.timeout(120)

LIFE = 8
"""Seconds that a token lives here."""

DOWN: dict[str, dict[str, Any]] = {
    "refuses": {"token_status": {"value": 503, "count": -1}},
    "500": {"token_status": {"value": 500, "count": -1}},
    "429": {"token_status": {"value": 429, "count": -1}},
    "html": {"token_html": -1},
    "hangs": {"token_hang": -1},
}


@pytest.fixture
def short() -> Iterator[Running]:
    with running_provider.running(lifetime=LIFE) as provider:
        yield provider


@pytest.mark.parametrize("fault", DOWN.values(), ids=DOWN.keys())
def test_a_valid_token_is_served_until_it_ends_and_then_there_is_one_typed_error(
    short: Running, fault: dict[str, Any]
) -> None:
    with running_agent.running(short) as agent:
        first = agent.ask().json()
        ends = short.read(first["access_token"]).claims["exp"]
        short.faults.put(fault)
        before = 0
        while time.time() < ends - 2.5:
            answer = agent.ask()
            assert (answer.status, answer.json()["access_token"]) == (200, first["access_token"])
            before += 1
            time.sleep(0.02)
        assert before > 50
        while time.time() < ends:
            time.sleep(0.05)
        if "token_hang" not in fault:  # that one is answered after the deadline of the mint: test_token_endpoint
            answers = [agent.ask() for _ in range(20)]
            assert {(a.status, a.json()["error"]) for a in answers} == {(503, "temporarily_unavailable")}
        short.faults.put(dict.fromkeys(fault, 0))
        deadline = time.monotonic() + 30
        while agent.ask().status != 200:
            assert time.monotonic() < deadline
            time.sleep(0.2)


def test_no_refresh_on_every_call_however_short_the_token_lives(short: Running) -> None:
    with running_agent.running(short) as agent:
        deadline = time.monotonic() + 10
        asked = 0
        while time.monotonic() < deadline:
            assert agent.ask().status == 200
            asked += 1
        assert asked > 200
        assert 2 <= agent.mints <= 5  # about one for half a life


def test_the_same_token_again_does_not_loop(short: Running) -> None:
    with running_agent.running(short) as agent:
        agent.ask()
        short.faults.put({"same_token": -1})
        while time.time() < short.read(agent.ask().json()["access_token"]).claims["exp"] - 1.5:
            assert agent.ask().status == 200
        assert agent.mints <= 12  # each time half of what is left: it ends, and does not spin


def test_a_token_without_expires_in_is_dated_by_itself(provider: Running) -> None:
    with running_agent.running(provider) as agent:
        provider.faults.put({"no_expires_in": -1})
        answers = [agent.ask() for _ in range(20)]

        assert {answer.status for answer in answers} == {200}
        assert all(0 < answer.json()["expires_in"] <= 300 for answer in answers)
        assert agent.mints == 1


@pytest.mark.parametrize("skew", [3600, -3600], ids=["an hour ahead", "an hour behind"])
def test_a_provider_whose_clock_is_an_hour_off_is_no_reason_to_fail(provider: Running, skew: int) -> None:
    with running_agent.running(provider) as agent:
        provider.faults.put({"clock_skew_s": {"value": skew, "count": -1}})
        answers = [agent.ask() for _ in range(50)]

        assert {answer.status for answer in answers} == {200}
        assert agent.mints == 1


def test_a_full_disk_gives_nothing_unwritten_and_recovers_by_itself(provider: Running) -> None:
    """A disk of 64 KiB, made by the limit on the size of files (RLIMIT_FSIZE), that is then emptied (logrotate)."""
    with running_agent.running(provider) as agent:
        subprocess.run(["prlimit", f"--pid={agent.process.pid}", "--fsize=65536:65536"], check=True, timeout=10)
        statuses = []
        while 503 not in statuses:
            statuses.append(agent.ask({"task": "t" * 150}).status)
            assert len(statuses) < 2000
        given = [json.loads(line) for line in agent.audit.read_text().splitlines() if line.endswith("}")]
        assert len([record for record in given if record["outcome"] == "given"]) == statuses.count(200)
        assert agent.get("/readyz").status == 503
        agent.audit.write_text("")
        assert agent.ask().status == 200
        assert agent.get("/readyz").status == 200


def test_killed_under_load_and_restarted_it_serves_again_and_no_record_is_missing(provider: Running) -> None:
    with running_agent.running(provider) as agent:
        agent.ask()
        given, failed = [200], []
        stop = threading.Event()

        def keep_asking() -> None:
            while not stop.is_set():
                try:
                    given.append(agent.ask().status)
                except (OSError, IndexError, ValueError) as killed:  # a client asks again
                    failed.append(killed)
                    time.sleep(0.01)

        threads = [threading.Thread(target=keep_asking) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(3):
            time.sleep(0.3)
            agent.process.send_signal(signal.SIGKILL)
            agent.process.wait(timeout=10)
            agent.process = agent._started()
            agent.wait_until_it_answers()
        time.sleep(0.3)
        stop.set()
        for thread in threads:
            thread.join(20)

        written = sum(record["outcome"] == "given" for record in agent.records())
        assert set(given) == {200}
        assert len(given) <= written <= len(given) + len(failed)  # written first: no token without its record
        assert agent.mints == 4  # one for each process


def test_a_socket_that_somebody_replaces_is_not_taken_away_again(provider: Running) -> None:
    with running_agent.running(provider) as agent:
        agent.socket.unlink()
        with running_agent.running(provider, socket=str(agent.socket)) as other:
            assert other.ask().status == 200
            agent.process.terminate()
            assert agent.process.wait(timeout=10) == 0
            assert other.ask().status == 200


def test_a_provider_that_comes_back_is_used_within_a_minute_without_a_restart(provider: Running) -> None:
    with running_agent.running(provider, rules=[rule("r")]) as agent:
        provider.faults.put({"token_status": {"value": 503, "count": -1}})
        assert {agent.ask().status for _ in range(200)} == {503}
        provider.faults.put({"token_status": 0})
        time.sleep(1.1)  # a failure answers everybody for a second
        assert agent.ask().status == 200
        assert agent.mints == 1
