"""The whole sandbox, as a user starts it: every part in its place, and nothing left behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from flyteidl.admin import version_pb2
from flyteidl.service import admin_pb2_grpc
from running_provider import FORM, basic, running, send

from flytekitplugins.authagent.errors import ProviderUnavailable
from flytekitplugins.authagent.sandbox.agent_process import AgentProcess
from flytekitplugins.authagent.sandbox.counts import Counts

pytestmark = pytest.mark.timeout(180)

SANDBOX = (sys.executable, "-m", "flytekitplugins.authagent", "sandbox")

WORKFLOWS = """
import time
from flytekit import eager, task, workflow

@task
def greet(name: str) -> str:
    return f"hello {name}"

@workflow
def main(name: str = "world") -> str:
    return greet(name=name)

@task
def fail() -> None:
    raise ValueError("there is no such row")

@task
def sleep() -> None:
    time.sleep(120)

@eager
async def parent() -> str:
    return greet(name="child")
"""


@pytest.fixture(scope="module")
def workflows(tmp_path_factory) -> Path:
    """A directory of the user's, with a module of workflows."""
    directory = tmp_path_factory.mktemp("user")
    (directory / "hello.py").write_text(WORKFLOWS)
    return directory


def sandbox(*arguments: str, cwd: Path | None = None, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run it to the end."""
    return subprocess.run(
        [*SANDBOX, *arguments], cwd=cwd, capture_output=True, text=True, timeout=150, check=False, **more
    )


@contextmanager
def started(tmp_path: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, Any]]]:
    """A sandbox that runs until the end of the block, and what its ready file says."""
    ready = tmp_path / "ready.json"
    with (tmp_path / "said").open("wb") as said:
        process = subprocess.Popen([*SANDBOX, "--ready", str(ready), *arguments], stdout=said, stderr=said)
    try:
        deadline = time.monotonic() + 60
        while not ready.exists():
            assert process.poll() is None, (tmp_path / "said").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield process, json.loads(ready.read_text())
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(timeout=60)


def counts(ready: dict[str, Any]) -> dict[str, Any]:
    return send("GET", f"{ready['control']}/counts").json()


def get_version(ready: dict[str, Any], token: str) -> str:
    """What the control plane says to a caller with this token: `OK`, or the code of the refusal."""
    with grpc.insecure_channel(ready["flyte_endpoint"]) as channel:
        try:
            admin_pb2_grpc.AdminServiceStub(channel).GetVersion(
                version_pb2.GetVersionRequest(), metadata=(("authorization", f"Bearer {token}"),), timeout=10
            )
        except grpc.RpcError as refused:
            return refused.code().name
    return "OK"


def left_behind(directory: str) -> list[str]:
    """The processes that work in a sandbox's directory, or were told of it: their arguments and environments."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        told = b""
        for read in (
            lambda p: (p / "cmdline").read_bytes(),
            lambda p: (p / "environ").read_bytes(),
            lambda p: os.fsencode((p / "cwd").readlink()),
        ):
            with contextlib.suppress(OSError):  # it ended, or lets nobody look
                told += read(process) + b"\0"
        if directory.encode() in told:
            found.append(told.replace(b"\0", b" ").decode(errors="replace"))
    return found


@pytest.mark.parametrize("posture", ["internal", "external"])
def test_everything_answers_once_the_ready_file_is_there(tmp_path, posture):
    with started(tmp_path, "--posture", posture) as (_, ready):
        assert ready.keys() == {
            "flyte_endpoint", "issuer", "token_endpoint", "control", "agent_socket", "clients", "users",
        }  # fmt: skip
        assert stat.S_IMODE((tmp_path / "ready.json").stat().st_mode) == 0o600
        assert {"flyte-agent", "batch", "ci"} <= ready["clients"].keys()
        assert counts(ready) == Counts().snapshot()

        form = {"Content-Type": FORM, **basic("ci", ready["clients"]["ci"])}
        own = send("POST", ready["token_endpoint"], "grant_type=client_credentials&scope=all", form).json()
        users = {user: Path(what["token_file"]).read_text() for user, what in ready["users"].items()}
        assert users.keys() == {"alice", "bob", "mallory"}
        assert [get_version(ready, token) for token in (own["access_token"], *users.values())] == ["OK"] * 4
        assert get_version(ready, "nonsense") == "UNAUTHENTICATED"
        with socket.socket(socket.AF_UNIX) as agent:
            agent.settimeout(5)
            agent.connect(ready["agent_socket"])
            agent.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert agent.recv(64).startswith(b"HTTP/1.1 200")
        assert counts(ready)["mints"] == {"ci": 1}
        assert counts(ready)["clients"]["ci"] == {"GetVersion": {"accepted": 1, "rejected": 0}}


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_without_a_command_it_runs_until_a_signal_and_leaves_nothing(tmp_path, number, status):
    with started(tmp_path) as (process, ready):
        directory = str(Path(ready["agent_socket"]).parent)
        assert left_behind(directory)
        process.send_signal(number)

        assert process.wait(timeout=60) == status

    assert left_behind(directory) == []
    assert not Path(directory).exists()


def test_a_sandbox_that_is_killed_takes_its_agent_along(tmp_path):
    directory = str(tmp_path / "s")
    with started(tmp_path, "--directory", directory) as (process, _):
        assert left_behind(directory)
        process.kill()
        process.wait(timeout=10)

        deadline = time.monotonic() + 20
        while left_behind(directory):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_it_says_what_it_is_and_no_secret(tmp_path):
    with started(tmp_path) as (_, ready):
        directory = Path(ready["agent_socket"]).parent
        said = (tmp_path / "said").read_text()
        around = "\n".join(left_behind(str(directory)))
        files = {path: stat.S_IMODE(path.stat().st_mode) for path in [directory, *directory.iterdir()]}
        tokens = [Path(what["token_file"]).read_text() for what in ready["users"].values()]

    assert "for demos and tests only" in said
    for where in ("flyte_endpoint", "issuer", "control", "agent_socket"):
        assert ready[where] in said
    for secret in (*ready["clients"].values(), *tokens):
        assert secret not in said + around
    assert files[directory] == 0o700
    assert {path.name: mode for path, mode in files.items() if mode & 0o077 and path.is_file()} == {}


def test_faults_reach_the_provider_and_the_control_plane(tmp_path):
    with started(tmp_path) as (_, ready):
        form = {"Content-Type": FORM, **basic("batch", ready["clients"]["batch"])}

        def token() -> Any:
            return send("POST", ready["token_endpoint"], "grant_type=client_credentials&scope=all", form)

        send("PUT", f"{ready['control']}/faults", json.dumps({"token_html": 1, "reject_rpc": 1}))

        assert token().body.startswith(b"<!doctype html>")
        good = token().json()["access_token"]
        assert [get_version(ready, good) for _ in range(2)] == ["UNAUTHENTICATED", "OK"]
        assert send("GET", f"{ready['control']}/faults").json() == {}


def test_pyflyte_run_is_all_a_newcomer_needs(workflows):
    done = sandbox("--", "pyflyte", "run", "--remote", "hello.py", "main", "--name", "you", cwd=workflows)

    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if "SUCCEEDED" in line]
    assert len(lines) == 1
    assert lines[0].startswith("authagent sandbox: ")


def test_the_command_and_its_tasks_share_one_token(workflows, tmp_path):
    script = f"""
import json, urllib.request
from flytekit.configuration import Config
from flytekit.remote import FlyteRemote
remote = FlyteRemote(Config.auto(), "flytesnacks", "development")
assert remote.client.list_projects_paginated()
ready = json.load(open({str(tmp_path / "ready.json")!r}))
print(urllib.request.urlopen(ready["control"] + "/counts").read().decode())
"""
    done = sandbox("--ready", str(tmp_path / "ready.json"), "--", sys.executable, "-c", script, cwd=workflows)

    counted = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert counted["mints"] == {"flyte-agent": 1}
    assert counted["rpcs"]["ListProjects"] == {"accepted": 1, "rejected": 0}


def test_an_eager_parent_and_its_child_are_waited_for(workflows):
    done = sandbox("--", "pyflyte", "run", "--remote", "hello.py", "parent", cwd=workflows)

    assert done.returncode == 0, done.stderr
    assert done.stderr.count("SUCCEEDED") == 2, done.stderr


@pytest.mark.parametrize("posture", ["internal", "external"])
def test_what_a_user_starts_is_the_users(workflows, tmp_path, posture):
    ready = tmp_path / "ready.json"
    script = f"""
import json, os, subprocess
alice = json.load(open({str(ready)!r}))["users"]["alice"]["token_file"]
run = ["pyflyte", "run", "--remote", "hello.py", "main"]
raise SystemExit(subprocess.call(run, env=os.environ | {{"AUTHAGENT_PROVIDER": "file", "AUTHAGENT_TOKEN_FILE": alice}}))
"""
    done = sandbox("--posture", posture, "--ready", str(ready), "--", sys.executable, "-c", script, cwd=workflows)

    assert done.returncode == 0, done.stderr
    assert "SUCCEEDED  alice" in done.stderr


def test_a_failed_execution_fails_the_run_and_its_error_is_told(workflows):
    done = sandbox("--", "pyflyte", "run", "--remote", "hello.py", "fail", cwd=workflows)

    assert done.returncode == 1
    line = next(line for line in done.stderr.splitlines() if "FAILED" in line)
    assert line.endswith("ValueError: there is no such row")


def test_the_status_of_the_command_comes_first(workflows):
    run = "pyflyte run --remote hello.py fail; exit 7"

    assert sandbox("--", "sh", "-c", run, cwd=workflows).returncode == 7


def test_a_drain_that_takes_too_long_says_so_and_ends_what_runs(workflows, tmp_path):
    directory = tmp_path / "s"
    arguments = ["--directory", str(directory), "--drain", "3"]

    done = sandbox(*arguments, "--", "pyflyte", "run", "--remote", "hello.py", "sleep", cwd=workflows)

    assert done.returncode == 1
    assert "still running after 3 s (--drain): " in done.stderr
    assert left_behind(str(directory)) == []
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_a_signal_while_the_command_runs_ends_it_and_everything_else(tmp_path):
    up = tmp_path / "up"
    script = f"open({str(up)!r}, 'w').close(); import time; time.sleep(100)"
    with started(tmp_path, "--", sys.executable, "-c", script) as (process, ready):
        deadline = time.monotonic() + 30
        while not up.exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)

        assert process.wait(timeout=60) == 130

    assert left_behind(str(Path(ready["agent_socket"]).parent)) == []


def test_an_agent_that_does_not_start_says_why(tmp_path):
    loose = tmp_path / "loose"
    loose.mkdir()
    loose.chmod(0o777)  # the agent does not trust what others can replace
    with running("internal") as provider:
        agent = AgentProcess(loose, provider.issuer)
        try:
            with pytest.raises(ProviderUnavailable, match=r"ended with status 2: .*others"):
                agent.start("127.0.0.1:1")
        finally:
            agent.stop()

    assert left_behind(str(loose)) == []


def test_options_that_cannot_be_used_end_with_status_2(tmp_path):
    done = sandbox("--directory", str(tmp_path / ("d" * 120)))

    assert done.returncode == 2
    assert "too long for a Unix socket" in done.stderr
    assert "Traceback" not in done.stderr
