"""Who may pass for a person at the hub: one with an access token for it, and nobody else."""

from __future__ import annotations

import base64
import json
import string
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from foreign import signed_with_bytes, tampered, unsigned
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc.jwk import ECKey
from pydantic import ValidationError
from running_provider import running
from small_issuer import (
    ALICE,
    CLI,
    EC,
    FLYTE,
    HUB,
    INTROSPECTOR,
    KEYS,
    OTHER,
    RSA,
    UNKNOWN,
    Clock,
    SmallIssuer,
    encoded,
    issuing,
    signed,
)

from flytekitplugins.authagent.agent.people_settings import ALGORITHMS, PeopleSettings
from flytekitplugins.authagent.agent.refusal import Refusal
from flytekitplugins.authagent.credential import MAX_TOKEN, Secret
from flytekitplugins.authagent.errors import ConfigError
from flytekitplugins.authagent.hub.keys import PAUSE
from flytekitplugins.authagent.hub.people import IN_FLIGHT, People, Person
from flytekitplugins.authagent.sandbox.exchange import Answer, json_answer

MANY = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
OWN = "authagent-hub-client"


@pytest.fixture(scope="module")
def shared():
    """An issuer whose answers no test changes."""
    with issuing() as it:
        yield it


@pytest.fixture
def issuer():
    with issuing() as it:
        yield it


@pytest.fixture
def introspecting(tmp_path: Path, issuer: SmallIssuer) -> dict[str, Any]:
    """The settings that ask `issuer` about tokens."""
    secret = tmp_path / "secret"
    secret.write_text("s3cr3t\n")
    secret.chmod(0o600)
    return {"introspect": True, "introspection": {"client_id": INTROSPECTOR, "client_secret_file": str(secret)}}


def people_of(issuer: SmallIssuer, *, clock: Any = time.time, steady: Any = time.monotonic, **more: Any) -> People:
    spec = PeopleSettings.model_validate({"issuer": issuer.url, "audience": HUB, "timeout": 2} | more)
    return People(spec, not_audiences=frozenset({FLYTE}), not_clients=frozenset({OWN}), clock=clock, steady=steady)


@pytest.fixture
def people(shared: SmallIssuer) -> People:
    return people_of(shared)


def refused(people: People, token: str, status: int = 401) -> Refusal:
    """What `token` is refused with, which quotes nothing of it."""
    with pytest.raises(Refusal) as caught:
        people.authenticate(Secret(token))
    refusal = caught.value
    assert (refusal.status, refusal.error) == (status, "invalid_token" if status == 401 else "temporarily_unavailable")
    assert refusal.description
    assert refusal.reason
    assert not any(part in f"{refusal!r} {refusal}" for part in (token, *token.split(".")) if len(part) > 8)
    return refusal


def test_a_token_for_the_hub_says_who_shows_it(shared: SmallIssuer, people: People) -> None:
    token = shared.token(scope="openid grants", aud=["something", HUB])
    person = people.authenticate(Secret(token))
    assert (person.subject, person.client, person.scopes) == (ALICE, CLI, ("openid", "grants"))
    assert 290 < person.expires_at - time.time() <= 300
    assert person.token.reveal() == token
    assert token not in repr(person)
    assert "Secret" not in repr(person)
    assert people.trouble == ""


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_each_algorithm_of_a_key_pair_is_taken(shared: SmallIssuer, people: People, algorithm: str) -> None:
    kid = {"ES256": "ec", "ES384": "ec-384", "ES512": "ec-521", "EdDSA": "ed"}.get(algorithm, "rsa")
    key = next(key for key in KEYS if key.kid == kid)
    assert people.authenticate(Secret(shared.token(key, algorithm))).subject == ALICE
    only = people_of(shared, algorithms=["RS256" if algorithm != "RS256" else "ES256"])
    assert "in a way that is not allowed" in refused(only, shared.token(key, algorithm)).reason


@pytest.mark.parametrize("name", ["client_id", "azp", "cid", "appid"])
def test_the_client_stands_where_issuers_put_it(shared: SmallIssuer, people: People, name: str) -> None:
    assert people.authenticate(Secret(shared.token(**{"client_id": None, name: CLI}))).client == CLI


@pytest.mark.parametrize(
    ("claims", "scopes"),
    [({"scp": ["a", "b", 5]}, ("a", "b")), ({"scp": "a b"}, ("a", "b")), ({"scope": {}}, ()), ({}, ())],
)
def test_scopes_are_read_as_issuers_write_them(shared: SmallIssuer, people: People, claims: Any, scopes: Any) -> None:
    assert people.authenticate(Secret(shared.token(**claims))).scopes == scopes


NOT_A_NAME = ["", " ", "\t", "a\nb", "a\x00", "a\u202eb", "x" * 257, 5, True, None, [ALICE], {"name": ALICE}]

CLAIMS: list[tuple[str, dict[str, Any], str]] = [
    ("another issuer", {"iss": "https://evil.example"}, "another issuer"),
    ("no issuer", {"iss": None}, "another issuer"),
    ("a list of issuers", {"iss": ["https://idp"]}, "another issuer"),
    ("another audience", {"aud": "something"}, "another audience"),
    ("no audience", {"aud": None}, "another audience"),
    ("an empty audience", {"aud": []}, "another audience"),
    ("the audience in another case", {"aud": HUB.upper()}, "another audience"),
    ("a part of the audience", {"aud": HUB + "-2"}, "another audience"),
    ("an audience that is no text", {"aud": {HUB: 1}}, "another audience"),
    ("audiences that are not all text", {"aud": [HUB, 5]}, "another audience"),
    ("a nested audience", {"aud": [[HUB]]}, "another audience"),
    ("Flyte's audience", {"aud": FLYTE}, "another audience"),
    ("Flyte's audience too", {"aud": [HUB, FLYTE]}, "tasks have"),
    ("Flyte's audience spelled otherwise", {"aud": [HUB, "HTTPS://Flyte.example.com/"]}, "tasks have"),
    ("a token that has ended", {"exp": int(time.time()) - 1}, "has ended"),
    ("a token that never ends", {"exp": None}, "when it ends"),
    ("an end that is text", {"exp": str(int(time.time()) + 300)}, "when it ends"),
    ("an end that is true", {"exp": True}, "when it ends"),
    ("an end that is no number", {"exp": float("nan")}, "when it ends"),
    ("an endless end", {"exp": float("inf")}, "when it ends"),
    ("an end in milliseconds", {"exp": int(time.time() + 300) * 1000}, "when it ends"),
    ("a token of tomorrow", {"nbf": int(time.time()) + 86400}, "from the future"),
    ("a token issued tomorrow", {"iat": int(time.time()) + 86400}, "from the future"),
    ("a beginning that is text", {"nbf": "0"}, "from the future"),
    ("no subject", {"sub": None}, "whom it speaks for"),
    *((f"the subject {value!r:.20}", {"sub": value}, "whom it speaks for") for value in NOT_A_NAME),
    ("no client", {"client_id": None}, "to which client"),
    *((f"the client {value!r:.20}", {"client_id": value}, "to which client") for value in NOT_A_NAME),
    ("two clients", {"azp": "another"}, "several clients"),
    ("one client and one that is none", {"azp": 5}, "to which client"),
    ("the hub's own client", {"client_id": OWN}, "one of a grant"),
    ("the hub's own client as azp", {"client_id": None, "azp": OWN}, "one of a grant"),
    ("the hub's own client beside another", {"azp": OWN}, "several clients"),
    ("a delegated token", {"act": {"sub": "agent"}}, "a delegated one"),
    ("an empty act", {"act": {}}, "a delegated one"),
    ("an act that is false", {"act": False}, "a delegated one"),
    ("a token bound to a key", {"cnf": {"jkt": "x"}}, "bound to a key"),
    ("an ID token by its nonce", {"nonce": "n"}, "an ID token"),
    ("an ID token by at_hash", {"at_hash": "h"}, "an ID token"),
    ("an ID token by c_hash", {"c_hash": "h"}, "an ID token"),
    ("a logout token", {"events": {"http://schemas.openid.net/event/backchannel-logout": {}}}, "logout token"),
    *((f"Keycloak's {typ}", {"typ": typ}, "claim typ") for typ in ("ID", "Refresh", "Offline", "Logout", "", ["x"])),
    *((f"the use {use}", {"token_use": use}, "claim token_use") for use in ("id", "refresh_token", 5)),
]


@pytest.mark.parametrize("types", [["at+jwt"], ["JWT", "at+jwt"]])
@pytest.mark.parametrize(("claims", "says"), [case[1:] for case in CLAIMS], ids=[case[0] for case in CLAIMS])
def test_what_the_issuer_has_signed_may_still_be_no_good(
    shared: SmallIssuer, claims: dict[str, Any], says: str, types: list[str]
) -> None:
    plain = {"typ": "JWT"} if "JWT" in types else {}
    token = signed({k: v for k, v in (shared.claims() | claims).items() if v is not None}, EC, header=plain)
    assert says in refused(people_of(shared, types=types), token).reason


def test_null_is_not_the_same_as_nothing_said(shared: SmallIssuer, people: People) -> None:
    for claims in ({"act": None}, {"exp": None}, {"sub": None}, {"azp": None}, {"iat": None}, {"typ": None}):
        refused(people, signed(shared.claims() | claims, EC))


@pytest.mark.parametrize("claims", [{"typ": "Bearer"}, {"token_use": "access"}, {"may_act": {"sub": "agent"}}])
def test_what_access_tokens_say_of_themselves_is_taken(shared: SmallIssuer, people: People, claims: Any) -> None:
    assert people.authenticate(Secret(shared.token(**claims))).subject == ALICE


def test_a_token_is_good_to_its_last_moment_and_not_after_it(shared: SmallIssuer) -> None:
    ends, at = int(time.time()) + 60, Clock()
    people = people_of(shared, clock=at)
    for now, good in ((ends - 0.01, True), (ends, False), (ends + 0.01, False)):
        at.now = now
        token = Secret(shared.token(exp=ends))
        if good:
            assert people.authenticate(token).expires_at == ends
        else:
            assert "has ended" in refused(people, token.reveal()).reason


def test_a_token_may_be_from_half_a_minute_ahead(shared: SmallIssuer, people: People) -> None:
    assert people.authenticate(Secret(shared.token(nbf=time.time() + 25, iat=time.time() + 25)))
    for name in ("nbf", "iat"):
        assert "from the future" in refused(people, shared.token(**{name: time.time() + 45})).reason


@pytest.mark.parametrize("typ", ["at+jwt", "AT+JWT", "application/at+jwt", "Application/At+Jwt"])
def test_the_type_is_compared_as_media_types_are(shared: SmallIssuer, people: People, typ: str) -> None:
    assert people.authenticate(Secret(shared.token(header={"typ": typ}))).subject == ALICE
    assert people_of(shared, types=[typ]).authenticate(Secret(shared.token())).subject == ALICE


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ({"typ": None}, "that it is an access token"),
        ({"typ": "JWT"}, "that it is an access token"),
        ({"typ": "logout+jwt"}, "that it is an access token"),
        ({"typ": "text/at+jwt"}, "that it is an access token"),
        ({"typ": ["at+jwt"]}, "that it is an access token"),
        ({"alg": "none"}, "not allowed"),
        ({"alg": "None"}, "not allowed"),
        ({"alg": "HS256"}, "not allowed"),
        ({"alg": "es256"}, "not allowed"),
        ({"alg": "ES256K"}, "not allowed"),
        ({"alg": ["ES256"]}, "not allowed"),
        ({"alg": "dir"}, "not allowed"),
        ({"alg": "RS256"}, "the issuer does not have"),
        ({"alg": "ES384"}, "the issuer does not have"),
        ({"kid": "unknown"}, "the issuer does not have"),
        ({"kid": ""}, "the issuer does not have"),
        ({"kid": "ec-384"}, "the issuer does not have"),
        ({"kid": 5}, "in a way that is none"),
        ({"kid": ["ec"]}, "in a way that is none"),
        ({"kid": "x" * 257}, "in a way that is none"),
        ({"crit": ["exp"], "exp": 1}, "must be understood"),
        ({"crit": []}, "must be understood"),
        ({"b64": True}, "must be understood"),
        ({"b64": False, "crit": ["b64"]}, "cannot be read"),
        ({"pad": "x" * 8200}, "cannot be read"),
    ],
)
def test_a_header_that_is_not_one_of_ours(shared: SmallIssuer, people: People, header: Any, says: str) -> None:
    content = base64.urlsafe_b64encode(json.dumps({"alg": "ES256", "typ": "at+jwt", "kid": "ec"} | header).encode())
    if header.get("typ", "") is None:
        content = base64.urlsafe_b64encode(b'{"alg": "ES256", "kid": "ec"}')
    _, payload, signature = shared.token().split(".")
    reason = refused(people, f"{content.decode().rstrip('=')}.{payload}.{signature}").reason
    # Another header is another signature, which is looked at last.
    assert says in reason


def test_a_header_may_hold_what_nobody_knows(shared: SmallIssuer, people: People) -> None:
    for header in ({"pi.atm": "2"}, {"x5t": "x"}, {"cty": "json"}):
        assert people.authenticate(Secret(shared.token(header=header))).subject == ALICE


FORGED: dict[str, Callable[[SmallIssuer], str]] = {
    "alg none": lambda it: unsigned(it.claims()),
    "alg none with our type": lambda it: tampered(it.token(), sub="mallory").rpartition(".")[0] + ".",
    "no signature": lambda it: it.token().rpartition(".")[0] + ".",
    "HS256 with the public RSA key": lambda it: signed_with_bytes(it.claims(), RSA.as_pem(private=False), "rsa"),
    "HS256 with the public EC key": lambda it: signed_with_bytes(it.claims(), EC.as_pem(private=False), "ec"),
    "HS256 with the JWK": lambda it: signed_with_bytes(it.claims(), json.dumps(RSA.as_dict()).encode(), "rsa"),
    "HS256 with nothing": lambda it: signed_with_bytes(it.claims(), b"", "ec"),
    "another key of the same name": lambda it: it.token(OTHER),
    "a key that the issuer does not have": lambda it: it.token(UNKNOWN),
    "a key that the token brings along": lambda it: it.token(
        UNKNOWN, header={"jwk": UNKNOWN.as_dict(private=False), "kid": "ec"}
    ),
    "a key that the token points to": lambda it: it.token(UNKNOWN, header={"jku": "https://evil.example/jwks"}),
    "the signature of another token": lambda it: tampered(it.token(), sub="mallory"),
    "RSA where the key is EC": lambda it: it.token(RSA, header={"kid": "ec"}),
    "a hash of another length": lambda it: it.token(RSA, "RS384", header={"alg": "RS256"}),
    "other padding": lambda it: it.token(RSA, "PS256", header={"alg": "RS256"}),
    "a signature that is all zeros": lambda it: it.token().rpartition(".")[0] + "." + "A" * 86,
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_a_forged_token_is_refused(shared: SmallIssuer, forge: Callable[[SmallIssuer], str]) -> None:
    for types in (["at+jwt"], ["at+jwt", "JWT"]):
        refused(people_of(shared, types=types), forge(shared))


def test_alg_none_is_refused_as_such_and_asks_nobody(issuer: SmallIssuer) -> None:
    claims = {"alg": "none", "typ": "at+jwt"}
    token = ".".join([*(encoded(part) for part in (claims, issuer.claims())), ""])
    assert "in a way that is not allowed" in refused(people_of(issuer), token).reason
    assert "another issuer" in refused(people_of(issuer), issuer.token(UNKNOWN, iss="https://evil.example")).reason
    assert not issuer.asked


def test_without_a_kid_the_issuer_must_have_one_fitting_key(issuer: SmallIssuer) -> None:
    issuer.published = [EC, RSA]
    assert people_of(issuer).authenticate(Secret(issuer.token(header={"kid": None}))).subject == ALICE
    assert "the signature" in refused(people_of(issuer), issuer.token(OTHER, header={"kid": None})).reason
    issuer.published = [EC, UNKNOWN]
    for key in issuer.published:
        token = issuer.token(key, header={"kid": None})
        assert "which of the issuer's keys" in refused(people_of(issuer), token).reason


def test_two_keys_of_one_name_are_both_tried(issuer: SmallIssuer) -> None:
    issuer.published = [OTHER, EC]
    people = people_of(issuer)
    assert people.authenticate(Secret(issuer.token(EC))).subject == ALICE
    assert people.authenticate(Secret(issuer.token(OTHER))).subject == ALICE


def test_clients_may_be_named(shared: SmallIssuer) -> None:
    people = people_of(shared, clients=[CLI, "another"])
    assert people.authenticate(Secret(shared.token())).client == CLI
    assert people.authenticate(Secret(shared.token(client_id="another"))).client == "another"
    assert "people may not use" in refused(people, shared.token(client_id="third")).reason
    assert people_of(shared).authenticate(Secret(shared.token(client_id="third"))).client == "third"


def test_two_hundred_tokens_of_unknown_keys_cost_the_issuer_one_answer(issuer: SmallIssuer) -> None:
    steady = Clock()
    people = people_of(issuer, steady=steady)
    good = Secret(issuer.token())
    people.authenticate(good)
    steady.now += PAUSE
    for n in range(200):
        reason = refused(people, issuer.token(UNKNOWN, header={"kid": f"junk {n}"})).reason
        assert "a key that the issuer does not have" in reason
    assert people.authenticate(good).subject == ALICE
    assert issuer.asked["/jwks"] == 2


def test_a_key_that_was_rotated_in_is_taken_after_one_fetch(issuer: SmallIssuer) -> None:
    steady = Clock()
    people = people_of(issuer, steady=steady)
    old, new = Secret(issuer.token()), ECKey.generate_key("P-256", {"kid": "new"})
    people.authenticate(old)
    issuer.published = [new, EC]
    steady.now += PAUSE
    for _ in range(10):
        assert people.authenticate(Secret(issuer.token(new))).subject == ALICE
        assert people.authenticate(old).subject == ALICE
    assert issuer.asked["/jwks"] == 2


def test_people_who_are_known_pass_while_the_issuer_is_down(issuer: SmallIssuer) -> None:
    warm, cold = people_of(issuer), people_of(issuer)
    good = issuer.token()
    warm.authenticate(Secret(good))
    issuer.stop()
    assert warm.authenticate(Secret(good)).subject == ALICE
    refusal = refused(cold, good, 503)
    assert "the issuer's keys: http://127.0.0.1:" in refusal.reason
    assert "127.0.0.1" not in refusal.description
    assert refusal.retry_after == 5
    assert "cannot be reached" in cold.trouble
    assert warm.trouble == ""


def test_an_issuer_that_hangs_is_a_refusal_in_time(issuer: SmallIssuer) -> None:
    release = threading.Event()
    issuer.answers["/.well-known/openid-configuration"] = lambda call: release.wait(20) and None
    started = time.monotonic()
    try:
        assert "did not answer in 0.5 s" in refused(people_of(issuer, timeout=0.5), issuer.token(), 503).reason
    finally:
        release.set()
    assert time.monotonic() - started < 3


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, b"<html>Log in"),
        Answer(200, b"x" * (1 << 20) + b"x"),
        Answer(302, headers=(("Location", "/jwks"),)),
        json_answer(200, {"keys": []}),
        Answer(500),
    ],
)
def test_an_issuer_that_talks_nonsense_condemns_nobody(issuer: SmallIssuer, answer: Answer) -> None:
    issuer.answers["/jwks"] = lambda call: answer
    assert "the issuer's keys" in refused(people_of(issuer), issuer.token(), 503).reason


@pytest.mark.parametrize(("off", "says"), [(3600, "s ahead of the issuer's"), (-3600, "s behind the issuer's")])
def test_a_hub_whose_clock_is_an_hour_off_says_so_and_judges_no_token(
    issuer: SmallIssuer, introspecting: dict[str, Any], off: int, says: str
) -> None:
    wrong, steady = [float(off)], Clock()
    people = people_of(issuer, clock=lambda: time.time() + wrong[0], steady=steady, **introspecting)
    good, ended = issuer.token(), issuer.token(exp=int(time.time()) - 1800, iat=int(time.time()) - 7200)
    issuer.tokens["opaque"] = issuer.claims(active=True)
    for token in (good, ended, "opaque"):
        refusal = refused(people, token, 503)
        assert f"the clock of this machine is {abs(off)} {says}" in refusal.reason.replace("3599", "3600")
    assert says in people.trouble
    assert refused(people, issuer.token(OTHER)).reason == "the signature of the token is wrong"
    wrong[0] = 0.0  # somebody sets it right
    steady.now += PAUSE
    assert people.authenticate(Secret(good)).subject == ALICE
    assert people.authenticate(Secret("opaque")).subject == ALICE
    assert "has ended" in refused(people, ended).reason


def test_a_clock_that_seems_wrong_is_compared_anew_before_anybody_is_sent_away(issuer: SmallIssuer) -> None:
    steady = Clock()
    people = people_of(issuer, steady=steady)
    good = Secret(issuer.token())
    people.authenticate(good)
    steady.now += 120  # the two clocks of a machine that was asleep differ, too
    assert "120 s behind" in people.trouble.replace("119", "120")
    assert people.authenticate(good).subject == ALICE
    assert (issuer.asked["/jwks"], people.trouble) == (2, "")


def test_a_clock_that_is_a_minute_off_is_good_enough(issuer: SmallIssuer) -> None:
    for off in (-60, 60):
        people = people_of(issuer, clock=lambda off=off: time.time() + off)
        assert people.authenticate(Secret(issuer.token(iat=int(time.time()) - 61))).subject == ALICE


def test_an_opaque_token_is_asked_about_as_the_hubs_client(
    issuer: SmallIssuer, introspecting: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    people = people_of(issuer, **introspecting)
    issuer.tokens["0paque-t0ken"] = issuer.claims(active=True, iss=None, scope="a b", token_type="Bearer")
    for _ in range(3):
        person = people.authenticate(Secret("0paque-t0ken"))
        assert (person.subject, person.client, person.scopes) == (ALICE, CLI, ("a", "b"))
    basic = "Basic " + base64.b64encode(f"{INTROSPECTOR}:s3cr3t".encode()).decode()
    assert issuer.shown == [("0paque-t0ken", "access_token", basic)] * 3
    assert issuer.asked["/jwks"] == 0
    assert "0paque" not in caplog.text


@pytest.mark.parametrize("text", ["{}", "{}.0", " {} "])
def test_times_of_an_introspection_answer_may_be_text(
    issuer: SmallIssuer, introspecting: dict[str, Any], text: str
) -> None:
    times = {"exp": time.time() + 300, "iat": time.time(), "nbf": time.time() - 10}
    issuer.tokens["opaque"] = issuer.claims(active=True, **{n: text.format(int(at)) for n, at in times.items()})
    assert people_of(issuer, **introspecting).authenticate(Secret("opaque")).subject == ALICE


@pytest.mark.parametrize("active", [False, None, 1, "true"])
def test_only_an_active_opaque_token_is_good(issuer: SmallIssuer, introspecting: dict[str, Any], active: Any) -> None:
    issuer.tokens["opaque"] = issuer.claims() | {"active": active}
    assert "is not active" in refused(people_of(issuer, **introspecting), "opaque").reason


HELD_TO = [case for case in CLAIMS if not case[0].endswith(" that is text") and case[1] != {"iss": None}]
"""As a JWT's; but a server that introspects may leave its name out, and write numbers as text."""


@pytest.mark.parametrize(
    ("claims", "says"),
    [case[1:] for case in HELD_TO]
    + [
        ({"exp": "soon"}, "when it ends"),
        ({"exp": str(int(time.time()) - 1)}, "has ended"),
        ({"exp": "inf"}, "when it ends"),
        ({"nbf": "soon"}, "from the future"),
        ({"nbf": str(int(time.time()) + 3000)}, "from the future"),
        ({"iat": str(int(time.time()) + 3000)}, "from the future"),
        ({"token_type": "refresh_token"}, "claim token_type"),
        ({"token_type": "DPoP"}, "claim token_type"),
        ({"token_use": "refresh_token"}, "claim token_use"),
    ],
    ids=[case[0] for case in HELD_TO]
    + ["no number", "text, and ended", "text, and endless", "no number to begin", "text, and later", "issued later"]
    + ["a refresh token", "a DPoP token", "a refresh use"],
)
def test_what_is_said_of_an_opaque_token_is_held_to_the_same_rules(
    issuer: SmallIssuer, introspecting: dict[str, Any], claims: dict[str, Any], says: str
) -> None:
    issuer.tokens["opaque"] = {k: v for k, v in (issuer.claims(active=True) | claims).items() if v is not None}
    assert says in refused(people_of(issuer, **introspecting), "opaque").reason


def test_a_jwt_is_never_asked_about(issuer: SmallIssuer, introspecting: dict[str, Any]) -> None:
    people = people_of(issuer, **introspecting)
    for forge in FORGED.values():
        token = forge(issuer)
        issuer.tokens[token] = issuer.claims(active=True)
        refused(people, token)
    for header in (b"{}", b"[]", b"1", b'"x"', b'{"alg": 1}'):
        token = base64.urlsafe_b64encode(header).decode().rstrip("=") + ".e30.e30"
        issuer.tokens[token] = issuer.claims(active=True)
        refused(people, token)
    assert issuer.asked["/introspect"] == 0
    assert issuer.shown == []


@pytest.mark.parametrize("token", ["opaque", "a.b", "a.b.c.d.e", "!.e30.e30", "a.b.c", "....", "x" * MAX_TOKEN])
def test_what_is_no_jwt_is_refused_where_nobody_is_to_be_asked(issuer: SmallIssuer, token: str) -> None:
    refused(people_of(issuer), token)
    assert not issuer.asked


@pytest.mark.parametrize("token", ["", " ", "a b", "a\r\nb", "é", "a\x00", "=", "x" * (MAX_TOKEN + 1), "\ud800"])
def test_what_is_no_token_at_all_is_asked_about_nowhere(
    issuer: SmallIssuer, introspecting: dict[str, Any], token: str
) -> None:
    assert "no token" in refused(people_of(issuer, **introspecting), token).reason
    assert not issuer.asked


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (json_answer(401, {"error": "invalid_client"}), "answered 401"),
        (json_answer(403, {}), "answered 403"),
        (Answer(500), "answered 500"),
        (Answer(200, b"<html>"), "HTML"),
        (Answer(302, headers=(("Location", "/x"),)), "answered 302"),
        (Answer(200, b"x" * ((1 << 20) + 1)), "more than"),
        (None, "introspection: "),
    ],
)
def test_an_introspection_that_fails_condemns_nobody(
    issuer: SmallIssuer, introspecting: dict[str, Any], answer: Answer | None, says: str
) -> None:
    issuer.answers["/introspect"] = lambda call: answer
    refusal = refused(people_of(issuer, **introspecting), "0paque-t0ken", 503)
    assert says in refusal.reason
    assert "s3cr3t" not in repr(refusal)


def test_a_client_without_its_secret_is_a_refusal_that_says_so(
    issuer: SmallIssuer, introspecting: dict[str, Any]
) -> None:
    Path(introspecting["introspection"]["client_secret_file"]).unlink()
    assert "client_secret_file" in refused(people_of(issuer, **introspecting), "opaque", 503).reason


def test_a_flood_of_opaque_tokens_asks_a_few_questions_at_a_time(
    issuer: SmallIssuer, introspecting: dict[str, Any]
) -> None:
    people = people_of(issuer, **(introspecting | {"timeout": 0.6}))
    going, most, lock, release = [0], [0], threading.Lock(), threading.Event()

    def slow(call: Any) -> Answer:
        with lock:
            going[0] += 1
            most[0] = max(most[0], going[0])
        release.wait(10)
        with lock:
            going[0] -= 1
        return json_answer(200, {"active": False})

    def status(n: int) -> int:
        with pytest.raises(Refusal) as refusal:
            people.authenticate(Secret(f"junk{n}"))
        return refusal.value.status

    issuer.answers["/introspect"] = slow
    with ThreadPoolExecutor(3 * IN_FLIGHT) as pool:
        try:
            answered = list(pool.map(status, range(3 * IN_FLIGHT)))
        finally:
            release.set()
    assert set(answered) <= {429, 503}
    assert most[0] <= 2 * IN_FLIGHT  # a question that was given up may still be in the issuer's hands


def test_a_real_provider_says_who_is_who() -> None:
    with running("external") as provider:
        issuer = provider.issuer
        spec = PeopleSettings.model_validate({"issuer": issuer.issuer, "audience": issuer.audience})
        people = People(spec, not_audiences=frozenset({FLYTE}), not_clients=frozenset({"batch"}))
        person = people.authenticate(Secret(issuer.sign("flytectl", "alice", ["all"])[0]))
        assert (person.subject, person.client, person.scopes) == ("alice", "flytectl", ("all",))
        delegated, _ = issuer.sign("flytectl", "alice", ["all"], actor={"sub": "batch"})
        assert "a delegated one" in refused(people, delegated).reason
        assert "one of a grant" in refused(people, issuer.sign("batch", "alice", ["all"])[0]).reason
        assert "an access token" in refused(people, issuer.sign_id_token("flytectl", "alice", "x")).reason
        hub = spec.model_copy(update={"audience": HUB})
        for_hub = People(hub, not_audiences=frozenset({issuer.audience}), not_clients=frozenset())
        assert "another audience" in refused(for_hub, issuer.sign("flytectl", "alice", ["all"])[0]).reason


def test_a_real_providers_refresh_token_is_nobodys_access_token(monkeypatch: pytest.MonkeyPatch) -> None:
    with running("external") as provider:
        issuer = provider.issuer
        monkeypatch.setenv("HUB_SECRET", provider.secret("ci"))
        client = {"client_id": "ci", "client_secret_env": "HUB_SECRET"}
        spec = PeopleSettings.model_validate(
            {"issuer": issuer.issuer, "audience": issuer.audience, "introspect": True, "introspection": client}
        )
        people = People(spec, not_audiences=frozenset(), not_clients=frozenset())
        assert "another audience" in refused(people, issuer.sign_in("alice")).reason
        assert "not active" in refused(people, "nobody-issued-this").reason
        assert provider.counts.snapshot()["introspections"] == {"ci": 2}


@MANY
@given(st.one_of(st.text(), st.binary().map(lambda raw: raw.decode("latin-1")), st.text(string.printable)))
def test_anything_at_all_is_a_person_or_a_refusal(people: People, token: str) -> None:
    refused(people, token)


SEGMENT = st.one_of(
    st.binary(max_size=60).map(lambda raw: base64.urlsafe_b64encode(raw).decode().rstrip("=")),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text() | st.floats(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["alg", "typ", "kid", "x"]), inner),
        max_leaves=6,
    ).map(encoded),
)


@MANY
@given(SEGMENT, SEGMENT, SEGMENT)
def test_anything_in_three_parts_is_refused(people: People, header: str, payload: str, signature: str) -> None:
    refused(people, f"{header}.{payload}.{signature}")


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from([HUB, CLI, FLYTE]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=5,
)
NAMES = ["iss", "sub", "aud", "exp", "nbf", "iat", "client_id", "azp", "act", "typ", "scope", "scp", "nonce", "cnf"]


@MANY
@given(st.dictionaries(st.sampled_from(NAMES), ODD, max_size=4))
def test_whatever_the_issuer_signs_is_a_person_or_a_refusal(
    shared: SmallIssuer, people: People, claims: dict[str, Any]
) -> None:
    token = signed(shared.claims() | claims, EC)
    try:
        person = people.authenticate(Secret(token))
    except Refusal as refusal:
        assert (refusal.status, refusal.error) == (401, "invalid_token")
        assert token not in repr(refusal)
        return
    assert isinstance(person, Person)
    assert person.subject == claims.get("sub", ALICE)
    assert not {"act", "nonce", "cnf"} & set(claims)


LETTERS = string.ascii_letters + string.digits + "-_.~+/="


@MANY
@given(st.data())
def test_a_token_of_which_one_character_is_another_is_nobodys(
    shared: SmallIssuer, people: People, data: st.DataObject
) -> None:
    token = data.draw(st.sampled_from([shared.token(key) for key in KEYS]))
    at = data.draw(st.integers(0, len(token) - 1))
    letter = data.draw(st.sampled_from([letter for letter in LETTERS if letter != token[at]]))
    refused(people, token[:at] + letter + token[at + 1 :])


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"introspect": True}, "introspect needs introspection"),
        ({"introspect": True, "introspection": {"client_id": "hub"}}, "introspect needs introspection"),
        ({"introspection": {"client_id": "hub", "client_secret_env": "X"}}, "set introspect: true"),
        ({"algorithms": ["HS256"]}, "algorithms"),
        ({"algorithms": ["none"]}, "algorithms"),
        ({"algorithms": []}, "algorithms"),
        ({"types": []}, "types"),
        ({"issuer": "http://idp.example.com"}, "not an https URL"),
        ({"issuer": "https://me:password@idp.example.com"}, "holds credentials"),
        ({"jwks_uri": "ftp://idp.example.com/jwks"}, "not an https URL"),
        ({"audience": ""}, "audience"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(changed: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        PeopleSettings.model_validate({"issuer": "https://idp.example.com", "audience": HUB} | changed)


def test_the_client_that_introspects_reaches_the_issuer_as_the_hub_does() -> None:
    client = {"client_id": "hub", "client_secret_env": "X"}
    shared = {"issuer": "https://idp.example.com", "audience": HUB, "ca_file": "/etc/ca.pem", "timeout": 3}
    settings = PeopleSettings.model_validate(shared | {"introspect": True, "introspection": client | {"timeout": 9}})
    found = settings.introspecting_client
    assert (found.issuer, found.ca_file, found.timeout) == ("https://idp.example.com", Path("/etc/ca.pem"), 9)
    assert found.method == "client_secret_basic"


@pytest.mark.parametrize(
    ("audiences", "clients", "says"), [({HUB}, set(), "is Flyte's too"), (set(), {CLI}, "is the hub's own")]
)
def test_settings_that_would_let_a_tasks_token_in_are_refused(audiences: Any, clients: Any, says: str) -> None:
    spec = PeopleSettings(issuer="https://idp.example.com", audience=HUB, clients=(CLI,))
    with pytest.raises(ConfigError, match=says):
        People(spec, not_audiences=frozenset(audiences), not_clients=frozenset(clients))
