"""Through the agent: one token for everybody on the machine, on the first RPC of each, and nothing else is sent."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flytekitplugins.authagent.sandbox.sandbox import Sandbox

THREADS = """
import concurrent.futures, threading, flytekit
from flytekitplugins.authagent import authenticated

barrier = threading.Barrier(50)

@authenticated
def work(n):
    barrier.wait(60)
    return len(flytekit.current_context().remote.list_projects())

with concurrent.futures.ThreadPoolExecutor(50) as pool:
    assert list(pool.map(work, range(50))) == [1] * 50
"""

COROUTINES = """
import asyncio, flytekit
from flytekitplugins.authagent import authenticated

@authenticated
async def work():
    return await asyncio.to_thread(lambda: len(flytekit.current_context().remote.list_projects()))

async def main():
    return await asyncio.gather(*(work() for _ in range(50)))

assert asyncio.run(main()) == [1] * 50
"""

LOOPS = """
import asyncio, concurrent.futures, flytekit
from flytekitplugins.authagent import authenticated

@authenticated
async def work():
    return len(flytekit.current_context().remote.list_projects())

with concurrent.futures.ThreadPoolExecutor(10) as pool:
    assert list(pool.map(lambda _: asyncio.run(work()), range(50))) == [1] * 50
"""

FORKS = """
import os, flytekit
from flytekitplugins.authagent import remote

held = remote.default()
children = []
for _ in range(50):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = 0 if len(held.list_projects()) == 1 else 1
        finally:
            os._exit(status)
    children.append(pid)
assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 50
"""

TEN = """
import os
from flytekit.configuration import Config
from flytekit.remote import FlyteRemote

def call():
    assert len(FlyteRemote(Config.auto()).list_projects()) == 1

children = []
for _ in range(9):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            call()
            status = 0
        finally:
            os._exit(status)
    children.append(pid)
call()
assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 9
"""


@pytest.mark.parametrize(
    "program", [THREADS, COROUTINES, LOOPS, FORKS], ids=["threads", "coroutines", "event loops", "forked processes"]
)
def test_fifty_callers_in_one_process_cost_one_mint_and_no_rejection(
    program: str, sandbox: Sandbox, client: dict[str, str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program], env=client, capture_output=True, text=True, timeout=90, check=False
    )

    assert done.returncode == 0, done.stderr
    counts = sandbox.counts.snapshot()
    assert counts["mints"] == {"flyte-agent": 1}
    assert counts["rpcs"] == {"ListProjects": {"accepted": 50, "rejected": 0}}


def test_fifty_processes_that_flytekit_itself_authenticates_cost_one_mint(
    sandbox: Sandbox, client: dict[str, str]
) -> None:
    # Each imports flytekit, which takes all the time; so only five do, and nine forks of each, which know nothing more.
    batch = [subprocess.Popen([sys.executable, "-c", TEN], env=client) for _ in range(5)]
    assert [process.wait(120) for process in batch] == [0] * 5

    counts = sandbox.counts.snapshot()
    assert counts["mints"] == {"flyte-agent": 1}
    assert counts["rpcs"] == {"ListProjects": {"accepted": 50, "rejected": 0}}


def in_a_binding(sandbox: Sandbox, home: Path, secret: Path) -> dict[str, str]:
    (home / ".flyte").mkdir(exist_ok=True)
    provider = {"kind": "client_credentials", "client_id": "batch", "client_secret_file": str(secret)}
    provider |= {"token_endpoint": sandbox.issuer.token_endpoint, "issuer": sandbox.issuer.issuer, "scopes": ["all"]}
    binding = {"provider": provider, "authorization_header": "flyte-authorization"}
    written(home / ".flyte" / "authagent.yaml", json.dumps({"bindings": [binding]}))
    return {"FLYTE_CREDENTIALS_AUTH_MODE": "authagent"}


def in_flytes_own_file(sandbox: Sandbox, home: Path, secret: Path) -> dict[str, str]:
    admin = {"endpoint": sandbox.control_plane.endpoint, "insecure": True, "scopes": ["all"], "clientId": "batch"}
    admin |= {"clientSecretLocation": str(secret), "tokenUrl": sandbox.issuer.token_endpoint}
    written(home / "config.yaml", json.dumps({"admin": admin | {"authorizationHeader": "flyte-authorization"}}))
    return {"FLYTECTL_CONFIG": str(home / "config.yaml"), "AUTHAGENT_PROVIDER": "client_credentials"}


def written(file: Path, text: str) -> Path:
    file.write_text(text)
    file.chmod(0o600)
    return file


@pytest.mark.parametrize(
    ("configure", "call"),
    [
        (in_a_binding, "FlyteRemote(Config.auto(), 'flytesnacks', 'development').list_projects()"),
        (in_a_binding, "remote.default().list_projects()"),
        (in_flytes_own_file, "remote.default().list_projects()"),
    ],
)
def test_what_the_configuration_says_is_not_discovered(
    sandbox: Sandbox, client: dict[str, str], configure: Callable[..., dict[str, str]], call: str
) -> None:
    home = Path(client["HOME"])
    secret = written(home / "secret", sandbox.issuer.clients["batch"].secret.reveal())
    environ = {name: text for name, text in client.items() if name not in ("AUTHAGENT_SOCKET", "AUTHAGENT_PROVIDER")}
    environ |= configure(sandbox, home, secret)
    imports = (
        "from flytekit.configuration import Config",
        "from flytekit.remote import FlyteRemote",
        "from flytekitplugins.authagent import remote",
    )
    program = "\n".join([*imports, call])
    done = subprocess.run(
        [sys.executable, "-c", program], env=environ, capture_output=True, text=True, timeout=90, check=False
    )

    assert done.returncode == 0, done.stderr
    counts = sandbox.counts.snapshot()
    assert (counts["rpcs"], counts["discoveries"]) == ({"ListProjects": {"accepted": 1, "rejected": 0}}, {})
    assert counts["mints"] == {"batch": 1}


def test_the_first_rpc_of_a_task_is_authenticated_and_the_only_one(sandbox: Sandbox, client: dict[str, str]) -> None:
    program = """
import flytekit
from flytekit import task
from flytekitplugins.authagent import AuthAgent

@task(task_config=AuthAgent())
def work() -> int:
    return len(flytekit.current_context().remote.list_projects())

print(work())
"""
    file = Path(client["HOME"]) / "program.py"
    file.write_text(program)
    done = subprocess.run([sys.executable, file], env=client, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stderr
    counts = sandbox.counts.snapshot()
    assert counts["rpcs"] == {"ListProjects": {"accepted": 1, "rejected": 0}}
    assert counts["discoveries"] == {}
    assert counts["mints"] == {"flyte-agent": 1}
