"""`serve --check` and `policy check` open what the configuration names; the agent says what is missing, and to whom."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import running_agent
import running_provider
import yaml
from running_agent import rule
from running_provider import Running

from flytekitplugins.authagent.agent.failure_log import EVERY, FailureLog
from flytekitplugins.authagent.errors import ConfigError, ProviderUnavailable

Content = dict[str, Any]


def authagent(*arguments: object, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flytekitplugins.authagent", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **environ}
    )


def write(directory: Path, content: Content) -> Path:
    file = directory / "agent.yaml"
    file.write_text(yaml.safe_dump(content))
    file.chmod(0o600)
    return file


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path


def upstream(content: Content, **changed: Any) -> None:
    content["upstreams"]["flyte"] |= changed


def instead(content: Content, spec: Content) -> None:
    content["upstreams"]["flyte"] = {"scopes": ["all"], **spec}
    if spec["kind"] in ("file", "command", "agent"):
        del content["upstreams"]["flyte"]["scopes"]
        content["rules"] = [{**rule("ours"), "give": {"upstream": "flyte"}}]


def secret(directory: Path, text: str = "", mode: int = 0o600) -> str:
    file = directory / "made"
    file.write_text(text)
    file.chmod(mode)
    return str(file)


def exchange(directory: Path, **files: str) -> Content:
    return {
        "kind": "token_exchange",
        "token_endpoint": "https://idp.example.com/token",
        "subject_token_file": secret(directory, "token"),
        **files,
    }


NONE = "/var/empty/none"

WRONG: dict[str, tuple[Callable[[Content, Path], object], str]] = {
    "no secret": (
        lambda c, d: upstream(c, client_secret_file=NONE),
        f"upstreams.flyte: client_secret_file names {NONE},",
    ),
    "an empty secret": (lambda c, d: upstream(c, client_secret_file=secret(d)), "client_secret_file"),
    "a secret that others read": (
        lambda c, d: upstream(c, client_secret_file=secret(d, "s", 0o644)),
        "upstreams.flyte: client_secret_file: ",
    ),
    "a secret that is a directory": (lambda c, d: upstream(c, client_secret_file=str(d)), "is not a regular file"),
    "a secret that is no text": (
        lambda c, d: (upstream(c, client_secret_file=secret(d)), (d / "made").write_bytes(b"\xff")),
        "is not text",
    ),
    "no CA": (lambda c, d: upstream(c, ca_file=NONE), f"upstreams.flyte: ca_file names {NONE},"),
    "a CA that is none": (lambda c, d: upstream(c, ca_file=secret(d, "none")), "holds no certificate"),
    "a URL that is none": (lambda c, d: upstream(c, token_endpoint="http://[x"), "upstreams.flyte: token_endpoint:"),
    "a URL in plaintext": (lambda c, d: upstream(c, token_endpoint="http://idp.example.com/t"), "not an https URL"),
    "a key that is none": (
        lambda c, d: (
            upstream(c, private_key_file=secret(d, "none")),
            c["upstreams"]["flyte"].pop("client_secret_file"),
        ),
        "upstreams.flyte:",
    ),
    "a variable that is not set": (
        lambda c, d: (
            upstream(c, client_secret_env="NOT_SET_HERE"),
            c["upstreams"]["flyte"].pop("client_secret_file"),
        ),
        "NOT_SET_HERE",
    ),
    "no token to exchange": (
        lambda c, d: instead(c, exchange(d, subject_token_file=NONE)),
        f"subject_token_file names {NONE},",
    ),
    "no token of an actor": (
        lambda c, d: instead(c, exchange(d, actor_token_file=NONE)),
        f"actor_token_file names {NONE},",
    ),
    "no token file": (lambda c, d: instead(c, {"kind": "file", "path": NONE}), f"upstreams.flyte: path names {NONE},"),
    "no program": (lambda c, d: instead(c, {"kind": "command", "command": ["/no/such"]}), "no program /no/such"),
    "no other agent": (lambda c, d: instead(c, {"kind": "agent", "socket": NONE}), f"upstreams.flyte: socket {NONE}"),
    "no directory for the audit file": (lambda c, d: c.update(audit=f"{NONE}/a.jsonl"), "audit: the directory"),
    "an audit file that is a directory": (lambda c, d: c.update(audit="/proc/1/nothing"), "audit: "),
    "no directory for the socket": (lambda c, d: c.update(socket=f"{NONE}/a/b.sock"), "socket: the directory"),
    "a directory of the socket that others write": (
        lambda c, d: ((d / "open").mkdir(), (d / "open").chmod(0o777), c.update(socket=str(d / "open" / "s"))),
        "socket: ",
    ),
    "no account of the cluster": (
        lambda c, d: c.update(
            attestor="kubernetes",
            kubernetes={"token_file": NONE},
            rules=[rule("r", who={"namespace": "a"})],
        ),
        f"kubernetes: token_file names {NONE},",
    ),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("command", [("serve", "--check", "--config"), ("policy", "check")], ids=["serve", "policy"])
def test_what_cannot_be_used_is_named_with_its_key(
    name: str, command: tuple[str, ...], provider: Running, directory: Path
) -> None:
    spoil, says = WRONG[name]
    content = running_agent.configuration(directory, provider)
    spoil(content, directory)
    file = write(directory, content)

    done = authagent(*command, file)

    assert done.returncode == 2, done.stdout + done.stderr
    assert f"authagent: {file}: " in done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not Path(content["socket"]).parent.exists() or "open" in content["socket"], "something was made"


ENVIRON = {
    "no CAs": {"SSL_CERT_FILE": NONE},
    "no directory of CAs": {"SSL_CERT_DIR": NONE},
    "no CAs, by the name that requests reads": {"REQUESTS_CA_BUNDLE": NONE},
    "a proxy of no known scheme": {"HTTPS_PROXY": "gopher://proxy.example.com"},
    "a proxy without a host": {"https_proxy": "http://:3128"},
    "a proxy without a port": {"ALL_PROXY": "http://proxy.example.com:0"},
}
"""Variables that a client of an identity provider reads, and that cannot be used."""

PEERS: dict[str, Callable[[Content], object]] = {
    "upstreams.flyte": lambda c: upstream(c, token_endpoint="https://idp.example.com/token"),
    "upstreams.flyte, by its issuer": lambda c: (
        c["upstreams"]["flyte"].pop("token_endpoint", None),
        upstream(c, issuer="https://idp.example.com"),
    ),
}


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("name", ENVIRON)
@pytest.mark.parametrize("command", [("serve", "--check", "--config"), ("policy", "check")], ids=["serve", "policy"])
def test_a_variable_that_cannot_be_used_is_named(
    name: str, peer: str, command: tuple[str, ...], provider: Running, directory: Path
) -> None:
    content = running_agent.configuration(directory, provider)
    PEERS[peer](content)
    file = write(directory, content)
    assert authagent(*command, file).returncode == 0

    done = authagent(*command, file, **ENVIRON[name])

    [variable] = ENVIRON[name]
    assert (done.returncode, f": upstreams.flyte: {variable} names " in done.stderr) == (2, True), done.stderr


def test_all_that_is_wrong_is_said_at_once(provider: Running, directory: Path) -> None:
    content = running_agent.configuration(directory, provider)
    upstream(content, client_secret_file=NONE)
    content["upstreams"]["other"] = {**content["upstreams"]["flyte"], "ca_file": NONE}

    done = authagent("serve", "--check", "--config", write(directory, content))

    assert done.stderr.count(f"names {NONE}, which is not there") == 2


def test_the_rules_alone_are_checked_on_another_machine(provider: Running, directory: Path) -> None:
    content = running_agent.configuration(directory, provider)
    upstream(content, client_secret_file=NONE)
    done = authagent("policy", "check", "--rules-only", write(directory, content))

    assert (done.returncode, "1. ours: uid" in done.stdout) == (0, True), done.stderr


# Online


def test_online_says_what_each_issuer_answers(provider: Running, directory: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        gone = f"http://127.0.0.1:{closed.getsockname()[1]}"
    content = running_agent.configuration(directory, provider)
    issuer = provider.issuer.issuer
    good = content["upstreams"]["flyte"]
    content["upstreams"] |= {
        "discovered": {k: v for k, v in good.items() if k != "token_endpoint"} | {"issuer": issuer},
        "gone": {**good, "token_endpoint": f"{gone}/token"},
    }
    before = provider.counts.snapshot()["mints"]
    done = authagent("serve", "--check", "--online", "--config", write(directory, content))

    lines = done.stdout.splitlines()
    assert done.returncode == 5, done.stdout + done.stderr
    assert f"upstreams.flyte: {provider.issuer.token_endpoint} answers" in lines
    assert f"upstreams.discovered: {provider.issuer.token_endpoint} answers" in lines
    assert any(line.startswith(f"upstreams.gone: {gone}") for line in lines)
    assert provider.counts.snapshot()["mints"] == before

    del content["upstreams"]["gone"]
    assert authagent("serve", "--check", "--online", "--config", write(directory, content)).returncode == 0
    content["upstreams"]["discovered"]["issuer"] = issuer.rstrip("/") + "/not-here"
    assert authagent("serve", "--check", "--online", "--config", write(directory, content)).returncode == 3


def test_online_alone_is_refused(provider: Running, directory: Path) -> None:
    file = write(directory, running_agent.configuration(directory, provider))
    done = authagent("serve", "--online", "--config", file)
    assert (done.returncode, "--online goes with --check" in done.stderr) == (2, True)


# A running agent


def warnings(agent: running_agent.Agent) -> list[str]:
    logged = [json.loads(line) for line in agent.log.read_text().splitlines()]
    return [line["message"] for line in logged if line["level"] == "warning"]


@pytest.mark.parametrize("kind", ["no secret", "no token file", "a variable that is not set"])
def test_a_fault_of_the_configuration_is_not_try_again(kind: str, provider: Running, directory: Path) -> None:
    content = running_agent.configuration(directory, provider)
    WRONG[kind][0](content, directory)
    with running_agent.running(provider, upstreams=content["upstreams"], rules=content["rules"]) as agent:
        unready = agent.get("/readyz")
        answers = [agent.ask() for _ in range(5)]
        time.sleep(1.1)  # a failure answers everybody for a second
        answers.append(agent.ask())
        afterwards = agent.get("/readyz")
        client = authagent("token", AUTHAGENT_SOCKET=str(agent.socket), AUTHAGENT_PROVIDER="agent", HOME=str(directory))
        logged, reason = warnings(agent), agent.records()[-1]["reason"]

    named = "NOT_SET_HERE" if "variable" in kind else NONE
    assert unready.status == afterwards.status == 503
    assert unready.body.startswith(b"no token from flyte; flyte: ")
    assert named.encode() in unready.body
    for answer in answers:
        assert (answer.status, answer.json()["error"]) == (500, "server_error")
        assert "again" not in answer.json()["error_description"]
        assert named not in answer.body.decode()
        assert "retry-after" not in answer.headers
    assert named in reason
    assert len(logged) == 1, "one line a minute"
    assert logged[0].startswith("no token from the upstream 'flyte': ")
    assert named in logged[0]
    assert client.returncode == 3, client.stderr
    assert "server_error" in client.stderr
    assert "again" not in client.stderr


def test_it_serves_when_the_secret_is_there(provider: Running) -> None:
    with running_agent.running(provider) as agent:
        (agent.directory / "client_secret").rename(agent.directory / "away")
        assert agent.get("/readyz").status == 503
        assert agent.ask().status == 500
        (agent.directory / "away").rename(agent.directory / "client_secret")
        deadline = time.monotonic() + 30
        while agent.get("/readyz").status != 200:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert agent.ask().status == 200
        assert "the upstream 'flyte' gives tokens again" in agent.log.read_text()


def test_a_failed_mint_is_a_warning_without_the_providers_words(directory: Path) -> None:
    with running_provider.running() as provider, running_agent.running(provider) as agent:
        (agent.directory / "client_secret").write_text("wr0ng-s3cret")
        assert agent.ask().status == 400
        (warning,) = warnings(agent)
    assert "invalid_client" in warning
    assert "wr0ng-s3cret" not in warning


def test_the_log_has_a_line_a_minute_for_each_upstream(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    log = FailureLog(lambda: now[0])
    with caplog.at_level("INFO"):
        for _ in range(1000):
            log.failed("a", ProviderUnavailable("down"))
        log.failed("b", ConfigError("no secret"))
        now[0] = EVERY
        log.failed("a", ConfigError("no CA"))
        log.succeeded("a")
        log.succeeded("a")
        log.failed("a", ProviderUnavailable("down"))
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "no token from the upstream 'a': down (failures since the last line: 1)"),
        ("WARNING", "no token from the upstream 'b': no secret (failures since the last line: 1)"),
        ("WARNING", "no token from the upstream 'a': no CA (failures since the last line: 1000)"),
        ("INFO", "the upstream 'a' gives tokens again"),
        ("WARNING", "no token from the upstream 'a': down (failures since the last line: 1)"),
    ]
