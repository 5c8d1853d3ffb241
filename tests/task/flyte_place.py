"""A Flyte for the tests of the task side: the sandbox's provider and control plane, without its agent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from flytekit.clients.auth.authenticator import Authenticator
from flytekit.clients.auth_helper import register_authenticator_plugin
from flytekit.configuration import Config, PlatformConfig
from flytekit.models.core.execution import WorkflowExecutionPhase
from flytekit.remote import FlyteRemote

from flytekitplugins.authagent.sandbox.control_plane import ControlPlane
from flytekitplugins.authagent.sandbox.counts import Counts
from flytekitplugins.authagent.sandbox.dialect import DIALECTS
from flytekitplugins.authagent.sandbox.faults import Faults
from flytekitplugins.authagent.sandbox.posture import POSTURES, Posture
from flytekitplugins.authagent.sandbox.provider import Provider

PROJECT, DOMAIN = "flytesnacks", "development"
WORKFLOWS = Path(__file__).parent / "workflows"
TERMINAL = ("SUCCEEDED", "FAILED", "ABORTED", "TIMED_OUT")
BIN = Path(sys.executable).parent


OBSERVER = "observer-of-the-tests"


class Observer(Authenticator):
    """Shows the token that a test gives it."""

    token = ""

    def __init__(self, _platform: PlatformConfig, _store: Any) -> None:
        """Nothing to find out."""

    def fetch_grpc_call_auth_metadata(self) -> tuple[str, str]:
        return "authorization", f"Bearer {self.token}"

    def refresh_credentials(self) -> None:
        raise AssertionError("the observer's token was rejected")


register_authenticator_plugin(OBSERVER, Observer)


class Place:
    """
    A provider, a control plane and what they count. `task_environment` is that of every task; it may be changed.

    Tokens of the client `batch` come from `mint`, and stand in `token_file` for whoever reads files.
    """

    def __init__(self, directory: Path, lifetime: int = 300, posture: Posture = POSTURES["internal"]) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.directory = directory
        self.counts, self.faults = Counts(), Faults()
        self.provider = Provider(DIALECTS[posture.issuer], self.counts, self.faults, lifetime=lifetime)
        self.issuer = self.provider.issuer
        self.task_environment: dict[str, str] = {}
        self.plane = ControlPlane(
            issuer=self.issuer,
            counts=self.counts,
            faults=self.faults,
            posture=posture,
            directory=directory / "flyte",
            task_environment=self.task_environment,
            slots=2,
        )
        self.token_file = directory / "token"
        self.home = directory / "home"
        self.home.mkdir()

    def start(self) -> None:
        """Everything answers afterwards; counts are zero."""
        self.provider.start()
        self.plane.start()
        self.write_token(self.mint())
        self.observer = self.mint("ci")
        self.task_environment.update(self.client())
        self.counts.reset()

    def stop(self) -> None:
        """Nothing is left."""
        self.plane.stop()
        self.provider.stop()

    def mint(self, client: str = "batch") -> str:
        """A new token of a client."""
        secret = self.issuer.clients[client].secret
        answer = requests.post(
            self.issuer.token_endpoint,
            data={
                "grant_type": "client_credentials",
                "client_id": client,
                "client_secret": secret.reveal() if secret else "",
            },
            timeout=10,
        )
        return str(answer.json()["access_token"])

    def write_token(self, token: str) -> None:
        """Replace the token file, as kubelet does it."""
        new = self.directory / "token.new"
        new.touch(mode=0o600)
        new.write_text(token)
        new.rename(self.token_file)

    def client(self) -> dict[str, str]:
        """The environment of a client, or a task, that reads its token from the file."""
        return {
            "FLYTE_PLATFORM_URL": self.plane.endpoint,
            "FLYTE_PLATFORM_INSECURE": "1",
            "FLYTE_CREDENTIALS_AUTH_MODE": "authagent",
            "AUTHAGENT_TOKEN_FILE": str(self.token_file),
        }

    def client_credentials(self, client: str = "batch") -> Path:
        """An `authagent.yaml` whose one binding is the client's own credentials."""
        secret = self.directory / f"{client}.secret"
        secret.touch(mode=0o600)
        found = self.issuer.clients[client].secret
        secret.write_text(found.reveal() if found else "")
        provider = {
            "kind": "client_credentials",
            "token_endpoint": self.issuer.token_endpoint,
            "client_id": client,
            "client_secret_file": str(secret),
        }
        file = self.directory / f"{client}.yaml"
        file.touch(mode=0o600)
        file.write_text(json.dumps({"bindings": [{"provider": provider}]}))
        return file

    def process(
        self, *command: str | Path, timeout: float = 90, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as somebody on a laptop, with a clean environment and `environment` on top."""
        return subprocess.run(
            [str(part) for part in command],
            env={"PATH": f"{BIN}:/usr/bin:/bin", "HOME": str(self.home), **self.client(), **environment},
            cwd=WORKFLOWS,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def register(self, *arguments: str, version: str) -> None:
        """`pyflyte register` of files of `workflows/`."""
        done = self.process(
            "pyflyte", "register", "--project", PROJECT, "--domain", DOMAIN, "--version", version, *arguments
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def remote(self) -> FlyteRemote:
        """A remote of the tests' own, who is `ci` and none of ours: it shows what a test did not do itself."""
        Observer.token = self.observer
        platform = PlatformConfig(endpoint=self.plane.endpoint, insecure=True, auth_mode=OBSERVER)
        return FlyteRemote(Config(platform=platform), default_project=PROJECT, default_domain=DOMAIN)

    def ended(self, execution: Any, timeout: float = 90) -> Any:
        """The execution once it is done; waiting looks into the control plane, so it costs no RPC."""
        deadline = time.monotonic() + timeout
        while self.phase_of(execution.id.name) not in TERMINAL:
            assert time.monotonic() < deadline, f"{execution.id.name} did not end in {timeout} s"
            time.sleep(0.05)
        return self.remote().sync_execution(execution)

    def phase_of(self, name: str) -> str | None:
        """The phase of an execution, `None` for one that is not known."""
        found = (e["phase"] for e in self.plane.executions() if e["id"]["name"] == name)
        return next(found, None)

    def rejected(self) -> int:
        """RPCs rejected since the last reset."""
        return sum(n["rejected"] for n in self.counts.snapshot()["rpcs"].values())

    def calls(self, client: str) -> Mapping[str, Mapping[str, int]]:
        """What a client called, by method."""
        found: Mapping[str, Mapping[str, int]] = self.counts.snapshot()["clients"].get(client, {})
        return found


def phase(execution: Any) -> str:
    """The phase by its name."""
    return str(WorkflowExecutionPhase.enum_to_string(execution.closure.phase))


@contextmanager
def running(directory: Path, lifetime: int = 300, posture: str = "internal") -> Iterator[Place]:
    """A place that runs while this is open."""
    place = Place(directory, lifetime, POSTURES[posture])
    place.start()
    try:
        yield place
    finally:
        place.stop()


def use(environ: dict[str, str]) -> None:
    """Put variables into our own environment; the fixture of tests/conftest.py takes them out again."""
    os.environ.update(environ)
