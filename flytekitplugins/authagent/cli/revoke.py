"""`authagent revoke`: what was granted ends now."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence

from flytekitplugins.authagent.cli import granted
from flytekitplugins.authagent.cli.hub import person
from flytekitplugins.authagent.errors import AuthAgentError, ConfigError, Denied, ProviderUnavailable, Rejected
from flytekitplugins.authagent.hub_client import Grant, HubClient, check_execution, check_id

ROUNDS = 100
"""How often `--all` asks what is left. A hub lists 200 grants at most."""


def run(arguments: list[str]) -> int:
    """
    End the grants, and print a line for each. One that cannot be ended does not keep the others.

    The exit code is that of the first that failed. Raises our errors where nothing more could be done at all.
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
    ended: list[Grant] = []
    status = 0
    try:
        with person() as them:
            for named in options.grants or living(them.hub):
                try:
                    ended.append(_end(them.hub, named))
                except Rejected:
                    raise
                except AuthAgentError as failed:
                    sys.stderr.write(f"authagent: {named}: {failed}\n")
                    status = status or failed.exit_code
    except BaseException:
        if ended:  # whatever came after
            _print(ended, as_json=options.json)
        raise
    _print(ended, as_json=options.json)
    if options.all and not ended and not status:
        sys.stderr.write("No execution acts for you.\n")
    return status


def living(hub: HubClient) -> Iterator[str]:
    """The ids of all grants that live, each once. Whoever ends them makes room for more in the hub's list."""
    known: set[str] = set()
    for _ in range(ROUNDS):
        new = [grant.id for grant in hub.mine() if grant.status != "ended" and grant.id not in known]
        if not new:
            return
        known.update(new)
        yield from new
    raise ProviderUnavailable(f"there may be more grants than these {len(known)}", hint="run this again")


def _end(hub: HubClient, named: str) -> Grant:
    found = hub.revoke_execution(named) if ":" in named else hub.revoke(named)
    if found.status != "ended":
        raise Denied("the hub did not end it")
    return found


def _print(ended: Sequence[Grant], *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps([granted.facts(grant, as_json=True) for grant in ended], indent=2) + "\n")
        return
    for grant in ended:
        tokens = granted.facts(grant, as_json=False)["tokens"]
        sys.stdout.write(f"{grant.execution}  {granted.status(grant)}  tokens: {tokens}\n")
