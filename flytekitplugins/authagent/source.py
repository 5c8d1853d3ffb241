"""
A credential that is always good: renewed early, by one flight for everybody, and used while it lasts.

Whoever asks gets the held credential as long as it is valid. Past its renewal point one thread fetches the next
one while everybody goes on with the old; only without a valid one do they wait, all for the same flight. Spans are
measured by the steady clock and moments by the wall clock, whichever ends first, so that neither a clock that
jumps nor one that stands still makes an expired token look good.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError  # its own class until Python 3.11
from contextvars import copy_context
from dataclasses import dataclass

from flytekitplugins.authagent.credential import Credential
from flytekitplugins.authagent.errors import AuthAgentError, ProviderError, ProviderUnavailable, TooShort

logger = logging.getLogger(__name__)


class Throttled(ProviderUnavailable):
    """The caller may not have a new credential fetched for now."""


WAIT = 75.0
"""Seconds to wait for a flight: the agent's socket may take 30 to appear, and 30 to answer."""

FORCED_INTERVAL = 5.0
"""Seconds within which a credential is not renewed before its time, whoever asks: a mint a call would be a flood."""

UNDATED = 60.0
"""Seconds after which a credential that does not say when it ends is read again."""

FAILURE = 1.0
"""Seconds for which a failure answers everybody, where there is no credential to fall back on."""

MAX_BACKOFF = 60.0
"""Seconds between attempts at most, while the old credential is valid and cannot be renewed."""

SLACK = 1.0
"""Seconds that a minimum lifetime may be missed by: lifetimes are whole seconds on the wire."""


@dataclass(frozen=True)
class Clock:
    """Where time comes from: `wall` is seconds since the epoch, `steady` never goes back."""

    wall: Callable[[], float] = time.time
    steady: Callable[[], float] = time.monotonic


@dataclass(frozen=True)
class _Held:
    """
    A credential and its dates by the steady clock. `last_call` is by the wall clock, `wish` the minimum lifetime with
    which it was fetched.
    """

    credential: Credential
    obtained: float
    renew_at: float
    dies_at: float
    last_call: float
    lifetime: float
    wish: float


@dataclass(frozen=True)
class _Flight:
    future: Future[Credential]
    started: float


class Source:
    """
    One credential for one purpose, shared by every thread and event loop of the process.

    `fetch` gets a minimum lifetime in seconds, or `None`, and answers with a credential or an error of our tree.
    It runs in a thread of its own, so that the deadline of those who wait holds even where `fetch` forgets its own.
    `patience` is that deadline in seconds, where nobody sets another.
    """

    def __init__(
        self,
        fetch: Callable[[float | None], Credential],
        *,
        clock: Clock | None = None,
        jitter: Callable[[float, float], float] = random.uniform,
        patience: float = WAIT,
    ) -> None:
        self._fetch = fetch
        self._clock = clock or Clock()
        self._jitter = jitter
        self._patience = patience
        self._held: _Held | None = None
        self._flight: _Flight | None = None
        self._failure: AuthAgentError | None = None
        self._failures = 0
        self._retry_at = 0.0
        self._lock = threading.Lock()
        _sources.add(self)

    def get(self, *, min_lifetime: float = 0.0, timeout: float | None = None) -> Credential:
        """
        A credential that is valid now, and for `min_lifetime` seconds if that is asked.

        Raises what `fetch` raised, `ProviderUnavailable` where it is not back within `timeout` seconds (`patience`
        unless set), `TooShort` where it cannot give a credential that lives as long as asked.
        """
        answer = self.ask(min_lifetime=min_lifetime)
        if isinstance(answer, Credential):
            return answer
        return self._arrived(answer, min_lifetime, self._patience if timeout is None else timeout)

    def _arrived(self, flight: Future[Credential], min_lifetime: float, timeout: float) -> Credential:
        deadline = time.monotonic() + timeout
        try:
            answer = self.follow(flight.result(timeout), min_lifetime)
            left = max(deadline - time.monotonic(), 0)
            credential = answer if isinstance(answer, Credential) else answer.result(left)
            return self.judge(credential, min_lifetime)
        except FutureTimeoutError:
            raise ProviderUnavailable(f"no credential within {timeout:g} s") from None
        except AuthAgentError as failed:
            raise failed.again() from None

    def ask(
        self, *, min_lifetime: float = 0.0, may_fetch: Callable[[], bool] = lambda: True
    ) -> Credential | Future[Credential]:
        """
        What `get` would answer if it can without waiting, else the flight that will bring it.

        For those who wait in their own way (an event loop). Pass what the flight brings through `follow`, and what that
        brings through `judge`. `may_fetch` is called before a flight begins, and where it says no there is none. Raises
        as `get`, and `Throttled`.
        """
        held, now = self._held, self._clock.steady()
        if held and now < held.renew_at and self._clock.wall() < held.last_call and not min_lifetime:
            return held.credential
        with self._lock:
            held = self._held
            if held and self._valid(held, now) and self._lasts(held.credential, min_lifetime):
                if now >= held.renew_at:
                    self._take_off(now, None, may_fetch)
                return held.credential
            if held and self._valid(held, now) and not self._worth_forcing(held, min_lifetime, now):
                raise _too_short(min_lifetime)
            flight = self._take_off(now, min_lifetime or None, may_fetch)
            if flight is not None:
                return flight.future
            if self._failure and now < self._retry_at:
                raise self._failure.again()
            raise Throttled("too many new credentials were asked for")

    def follow(
        self, credential: Credential, min_lifetime: float, may_fetch: Callable[[], bool] = lambda: True
    ) -> Credential | Future[Credential]:
        """
        `credential`, which a flight has brought, or the flight that will bring a better one: the first was not asked
        for one that lives as long, or this process stood still meanwhile. `may_fetch` and errors are as of `ask`.
        """
        if credential.remaining(self._clock.wall()) > 0 and self._lasts(credential, min_lifetime):
            return credential
        return self.ask(min_lifetime=min_lifetime, may_fetch=may_fetch)

    def held(self) -> Credential | None:
        """The credential that is here and valid, if there is one; nothing is fetched."""
        held = self._held
        return held.credential if held and self._valid(held, self._clock.steady()) else None

    def judge(self, credential: Credential, min_lifetime: float) -> Credential:
        """`credential` if it is still valid and lives as long as asked. Raises `ProviderUnavailable`, `TooShort`."""
        if credential.remaining(self._clock.wall()) <= 0:
            raise ProviderUnavailable("the credential expired on its way here")
        if self._lasts(credential, min_lifetime):
            return credential
        raise _too_short(min_lifetime)

    def renew(self, rejected: Credential) -> Credential:
        """
        What to try after Flyte has rejected `rejected`: a newer credential if there is or can be one.

        It may be the same one again: where it is only seconds old, or its source has no other. Never raises for a
        source that fails; the rejection is the better story then.
        """
        now = self._clock.steady()
        with self._lock:
            held = self._held
            if held and held.credential.token != rejected.token and self._valid(held, now):
                return held.credential
            if held and now < held.obtained + FORCED_INTERVAL:
                return held.credential
            longer = rejected.remaining(self._clock.wall()) + SLACK
            flight = self._take_off(now, longer if longer < float("inf") else None)
        try:
            return flight.future.result(self._patience) if flight else rejected
        except (AuthAgentError, FutureTimeoutError) as failed:
            logger.info("no newer credential than the rejected one: %s", failed)
            return rejected

    def _valid(self, held: _Held, now: float) -> bool:
        return now < held.dies_at and self._clock.wall() < held.last_call

    def _lasts(self, credential: Credential, min_lifetime: float) -> bool:
        return not min_lifetime or credential.remaining(self._clock.wall()) + SLACK >= min_lifetime

    def _worth_forcing(self, held: _Held, min_lifetime: float, now: float) -> bool:
        """
        Whether a renewal before its time could bring what is asked, and is not asked too often.

        A source that was not asked for as much, and gave what it was asked for, may have more: a keyring's login can be
        renewed, for example.
        """
        known = held.credential.lifetime
        if held.wish < min_lifetime and held.lifetime + SLACK >= held.wish:
            return known is None or known + SLACK >= min_lifetime
        return now >= held.obtained + FORCED_INTERVAL and max(held.lifetime, known or 0.0) + SLACK >= min_lifetime

    def _take_off(
        self, now: float, min_lifetime: float | None, may_fetch: Callable[[], bool] = lambda: True
    ) -> _Flight | None:
        """The flight that is up, or a new one; `None` while backing off, and without leave. Needs the lock."""
        if self._flight and now < self._flight.started + self._patience:
            return self._flight
        if self._failure and now < self._retry_at:
            return None
        if not may_fetch():
            return None
        flight = self._flight = _Flight(Future(), now)
        context = copy_context()  # a provider may look at what is set for the caller alone
        threading.Thread(
            target=context.run, args=(self._fly, flight, min_lifetime), name="authagent-fetch", daemon=True
        ).start()
        return flight

    def _fly(self, flight: _Flight, min_lifetime: float | None) -> None:
        try:
            credential = self._fetch(min_lifetime)
            self._refuse_expired(credential)
        except AuthAgentError as failed:
            self._land_without(flight, failed)
        except Exception as bug:  # a provider broke its promise: whoever waits must hear of it all the same
            logger.exception("a provider raised what providers do not raise")
            self._land_without(flight, ProviderError(f"unexpected {type(bug).__name__} while fetching a credential"))
        else:
            self._land(flight, credential, wish=min_lifetime or 0.0)

    def _refuse_expired(self, credential: Credential) -> None:
        remaining = credential.remaining(self._clock.wall())
        if remaining > 0:
            return
        # A variable never gets a new value from outside; everything else may be better in a moment.
        kind = ProviderError if credential.provider == "env" else ProviderUnavailable
        raise kind(
            f"{credential.provider} gave a credential that expired {-remaining:.0f} s ago, by this machine's clock",
            hint="renew it at its source, and check the clock",
        )

    def _land(self, flight: _Flight, credential: Credential, *, wish: float) -> None:
        now, wall = self._clock.steady(), self._clock.wall()
        remaining = credential.remaining(wall)
        margin = min(2.0, remaining / 10)  # it must still be valid when it arrives
        # Renew with a fifth of its life to go, or five minutes of a short one, but never in its first half:
        # whoever gets it from us then has something to use.
        lead = max(remaining / 5, min(300.0, remaining / 2)) * self._jitter(0.9, 1.0)
        with self._lock:
            undated = credential.expires_at is None
            self._held = _Held(
                credential,
                obtained=now,
                renew_at=now + (UNDATED if undated else remaining - lead),
                dies_at=now + remaining - margin,
                last_call=wall + remaining - margin,
                lifetime=remaining,
                wish=wish,
            )
            self._failure, self._failures = None, 0
            self._end(flight)
        flight.future.set_result(credential)

    def _land_without(self, flight: _Flight, failed: AuthAgentError) -> None:
        now = self._clock.steady()
        with self._lock:
            self._failure = failed.again()  # without the frames of the flight, and what they hold
            self._failures += 1
            pause = FAILURE
            if self._held and self._valid(self._held, now):
                pause = min(FAILURE * 2 ** (self._failures - 1), MAX_BACKOFF)
                logger.warning("using the old credential, for the next cannot be had: %s", failed)
            self._retry_at = now + pause * self._jitter(0.75, 1.0)
            self._end(flight)
        flight.future.set_exception(failed)

    def _end(self, flight: _Flight) -> None:
        if self._flight is flight:  # otherwise it was given up, and another is on its way
            self._flight = None

    def _forked(self) -> None:
        """In a new process: no thread of the parent's is here, so no flight of its will ever land."""
        self._lock = threading.Lock()
        self._flight = None


def _too_short(min_lifetime: float) -> TooShort:
    return TooShort(
        f"no credential lives {min_lifetime:g} s or more",
        hint="ask for less, or let the identity provider issue longer ones",
    )


_sources: weakref.WeakSet[Source] = weakref.WeakSet()


def _after_fork() -> None:
    for source in list(_sources):
        source._forked()


os.register_at_fork(after_in_child=_after_fork)
