"""Waiting until the person has consented on the hub's page."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from flytekitplugins.authagent.cli.hub import Person
from flytekitplugins.authagent.errors import AuthAgentError, ConfigError, Denied, ProviderUnavailable
from flytekitplugins.authagent.hub_client import LONGEST_POLL, Grant

PATIENCE = 300.0
"""Seconds that a person has for the page."""


def wait(
    grant: Grant,
    person: Person,
    *,
    browser: bool = True,
    patience: float = PATIENCE,
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.monotonic,
) -> Grant:
    """
    The grant once it is active: at once where it is, else when the person has consented, within `patience` seconds.

    Whatever else happens, a signal too, a pending grant is ended. Raises `Denied` where they decline,
    `ProviderUnavailable` where they do not answer in time, `ConfigError` where there is no terminal to ask at.
    """
    if grant.status == "active":
        return grant
    try:
        _show(grant, person, browser=browser)
        return _consented(grant, person, now() + patience, patience, sleep, now)
    except BaseException:
        with suppress(AuthAgentError):
            if person.hub.revoke(grant.id).status == "ended":
                person.terminal.say("The grant that waited for you is ended.")
        raise


def _show(grant: Grant, person: Person, *, browser: bool) -> None:
    if browser and not person.sees:
        raise ConfigError(
            "consent needs a terminal",
            hint="run this where you can see it; --no-browser only shows the address, and waits",
        )
    if browser and person.terminal.open(grant.consent_uri or ""):
        person.terminal.say(
            f"Consent in the browser that has just opened. If none has, open\n\n  {grant.consent_uri}\n"
        )
    else:
        person.terminal.say(f"Open this address in a browser, and consent:\n\n  {grant.consent_uri}\n")


def _consented(  # noqa: PLR0917 - its callers are above
    grant: Grant,
    person: Person,
    deadline: float,
    patience: float,
    sleep: Callable[[float], None],
    now: Callable[[], float],
) -> Grant:
    interval = grant.interval
    while now() + interval < deadline:
        sleep(interval)
        try:
            found = person.hub.get(grant.id)
        except ProviderUnavailable:  # a hub that is away for a moment is asked again, more slowly
            interval = min(interval * 2, LONGEST_POLL)
            continue
        if found.status == "active":
            return found
        if found.status == "ended":
            raise Denied(f"there is no consent: the grant ended ({found.reason or 'the hub does not say why'})")
    raise ProviderUnavailable(f"nobody consented within {patience:g} s", hint="start again")


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP unwind what is under way, as Ctrl-C does, and then end this process as they would have."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    caught = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is signal.SIG_DFL]
    for number in caught:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in caught:
            signal.signal(number, signal.SIG_DFL)
