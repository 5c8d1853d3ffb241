"""A grant, for people and for programs; and what a command line says of one."""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Sequence
from typing import Any

from flytekitplugins.authagent.cli import option
from flytekitplugins.authagent.cli.shown import until
from flytekitplugins.authagent.hub_client import Grant

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_REASONS = {
    "": "the hub does not say why",
    "execution_ended": "the execution has ended",
    "never_launched": "never launched",
    "lost": "lost: the identity provider does not take the consent any more",
    "foreign": "foreign: Flyte says that somebody else launched it",
}
"""Those that do not speak for themselves."""

_TOKENS = {
    "none": "there are none to revoke",
    "pending": "being revoked at the identity provider",
    "done": "revoked at the identity provider",
    "unsupported": "the identity provider cannot revoke them",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """What is asked of the hub, and how consent is."""
    parser.add_argument(
        "--for",
        dest="seconds",
        type=seconds,
        metavar="TIME",
        help="how long at most: 90s, 15m or 2d (8h, or the longest that the hub allows)",
    )
    option.add_scopes(parser, "a scope to grant; may be repeated")
    parser.add_argument("--no-browser", action="store_true", help="only show the address of the consent page, and wait")


def seconds(text: str) -> int:
    """`90s`, `15m`, `8h` or `2d` in seconds."""
    found = re.fullmatch(r"([1-9][0-9]{0,6})([smhd])", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 90s, 15m, 8h or 2d")
    return int(found[1]) * _UNITS[found[2]]


def facts(grant: Grant, *, as_json: bool) -> dict[str, Any]:
    """All of it, by name."""
    now = time.time()
    if as_json:
        return {
            "id": grant.id,
            "execution": grant.execution,
            "subject": grant.subject,
            "scopes": list(grant.scopes),
            "status": grant.status,
            "reason": grant.reason or None,
            "created_at": until(grant.created_at, now, as_json=True),
            "expires_at": until(grant.expires_at, now, as_json=True),
            "launched": grant.launched,
            "children": grant.children,
            "revocation": grant.revocation,
        }
    known: dict[str, Any] = {
        "execution": grant.execution,
        "id": grant.id,
        "subject": grant.subject,
        "scopes": list(grant.scopes),
        "status": status(grant),
        "expires_at": until(grant.expires_at, now, as_json=False) if grant.status != "ended" else None,
        "children": grant.children or None,
    }
    return known | ({"tokens": _TOKENS[grant.revocation]} if grant.status == "ended" else {})


def table(grants: Sequence[Grant]) -> str:
    """A line for each below a line of headings, in columns."""
    rows = [("EXECUTION", "EXPIRES", "STATUS", "CHILDREN", "ID"), *map(_row, grants)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _row(grant: Grant) -> tuple[str, ...]:
    when = until(grant.expires_at, time.time(), as_json=False) if grant.status != "ended" else "-"
    return grant.execution, when, status(grant), str(grant.children), grant.id


def status(grant: Grant) -> str:
    """Its status in words, with the reason where it has ended."""
    if grant.status == "ended":
        return f"ended ({_REASONS.get(grant.reason, grant.reason)})"
    return grant.status if grant.launched or grant.status == "pending" else f"{grant.status}, not launched yet"
