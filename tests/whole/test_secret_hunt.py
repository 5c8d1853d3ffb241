"""
No secret is anywhere where somebody could look.

The hunt first has to find what is planted, in every channel and every spelling; only then is its silence believed.
"""

from __future__ import annotations

import base64
import random
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flytekit.configuration import Config, PlatformConfig
from flytekit.remote import FlyteRemote
from hunt import Hunt, spellings

from flytekitplugins.authagent.sandbox.sandbox import Sandbox

WORKFLOWS = Path(__file__).parent / "workflows"
ODD = 'pl"ant+ed/s%c <r>é&t='
CHANNELS = {"log", "deck", "error", "repr", "child", "pickle", "template"}


@pytest.mark.parametrize("spelling", ["raw", "base64", "url", "json", "html"])
def test_the_hunt_finds_every_spelling_wherever_it_stands(spelling: str) -> None:
    dice = random.Random(1)
    hunt = Hunt([ODD])
    texts = spellings(ODD)[spelling]
    for text in texts:
        noise = bytes(dice.randrange(32, 126) for _ in range(500))
        assert spelling in hunt.found(noise[:250] + text + noise[250:])
    assert hunt.found(bytes(dice.randrange(32, 126) for _ in range(5000))) == set()


def test_the_hunt_finds_base64_of_a_text_that_holds_the_secret_anywhere() -> None:
    for before in range(7):
        for after in range(4):
            assert "base64" in Hunt([ODD]).found(base64.b64encode(b"b" * before + ODD.encode() + b"a" * after))


class Flyte:
    """The sandbox, with ways to run something in it and to gather what can be seen of it."""

    def __init__(self, sandbox: Sandbox, client: dict[str, str]) -> None:
        self.sandbox = sandbox
        self.environment = {**client, "PLANTED_NOWHERE": "1"}
        platform = PlatformConfig(endpoint=sandbox.control_plane.endpoint, insecure=True, auth_mode="authagent")
        self.remote = FlyteRemote(
            Config(platform=platform), default_project="flytesnacks", default_domain="development"
        )

    def pyflyte(self, *arguments: str) -> None:
        """As somebody in a terminal."""
        done = subprocess.run(
            ["pyflyte", *arguments],
            cwd=WORKFLOWS,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def token(self) -> str:
        """The very token that the tasks get: the agent has one for all."""
        return subprocess.run(
            ["authagent", "token"], env=self.environment, capture_output=True, text=True, check=True, timeout=30
        ).stdout.strip()

    def run(self, name: str, **inputs: Any) -> Any:
        """A task of `hunted.py`, to its end."""
        task = self.remote.fetch_task(name=f"hunted.{name}", version="1")
        execution = self.remote.execute(task, inputs=inputs)
        return self.remote.wait(execution, poll_interval=timedelta(seconds=0.2))

    def files(self, execution: Any, wanted: Callable[[Path], bool]) -> bytes:
        """The content of the files of an execution that `wanted` likes."""
        root = self.sandbox.directory / "flyte" / "executions" / execution.id.name
        found = [path.read_bytes() for path in root.rglob("*") if path.is_file() and wanted(path)]
        return b"\n".join(found)

    def channels(self, execution: Any) -> dict[str, bytes]:
        """What can be seen of an execution that has succeeded."""
        outputs = [execution.outputs[f"o{n}"].encode() for n in range(3)]
        template = self.remote.fetch_task(name=execution.spec.launch_plan.name, version="1").to_flyte_idl()
        return {
            "log": self.files(execution, lambda path: path.name == "log"),
            "deck": self.files(execution, lambda path: path.suffix == ".html"),
            "repr": outputs[0],
            "child": outputs[1],
            "pickle": outputs[2] + base64.b64decode(outputs[2], validate=False),
            "template": template.SerializeToString(),
        }


@pytest.fixture
def flyte(sandbox: Sandbox, client: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Flyte:
    """A sandbox whose tasks log all that flytekit has to say."""
    monkeypatch.setenv("AUTHAGENT_SOCKET", str(sandbox.agent.socket))
    sandbox.task_environment.update(
        FLYTE_SDK_LOGGING_LEVEL="10", FLYTE_SDK_DEV_LOGGING_LEVEL="10", PYTHONUNBUFFERED="1"
    )
    return Flyte(sandbox, client)


@pytest.mark.timeout(150)
def test_no_secret_is_in_any_channel_and_what_is_planted_there_is_found(flyte: Flyte) -> None:
    where = ["--project", "flytesnacks", "--domain", "development", "--version", "1"]
    flyte.pyflyte("register", *where, "hunted.py")
    token = flyte.token()
    secrets = [token, token.rsplit(".", 1)[1]]
    secrets += [c.secret.reveal() for c in flyte.sandbox.issuer.clients.values() if c.secret]
    secrets += [session.token_file.read_text() for session in flyte.sandbox.sessions]

    planted = Hunt([ODD])
    seeded = flyte.channels(flyte.run("plants", secret=ODD))
    seeded["error"] = flyte.run("plants_in_an_error", secret=ODD).error.message.encode()
    flyte.pyflyte("register", *where[:-1], "2", "--env", f"PLANTED={ODD}", "hunted.py")
    seeded["template"] = flyte.remote.fetch_task(name="hunted.shows", version="2").to_flyte_idl().SerializeToString()
    assert seeded.keys() == CHANNELS
    missed = {name: {"raw", "base64", "url", "json", "html"} - planted.found(seen) for name, seen in seeded.items()}
    missed["template"] -= {"base64", "url", "json", "html"}  # it was planted as it is
    assert missed == {name: set() for name in CHANNELS}

    hunt = Hunt(secrets)
    shown = flyte.run("shows")
    assert shown.is_successful, shown.error.message
    seen = flyte.channels(shown)
    failed = flyte.run("fails")
    seen["error"] = failed.error.message.encode() + flyte.files(failed, lambda path: True)
    seen["log"] += b"".join(flyte.files(e, lambda path: path.name == "log") for e in (shown, failed))
    seen["agent"] = b"".join(
        (flyte.sandbox.directory / name).read_bytes() for name in ("agent.log", "audit.jsonl", "agent.yaml")
    )
    assert all(len(content) > 100 for content in seen.values()), {name: len(content) for name, content in seen.items()}
    assert b"DEBUG" in seen["log"] or b"debug" in seen["log"].lower()
    assert {name: hunt.found(content) for name, content in seen.items()} == {name: set() for name in seen}
