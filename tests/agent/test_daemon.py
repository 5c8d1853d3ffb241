"""The process: how it starts, what it leaves open, how it ends."""

from __future__ import annotations

import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import running_agent
import yaml
from running_agent import FORM, Agent, read_all, reply, request, rule
from running_provider import Running

from flytekitplugins.authagent.sandbox.port import free_port


def serve(file: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flytekitplugins.authagent", "serve", "--config", str(file), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_the_socket_is_ours_alone(agent: Agent) -> None:
    assert stat.S_IMODE(agent.socket.lstat().st_mode) == 0o600
    assert stat.S_IMODE(agent.socket.parent.stat().st_mode) == 0o700


def test_it_dumps_no_core(agent: Agent) -> None:
    limits = Path(f"/proc/{agent.process.pid}/limits").read_text()
    assert next(line for line in limits.splitlines() if "core" in line).split()[4:6] == ["0", "0"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_and_its_socket(provider: Running, number: int) -> None:
    with running_agent.running(provider) as agent:
        agent.process.send_signal(number)
        assert agent.process.wait(timeout=10) == 0
        assert not agent.socket.exists()


def test_who_is_being_answered_when_it_stops_gets_the_answer(cold_agent: Agent) -> None:
    cold_agent.provider.faults.put({"token_delay_ms": {"value": 1500, "count": 1}})
    with cold_agent.connect() as waiting, cold_agent.connect() as idle:
        waiting.sendall(request("POST", "/token", b"grant_type=client_credentials", {"Content-Type": FORM}))
        time.sleep(0.5)
        cold_agent.process.terminate()
        assert reply(read_all(waiting)).status == 200
        assert read_all(idle) == b""
    assert cold_agent.process.wait(timeout=10) == 0


def test_a_second_agent_does_not_take_the_socket_and_a_dead_one_leaves_it(provider: Running) -> None:
    with running_agent.running(provider) as agent:
        second = serve(agent.file)
        assert (second.returncode, "is served already" in second.stderr) == (2, True)
        assert agent.ask().status == 200

        agent.process.kill()
        agent.process.wait(timeout=10)
        assert agent.socket.exists()
        agent.process = agent._started()
        agent.wait_until_it_answers()
        assert agent.ask().status == 200


def test_the_health_address_answers_health_and_no_token(provider: Running) -> None:
    port = free_port()
    with running_agent.running(provider, health=f"127.0.0.1:{port}") as agent:
        agent.ask()

        def ask(raw: bytes) -> Any:
            with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
                connection.sendall(raw)
                return reply(read_all(connection))

        assert [ask(request("GET", path)).status for path in ("/livez", "/readyz", "/metrics")] == [200, 200, 200]
        assert b'authagent_requests_total{outcome="given"} 1' in ask(request("GET", "/metrics")).body
        body = b"grant_type=client_credentials"
        for refused in (
            request("POST", "/token", body, {"Content-Type": FORM}),
            request("GET", "/identity"),
        ):
            assert ask(refused).status in (404, 405)


def test_check_says_what_is_in_the_file_and_makes_nothing(provider: Running, tmp_path: Path) -> None:
    file = tmp_path / "agent.yaml"
    file.write_text(yaml.safe_dump(running_agent.configuration(tmp_path, provider)))
    file.chmod(0o600)

    done = serve(file, "--check")

    assert (done.returncode, done.stderr) == (0, "")
    assert "1 rules, 1 upstreams" in done.stdout
    assert not (tmp_path / "run").exists()


NO_SERVER = {"kind": "client_credentials", "client_id": "a", "client_secret_file": "/s"}

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "unknown key": ({"sockets": "/x"}, "sockets: unknown key"),
    "relative socket": ({"socket": "agent.sock"}, "socket: must be an absolute path"),
    "no login's server": ({"upstreams": {"flyte": {"kind": "keyring"}}}, "needs issuer or token_endpoint, or flyte:"),
    "no server": ({"upstreams": {"flyte": NO_SERVER}}, "needs either issuer or token_endpoint"),
    "no such upstream": ({"rules": [rule("r", give={"upstream": "other"})]}, "is no upstream"),
    "nobody": ({"rules": [rule("r", uid=65534)]}, "65534 is whom the kernel names"),
    "no one": ({"rules": [rule("r", who={})]}, "names nobody"),
    "not attested": ({"rules": [rule("r", who={"namespace": "x"})]}, "for a namespace, which the kernel cannot attest"),
    "pods without a place": ({"attestor": "kubernetes"}, "names neither a namespace nor a service_account"),
    "settings for nobody": ({"kubernetes": {}}, "set attestor: kubernetes"),
    "labels without pods": ({"rules": [rule("r", narrow={"labels": {"a": "b"}})]}, "labels, which only pods have"),
    "half an execution": (
        {"attestor": "kubernetes", "rules": [rule("r", who={"namespace": "x", "execution": "a"})]},
        "PROJECT:DOMAIN:NAME",
    ),
    "no kind of identity": ({"rules": [rule("r", narrow={"identity_kind": "root"})]}, "identity_kind"),
    "wider": ({"rules": [rule("r", give={"upstream": "flyte", "scopes": ["root"]})]}, "gives scopes that"),
    "another audience": ({"rules": [rule("r", give={"upstream": "flyte", "audience": "a"})]}, "another audience"),
    "a bare number": (
        {"rules": [rule("r", give={"upstream": "flyte", "scopes": ["all"], "max_lifetime": 15})]},
        "write a span",
    ),
    "an unknown constraint": ({"rules": [rule("r", narrow={"phase": "moon"})]}, "unknown key"),
    "a decimal mode": ({"mode": 660}, "write it in octal"),
    "no such group": ({"group": "no-such-group"}, "no group"),
    "an address without a port": ({"health": "127.0.0.1"}, "HOST:PORT"),
    "two of a name": ({"rules": [rule("r"), rule("r")]}, "same name"),
    "a secret in the file": (
        {"upstreams": {"flyte": {"kind": "client_credentials", "client_id": "a", "client_secret": "pl4nted"}}},
        "client_secret_file",
    ),
}


@pytest.mark.parametrize(("changed", "says"), BAD.values(), ids=BAD.keys())
def test_a_configuration_that_cannot_be_used_is_named_with_its_place(
    provider: Running, tmp_path: Path, changed: dict[str, Any], says: str
) -> None:
    file = tmp_path / "agent.yaml"
    file.write_text(yaml.safe_dump(running_agent.configuration(tmp_path, provider, **changed)))
    file.chmod(0o600)

    done = serve(file, "--check")

    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert f"{file}, line " in done.stderr
    assert "pl4nted" not in done.stderr


def test_a_file_that_others_may_write_is_refused(provider: Running, tmp_path: Path) -> None:
    file = tmp_path / "agent.yaml"
    file.write_text(yaml.safe_dump(running_agent.configuration(tmp_path, provider)))
    file.chmod(0o666)

    done = serve(file, "--check")

    assert (done.returncode, "can be written by others" in done.stderr) == (2, True)


def test_signals_during_many_requests_lose_none(provider: Running) -> None:
    with running_agent.running(provider) as agent:
        agent.ask()
        answers: list[int] = []

        def keep_asking() -> None:
            while True:
                try:
                    answers.append(agent.ask().status)
                except (OSError, IndexError):
                    return

        threads = [threading.Thread(target=keep_asking) for _ in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        agent.process.terminate()
        for thread in threads:
            thread.join(20)
        assert set(answers) == {200}
        assert agent.process.wait(timeout=10) == 0
