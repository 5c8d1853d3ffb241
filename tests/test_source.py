"""A source: early renewal, one flight, old but valid; by clocks that the tests hold."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flytekitplugins.authagent.credential import Credential, Secret
from flytekitplugins.authagent.errors import Denied, ProviderError, ProviderUnavailable, TooShort
from flytekitplugins.authagent.source import FAILURE, FORCED_INTERVAL, MAX_BACKOFF, UNDATED, Clock, Source
from flytekitplugins.authagent.sources import Sources

START = 1_000_000.0


class Hands:
    """Two clocks that move when a test moves them, and a fetch that counts."""

    def __init__(self, lifetime: float | None = 1000.0) -> None:
        self.wall, self.steady = START, 50.0
        self.lifetime = lifetime
        self.fetched: list[float | None] = []
        self.failing: Exception | None = None
        self.landed = threading.Semaphore(0)
        self.source = Source(
            self.fetch, clock=Clock(lambda: self.wall, lambda: self.steady), jitter=lambda _, high: high
        )

    def fetch(self, min_lifetime: float | None) -> Credential:
        self.fetched.append(min_lifetime)
        if self.failing:
            raise self.failing
        ends = None if self.lifetime is None else self.wall + self.lifetime
        return Credential(Secret(f"token-{len(self.fetched)}"), expires_at=ends, provider="agent")

    def tick(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds

    def token(self, **asked: float) -> str:
        return self.source.get(timeout=5, **asked).token.reveal()

    def settle(self, fetches: int) -> None:
        """Wait for a renewal in the background to end."""
        deadline = time.monotonic() + 5
        while len(self.fetched) < fetches or self.source._flight is not None:
            assert time.monotonic() < deadline, self.fetched
            time.sleep(0.002)


@pytest.fixture
def hands() -> Hands:
    return Hands()


def test_one_fetch_serves_until_it_is_time_to_renew(hands: Hands) -> None:
    assert {hands.token() for _ in range(100)} == {"token-1"}
    hands.tick(650)
    assert hands.token() == "token-1"
    assert len(hands.fetched) == 1


def test_it_renews_early_and_nobody_waits_for_that(hands: Hands) -> None:
    hands.token()
    hands.tick(750)  # 250 s of 1000 are left: under five minutes, the token is still good
    assert hands.token() == "token-1"
    hands.settle(2)
    assert hands.token() == "token-2"
    assert len(hands.fetched) == 2


def test_a_short_token_is_not_renewed_in_its_first_half() -> None:
    hands = Hands(lifetime=60)
    hands.token()
    hands.tick(29)
    assert hands.token() == "token-1"
    hands.settle(1)
    assert len(hands.fetched) == 1


def test_an_expired_token_is_never_given(hands: Hands) -> None:
    hands.token()
    hands.tick(999.5)
    assert hands.token() == "token-2"


@given(st.lists(st.floats(0, 400), max_size=30), st.floats(2, 900))
def test_whatever_passes_no_expired_token_is_given(steps: list[float], lifetime: float) -> None:
    hands = Hands(lifetime)
    for step in steps:
        hands.tick(step)
        assert hands.source.get(timeout=5).remaining(hands.wall) > 0


def test_a_wall_clock_that_jumps_ahead_ends_the_token(hands: Hands) -> None:
    hands.token()
    hands.wall += 5000
    assert hands.token() == "token-2"


def test_a_wall_clock_that_jumps_back_does_not_prolong_the_token(hands: Hands) -> None:
    hands.token()
    hands.wall -= 5000
    hands.steady += 1001
    assert hands.token() == "token-2"


def test_a_token_that_says_no_end_is_read_again() -> None:
    hands = Hands(lifetime=None)
    assert hands.token() == "token-1"
    hands.tick(UNDATED + 1)
    hands.token()
    hands.settle(2)
    assert hands.token() == "token-2"


def test_a_failure_uses_the_old_token_backs_off_and_says_so(hands: Hands, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    hands.token()
    hands.failing = ProviderUnavailable("the provider is down")
    hands.tick(800)
    for _ in range(190):
        assert hands.token() == "token-1"
        hands.settle(len(hands.fetched))
        hands.tick(1)
    attempts = len(hands.fetched) - 1
    assert 5 <= attempts <= 12, f"1, 2, 4 ... {MAX_BACKOFF:g} s apart"
    assert "the provider is down" in caplog.text
    assert "token-1" not in caplog.text
    hands.tick(20)
    with pytest.raises(ProviderUnavailable):
        hands.token()


def test_a_failure_answers_everybody_for_a_moment_and_is_not_kept(hands: Hands) -> None:
    hands.failing = Denied("no")
    for _ in range(10):
        with pytest.raises(Denied):
            hands.token()
    assert len(hands.fetched) == 1
    hands.failing = None
    hands.tick(FAILURE + 0.1)
    assert hands.token() == "token-2"


def test_each_caller_gets_an_error_of_its_own(hands: Hands) -> None:
    hands.failing = Denied("no", hint="ask")
    errors = []
    for _ in range(2):
        with pytest.raises(Denied, match=r"no \(hint: ask\)") as caught:
            hands.token()
        errors.append(caught.value)
    assert errors[0] is not errors[1]


def test_what_a_provider_must_not_raise_still_reaches_who_waits(hands: Hands, caplog: pytest.LogCaptureFixture) -> None:
    hands.failing = ZeroDivisionError()
    with pytest.raises(ProviderError, match="unexpected ZeroDivisionError"):
        hands.token()


def test_an_expired_credential_of_a_provider_is_refused() -> None:
    hands = Hands(lifetime=-5)
    with pytest.raises(ProviderUnavailable, match="expired 5 s ago"):
        hands.token()


@pytest.mark.parametrize("lifetime", [1000.0, 60.0])
def test_a_minimum_lifetime_is_met_or_refused(lifetime: float) -> None:
    hands = Hands(lifetime)
    assert hands.token(min_lifetime=30) == "token-1"
    with pytest.raises(TooShort, match="no credential lives 5000 s"):
        hands.token(min_lifetime=5000)
    hands.tick(40 + FORCED_INTERVAL)
    if lifetime == 60:
        assert hands.token(min_lifetime=30) == "token-3"
        assert hands.fetched == [30, 5000, 30]
    for _ in range(5):
        hands.tick(FORCED_INTERVAL)
        with pytest.raises(TooShort):
            hands.token(min_lifetime=5000)
    assert len(hands.fetched) <= 4, "what its source does not have is not asked of it again and again"


KEPT, FRESH = 100.0, 1000.0


# A source that has something for another `KEPT` seconds, and where it is asked for more, gets what is good for `FRESH`.
@pytest.mark.parametrize(
    ("known", "wishes", "outcomes", "fetched"),
    [
        (FRESH, [0, 500], ["kept", "fresh"], [None, 500]),
        (None, [0, 500], ["kept", "fresh"], [None, 500]),
        (FRESH, [500], ["fresh"], [500]),
        (FRESH, [50, 500], ["kept", "fresh"], [50, 500]),
        (FRESH, [0, 500, 0, 500, 999], ["kept", "fresh", "fresh", "fresh", "fresh"], [None, 500]),
        (FRESH, [0, 5000], ["kept", "short"], [None]),  # its tokens never live for that long
        (None, [0, 5000, 5001, 5002], ["kept", "short", "short", "short"], [None, 5000]),
        (KEPT, [0, 500], ["kept", "short"], [None]),
    ],
)
def test_a_source_is_asked_for_a_longer_life_before_it_is_refused(
    known: float | None, wishes: list[float], outcomes: list[str], fetched: list[float | None]
) -> None:
    hands = Hands()

    def fetch(min_lifetime: float | None) -> Credential:
        hands.fetched.append(min_lifetime)
        name, left = ("fresh", FRESH) if min_lifetime and min_lifetime > KEPT else ("kept", KEPT)
        return Credential(Secret(name), expires_at=hands.wall + left, lifetime=known)

    hands.source._fetch = fetch
    seen = []
    for wish in wishes:
        try:
            seen.append(hands.token(min_lifetime=wish))
        except TooShort:
            seen.append("short")
    assert (seen, hands.fetched) == (outcomes, fetched)


def test_who_wishes_for_more_than_the_flight_that_is_up_gets_one_of_their_own() -> None:
    hands, up = Hands(), threading.Event()

    def fetch(min_lifetime: float | None) -> Credential:
        hands.fetched.append(min_lifetime)
        if min_lifetime is None:
            assert up.wait(5)
        return Credential(Secret(f"for-{min_lifetime}"), expires_at=hands.wall + (1000 if min_lifetime else 100))

    hands.source._fetch = fetch
    flight = hands.source.ask()
    assert not isinstance(flight, Credential)
    threading.Timer(0.1, up.set).start()
    assert hands.token(min_lifetime=500) == "for-500"
    assert hands.fetched == [None, 500]


def test_a_rejected_token_is_renewed_once_and_not_if_it_is_new(hands: Hands) -> None:
    first = hands.source.get()
    assert hands.source.renew(first).token == first.token, "it is only moments old"
    hands.tick(FORCED_INTERVAL + 1)
    renewed = [hands.source.renew(first) for _ in range(20)]
    assert {c.token.reveal() for c in renewed} == {"token-2"}
    assert len(hands.fetched) == 2


def test_a_rejection_never_hides_behind_a_provider_that_fails(hands: Hands) -> None:
    first = hands.source.get()
    hands.tick(FORCED_INTERVAL + 1)
    hands.failing = ProviderUnavailable("down")
    assert hands.source.renew(first) is first


def slow(pause: float, counted: list[int]) -> Callable[[float | None], Credential]:
    def fetch(_: float | None) -> Credential:
        counted.append(os.getpid())
        time.sleep(pause)
        return Credential(Secret("token"), expires_at=time.time() + 100)

    return fetch


def test_fifty_threads_and_fifty_coroutines_cost_one_fetch() -> None:
    counted: list[int] = []
    source = Source(slow(0.2, counted))

    async def coroutines() -> list[Credential]:
        async def one() -> Credential:
            answer = source.ask()
            return answer if isinstance(answer, Credential) else await asyncio.wrap_future(answer)

        return await asyncio.gather(*(one() for _ in range(50)))

    with ThreadPoolExecutor(51) as pool:
        loop = pool.submit(lambda: asyncio.run(coroutines()))
        threads = [pool.submit(source.get) for _ in range(50)]
        assert len({c.token for c in [*(t.result() for t in threads), *loop.result()]}) == 1
    assert len(counted) == 1


def test_who_waits_has_a_deadline_even_where_the_fetch_has_none() -> None:
    source = Source(slow(3, []))
    started = time.monotonic()
    with pytest.raises(ProviderUnavailable, match=r"no credential within 0\.1 s"):
        source.get(timeout=0.1)
    assert time.monotonic() - started < 2


def test_a_fork_in_the_middle_of_a_flight_does_not_hang_the_child() -> None:
    counted: list[int] = []
    source = Source(slow(0.5, counted))
    source.ask()
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        status = 1
        try:
            os.write(writing, source.get(timeout=5).token.reveal().encode())
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    assert os.read(reading, 100) == b"token"


def test_sources_are_shared_by_key_and_bounded() -> None:
    sources = Sources(limit=3)
    made = [sources.get(n, lambda: Source(slow(0, []))) for n in range(5)]
    assert len(sources) == 3
    assert sources.get(4, lambda: Source(slow(0, []))) is made[4]
    assert sources.get(0, lambda: Source(slow(0, []))) is not made[0]
