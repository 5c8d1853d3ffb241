"""The commands as a user runs them: exit codes, and nothing on stdout but what was asked for."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import running_agent
import running_provider
import scripted_agent


@pytest.fixture(scope="module")
def agent() -> Iterator[running_agent.Agent]:
    with running_provider.running() as provider, running_agent.running(provider) as it:
        yield it


def authagent(*arguments: str, python: tuple[str, ...] = (), **environ: str) -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryDirectory(prefix="aa-") as home:
        clean = {"PATH": os.environ["PATH"], "HOME": home, "XDG_RUNTIME_DIR": home} | environ
        command = [sys.executable, *python, "-m", "flytekitplugins.authagent", *arguments]
        return subprocess.run(command, env=clean, capture_output=True, text=True, timeout=60, check=False)


def test_token_prints_exactly_the_token(agent: running_agent.Agent) -> None:
    done = authagent("token", AUTHAGENT_SOCKET=str(agent.socket))

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1
    assert agent.provider.read(done.stdout.removesuffix("\n"))


@pytest.mark.parametrize(
    ("arguments", "environ", "code", "says"),
    [
        ((), {}, 2, "name a command"),
        (("tokn",), {}, 2, "there is no command 'tokn'"),
        (("token", "--nope"), {}, 2, "--nope"),
        (("token", "--min-lifetime", "soon"), {}, 2, "soon"),
        (("token",), {}, 3, "no credential"),
        (
            ("token",),
            {"AUTHAGENT_TOKEN_FILE": "/nowhere"},
            2,
            "AUTHAGENT_TOKEN_FILE names /nowhere, which is not there",
        ),
        (("token",), {"AUTHAGENT_PROVIDER": "agnet"}, 2, "AUTHAGENT_PROVIDER"),
        (("token", "--scope", "admin"), {"AUTHAGENT_SOCKET": "{socket}"}, 4, "fewer scopes"),
        (("token", "--min-lifetime", "99999"), {"AUTHAGENT_SOCKET": "{socket}"}, 4, "no token lives as long"),
        (("token", "--audience", "https://elsewhere"), {"AUTHAGENT_SOCKET": "{socket}"}, 4, "another audience"),
        (("serve", "--config", "/nowhere/agent.yaml"), {}, 2, "/nowhere/agent.yaml is not there"),
        (("serve", "--nope"), {}, 2, "--nope"),
        (("sandbox", "--"), {}, 2, "no command after --"),
        (("sandbox", "--drain", "-1"), {}, 2, "--drain"),
    ],
)
def test_exit_codes(
    agent: running_agent.Agent, arguments: tuple[str, ...], environ: dict[str, str], code: int, says: str
) -> None:
    filled = {name: value.format(socket=agent.socket) for name, value in environ.items()}
    done = authagent(*arguments, **filled)

    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_an_agent_that_cannot_mint_is_unavailable(agent: running_agent.Agent) -> None:
    with running_agent.running(agent.provider) as cold:
        agent.provider.faults.put({"token_status": {"value": 503, "count": -1}})
        try:
            done = authagent("token", AUTHAGENT_SOCKET=str(cold.socket))
        finally:
            agent.provider.faults.put({"token_status": 0})
    assert (done.returncode, done.stdout) == (5, "")


def test_a_dead_socket_is_unavailable(tmp_path: Path) -> None:
    with running_provider.running() as provider, running_agent.running(provider) as agent:
        agent.process.kill()
        agent.process.wait(10)
        done = authagent("token", AUTHAGENT_SOCKET=str(agent.socket))
    assert (done.returncode, done.stdout) == (5, "")
    assert "nobody listens at" in done.stderr


@pytest.mark.parametrize("arguments", [("--help",), ("token", "--help"), ("serve", "--help"), ("sandbox", "--help")])
def test_help_is_on_stdout(arguments: tuple[str, ...]) -> None:
    done = authagent(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage: authagent" in done.stdout


def test_the_version() -> None:
    assert authagent("--version").stdout.startswith("authagent 0.")


def test_from_the_agent_a_token_costs_no_import_but_sockets(agent: running_agent.Agent) -> None:
    """Counted, for it is what start-up costs: `-v` names every module that is imported."""
    done = authagent("token", python=("-X", "importtime"), AUTHAGENT_SOCKET=str(agent.socket))
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}

    assert done.returncode == 0
    assert "flytekitplugins.authagent.wire" in imported
    bare = subprocess.run([sys.executable, "-X", "importtime", "-c", ""], capture_output=True, text=True, check=True)
    already = {line.rpartition("|")[2].strip() for line in bare.stderr.splitlines()}
    for heavy in ("json", "socket", "typing", "argparse", "flytekit", "pydantic", "re", "dataclasses"):
        assert heavy not in imported - already - {"runpy"}, heavy


@pytest.mark.parametrize("option", [(), ("--endpoint", "flyte.example.com:443")], ids=["quickly", "the long way"])
def test_the_pods_token_is_shown_from_where_the_environment_says(tmp_path: Path, option: tuple[str, ...]) -> None:
    file = tmp_path / "pod-token"
    file.write_text("a.b.c\n")
    with tempfile.TemporaryDirectory(prefix="aa-") as directory:
        path = Path(directory, "agent.sock")
        with scripted_agent.answering(path, lambda: "abc", "flyte.example.com:443") as it:
            it.identity["flyte"]["insecure"] = False
            done = authagent("token", *option, AUTHAGENT_SOCKET=str(path), AUTHAGENT_POD_TOKEN=str(file))

    assert (done.returncode, done.stdout, done.stderr) == (0, "abc\n", "")
    [asked] = it.requests("/token")
    assert asked.form == {
        "grant_type": "client_credentials",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": "a.b.c",
    }
    assert it.counts().get("/identity", 0) == (1 if option else 0)  # what is quick does not ask who we are


@pytest.mark.parametrize(
    ("place", "code", "says"),
    [
        ("relative", 2, "AUTHAGENT_POD_TOKEN cannot be 'relative'"),
        ("/", 2, "AUTHAGENT_POD_TOKEN: / is not a regular file"),
        ("/nowhere/token", 2, "AUTHAGENT_POD_TOKEN names /nowhere/token, which is not there"),
    ],
)
def test_a_pods_token_that_cannot_be_shown_is_explained(
    agent: running_agent.Agent, place: str, code: int, says: str
) -> None:
    done = authagent("token", AUTHAGENT_SOCKET=str(agent.socket), AUTHAGENT_POD_TOKEN=place)

    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_the_token_for_another_flyte_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text('{"access_token": "abc", "endpoint": "one.example.com"}')
    file.chmod(0o600)
    done = authagent("token", "--endpoint", "two.example.com", AUTHAGENT_TOKEN_FILE=str(file))
    assert (done.returncode, done.stdout) == (2, "")
    done = authagent("token", "--endpoint", "one.example.com", AUTHAGENT_TOKEN_FILE=str(file))
    assert (done.returncode, done.stdout) == (0, "abc\n")


def test_status_shows_people_how_the_agent_is(agent: running_agent.Agent) -> None:
    authagent("token", AUTHAGENT_SOCKET=str(agent.socket))
    done = authagent("status", AUTHAGENT_SOCKET=str(agent.socket))

    shown = {name.strip(): value for name, _, value in (line.partition("  ") for line in done.stdout.splitlines())}
    assert shown["agent"].strip() == str(agent.socket)
    assert shown["agent ready"].strip() == "yes"
    assert "given" in shown["agent answers"]
    assert "flyte: 1 minted, 0 failed" in shown["agent mints"]
    content = json.loads(authagent("status", "--json", AUTHAGENT_SOCKET=str(agent.socket)).stdout)
    assert content["agent"]["attestor"] == "kernel"
    assert json.loads(authagent("status", "--json").stdout)["agent"] is None


def test_status_of_an_agent_that_is_not_there_any_more(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead, tempfile.TemporaryDirectory(prefix="aa-") as place:
        dead.bind(f"{place}/agent.sock")
        done = authagent("status", AUTHAGENT_SOCKET=f"{place}/agent.sock")

    assert "agent ready" in done.stdout
    assert "no: nobody listens at" in done.stdout
