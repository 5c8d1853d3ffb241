"""`authagent serve`: the auth agent."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from flytekitplugins.authagent.agent import daemon, log
from flytekitplugins.authagent.agent.audit import Audit
from flytekitplugins.authagent.agent.file import AgentFile
from flytekitplugins.authagent.agent.mint import Mint
from flytekitplugins.authagent.cli import store
from flytekitplugins.authagent.errors import ConfigError


def run(arguments: list[str]) -> int:
    """Serve until a signal, or with `--check` only say whether the configuration is good. Raises our errors."""
    options = _parser().parse_args(arguments)
    if options.check:
        file = daemon.load(options.config, options.socket)
        store.check(file)
        places = [f"{name} {place}" for name in ("socket", "listen") if (place := getattr(file, name))]
        if file.hub and file.grants:
            people = file.hub.people
            places.append(f"hub {file.hub.url} (consent: {file.grants.consent}, for people of {people.issuer})")
        sys.stdout.write(
            f"{options.config}: {len(file.rules)} rules, {len(file.upstreams)} upstreams, {', '.join(places)}\n"
        )
        return 0
    log.to_stderr()
    daemon.run(options.config, options.socket, _hub)
    return 0


def _hub(file: AgentFile, audit: Audit, mint: Mint) -> daemon.Hub:
    """What keeps grants. What it needs is loaded where it is needed only."""
    try:
        from flytekitplugins.authagent.hub.hub import Hub
    except ImportError as missing:
        raise ConfigError(
            f"{missing.name} is not installed", hint="pip install 'flytekitplugins-authagent[hub]'"
        ) from None
    return Hub(file, audit, mint)


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
