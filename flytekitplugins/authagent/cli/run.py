"""`authagent run`: a launch whose execution acts for the person from its first task on."""

from __future__ import annotations

import argparse
import os
import shutil
import time
from contextlib import suppress

from flytekitplugins.authagent.cli import child, consent, granted, launcher
from flytekitplugins.authagent.cli.hub import Person, person
from flytekitplugins.authagent.cli.launcher import Launch
from flytekitplugins.authagent.cli.shown import printable, until
from flytekitplugins.authagent.errors import AuthAgentError, ConfigError, ProviderUnavailable
from flytekitplugins.authagent.hub_client import Grant

SEEN_WITHIN = 10.0
"""Seconds within which the hub must see the execution once the command has ended."""

LOOK = 1.0
"""Seconds between its looks."""

OVER = ("execution_ended",)
"""Reasons for which a grant of an execution that was launched should have ended."""


def run(arguments: list[str]) -> int:
    """
    Grant first, since tasks may start at once; then run the command, and look whether its execution is there.

    Returns the command's status; 1 where it succeeded and the grant does not do what was promised. Raises our errors
    where nothing is granted: then nothing is launched.
    """
    ours, command = _split(arguments)
    options = _parser().parse_args(ours)
    name = launcher.new_name()
    launch = launcher.plan(command, name, os.environ, project=options.project, domain=options.domain)
    if shutil.which(command[0]) is None:
        raise ConfigError(f"cannot run {command[0]!r}: there is no such program", hint="check the command, and PATH")
    browser = not options.no_browser
    with consent.ended_by_signals(), person(browser=browser) as them:
        try:
            grant = _granted(launch, them, options.seconds, options.scope, browser=browser)
        except AuthAgentError as failed:
            raise type(failed)(f"{failed.args[0]}; nothing was launched", hint=failed.hint) from None
        except BaseException:
            them.terminal.say("Nothing was launched.")
            raise
        them.terminal.say(_announcement(grant))
        if launch.is_seen:
            _complain(
                them,
                "until it is launched, other users of this machine can read the execution's name among the arguments"
                f" of {command[0]}, which is no Python script; who launches under that name first acts for you",
            )
        them.leave()
        try:
            status = child.run(launch.argv, os.environ | launch.environ)
        except BaseException:
            _revoke(grant, them)
            raise
        return _judged(status, grant, them)


def _granted(launch: Launch, them: Person, seconds: int | None, scopes: list[str], *, browser: bool) -> Grant:
    try:
        grant = them.hub.deposit(launch.execution, seconds=seconds, scopes=scopes, launch_later=True)
    except (KeyboardInterrupt, SystemExit):  # it may have arrived all the same, and nobody else can know the name
        with suppress(AuthAgentError):
            them.hub.revoke_execution(launch.execution)
        raise
    return consent.wait(grant, them, browser=browser)


def _announcement(grant: Grant) -> str:
    scopes = f" with the scopes {' '.join(grant.scopes)}" if grant.scopes else ""
    return (
        f"authagent: {grant.execution} may act for {grant.subject}{scopes} until"
        f" {until(grant.expires_at, time.time(), as_json=False)}; `authagent revoke {grant.id}` ends that"
    )


def _judged(status: int, grant: Grant, them: Person) -> int:
    """What to end with, having said and undone what is not as it should be."""
    try:
        found = _looked_at(grant, them, patience=0.0 if status else SEEN_WITHIN)
    except KeyboardInterrupt:
        _complain(them, f"the grant was not looked at; `authagent revoke {grant.id}` ends it")
        raise
    except AuthAgentError as failed:
        _complain(them, f"the grant cannot be looked at: {failed.args[0]}; `authagent revoke {grant.id}` ends it")
        return status or failed.exit_code
    if not found.launched:
        ended = _revoke(found, them)
        if status:
            _complain(them, f"the command failed ({status}) and {grant.execution} was not launched; {ended}")
        elif found.reason == "foreign":
            _complain(
                them,
                f"{grant.execution} does not act for you: {ended}; launch it as {grant.subject}"
                " (`authagent whoami` shows whom the credential for Flyte speaks for)",
            )
        else:
            _complain(
                them,
                f"the command launched no execution called {grant.execution}, so what it launched does not act for"
                f" you; {ended}; it must take the name from {launcher.PLACEHOLDER} or AUTHAGENT_EXECUTION",
            )
        return status or 1
    if found.status == "ended" and found.reason not in OVER:
        _complain(
            them,
            f"{grant.execution} DOES NOT ACT FOR YOU ANY MORE: its grant is {granted.status(found)}, and it may run on",
        )
        return status or 1
    return status


def _looked_at(grant: Grant, them: Person, *, patience: float) -> Grant:
    """The grant as soon as its execution is seen or it has ended, else after `patience` seconds. Raises our errors."""
    deadline = time.monotonic() + patience
    while True:
        late = time.monotonic() + LOOK > deadline
        try:
            found = them.hub.get(grant.id)
            if found.launched or found.status == "ended" or late:
                return found
        except ProviderUnavailable:
            if late:
                raise
        time.sleep(LOOK)


def _revoke(grant: Grant, them: Person) -> str:
    """End it; what to say about that."""
    if grant.status == "ended":
        return f"the grant is {granted.status(grant)}"
    try:
        if them.hub.revoke(grant.id).status == "ended":
            return "the grant is revoked"
    except AuthAgentError as failed:
        return f"THE GRANT COULD NOT BE REVOKED ({failed.args[0]}): `authagent revoke {grant.id}`"
    return f"THE GRANT COULD NOT BE REVOKED: `authagent revoke {grant.id}`"


def _complain(them: Person, what: str) -> None:
    them.terminal.say(f"authagent: {printable(what)}")


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Our own arguments, and the command after the first `--`."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    ours, command = arguments[:end], arguments[end + 1 :]
    if not command and not {"-h", "--help"} & set(ours):
        raise ConfigError("there is no command after --", hint="authagent run -- pyflyte run --remote FILE WORKFLOW")
    return ours, command


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="authagent run",
        usage="%(prog)s [options] -- COMMAND...",
        description="Run a command that launches an execution, and let the tasks of that act for you. The grant is "
        "made before the launch, for a name that `pyflyte run` is told with --name, and every other command finds as "
        f"{launcher.PLACEHOLDER} among its arguments or as AUTHAGENT_EXECUTION in its environment. Arguments are what "
        "other users of the machine can read.",
    )
    granted.add_options(parser)
    parser.add_argument("--project", metavar="P", help="where it is launched, where the command does not say")
    parser.add_argument("--domain", metavar="D", help="likewise")
    return parser
