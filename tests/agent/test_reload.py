"""SIGHUP: the new configuration as a whole, or nothing of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import running_agent
import yaml
from running_agent import FORM, Agent, reply, request, rule
from running_provider import Running


def rewrite(agent: Agent, change: Callable[[dict[str, Any]], object]) -> None:
    content = yaml.safe_load(agent.file.read_text())
    change(content)
    agent.file.write_text(yaml.safe_dump(content))


def reload(agent: Agent, outcome: str) -> None:
    """Tell the agent to read its file again, and wait until it has."""
    name = f'authagent_reloads_total{{outcome="{outcome}"}}'

    def count() -> float:
        lines = agent.get("/metrics").body.decode().splitlines()
        return next((float(line.split()[1]) for line in lines if line.startswith(name)), 0)

    before = count()
    agent.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 10
    while count() == before:
        assert time.monotonic() < deadline, agent.log.read_text()
        time.sleep(0.02)


def test_new_rules_hold_and_tokens_that_are_still_good_stay(cold_agent: Agent) -> None:
    token = cold_agent.ask().json()["access_token"]
    rewrite(cold_agent, lambda c: c.update(rules=[rule("renamed")], flyte={"endpoint": "dns:///elsewhere.example.com"}))
    reload(cold_agent, "done")

    assert cold_agent.ask().json()["access_token"] != ""
    assert cold_agent.ask().json()["access_token"] == token
    assert cold_agent.mints == 1
    assert cold_agent.records()[-1]["rule"] == "renamed"
    assert cold_agent.get("/identity").json()["flyte"]["endpoint"] == "dns:///elsewhere.example.com"


def test_a_rule_that_is_gone_gives_nothing_any_more(cold_agent: Agent) -> None:
    assert cold_agent.ask().status == 200
    rewrite(cold_agent, lambda c: c.update(rules=[rule("of others", uid=os.geteuid() + 4242)]))
    reload(cold_agent, "done")

    refused = cold_agent.ask()
    assert (refused.status, refused.json()["error"]) == (401, "invalid_client")


def test_an_upstream_that_changes_gives_its_old_tokens_to_nobody(cold_agent: Agent) -> None:
    token = cold_agent.ask().json()["access_token"]
    rewrite(cold_agent, lambda c: c["upstreams"]["flyte"].update(timeout=7))
    reload(cold_agent, "done")

    assert cold_agent.ask().json()["access_token"] != token
    assert cold_agent.mints == 2


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda c: c.update(nonsense=1), "nonsense: unknown key"),
        (lambda c: c.update(rules=[rule("r", narrow={"phase": "moon"})]), "unknown key"),
        (lambda c: c.update(socket=c["socket"] + "2"), "socket: cannot change while the agent runs"),
        (lambda c: c.update(audit="/nowhere/at/all.jsonl"), "is not there"),
    ],
    ids=["unknown key", "unknown constraint", "another socket", "no audit file"],
)
def test_a_configuration_that_cannot_be_used_changes_nothing_and_is_named(
    cold_agent: Agent, spoil: Callable[[dict[str, Any]], object], says: str
) -> None:
    token = cold_agent.ask().json()["access_token"]
    rewrite(cold_agent, lambda c: (c.update(rules=[]), spoil(c)))
    reload(cold_agent, "refused")

    assert cold_agent.ask().json()["access_token"] == token
    assert cold_agent.mints == 1
    logged = [json.loads(line) for line in cold_agent.log.read_text().splitlines()]
    assert any(says in line["message"] and line["level"] == "warning" for line in logged), logged


def test_a_file_that_is_gone_or_no_yaml_changes_nothing(cold_agent: Agent) -> None:
    cold_agent.ask()
    cold_agent.file.write_text("rules: [")
    reload(cold_agent, "refused")
    cold_agent.file.unlink()
    reload(cold_agent, "refused")

    assert cold_agent.ask().status == 200


def test_who_waits_for_a_mint_gets_what_the_new_rules_give(cold_agent: Agent) -> None:
    cold_agent.provider.faults.put({"token_delay_ms": {"value": 1500, "count": 1}})
    with cold_agent.connect() as waiting:
        waiting.sendall(request("POST", "/token", b"grant_type=client_credentials", {"Content-Type": FORM}))
        time.sleep(0.3)
        rewrite(cold_agent, lambda c: c.update(rules=[rule("of others", uid=4242)]))
        reload(cold_agent, "done")
        answer = reply(running_agent.read_all(waiting))

    assert (answer.status, b"access_token" in answer.body) == (401, False)


def test_an_audit_file_that_was_moved_away_is_made_again(cold_agent: Agent) -> None:
    cold_agent.ask()
    moved = cold_agent.audit.with_suffix(".1")
    shutil.move(cold_agent.audit, moved)
    cold_agent.ask()
    assert len(moved.read_text().splitlines()) == 2
    reload(cold_agent, "done")
    cold_agent.ask()

    assert [record["outcome"] for record in cold_agent.records()] == ["given"]
    assert len(moved.read_text().splitlines()) == 2


def test_no_request_fails_while_it_reloads_again_and_again(cold_agent: Agent) -> None:
    cold_agent.ask()
    answers, stop = [], threading.Event()

    def keep_asking() -> None:
        while not stop.is_set():
            answers.append(cold_agent.ask().status)

    threads = [threading.Thread(target=keep_asking) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        cold_agent.process.send_signal(signal.SIGHUP)
        time.sleep(0.03)
    stop.set()
    for thread in threads:
        thread.join(20)

    assert set(answers) == {200}
    assert cold_agent.mints == 1


def test_secrets_are_read_anew_for_each_mint(provider: Running) -> None:
    with running_agent.running(provider) as agent:
        secret = agent.directory / "client_secret"
        right = secret.read_text()
        secret.write_text("wrong")
        assert agent.ask().status == 400
        secret.write_text(right)
        time.sleep(1.1)  # a failure answers everybody for a second
        assert agent.ask().status == 200


def test_it_is_told_when_it_reloads(provider: Running) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0authagent-test-" + str(os.getpid()))
        listening.settimeout(20)
        name = "@" + listening.getsockname()[1:].decode()
        with running_agent.running(provider, environ={"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "3000000"}) as agent:
            assert listening.recv(4096).startswith(b"READY=1\nSTATUS=serving")
            agent.process.send_signal(signal.SIGHUP)
            heard = [listening.recv(4096) for _ in range(3)]
            assert any(said.startswith(b"RELOADING=1\nMONOTONIC_USEC=") for said in heard)
            assert any(said.startswith(b"READY=1") for said in heard)
            while b"WATCHDOG=1" not in heard:
                heard.append(listening.recv(4096))
            agent.process.terminate()
            while listening.recv(4096) != b"STOPPING=1":
                pass
