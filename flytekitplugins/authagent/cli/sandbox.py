"""`authagent sandbox`: a Flyte with authentication on this machine, for demos and tests."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from flytekitplugins.authagent import extras
from flytekitplugins.authagent.errors import ConfigError


def run(arguments: list[str]) -> int:
    """
    Run the sandbox, and in it the command after `--` if there is one. Everything for people goes to stderr.

    Returns the command's status; 1 if one of the executions that it started failed or did not end in time;
    128 + N after signal N. Raises `ConfigError` for options that cannot be used, `ProviderUnavailable` where a
    part of the sandbox does not start.
    """
    ours, command = _split(arguments)
    options = _parser().parse_args(ours)
    extras.need("sandbox", "the sandbox")
    from flytekitplugins.authagent.sandbox.session import Options, run

    return run(Options(command=tuple(command), **vars(options)), say=_say)


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Our own arguments, and the command after the first `--`."""
    if "--" not in arguments:
        return arguments, []
    end = arguments.index("--")
    if not arguments[end + 1 :]:
        raise ConfigError("there is no command after --", hint="leave -- out to run until Ctrl-C")
    return arguments[:end], arguments[end + 1 :]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="authagent sandbox",
        usage="%(prog)s [options] [-- COMMAND...]",
        description="A Flyte with authentication on this machine, for demos and tests: an OAuth provider, a control "
        "plane that runs tasks, and an agent, on loopback only. With a COMMAND, run it there and wait for "
        "the executions that it started; without, run until Ctrl-C.",
    )
    parser.add_argument("--ready", type=Path, metavar="FILE", help="write where everything is to FILE, as JSON")
    parser.add_argument(
        "--drain",
        type=_seconds,
        default=300.0,
        metavar="SECONDS",
        help="how long to wait for executions when COMMAND has ended (300)",
    )
    parser.add_argument("--directory", type=Path, metavar="DIR", help="keep all files in DIR instead of removing them")
    parser.add_argument(
        "--token-lifetime", type=_count, default=300, metavar="SECONDS", help="how long an access token lives (300)"
    )
    parser.add_argument("--slots", type=_count, default=2, metavar="N", help="how many tasks run at one time (2)")
    parser.add_argument(
        "--posture",
        choices=("internal", "external", "disable-for-grpc", "no-auth"),
        default="internal",
        help="whose tokens Flyte takes: its own server's (internal), an identity provider's (external), those too "
        "but calls without one as well (disable-for-grpc), or nobody's (no-auth)",
    )
    parser.add_argument(
        "--hub",
        action="store_true",
        help="run a hub too, so that tasks act for whoever launched them; needs --posture external or disable-for-grpc",
    )
    parser.add_argument(
        "--consent",
        choices=("exchange", "page", "on_behalf_of"),
        help="how the hub gets tokens that speak for people: it exchanges what they show (exchange), asks them to sign "
        "in on a page (page), or keeps nothing and is believed by the provider (on_behalf_of)",
    )
    return parser


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds <= 7 * 24 * 3600:
        raise ValueError
    return seconds


def _count(text: str) -> int:
    count = int(text)
    if not 1 <= count <= 24 * 3600:
        raise ValueError
    return count


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - this is where people read it
