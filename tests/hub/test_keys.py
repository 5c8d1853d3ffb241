"""An issuer's keys: how often they are fetched, how long they are used, and what counts as one."""

from __future__ import annotations

import base64
import json
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from typing import Any

import pytest
from joserfc.jwk import ECKey, KeySet, OctKey, OKPKey, RSAKey
from small_issuer import EC, KEYS, OTHER, RSA, Clock, SmallIssuer, issuing

from flytekitplugins.authagent.errors import ProviderError, ProviderUnavailable
from flytekitplugins.authagent.http import MAX_BODY, Door
from flytekitplugins.authagent.hub.issuer_clock import IssuerClock
from flytekitplugins.authagent.hub.keys import FRESH, KEPT, PAUSE, RETRY, Keys
from flytekitplugins.authagent.oauth import jwks
from flytekitplugins.authagent.oauth.message import Response
from flytekitplugins.authagent.sandbox.exchange import Answer, json_answer

NEW = ECKey.generate_key("P-256", {"kid": "new"})


@pytest.fixture
def issuer():
    with issuing() as it:
        yield it


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(issuer: SmallIssuer, clock: Clock) -> Keys:
    return keys_of(issuer, clock)


def keys_of(issuer: SmallIssuer, clock: Clock, *, timeout: float = 2.0, **more: Any) -> Keys:
    return Keys(issuer.url, Door(timeout=timeout), IssuerClock(time.time, clock), steady=clock, **more)


def names(found) -> list[str | None]:
    return [key.kid for key in found]


def test_keys_are_fetched_once_however_often_they_are_needed(issuer: SmallIssuer, keys: Keys) -> None:
    for _ in range(100):
        assert names(keys.fitting("ec", "ES256")) == ["ec"]
    assert issuer.asked == {"/.well-known/openid-configuration": 1, "/jwks": 1}


def test_where_the_keys_are_need_not_be_discovered(issuer: SmallIssuer, clock: Clock) -> None:
    assert keys_of(issuer, clock, jwks_uri=f"{issuer.url}/jwks").fitting("ec", "ES256")
    assert issuer.asked == {"/jwks": 1}


def test_two_hundred_names_that_nobody_knows_cost_one_fetch_in_thirty_seconds(
    issuer: SmallIssuer, keys: Keys, clock: Clock
) -> None:
    keys.fitting("ec", "ES256")
    for round_ in range(1, 4):
        clock.now += PAUSE
        for n in range(200):
            assert keys.fitting(f"junk {n}", "ES256") == ()
        assert issuer.asked["/jwks"] == 1 + round_
        assert keys.fitting("ec", "ES256")


def test_a_key_that_appears_is_taken_after_one_fetch(issuer: SmallIssuer, keys: Keys, clock: Clock) -> None:
    keys.fitting("ec", "ES256")
    issuer.published = [NEW]
    clock.now += PAUSE
    assert names(keys.fitting("new", "ES256")) == ["new"]
    assert keys.fitting("ec", "ES256") == ()
    assert issuer.asked["/jwks"] == 2


def test_a_key_that_is_withdrawn_is_good_for_five_minutes_at_most(
    issuer: SmallIssuer, keys: Keys, clock: Clock
) -> None:
    keys.fitting("ec", "ES256")
    issuer.published = [NEW]
    clock.now += FRESH - 1
    assert keys.fitting("ec", "ES256")
    assert issuer.asked["/jwks"] == 1
    clock.now += 1
    assert keys.fitting("ec", "ES256") == ()
    assert issuer.asked["/jwks"] == 2


def test_keys_are_used_for_a_day_while_the_issuer_is_down(issuer: SmallIssuer, keys: Keys, clock: Clock) -> None:
    keys.fitting("ec", "ES256")
    issuer.stop()
    clock.now += FRESH
    assert keys.fitting("ec", "ES256")
    assert "cannot be reached" in keys.trouble
    with pytest.raises(ProviderUnavailable, match="cannot be reached"):
        keys.fitting("unknown", "ES256")  # nobody can say whether there is such a key
    clock.now += KEPT - FRESH - 1
    assert keys.fitting("ec", "ES256")
    clock.now += 1
    with pytest.raises(ProviderUnavailable):
        keys.fitting("ec", "ES256")


def test_an_issuer_that_is_down_is_asked_twice_a_minute(issuer: SmallIssuer, keys: Keys, clock: Clock) -> None:
    keys.fitting("ec", "ES256")
    issuer.answers["/jwks"] = lambda call: Answer(500)
    clock.now += FRESH
    for _ in range(60):
        assert keys.fitting("ec", "ES256")
        clock.now += 1
    assert issuer.asked["/jwks"] == 1 + 2


def test_without_any_key_there_is_an_error_and_soon_another_attempt(
    issuer: SmallIssuer, keys: Keys, clock: Clock
) -> None:
    well = issuer.answers["/jwks"]
    issuer.answers["/jwks"] = lambda call: Answer(503)
    for _ in range(20):
        with pytest.raises(ProviderUnavailable, match="answered 503 where the issuer's keys should be"):
            keys.fitting("ec", "ES256")
    assert issuer.asked["/jwks"] == 1
    issuer.answers["/jwks"] = well
    clock.now += RETRY
    assert keys.fitting("ec", "ES256")
    assert keys.trouble == ""


def test_keys_that_have_moved_are_found_again(issuer: SmallIssuer, keys: Keys, clock: Clock) -> None:
    keys.fitting("ec", "ES256")
    issuer.answers["/elsewhere"] = issuer.answers.pop("/jwks")
    moved = issuer.document() | {"jwks_uri": f"{issuer.url}/elsewhere"}
    issuer.answers["/.well-known/openid-configuration"] = lambda call: json_answer(200, moved)
    clock.now += FRESH
    assert keys.fitting("ec", "ES256")
    clock.now += PAUSE
    assert keys.fitting("ec", "ES256")
    assert (issuer.asked["/elsewhere"], keys.trouble) == (1, "")


def test_fifty_cold_callers_cost_one_fetch(issuer: SmallIssuer, keys: Keys) -> None:
    slow = issuer.answers["/jwks"]
    issuer.answers["/jwks"] = lambda call: time.sleep(0.2) or slow(call)
    with ThreadPoolExecutor(50) as pool:
        found = list(pool.map(lambda n: names(keys.fitting("ec", "ES256")), range(50)))
    assert found == [["ec"]] * 50
    assert issuer.asked["/jwks"] == 1


def test_fifty_cold_callers_of_an_issuer_that_is_down_share_one_failure(issuer: SmallIssuer, keys: Keys) -> None:
    issuer.answers["/jwks"] = lambda call: time.sleep(0.2) or Answer(500)

    def refused(n: int) -> bool:
        with pytest.raises(ProviderUnavailable):
            keys.fitting("ec", "ES256")
        return True

    with ThreadPoolExecutor(50) as pool:
        assert all(pool.map(refused, range(50)))
    assert issuer.asked["/jwks"] == 1


def test_nobody_waits_for_fresher_keys_but_the_one_who_fetches_them(
    issuer: SmallIssuer, keys: Keys, clock: Clock
) -> None:
    keys.fitting("ec", "ES256")
    asked, answer, well = threading.Event(), threading.Event(), issuer.answers["/jwks"]
    issuer.answers["/jwks"] = lambda call: asked.set() or (answer.wait(5) and well(call))
    clock.now += FRESH
    with ThreadPoolExecutor(1) as pool:
        fetching = pool.submit(keys.fitting, "ec", "ES256")
        assert asked.wait(5)
        started = time.monotonic()
        assert names(keys.fitting("ec", "ES256")) == ["ec"]
        assert time.monotonic() - started < 0.5
        answer.set()
        assert names(fetching.result(5)) == ["ec"]
    assert issuer.asked["/jwks"] == 2


def test_an_issuer_that_hangs_has_a_deadline(issuer: SmallIssuer, clock: Clock) -> None:
    release = threading.Event()
    issuer.answers["/jwks"] = lambda call: release.wait(20) and None
    started = time.monotonic()
    try:
        with pytest.raises(ProviderUnavailable, match=r"did not answer in 0\.5 s"):
            keys_of(issuer, clock, timeout=0.5).fitting("ec", "ES256")
    finally:
        release.set()
    assert time.monotonic() - started < 3


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (Answer(200, b'{"keys": [' + b" " * MAX_BODY + b"]}"), "more than"),
        (Answer(302, headers=(("Location", "http://127.0.0.1:1/jwks"),)), "answered 302"),
        (Answer(200, b"<html><body>Log in", (("Content-Type", "text/html"),)), "an HTML page"),
        (Answer(404), "answered 404"),
        (Answer(429), "answered 429"),
        (json_answer(200, []), "JSON was expected"),
        (json_answer(200, {"keys": {}}), "without keys"),
        (json_answer(200, {"keys": []}), "no key that can be used"),
        (json_answer(200, {"keys": [1, None, "x", {}, {"kty": ["EC"]}, {"kty": "EC"}]}), "no key that can be used"),
        (json_answer(200, {"keys": [EC.as_dict(private=False)] * (jwks.MAX_KEYS + 1)}), "65 keys; 64 are read"),
    ],
)
def test_what_is_no_set_of_keys_is_an_issuer_that_cannot_be_asked(
    issuer: SmallIssuer, keys: Keys, answer: Answer, says: str
) -> None:
    issuer.answers["/jwks"] = lambda call: answer
    with pytest.raises(ProviderUnavailable, match=says):
        keys.fitting("ec", "ES256")
    assert says in keys.trouble


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({"issuer": "https://evil.example"}, "another issuer"),
        ({"jwks_uri": None}, "names no jwks_uri"),
        ({"jwks_uri": 5}, "names no jwks_uri"),
        ({"jwks_uri": "http://idp.example.com/jwks"}, "not an https URL"),
        ({"jwks_uri": "file:///etc/passwd"}, "not an https URL"),
    ],
)
def test_keys_are_fetched_from_nowhere_but_where_the_issuer_itself_says(
    issuer: SmallIssuer, keys: Keys, document: dict[str, Any], says: str
) -> None:
    changed = issuer.document() | document
    issuer.answers["/.well-known/openid-configuration"] = lambda call: json_answer(200, changed)
    with pytest.raises(ProviderUnavailable, match=says):
        keys.fitting("ec", "ES256")
    assert issuer.asked["/jwks"] == 0


def read(*entries: Any) -> list[str | None]:
    body = json.dumps({"keys": [*entries, EC.as_dict(private=False)]}).encode()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return names(jwks.read(Response("https://idp/jwks", 200, {}, body)))


def public(key: Any, **more: Any) -> dict[str, Any]:
    return key.as_dict(private=False) | more


def small_rsa() -> RSAKey:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return RSAKey.generate_key(1024, {"kid": "small"})


@pytest.mark.parametrize(
    "entry",
    [
        public(RSA, use="enc"),
        public(RSA, key_ops=["encrypt"]),
        public(RSA, key_ops="verify"),
        public(RSA, e="AQ"),  # 1: any signature is its own message
        public(RSA, e="AAAC"),
        public(RSA, n="!!"),
        public(RSA, n=5),
        public(RSA, n=base64.urlsafe_b64encode(b"\xff" * 2048).decode().rstrip("=")),
        public(small_rsa()),
        RSA.as_dict(private=True),
        OTHER.as_dict(private=True),
        OctKey.import_key(b"x" * 32, {"kid": "shared"}).as_dict(private=True),
        {"kty": "oct", "kid": "shared"},
        public(OKPKey.generate_key("X25519", {"kid": "x"})),
        public(ECKey.generate_key("secp256k1", {"kid": "k1"})),
        public(OTHER, x="AAAA"),  # not on the curve
        {"kty": "AKP", "alg": "ML-DSA-44", "kid": "pq", "pub": "AAAA"},
    ],
)
def test_what_must_not_check_signatures_is_passed_over(entry: dict[str, Any]) -> None:
    assert read(entry) == ["ec"]


@pytest.mark.parametrize("entry", [public(key, use="sig") for key in KEYS] + [public(RSA, key_ops=["verify"])])
def test_what_may_check_signatures_is_kept(entry: dict[str, Any]) -> None:
    assert read(entry) == [entry["kid"], "ec"]


def test_only_keys_of_the_kind_fit_an_algorithm() -> None:
    listed = KeySet.import_key_set({"keys": [public(key) for key in KEYS]}).keys
    fitting = {
        algorithm: names(jwks.fitting(listed, None, algorithm))
        for algorithm in ("RS256", "PS512", "ES256", "ES384", "ES512", "EdDSA", "HS256", "none", "dir", "")
    }
    assert fitting == {
        "RS256": ["rsa"],
        "PS512": ["rsa"],
        "ES256": ["ec"],
        "ES384": ["ec-384"],
        "ES512": ["ec-521"],
        "EdDSA": ["ed"],
        "HS256": [],
        "none": [],
        "dir": [],
        "": [],
    }
    bound = KeySet.import_key_set({"keys": [public(RSA, alg="PS256")]}).keys
    assert (names(jwks.fitting(bound, "rsa", "PS256")), jwks.fitting(bound, "rsa", "RS256")) == (["rsa"], ())


@pytest.mark.parametrize("status", [400, 500])
def test_only_an_answer_of_200_holds_keys(status: int) -> None:
    kind = ProviderUnavailable if status == 500 else ProviderError
    with pytest.raises(kind, match=f"answered {status}"):
        jwks.read(Response("https://idp/jwks", status, {}, b'{"keys": []}'))


def heard(date: str, *, age: str = "", wall: float = 1_700_000_000.0) -> IssuerClock:
    it = IssuerClock(lambda: wall, lambda: 0.0)
    it.hear(Response("https://idp/jwks", 200, {"date": date} | ({"age": age} if age else {})))
    return it


@pytest.mark.parametrize(
    ("seconds", "says"),
    [
        (0, ""),
        (89, ""),
        (-89, ""),
        (3600, "the clock of this machine is 3600 s behind the issuer's"),
        (-3601, "the clock of this machine is 3600 s ahead of the issuer's"),
    ],
)
def test_the_date_of_an_answer_tells_how_wrong_our_clock_is(seconds: int, says: str) -> None:
    assert heard(formatdate(1_700_000_000 + seconds, usegmt=True)).trouble == says


@pytest.mark.parametrize("date", ["", "yesterday", "Tue, 99 Nov 2023 22:13:20 GMT", "\x00", "1700000000"])
def test_a_date_that_is_none_says_nothing(date: str) -> None:
    assert heard(date).ahead == 0.0


def test_an_answer_out_of_a_cache_is_as_old_as_it_says_or_new() -> None:
    for sent in (-7200, 0):  # caches that keep the first date, and those that replace it
        assert heard(formatdate(1_700_000_000 + sent, usegmt=True), age="7200").trouble == ""
    assert "s ahead" in heard(formatdate(1_700_000_000 - 7200, usegmt=True), age="60").trouble
    assert "s ahead" in heard(formatdate(1_700_000_000 - 7200, usegmt=True), age="-7200").trouble


def test_a_clock_that_is_set_wrong_later_is_noticed_and_one_set_right_too() -> None:
    wall, steady = Clock(), Clock()
    wall.now = 1_700_000_000.0
    it = IssuerClock(wall, steady)
    it.hear(Response("https://idp/jwks", 200, {"date": formatdate(wall.now, usegmt=True)}))
    wall.now, steady.now = wall.now + 500, steady.now + 500
    assert it.trouble == ""
    wall.now += 3600
    assert "3599 s ahead" in it.trouble
    wall.now -= 3600
    assert it.trouble == ""
