"""`authagent grants`: which executions may act for the person, and until when."""

from __future__ import annotations

import argparse
import json
import sys

from flytekitplugins.authagent.cli import granted
from flytekitplugins.authagent.cli.hub import person

MOST_LISTED = 200
"""Grants, by a hub."""


def run(arguments: list[str]) -> int:
    """Print a line for each grant of the person, the newest first. Raises our errors."""
    parser = argparse.ArgumentParser(
        prog="authagent grants",
        description="List the executions that may act for you: until when, how it stands, how many children, its id.",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    with person() as them:
        mine = them.hub.mine()
    if options.json:
        sys.stdout.write(json.dumps([granted.facts(grant, as_json=True) for grant in mine], indent=2) + "\n")
        return 0
    sys.stdout.write(granted.table(mine) if mine else "")
    if not mine:
        sys.stderr.write("No execution acts for you.\n")
    if len(mine) >= MOST_LISTED:
        sys.stderr.write(
            f"There may be more: the hub lists {MOST_LISTED} at most, those that live before the others.\n"
        )
    return 0
