"""The environments of the processes around the sandbox: the user's command, the tasks, the agent."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml

from flytekitplugins.authagent.sandbox import private

FOREIGN_PREFIXES = (
    "FLYTE_CREDENTIALS_",  # how to authenticate, client secrets included
    "FLYTE_PLATFORM_",  # which Flyte
    "FLYTE_INTERNAL_",  # "you are a task in a pod"
    "AUTHAGENT_",
)
FOREIGN = frozenset(
    {
        "FLYTECTL_CONFIG",
        "UCTL_CONFIG",
        "UNION_CONFIG",
        "_FLYTECTL_CONFIG_PYFLYTE_OVERRIDE",
        "FLYTE_API_KEY",
        "UNIONAI_API_KEY",
        "UNION_API_KEY",
        "EAGER_API_KEY",
        "_UNION_EAGER_API_KEY",
        "FLYTE_DEFAULT_PROJECT",  # of another Flyte: the sandbox has flytesnacks
        "FLYTE_DEFAULT_DOMAIN",
        "_F_L_MIN_SIZE_MB",  # offloads literals to where the sandbox does not look
        "_F_L_MAX_SIZE_MB",
    }
)
"""Variables that would lead flytekit to another Flyte, to a secret, or to think that it runs in a pod."""

OURS = "127.0.0.1,localhost"
"""What no proxy is asked for: everything of the sandbox is here."""


def cleaned(caller: Mapping[str, str]) -> dict[str, str]:
    """The caller's environment without what belongs to another Flyte, and with no proxy before the sandbox."""
    kept = {
        name: value for name, value in caller.items() if name not in FOREIGN and not name.startswith(FOREIGN_PREFIXES)
    }
    direct = ",".join(filter(None, (kept.get("no_proxy") or kept.get("NO_PROXY"), OURS)))
    return kept | {"no_proxy": direct, "NO_PROXY": direct}


def of_client(endpoint: str, agent_socket: Path) -> dict[str, str]:
    """What makes flytekit a client of the sandbox, in a task as well as outside."""
    return {
        "FLYTE_PLATFORM_URL": endpoint,
        "FLYTE_PLATFORM_INSECURE": "1",
        "FLYTE_CREDENTIALS_AUTH_MODE": "authagent",
        "AUTHAGENT_SOCKET": str(agent_socket),
    }


def of_hub(url: str | None) -> dict[str, str]:
    """What says where people give their consent, where there is a hub."""
    return {"AUTHAGENT_HUB": url} if url else {}


def of_command(
    caller: Mapping[str, str], *, home: Path, endpoint: str, agent_socket: Path, hub: str | None = None
) -> dict[str, str]:
    """
    The environment of the user's command: the caller's, pointed at the sandbox.

    `home` becomes its HOME, with a Flyte configuration of its own that holds no secret; `hub` is where the hub is. The
    command is a client of the agent, and nobody in particular: it gets no token of anybody.
    """
    configuration = home / ".flyte" / "config.yaml"
    configuration.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    private.write(configuration, yaml.safe_dump({"admin": {"endpoint": endpoint, "insecure": True}}))
    path = os.pathsep.join([str(Path(sys.executable).parent), caller.get("PATH") or os.defpath])
    return {
        **cleaned(caller),
        **of_client(endpoint, agent_socket),
        "HOME": str(home),
        "FLYTECTL_CONFIG": str(configuration),
        "PATH": path,
        **of_hub(hub),
    }
