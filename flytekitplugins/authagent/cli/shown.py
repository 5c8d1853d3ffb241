"""Facts about a credential and its bearer, for people and for programs; never the token."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from flytekitplugins.authagent import program
from flytekitplugins.authagent.credential import Credential


def announce_commands() -> None:
    """Say on standard error which programs are run, before they are: a command that only looks runs none in silence."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("authagent: %(message)s"))
    program.logger.addHandler(handler)
    program.logger.setLevel(logging.INFO)


def print_facts(facts: Mapping[str, Any], *, as_json: bool) -> None:
    """`facts` on standard output: a line each, those that are not known left out, or one JSON object with all."""
    if as_json:
        sys.stdout.write(json.dumps(facts, indent=2) + "\n")
        return
    known = {name: value for name, value in facts.items() if value not in (None, [], "", {})}
    width = max(map(len, known), default=0)
    for name, value in known.items():
        shown = " ".join(map(str, value)) if isinstance(value, list) else printable(str(value))
        sys.stdout.write(f"{name.replace('_', ' '):<{width}}  {shown}\n")


def ends(credential: Credential, now: float, *, as_json: bool) -> Any:
    """When it ends: ISO 8601 for programs, and how soon for people."""
    if credential.expires_at is None:
        return None if as_json else "not known"
    return until(credential.expires_at, now, as_json=as_json)


def until(ends_at: float, now: float, *, as_json: bool) -> str:
    """A moment, likewise."""
    moment = datetime.fromtimestamp(ends_at, timezone.utc).isoformat(timespec="seconds")
    return moment if as_json else f"{moment} ({_span(ends_at - now)})"


def printable(text: str) -> str:
    """Names come from elsewhere, and a terminal obeys control characters."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _span(seconds: float) -> str:
    if seconds <= 0:
        return "has ended"
    if seconds < 120:
        return f"in {seconds:.0f} s"
    if seconds < 7200:
        return f"in {seconds / 60:.0f} min"
    return f"in {seconds / 3600:.0f} h"
