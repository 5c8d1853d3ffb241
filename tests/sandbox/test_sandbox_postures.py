"""Each posture of the command line, started for real, with flytekit as its client."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from flytekit.clients.auth.authenticator import DeviceCodeAuthenticator
from flytekit.clients.auth_helper import RemoteClientConfigStore
from grpc import insecure_channel
from running_provider import Running, running

from flytekitplugins.authagent.cli import sandbox as cli
from flytekitplugins.authagent.sandbox.control_plane import ControlPlane
from flytekitplugins.authagent.sandbox.posture import POSTURES

pytestmark = pytest.mark.timeout(180)

SANDBOX = (sys.executable, "-m", "flytekitplugins.authagent", "sandbox")

CLIENT = """
import json, os, sys
import grpc
from flyteidl.admin import version_pb2
from flyteidl.service import admin_pb2_grpc, auth_pb2, auth_pb2_grpc, identity_pb2, identity_pb2_grpc
from flytekit.configuration import Config
from flytekit.remote import FlyteRemote

ready = json.load(open(sys.argv[1]))
remote = FlyteRemote(Config.auto(), default_project="flytesnacks", default_domain="development")
projects = len(remote.client.list_projects_paginated(limit=10)[0])
channel = grpc.insecure_channel(os.environ["FLYTE_PLATFORM_URL"])

def said(call, request, token=None):
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    try:
        return str(getattr(call(request, metadata=metadata, timeout=10), "subject", "OK"))
    except grpc.RpcError as refused:
        return refused.code().name

version = admin_pb2_grpc.AdminServiceStub(channel).GetVersion, version_pb2.GetVersionRequest()
info = identity_pb2_grpc.IdentityServiceStub(channel).UserInfo, identity_pb2.UserInfoRequest()
metadata = auth_pb2_grpc.AuthMetadataServiceStub(channel).GetOAuth2Metadata, auth_pb2.OAuth2MetadataRequest()
alice = open(ready["users"]["alice"]["token_file"]).read()
print(json.dumps({
    "projects": projects,
    "anonymous": said(*version), "garbage": said(*version, "garbage"), "alice": said(*info, alice),
    "nobody": said(*info), "metadata": said(*metadata),
}))
"""
"""What a program of the user sees: through flytekit and the agent, and by hand."""

SEEN = {
    "internal": {"anonymous": "UNAUTHENTICATED", "garbage": "UNAUTHENTICATED", "alice": "alice"}
    | {"nobody": "UNAUTHENTICATED", "metadata": "OK"},
    "external": {"anonymous": "UNAUTHENTICATED", "garbage": "UNAUTHENTICATED", "alice": "alice"}
    | {"nobody": "UNAUTHENTICATED", "metadata": "OK"},
    "disable-for-grpc": {"anonymous": "OK", "garbage": "OK", "alice": "alice", "nobody": "", "metadata": "OK"},
    "no-auth": {"anonymous": "OK", "garbage": "OK"} | dict.fromkeys(("alice", "nobody", "metadata"), "UNIMPLEMENTED"),
}


def test_the_command_line_knows_every_posture():
    action = next(a for a in cli._parser()._actions if a.dest == "posture")

    assert tuple(action.choices) == tuple(POSTURES) == tuple(SEEN)


@pytest.mark.parametrize("posture", SEEN)
def test_flytekit_works_in_every_posture(tmp_path, posture):
    ready = tmp_path / "ready.json"
    done = subprocess.run(
        [*SANDBOX, "--posture", posture, "--ready", str(ready), "--", sys.executable, "-c", CLIENT, str(ready)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen.pop("projects") == 1
    assert seen == SEEN[posture]


@contextmanager
def flyte(provider: Running, directory: Path, posture: str) -> Iterator[ControlPlane]:
    """A control plane that takes the provider's tokens."""
    plane = ControlPlane(
        issuer=provider.issuer,
        counts=provider.counts,
        faults=provider.faults,
        posture=POSTURES[posture],
        directory=directory,
        task_environment={},
    )
    plane.start()
    try:
        yield plane
    finally:
        plane.stop()


LOG_IN = """
import sys
from flytekit.configuration import Config, PlatformConfig
from flytekit.remote import FlyteRemote

platform = PlatformConfig(endpoint=sys.argv[1], insecure=True, auth_mode=sys.argv[2])
remote = FlyteRemote(Config(platform=platform), default_project="flytesnacks", default_domain="development")
print("projects", len(remote.client.list_projects_paginated(limit=10)[0]))
"""

BROWSER = """
import sys, urllib.request
sys.path.insert(0, {here!r})
from browsing import Browser
reply = Browser().decide(sys.argv[1], "bob")
urllib.request.build_opener(urllib.request.ProxyHandler({{}})).open(reply.headers["location"], timeout=10).read()
"""


def log_in(plane: ControlPlane, directory: Path, mode: str) -> subprocess.CompletedProcess[str]:
    """flytekit's own sign-in in a process of its own, with a browser that does as it is told."""
    script = directory / "browser.py"
    script.write_text(BROWSER.format(here=str(Path(__file__).parent)))
    environment: dict[str, Any] = {
        "PATH": os.environ["PATH"],
        "HOME": str(directory),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "BROWSER": f"{sys.executable} {script} %s &",  # flytekit listens for the answer only once its browser is open
        "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
        "no_proxy": "127.0.0.1,localhost",
    }
    return subprocess.run(
        [sys.executable, "-c", LOG_IN, plane.endpoint, mode],
        env=environment, cwd=directory, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("posture", ["internal", "external"])
def test_flytekit_signs_in_with_a_browser(tmp_path, posture):
    with running(posture) as provider, flyte(provider, tmp_path / "plane", posture) as plane:
        done = log_in(plane, tmp_path, "Pkce")
        counted = provider.counts.snapshot()

    assert "projects 1" in done.stdout, done.stdout + done.stderr
    assert counted["sign_ins"] == counted["codes"] == counted["mints"] == {"flytectl": 1}
    assert counted["clients"]["flytectl"]["ListProjects"]["accepted"] == 1


def test_flytekit_finds_the_device_endpoint_in_what_flyte_says(tmp_path):
    with running("external") as provider, flyte(provider, tmp_path / "plane", "external") as plane:
        with insecure_channel(plane.endpoint) as channel:
            store = RemoteClientConfigStore(channel)
            authenticator = DeviceCodeAuthenticator(plane.endpoint, store, scopes=["all", "offline"])
            known = store.get_client_config()
        document = provider.issuer.metadata()

    assert authenticator._client_id == "flytectl"
    assert known.device_authorization_endpoint == document["device_authorization_endpoint"]
    assert known.redirect_uri == "http://localhost:53593/callback"


def test_flyteadmins_own_server_names_no_device_endpoint(tmp_path):
    with (
        running("internal") as provider,
        flyte(provider, tmp_path / "plane", "internal") as plane,
        insecure_channel(plane.endpoint) as channel,
    ):
        known = RemoteClientConfigStore(channel).get_client_config()

    assert not known.device_authorization_endpoint
