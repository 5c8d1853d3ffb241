"""`authagent grant`: a person lets the tasks of one execution act for them, for a time."""

from __future__ import annotations

import argparse
import time

from flytekitplugins.authagent.cli import consent, granted
from flytekitplugins.authagent.cli.hub import person
from flytekitplugins.authagent.cli.shown import print_facts, until
from flytekitplugins.authagent.hub_client import Grant, check_execution

UNNOTICED = 60.0
"""Seconds that a grant may last longer than was asked for without a word; the hub's clock may be another."""


def run(arguments: list[str]) -> int:
    """Give the grant to the hub, wait for consent where it wants that, print what is granted. Raises our errors."""
    parser = argparse.ArgumentParser(
        prog="authagent grant",
        description="Let the tasks of an execution that you launched act for you, until it ends or the time is over.",
    )
    parser.add_argument("execution", metavar="PROJECT:DOMAIN:NAME", help="the execution")
    granted.add_options(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    execution = check_execution(options.execution)
    with consent.ended_by_signals(), person(browser=not options.no_browser) as them:
        asked_at = time.time()
        deposited = them.hub.deposit(execution, seconds=options.seconds, scopes=options.scope)
        if options.seconds and not options.json and _lasts_longer(deposited, options.seconds, asked_at):
            them.terminal.say(
                f"authagent: there is a grant until {until(deposited.expires_at, asked_at, as_json=False)} already,"
                f" which is later, so it stays; `authagent revoke {deposited.id}` ends it"
            )
        active = consent.wait(deposited, them, browser=not options.no_browser)
    print_facts(granted.facts(active, as_json=options.json), as_json=options.json)
    return 0


def _lasts_longer(grant: Grant, seconds: float, asked_at: float) -> bool:
    """Whether it is an older one, which has longer left than the `seconds` that were asked for."""
    return grant.expires_at - max(grant.created_at, asked_at) > seconds + UNNOTICED
