"""`authagent serve`: the auth agent."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from flytekitplugins.authagent.agent import daemon, issuer_probe, log
from flytekitplugins.authagent.agent.audit import Audit
from flytekitplugins.authagent.agent.file import AgentFile
from flytekitplugins.authagent.agent.mint import Mint
from flytekitplugins.authagent.cli import named, store
from flytekitplugins.authagent.cli.shown import printable
from flytekitplugins.authagent.errors import AuthAgentError


def run(arguments: list[str]) -> int:
    """Serve until a signal, or with `--check` only say whether the configuration is good. Raises our errors."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.online and not options.check:
        parser.error("--online goes with --check")
    if options.check:
        file = daemon.load(options.config, options.socket)
        daemon.check_extra(file)
        store.check(file)
        named.check(file, options.config)
        if file.hub:
            _check_hub(file)
        places = [f"{name} {place}" for name in ("socket", "listen") if (place := getattr(file, name))]
        if file.hub and file.grants:
            people = file.hub.people
            places.append(f"hub {file.hub.url} (consent: {file.grants.consent}, for people of {people.issuer})")
        sys.stdout.write(
            f"{options.config}: {len(file.rules)} rules, {len(file.upstreams)} upstreams, {', '.join(places)}\n"
        )
        return _ask(file) if options.online else 0
    log.to_stderr()
    daemon.run(options.config, options.socket, _hub)
    return 0


def _ask(file: AgentFile) -> int:
    """Ask each issuer and each hub, and print what came of it. Returns the worst exit code."""
    status = 0
    for key, answer in issuer_probe.results(file):
        if isinstance(answer, AuthAgentError):
            status = max(status, answer.exit_code)
            hint = f" (hint: {answer.hint})" if answer.hint else ""
            sys.stdout.write(printable(f"{key}: {answer.args[0]}{hint}") + "\n")
        else:
            sys.stdout.write(printable(f"{key}: {answer} answers") + "\n")
    return status


def _hub(file: AgentFile, audit: Audit, mint: Mint) -> daemon.Hub:
    """What keeps grants. What it needs is loaded where it is needed only."""
    from flytekitplugins.authagent.hub.hub import Hub

    return Hub(file, audit, mint)


def _check_hub(file: AgentFile) -> None:
    from flytekitplugins.authagent.hub import hub

    hub.check(file)


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
    parser.add_argument(
        "--check", action="store_true", help="check the configuration and every file that it names, and end"
    )
    parser.add_argument("--online", action="store_true", help="with --check: ask each identity provider and hub, too")
    return parser


def _absolute(text: str) -> Path:
    return Path(text).absolute()
