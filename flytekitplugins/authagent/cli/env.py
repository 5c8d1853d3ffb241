"""`authagent env`: what a shell must set so that `pyflyte` and flytekit's own clients authenticate by this package."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import PurePath

from flytekitplugins.authagent import config, endpoint, flyte_config, flytekit_mode
from flytekitplugins.authagent.asked import Asked
from flytekitplugins.authagent.errors import ConfigError
from flytekitplugins.authagent.reach import flyte_server

KEPT = ("AUTHAGENT_CONFIG", "AUTHAGENT_PROVIDER", "AUTHAGENT_SOCKET", "AUTHAGENT_TOKEN_FILE", "FLYTECTL_CONFIG")
"""Variables that decide here which provider serves which Flyte. None of them is a secret."""


def run(arguments: list[str]) -> int:
    """Print the lines. Raises our errors."""
    parser = argparse.ArgumentParser(
        prog="authagent env",
        description="Print what a shell must set for pyflyte to use this login or agent, for eval.",
    )
    parser.add_argument("--endpoint", metavar="E", help="for this Flyte, where it is not the configured one")
    parser.add_argument("--shell", choices=("sh", "fish"), help="the shell that reads it ($SHELL)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    variables = environment(os.environ, options.endpoint)
    if options.json:
        sys.stdout.write(json.dumps(variables, indent=2) + "\n")
        return 0
    shell = options.shell or ("fish" if PurePath(os.environ.get("SHELL", "")).name == "fish" else "sh")
    sys.stdout.write("".join(LINES[shell](name, value) for name, value in variables.items()))
    return 0


def environment(environ: Mapping[str, str], named: str | None = None) -> dict[str, str]:
    """
    The variables for the Flyte at `named`, or for the configured one.

    Raises `ConfigError` where no Flyte is known, or a client secret would overrule the mode.
    """
    settings, flyte = config.load(environ), flyte_config.load(environ)
    wanted = named or flyte.admin.endpoint
    if not wanted:
        raise ConfigError("no Flyte is configured", hint="name one: authagent env --endpoint HOST")
    if flyte.has_secret:
        secret = flyte.said.get("clientSecretLocation") or flyte.said.get("clientSecretEnvVar")
        raise ConfigError(
            f"a client secret is configured ({secret}), so flytekit's own clients use that and nothing else",
            hint="take the secret out of what this user sees",
        )
    variables = {flytekit_mode.VARIABLE: flytekit_mode.MODE}
    if flyte.said.get("endpoint") != flyte.source or not flyte.is_for(wanted):
        server = flyte_server(Asked(endpoint=wanted), None, settings, environ)
        variables["FLYTE_PLATFORM_URL"] = endpoint.parse(wanted).target
        variables["FLYTE_PLATFORM_INSECURE"] = "true" if server and server.insecure else "false"
    return variables | {name: environ[name] for name in KEPT if environ.get(name)}


def _sh(name: str, value: str) -> str:
    return f"export {name}={shlex.quote(value)}\n"


def _fish(name: str, value: str) -> str:
    quoted = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"set -gx {name} '{quoted}'\n"


LINES: Mapping[str, Callable[[str, str], str]] = {"sh": _sh, "fish": _fish}
"""A line for a variable, by shell."""
