"""`authagent systemd-unit`: the agent's units, for this installation."""

from __future__ import annotations

import argparse
import sys
import sysconfig
from importlib import resources
from pathlib import Path

UNITS = ("service", "socket")
PACKAGED = "/opt/authagent/bin/authagent"
"""What the packaged unit starts."""

HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108 - what the service does not see
"""Directories that `ProtectHome=` and `PrivateTmp=` of the unit hide from the service."""


def run(arguments: list[str]) -> int:
    """Print a unit. Whatever keeps it from starting this installation is said on standard error."""
    options = _parser().parse_args(arguments)
    unit = resources.files("flytekitplugins.authagent") / "deploy" / "systemd" / f"authagent.{options.unit}"
    sys.stdout.write(unit.read_text().replace(PACKAGED, _command(sys.executable, sysconfig.get_path("scripts"))))
    if options.unit == "service" and _is_hidden(sys.prefix):
        sys.stderr.write(
            f"note: the unit hides {sys.prefix} from the service, which cannot start; install into /opt/authagent\n"
        )
    return 0


def _command(python: str, scripts: str) -> str:
    """What starts `authagent` here: its console script, else the module."""
    script = Path(scripts) / "authagent"
    return _quoted(str(script)) if script.is_file() else f"{_quoted(python)} -m flytekitplugins.authagent"


def _quoted(path: str) -> str:
    """`path` as one word of ExecStart= (systemd.service(5)): `%` and `$` would be replaced by something else."""
    path = path.replace("%", "%%").replace("$", "$$")
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"' if set(path) & set(" \t\"'\\") else path


def _is_hidden(prefix: str) -> bool:
    return any(Path(prefix).is_relative_to(directory) for directory in HIDDEN)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="authagent systemd-unit",
        description="Print a unit for systemd that starts the agent of this installation (docs/systemd.md).",
    )
    parser.add_argument("unit", nargs="?", choices=UNITS, default="service", help="which unit (default: service)")
    return parser
