"""`authagent doctor`: what is wrong, and what to do about it."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from dataclasses import asdict

from flytekitplugins.authagent.cli import option
from flytekitplugins.authagent.cli.shown import announce_commands, printable
from flytekitplugins.authagent.diagnosis import Finding, diagnose

_MARKS = {"good": "ok  ", "note": "note", "bad": "BAD "}


def run(arguments: list[str]) -> int:
    """Print every finding; 0 where nothing is bad, else the exit code of the first thing that is."""
    parser = argparse.ArgumentParser(
        prog="authagent doctor",
        description="Check the configuration, the agent, the keyring, Flyte and the credential; say what to do.",
    )
    option.add_endpoint(parser, "the Flyte to check, where it is not the configured one")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    announce_commands()
    logging.getLogger("flytekitplugins.authagent").setLevel(logging.ERROR)  # the findings say it all
    findings: list[Finding] = []
    remedies: set[str] = set()
    for finding in diagnose(os.environ, options.endpoint):
        findings.append(finding)
        if not options.json:
            sys.stdout.write(_lines(finding, remedies))
            sys.stdout.flush()
    if options.json:
        sys.stdout.write(json.dumps([asdict(finding) for finding in findings], indent=2) + "\n")
    return next((finding.exit_code for finding in findings if finding.level == "bad"), 0)


def _lines(finding: Finding, remedies: set[str]) -> str:
    """The finding, with its remedy unless that is among the `remedies` that were shown already."""
    lines = f"{_MARKS[finding.level]}  {finding.check:<10}  {printable(finding.what)}\n"
    if finding.remedy and finding.remedy not in remedies:
        lines += f"{'':<18}-> {printable(finding.remedy)}\n"
    remedies.add(finding.remedy)
    return lines
