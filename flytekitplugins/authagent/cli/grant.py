"""`authagent grant`: a person lets the tasks of one execution act for them, for a time."""

from __future__ import annotations

import argparse

from flytekitplugins.authagent.cli import consent, granted
from flytekitplugins.authagent.cli.hub import person
from flytekitplugins.authagent.cli.shown import print_facts
from flytekitplugins.authagent.hub_client import check_execution


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
        deposited = them.hub.deposit(execution, seconds=options.seconds, scopes=options.scope)
        active = consent.wait(deposited, them, browser=not options.no_browser)
    print_facts(granted.facts(active, as_json=options.json), as_json=options.json)
    return 0
