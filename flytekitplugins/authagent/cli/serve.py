"""`authagent serve`: the auth agent."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from flytekitplugins.authagent.agent import daemon, log


def run(arguments: list[str]) -> int:
    """Serve until a signal, or with `--check` only say whether the configuration is good. Raises our errors."""
    options = _parser().parse_args(arguments)
    if options.check:
        file = daemon.load(options.config, options.socket)
        sys.stdout.write(
            f"{options.config}: {len(file.rules)} rules, {len(file.upstreams)} upstreams, socket {file.socket}\n"
        )
        return 0
    log.to_stderr()
    daemon.run(options.config, options.socket)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="authagent serve",
        description="Run the auth agent: an OAuth 2.0 token service on a Unix socket, for the tasks of this machine.",
    )
    parser.add_argument(
        "--config",
        type=_absolute,
        default=daemon.DEFAULT_FILE,
        metavar="FILE",
        help="agent.yaml (default: %(default)s)",
    )
    parser.add_argument("--socket", type=_absolute, metavar="PATH", help="listen here instead of where the file says")
    parser.add_argument("--check", action="store_true", help="read the configuration, say what is in it, and end")
    return parser


def _absolute(text: str) -> Path:
    return Path(text).absolute()
