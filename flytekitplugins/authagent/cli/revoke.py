"""`authagent revoke`: what was granted ends now."""

from __future__ import annotations

import argparse
import json
import sys

from flytekitplugins.authagent.cli import granted
from flytekitplugins.authagent.cli.hub import person
from flytekitplugins.authagent.errors import AuthAgentError, ConfigError, Denied, Rejected
from flytekitplugins.authagent.hub_client import Grant, HubClient, check_execution, check_id


def run(arguments: list[str]) -> int:
    """
    End the grants, and print a line for each. One that cannot be ended does not keep the others.

    The exit code is that of the first that failed. Raises our errors where nothing could be done at all.
    """
    parser = argparse.ArgumentParser(
        prog="authagent revoke",
        description="End grants: no token is given for them any more. Tokens that tasks have live until they expire.",
    )
    parser.add_argument("grants", nargs="*", metavar="EXECUTION-OR-ID", help="PROJECT:DOMAIN:NAME, or a grant's id")
    parser.add_argument("--all", action="store_true", help="every grant that you have given")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    if bool(options.grants) == options.all:
        raise ConfigError("say which grants to end", hint="name executions or ids, or --all")
    for named in options.grants:
        (check_execution if ":" in named else check_id)(named)
    ended, status = [], 0
    with person() as them:
        named_ones = options.grants or [grant.id for grant in them.hub.mine() if grant.status != "ended"]
        for named in named_ones:
            try:
                ended.append(_end(them.hub, named))
            except Rejected:
                raise
            except AuthAgentError as failed:
                sys.stderr.write(f"authagent: {named}: {failed}\n")
                status = status or failed.exit_code
    if options.json:
        sys.stdout.write(json.dumps([granted.facts(grant, as_json=True) for grant in ended], indent=2) + "\n")
    else:
        for grant in ended:
            tokens = granted.facts(grant, as_json=False)["tokens"]
            sys.stdout.write(f"{grant.execution}  {granted.status(grant)}  tokens: {tokens}\n")
    if options.all and not named_ones:
        sys.stderr.write("No execution acts for you.\n")
    return status


def _end(hub: HubClient, named: str) -> Grant:
    found = hub.revoke_execution(named) if ":" in named else hub.revoke(named)
    if found.status != "ended":
        raise Denied("the hub did not end it")
    return found
