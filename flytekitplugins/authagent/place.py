"""What a person can do where no credential is configured: it depends on the place in which this process runs."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path

from flytekitplugins.authagent import environment, terminal

_CI = ("CI", "TF_BUILD", "JENKINS_URL", "TEAMCITY_VERSION", "CODEBUILD_BUILD_ID")
"""Variables that build servers set. Most set CI; Azure Pipelines, Jenkins, TeamCity and CodeBuild set their own."""


def remedy(environ: Mapping[str, str], *, socket: Path, flyte: str | None, is_configured: bool, store: str = "") -> str:
    """
    The one thing to do here.

    `socket` is where the agent's would be, `flyte` the Flyte that the credential is for, `is_configured` whether that
    is the one of Flyte's configuration, `store` the options of a login here.
    """
    if environment.in_pod(environ):
        return f"ask the operator of this Flyte to mount the auth agent's socket directory at {socket.parent}"
    if is_ci(environ):
        return (
            "set AUTHAGENT_TOKEN_FILE; or set FLYTE_CREDENTIALS_CLIENT_ID and FLYTE_CREDENTIALS_CLIENT_SECRET_LOCATION"
        )
    login = "authagent login" + store
    if flyte and not is_configured:
        login += f" --endpoint {shlex.quote(flyte)}"
    if terminal.at_terminal():
        return f"run `{login}`" if flyte else f"set FLYTE_PLATFORM_URL to the address of your Flyte, then run `{login}`"
    if environ.get("KUBERNETES_SERVICE_HOST"):
        return "set AUTHAGENT_SOCKET to the socket of an auth agent, or AUTHAGENT_TOKEN_FILE to a file with a token"
    return f"run `{login}` in a terminal first, as the same user (uid {os.geteuid()})"


def is_ci(environ: Mapping[str, str]) -> bool:
    """Whether a build server runs this process."""
    return any(environ.get(name, "").lower() not in ("", "0", "false") for name in _CI)
