"""flytekit as a client of a control plane under test: `pyflyte` as a process, `FlyteRemote` in ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from flytekit.clients.auth.authenticator import Authenticator
from flytekit.clients.auth_helper import register_authenticator_plugin
from flytekit.configuration import Config, PlatformConfig
from flytekit.remote import FlyteRemote
from running_control_plane import Running
from templates import DOMAIN, PROJECT

WORKFLOWS = Path(__file__).parent / "workflows"
AUTH_MODE = "shows-a-token-of-the-tests"

_tokens: dict[str, str] = {}


class _ShowsAToken(Authenticator):
    """Sends the token that belongs to the endpoint."""

    def __init__(self, configuration: PlatformConfig, _store: Any) -> None:
        self._token = _tokens[configuration.endpoint]

    def fetch_grpc_call_auth_metadata(self) -> tuple[str, str]:
        return "flyte-authorization", f"Bearer {self._token}"

    def refresh_credentials(self) -> None:
        raise AssertionError("the token was rejected")


register_authenticator_plugin(AUTH_MODE, _ShowsAToken)


def remote(control_plane: Running, **claims: Any) -> FlyteRemote:
    """A `FlyteRemote` with a token of these claims."""
    endpoint = control_plane.plane.endpoint
    _tokens[endpoint] = control_plane.issuer.token(**claims)
    platform = PlatformConfig(endpoint=endpoint, insecure=True, auth_mode=AUTH_MODE)
    return FlyteRemote(Config(platform=platform), default_project=PROJECT, default_domain=DOMAIN)


def environment(control_plane: Running, **claims: Any) -> dict[str, str]:
    """Variables with which any flytekit finds the control plane, and a token in a file."""
    token = control_plane.directory / "token"
    token.write_text(control_plane.issuer.token(**claims))
    return {
        "FLYTE_PLATFORM_URL": control_plane.plane.endpoint,
        "FLYTE_PLATFORM_INSECURE": "1",
        "FLYTE_CREDENTIALS_AUTH_MODE": "ExternalCommand",
        "FLYTE_CREDENTIALS_COMMAND": f"cat,{token}",
    }


def pyflyte(control_plane: Running, *arguments: str, directory: Path = WORKFLOWS) -> str:
    """What `pyflyte` prints; it must succeed."""
    home = control_plane.directory / "home"
    home.mkdir(exist_ok=True)
    path = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(home)}
    done = subprocess.run(
        ["pyflyte", *arguments],
        env=path | environment(control_plane),
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
