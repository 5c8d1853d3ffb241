"""docs/kubernetes.md: what each kind of image does in each environment. Every row is run, in a process of its image."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest
import running_agent
import running_provider
from peers import need

ROOT = Path(__file__).parent.parent.parent
OLD = ROOT / ".peers" / "flytekit-1.16.23"
"""`make peers` puts it there: the last release in which an unknown mode is not an error."""

FLYTE = "dns:///127.0.0.1:8089"

AUTHAGENT = {"FLYTE_PLATFORM_URL": FLYTE, "FLYTE_CREDENTIALS_AUTH_MODE": "authagent"}
ENVIRONMENTS = {
    "nothing": {},
    "`FLYTE_PLATFORM_URL`, `FLYTE_CREDENTIALS_AUTH_MODE=authagent`": AUTHAGENT,
    "the same without `FLYTE_PLATFORM_URL`": {"FLYTE_CREDENTIALS_AUTH_MODE": "authagent"},
    "the same, and a client with a secret by `FLYTE_CREDENTIALS_CLIENT_SECRET_LOCATION`": {
        **AUTHAGENT,
        "FLYTE_CREDENTIALS_CLIENT_ID": "propeller",
        "FLYTE_CREDENTIALS_CLIENT_SECRET_LOCATION": "{secret}",
    },
}

OWN = {
    "PKCEAuthenticator": "flytekit's login by browser",
    "ClientCredentialsAuthenticator": "flytekit's client credentials",
}

PROBE = """
import json, os, sys
answers = []
for environ in json.loads(sys.argv[1]):
    for name in [name for name in os.environ if name.startswith("FLYTE_")]:
        del os.environ[name]
    os.environ.update(environ)
    from flytekit.configuration import Config
    from flytekit.clients.auth.authenticator import ClientConfig, StaticClientConfigStore
    from flytekit.clients.auth_helper import get_authenticator
    platform = Config.auto().platform
    here = "https://127.0.0.1:9"
    known = ClientConfig(here + "/token", here + "/authorize", "http://localhost:53593", "flytectl")
    try:
        found = get_authenticator(platform, StaticClientConfigStore(known))
        answers.append([platform.endpoint, type(found).__module__.split(".")[0], type(found).__name__])
    except Exception as error:
        answers.append([platform.endpoint, type(error).__name__, str(error)])
print(json.dumps(answers))
"""

IMAGES = {
    "flytekit 1.16.24 or newer, the plugin": (False, True),
    "flytekit 1.16.24 or newer, no plugin": (False, False),
    "flytekit 1.16.23, no plugin": (True, False),
    "flytekit 1.16.23, the plugin (pip refuses it)": (True, True),
}


def packages(directory: Path, *, old: bool, plugin: bool) -> list[str]:
    """The import path of an image: what is installed here, without what it lacks."""
    installed = Path(sysconfig.get_paths()["purelib"])
    for entry in installed.iterdir():
        ours = "authagent" in entry.name or entry.name == "easy-install.pth"
        if not ours and not (old and entry.name.startswith(("flytekit", "flytekit-")) and "plugins" not in entry.name):
            (directory / entry.name).symlink_to(entry)
    return [*([str(ROOT)] if plugin else []), *([str(OLD)] if old else []), str(directory)]


def outcomes(image: str, agent: running_agent.Agent, tmp_path: Path) -> list[str]:
    old, plugin = IMAGES[image]
    if old:
        need("flytekit 1.16.23 (make peers)", OLD.is_dir())
    modules = tmp_path / "modules"
    modules.mkdir()
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    environ = {
        "HOME": str(tmp_path),
        "PATH": os.environ["PATH"],
        "AUTHAGENT_SOCKET": str(agent.socket),
        "PYTHONPATH": os.pathsep.join(packages(modules, old=old, plugin=plugin)),
    }
    cases = [{n: v.format(secret=secret) for n, v in case.items()} for case in ENVIRONMENTS.values()]
    command = [sys.executable, "-S", "-c", PROBE, json.dumps(cases)]
    done = subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return [said(*answer) for answer in json.loads(done.stdout.splitlines()[-1])]


def said(endpoint: str, first: str, second: str) -> str:
    if first == "flytekitplugins":
        answer = "the plugin's, with the agent's token"
    elif first == "flytekit":
        answer = OWN[second]
    else:
        answer = f"{first}: " + re.split(r"\.|\s*\(hint", second)[0]
    return answer + (f", for `{endpoint}`" if endpoint.startswith("localhost") else "")


def rows() -> dict[tuple[str, str], str]:
    text = (ROOT / "docs" / "kubernetes.md").read_text().partition("<!-- images -->")[2]
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ")]
    return {(image.strip(), environment.strip()): what.strip() for image, environment, what in lines[1:]}


@pytest.fixture(scope="module")
def agent() -> Iterator[running_agent.Agent]:
    flyte = {"endpoint": FLYTE, "insecure": False}
    with running_provider.running() as provider, running_agent.running(provider, flyte=flyte) as it:
        yield it


@pytest.mark.peer
@pytest.mark.parametrize("image", IMAGES)
def test_what_an_image_does_is_what_the_docs_say(image: str, agent: running_agent.Agent, tmp_path: Path) -> None:
    seen = dict(
        zip(((image, environment) for environment in ENVIRONMENTS), outcomes(image, agent, tmp_path), strict=True)
    )
    assert seen == {row: what for row, what in rows().items() if row[0] == image}


def test_the_docs_have_a_row_for_each() -> None:
    assert rows().keys() == {(image, environment) for image in IMAGES for environment in ENVIRONMENTS}
