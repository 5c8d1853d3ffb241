"""Options that several commands have. What cannot be used is an error that names the option."""

from __future__ import annotations

import argparse
import math

from flytekitplugins.authagent import endpoint
from flytekitplugins.authagent.errors import ConfigError


def add_endpoint(parser: argparse.ArgumentParser, text: str) -> None:
    """`--endpoint`, the address of a Flyte."""
    parser.add_argument("--endpoint", type=_endpoint, metavar="E", help=text)


def add_scopes(parser: argparse.ArgumentParser, text: str) -> None:
    """`--scope`, once for each."""
    parser.add_argument("--scope", type=_scope, action="append", default=[], metavar="S", help=text)


def name(text: str) -> str:
    """Something that has a name. An empty one is most likely a variable of the shell that is not set."""
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty")
    return text


def seconds(text: str) -> float:
    """A span of time that is longer than none."""
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 < found < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return found


def _endpoint(text: str) -> str:
    try:
        endpoint.parse(text)
    except ConfigError as wrong:
        raise argparse.ArgumentTypeError(str(wrong)) from None
    return text


def _scope(text: str) -> str:
    """RFC 6749 section 3.3."""
    if not text or not all("!" <= c <= "~" and c not in '"\\' for c in text):
        raise argparse.ArgumentTypeError("a scope has no spaces, quotes or backslashes; give the option once for each")
    return text
