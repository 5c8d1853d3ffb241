"""Consent on the hub's page, at the sandbox's provider: whose it is, and what becomes of everybody else's attempts."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import running_hub
from browsing import CALLBACK, VERIFIER, Browser, answer, asking, challenge
from consenting import Surfer, asked, changed, onward, proof, query, title
from hub_fixtures import shared_world, world  # noqa: F401 - fixtures
from postgres import Postgres
from running_hub import Hub, World, says, wait_for
from running_provider import Reply, send
from test_grants import fresh

from flytekitplugins.authagent.sandbox.dialect import PUBLIC_URL
from flytekitplugins.authagent.sandbox.exchange import json_answer

PAGE = {"upstream": {"consent": "page"}}


@pytest.fixture(scope="module")
def shared_hub(shared_world: World) -> Iterator[Hub]:  # noqa: F811 - a fixture
    with running_hub.running(shared_world, **PAGE) as made:
        yield made


@pytest.fixture
def hub(shared_hub: Hub, world: World) -> Hub:  # noqa: F811 - a fixture
    return shared_hub


def ask(hub: Hub, user: str = "alice") -> dict[str, Any]:
    """A grant of `user` that waits for them, for an execution that runs."""
    execution = hub.world.admin.launch(fresh(), user)
    return asked(hub, hub.world.token(user), execution)


def now(hub: Hub, grant: dict[str, Any], user: str = "alice") -> dict[str, Any]:
    return dict(hub.get(f"/grants/{grant['id']}", hub.world.token(user)).json())


def nothing_came_of_it(hub: Hub, grant: dict[str, Any]) -> None:
    """The hub redeemed nothing, and the grant still waits."""
    assert now(hub, grant)["status"] == "pending"
    assert hub.world.of_hub("codes") == 0


# Its person


def test_whoever_allows_it_and_signs_in_is_acted_for(hub: Hub, world: World) -> None:  # noqa: F811 - a fixture
    grant = ask(hub)
    pod, surfer = world.pod_of(grant["execution"]), Surfer()
    page = surfer.hub.get(grant["consent_uri"])
    assert (page.status, title(page)) == (200, "Let this execution act for you?")
    assert "alice, so Flyte says" in page.body.decode().replace('<bdi translate="no">', "").replace("</bdi>", "")
    done = surfer.consent(grant["consent_uri"], "alice")
    assert (done.status, title(done)) == (200, "Allowed")
    assert now(hub, grant)["status"] == "active"
    said = says(hub.ask(pod))
    assert (said["sub"], said["client_id"], said["aud"]) == ("alice", "hub", PUBLIC_URL)
    assert set(said["scp"]) == {"all"}  # and not what the sign-in has: openid, offline_access
    assert (world.of_hub("sign_ins"), world.of_hub("codes"), world.of_hub("refreshes")) == (1, 1, 1)
    assert hub.records(event="grant", outcome="deposited", grant=grant["id"])


def test_the_hub_asks_for_no_more_than_it_needs(hub: Hub) -> None:
    sent = query(Surfer().begin(ask(hub)["consent_uri"]))
    assert sent["redirect_uri"] == f"{hub.url}/consent/callback"
    assert sorted(sent["scope"].split()) == ["all", "offline_access", "openid"]
    assert (sent["client_id"], sent["code_challenge_method"], sent["response_type"]) == ("hub", "S256", "code")


def test_no_on_the_page_ends_it_and_nobody_has_to_sign_in(hub: Hub, world: World) -> None:  # noqa: F811 - a fixture
    grant, surfer = ask(hub), Surfer()
    reply = surfer.hub.decide(grant["consent_uri"], decision="deny")
    assert (reply.status, title(reply)) == (200, "Not allowed")
    assert (now(hub, grant)["status"], now(hub, grant)["reason"]) == ("ended", "declined")
    assert (world.of_hub("sign_ins"), world.of_hub("codes")) == (0, 0)
    assert surfer.hub.get(grant["consent_uri"]).status == 404


def test_no_at_the_provider_ends_it_too(hub: Hub, world: World) -> None:  # noqa: F811 - a fixture
    grant, surfer = ask(hub), Surfer()
    back = surfer.sign_in(surfer.begin(grant["consent_uri"]), "alice", "deny")
    assert query(back)["error"] == "access_denied"
    reply = surfer.hub.get(back)
    assert (reply.status, title(reply)) == (200, "Not allowed")
    assert (now(hub, grant)["status"], now(hub, grant)["reason"]) == ("ended", "declined")
    assert (world.of_hub("denials"), world.of_hub("codes")) == (1, 0)


def test_a_page_in_two_tabs_is_good_in_the_one_that_went_on_last(hub: Hub, world: World) -> None:  # noqa: F811 - as above
    grant, surfer = ask(hub), Surfer()
    first, second = surfer.begin(grant["consent_uri"]), surfer.begin(grant["consent_uri"])
    early, late = surfer.sign_in(first, "alice"), surfer.sign_in(second, "alice")
    assert surfer.hub.get(early).status == 403
    nothing_came_of_it(hub, grant)
    assert title(surfer.hub.get(late)) == "Allowed"
    assert (now(hub, grant)["status"], world.of_hub("codes")) == ("active", 1)


def test_somebody_may_begin_on_one_device_and_finish_on_another(hub: Hub, world: World) -> None:  # noqa: F811 - as above
    grant, laptop, phone = ask(hub), Surfer(), Surfer()
    left_open = laptop.sign_in(laptop.begin(grant["consent_uri"]), "alice")
    assert title(phone.consent(grant["consent_uri"], "alice")) == "Allowed"
    reply = laptop.hub.get(left_open)
    assert (reply.status, title(reply)) == (200, "Allowed")
    assert world.of_hub("codes") == 1


# Somebody else


def test_somebody_else_who_signs_in_on_the_link_gets_nothing_and_leaves_nothing(hub: Hub, world: World) -> None:  # noqa: F811
    grant = ask(hub)
    reply = Surfer().consent(grant["consent_uri"], "bob")
    assert (reply.status, title(reply)) == (403, "Somebody else signed in")
    assert b"bob" in reply.body
    assert b"alice" in reply.body
    assert now(hub, grant)["status"] == "pending"
    assert hub.ask(world.pod_of(grant["execution"])).status == 400
    wait_for(lambda: (world.of_hub("codes"), world.of_hub("revocations")) == (1, 1))
    assert len(hub.records(event="grant", outcome="somebody else signed in", grant=grant["id"])) == 1
    # The one who was asked can still do it.
    assert title(Surfer().consent(grant["consent_uri"], "alice")) == "Allowed"


def test_what_somebody_else_signed_in_for_is_revoked_until_it_is_done(hub: Hub, world: World) -> None:  # noqa: F811
    """Though the provider is down at that moment, and the hub is stopped and started meanwhile."""
    grant, surfer = ask(hub), Surfer()
    back = surfer.sign_in(surfer.begin(grant["consent_uri"]), "bob")
    answer = world.provider.provider._routes["/revoke"]
    world.provider.provider._routes["/revoke"] = (("POST",), lambda call: json_answer(503, {"error": "server_error"}))
    assert title(surfer.hub.get(back)) == "Somebody else signed in"
    of_nobody = {"event": "revocation", "execution": grant["execution"], "subject": ""}
    wait_for(lambda: hub.records(outcome="pending", **of_nobody))
    hub.stop()
    hub.start()
    world.provider.provider._routes["/revoke"] = answer
    wait_for(lambda: hub.records(outcome="done", **of_nobody), 20)
    assert world.of_hub("revocations") == 1
    assert hub.get("/grants", world.token("bob")).json()["grants"] == []
    assert title(Surfer().consent(grant["consent_uri"], "alice")) == "Allowed"


def test_a_link_that_is_sent_to_somebody_else_does_not_make_them_consent(hub: Hub, world: World) -> None:  # noqa: F811
    """Bob asks, and has alice follow his link: she is told that he asked, and what she allows is not given to him."""
    grant = ask(hub, "bob")
    page = Surfer().hub.get(grant["consent_uri"])
    assert b'Asked for by</dt><dd><bdi translate="no">bob' in page.body
    assert Surfer().consent(grant["consent_uri"], "alice").status == 403
    assert now(hub, grant, "bob")["status"] == "pending"
    wait_for(lambda: world.of_hub("revocations") == 1)


def test_a_sign_in_comes_back_in_the_browser_that_it_began_in_alone(hub: Hub) -> None:
    """Bob's own sign-in, whose last step he has alice's browser do (login CSRF); and alice's, which he got to see."""
    grant, of_bob = ask(hub), ask(hub, "bob")
    alice, bob, nobody = Surfer(), Surfer(), Surfer()
    hers = alice.sign_in(alice.begin(grant["consent_uri"]), "alice")
    his = bob.sign_in(bob.begin(of_bob["consent_uri"]), "bob")
    for who, url in ((alice, his), (bob, hers), (nobody, his), (nobody, hers)):
        reply = who.hub.get(url)
        assert (reply.status, title(reply)) == (403, "Not the answer to this")
    nothing_came_of_it(hub, grant)
    assert now(hub, of_bob, "bob")["status"] == "pending"
    assert title(alice.hub.get(hers)) == "Allowed"  # none of it took her own away
    assert title(bob.hub.get(his)) == "Allowed"


@pytest.mark.parametrize("whose", ["the other's state", "the other's grant", "none", "garbage", "twice", "too long"])
def test_a_state_that_is_not_this_sign_ins_is_no_answer(hub: Hub, whose: str) -> None:
    grant, of_bob = ask(hub), ask(hub, "bob")
    alice, bob = Surfer(), Surfer()
    hers = alice.sign_in(alice.begin(grant["consent_uri"]), "alice")
    his = bob.sign_in(bob.begin(of_bob["consent_uri"]), "bob")
    mine, theirs = query(hers)["state"], query(his)["state"]
    url = {
        "the other's state": changed(hers, state=theirs),
        "the other's grant": changed(hers, state=f"{of_bob['id']}.{mine.partition('.')[2]}"),
        "none": changed(hers, state=None),
        "garbage": changed(hers, state=f"{grant['id']}.\u00e4"),
        "twice": f"{hers}&state={theirs}",
        "too long": f"{hers}&more={'x' * 20_000}",
    }[whose]
    assert alice.hub.get(url).status in (403, 404, 414, 431)
    nothing_came_of_it(hub, grant)
    assert title(alice.hub.get(hers)) == "Allowed"


@pytest.mark.parametrize(
    "who", ["bob's code in alice's answer", "alice's code in bob's answer", "a code of another client"]
)
def test_a_code_of_another_sign_in_is_worth_nothing(hub: Hub, world: World, who: str) -> None:  # noqa: F811 - a fixture
    """PKCE binds a code to the browser's own sign-in, even where somebody knows its state."""
    grant, of_bob = ask(hub), ask(hub, "bob")
    alice, bob = Surfer(), Surfer()
    hers = alice.sign_in(alice.begin(grant["consent_uri"]), "alice")
    his = bob.sign_in(bob.begin(of_bob["consent_uri"]), "bob")
    if who.startswith("alice"):
        reply, looked_at, owner = bob.hub.get(changed(his, code=query(hers)["code"])), of_bob, "bob"
    elif who.startswith("bob"):
        reply, looked_at, owner = alice.hub.get(changed(hers, code=query(his)["code"])), grant, "alice"
    else:
        other = answer(Browser().decide(asking(world.provider, redirect_uri=CALLBACK), "alice"))["code"]
        reply, looked_at, owner = alice.hub.get(changed(hers, code=other)), grant, "alice"
    assert (reply.status, title(reply)) == (403, "This did not work")
    assert now(hub, looked_at, owner)["status"] == "pending"
    assert (world.of_hub("codes"), world.of_hub("refused_requests")) == (0, 0)
    assert world.counts["refused_mints"]["hub"] == 1
    # The state is used up: the right code does not come after the wrong one.
    assert (bob.hub.get(his) if owner == "bob" else alice.hub.get(hers)).status == 403
    assert world.of_hub("codes") == 0


def test_a_code_that_somebody_obtained_with_a_challenge_of_their_own_is_worth_nothing(hub: Hub, world: World) -> None:  # noqa: F811
    """Alice is made to sign in with the challenge of bob's sign-in, by a link of bob's."""
    of_bob = ask(hub, "bob")
    bob, alice = Surfer(), Surfer()
    back = alice.sign_in(bob.begin(of_bob["consent_uri"]), "alice")
    reply = bob.hub.get(back)  # bob's browser, bob's state, bob's verifier, and alice's code
    assert (reply.status, title(reply)) == (403, "Somebody else signed in")
    assert now(hub, of_bob, "bob")["status"] == "pending"
    wait_for(lambda: (world.of_hub("codes"), world.of_hub("revocations")) == (1, 1))
    assert challenge(VERIFIER) != query(bob.begin(of_bob["consent_uri"]))["code_challenge"]


# The same again


def test_an_answer_is_used_once(hub: Hub, world: World) -> None:  # noqa: F811 - a fixture
    grant, surfer = ask(hub), Surfer()
    back = surfer.sign_in(surfer.begin(grant["consent_uri"]), "alice")
    assert [title(surfer.hub.get(back)) for _ in range(3)] == ["Allowed"] * 3  # whoever reloads sees what came of it
    assert (world.of_hub("codes"), world.counts["refused_mints"].get("hub", 0)) == (1, 0)
    hub.revoke(world.token("alice"), id=grant["id"])
    assert surfer.hub.get(back).status == 404
    assert world.of_hub("codes") == 1


def test_an_answer_that_comes_eight_times_at_once_is_used_once(hub: Hub, world: World) -> None:  # noqa: F811 - a fixture
    grant, surfer = ask(hub), Surfer()
    back = surfer.sign_in(surfer.begin(grant["consent_uri"]), "alice")
    with ThreadPoolExecutor(8) as threads:
        replies = list(threads.map(lambda _: surfer.hub.get(back), range(8)))
    assert "Allowed" in [title(reply) for reply in replies]
    assert now(hub, grant)["status"] == "active"
    assert (world.of_hub("codes"), world.counts["refused_mints"].get("hub", 0)) == (1, 0)
    assert says(hub.ask(world.pod_of(grant["execution"])))["sub"] == "alice"


# Forms of others


@pytest.mark.parametrize(
    ("case", "headers"),
    [
        ("no cookie", {}),
        ("another browser's cookie", {}),
        ("proof of another grant", {}),
        ("no proof", {}),
        ("ours", {"Origin": "https://evil.example"}),
        ("ours", {"Origin": "null"}),
        ("ours", {"Origin": "the same host, another port"}),
        ("ours", {"Sec-Fetch-Site": "cross-site"}),
        ("ours", {"Sec-Fetch-Site": "same-site"}),
        ("ours", {"Content-Type": "text/plain"}),
    ],
)
def test_a_form_that_another_page_sends_is_refused(hub: Hub, world: World, case: str, headers: dict[str, str]) -> None:  # noqa: F811
    grant, other, surfer = ask(hub), ask(hub), Surfer()
    link = grant["consent_uri"]
    shown = proof(surfer.hub.get(link))
    match case:
        case "no cookie":
            surfer.hub.cookie = ""
        case "another browser's cookie":
            surfer = Surfer()
            surfer.hub.get(link)
        case "proof of another grant":
            shown = proof(surfer.hub.get(other["consent_uri"]))
        case "no proof":
            shown = ""
    if headers.get("Origin", "").startswith("the same"):
        headers = {"Origin": "http://127.0.0.1:1"}
    reply = surfer.post(link, shown, **headers)
    assert (reply.status, title(reply)) == (403, "Not from this page")
    nothing_came_of_it(hub, grant)
    assert len(hub.records(grant=grant["id"])) == 1


def test_a_decision_cannot_be_made_by_a_link(hub: Hub) -> None:
    grant, surfer = ask(hub), Surfer()
    shown = proof(surfer.hub.get(grant["consent_uri"]))
    reply = surfer.hub.get(f"{grant['consent_uri']}?decision=deny&proof={shown}")
    assert title(reply) == "Let this execution act for you?"
    nothing_came_of_it(hub, grant)


def test_every_page_forbids_frames_scripts_and_stores(hub: Hub) -> None:
    grant, surfer = ask(hub), Surfer()
    link = grant["consent_uri"]
    pages: list[Reply] = [surfer.hub.get(link), surfer.post(link, "wrong"), surfer.hub.get(f"{hub.url}/consent/none")]
    pages.append(surfer.post(link, proof(pages[0])))
    pages.append(surfer.hub.get(surfer.sign_in(onward(pages[-1]), "alice")))
    for page in pages:
        policy = page.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in policy
        assert "default-src 'none'" in policy
        assert page.headers["x-frame-options"] == "DENY"
        assert "no-store" in page.headers["cache-control"]
        assert page.headers["referrer-policy"] == "same-origin"
        assert b"<script" not in page.body
    assert title(pages[-1]) == "Allowed"


# Links and answers that are not, or not any more


def test_links_that_nobody_was_given_say_nothing(hub: Hub, world: World) -> None:  # noqa: F811 - a fixture
    taken = hub.url + "/consent/"
    for path in ("", "nothing", "0" * 32, "../grants", "callback", "callback?state=x.y&code=z", "%00", "x" * 300):
        reply = send("GET", taken + path)
        assert reply.status in (400, 404), path
    assert world.of_hub("codes") == 0


def test_a_link_goes_out_with_its_execution(hub: Hub, world: World) -> None:  # noqa: F811 - a fixture
    grant, surfer = ask(hub), Surfer()
    back = surfer.sign_in(surfer.begin(grant["consent_uri"]), "alice")
    world.admin.end(grant["execution"])
    wait_for(lambda: now(hub, grant)["status"] == "ended", 15)
    assert [surfer.hub.get(url).status for url in (grant["consent_uri"], back)] == [404, 404]
    assert world.of_hub("codes") == 0


@pytest.mark.parametrize("when", ["before the form", "before the answer", "while the code is redeemed"])
def test_what_is_revoked_meanwhile_does_not_begin(hub: Hub, world: World, when: str) -> None:  # noqa: F811 - a fixture
    grant, surfer, alice = ask(hub), Surfer(), world.token("alice")
    link = grant["consent_uri"]
    if when == "before the form":
        shown = proof(surfer.hub.get(link))
        hub.revoke(alice, id=grant["id"])
        assert surfer.post(link, shown).status == 404
        codes = 0
    elif when == "before the answer":
        back = surfer.sign_in(surfer.begin(link), "alice")
        hub.revoke(alice, id=grant["id"])
        assert surfer.hub.get(back).status == 404
        codes = 0
    else:
        back = surfer.sign_in(surfer.begin(link), "alice")
        world.provider.faults.put({"token_delay_ms": {"value": 1500, "count": 1}})
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(surfer.hub.get, back)
            wait_for(lambda: not world.provider.faults.snapshot().get("token_delay_ms"))
            assert hub.revoke(alice, id=grant["id"]).json()["status"] == "ended"
            reply = waiting.result()
        assert (reply.status, title(reply)) == (409, "Too late")
        codes = 1
    assert (now(hub, grant)["status"], now(hub, grant)["reason"]) == ("ended", "revoked")
    wait_for(lambda: (world.of_hub("codes"), world.of_hub("revocations")) == (codes, codes))
    assert hub.ask(world.pod_of(grant["execution"])).status == 400


@pytest.mark.parametrize("error", ["server_error", "invalid_scope", "login_required", "<script>alert(1)</script>"])
def test_an_error_of_the_provider_is_no_decision(hub: Hub, world: World, error: str) -> None:  # noqa: F811 - a fixture
    grant, surfer = ask(hub), Surfer()
    back = surfer.sign_in(surfer.begin(grant["consent_uri"]), "alice")
    reply = surfer.hub.get(changed(back, code=None, error=error, error_description="<b>call 555-0100</b>"))
    assert reply.status == 403
    assert b"555-0100" not in reply.body
    assert b"<script" not in reply.body
    nothing_came_of_it(hub, grant)
    assert title(surfer.consent(grant["consent_uri"], "alice")) == "Allowed"


@pytest.mark.parametrize("iss", [None, "https://evil.example", ""])
def test_an_answer_must_name_the_issuer_that_was_asked(hub: Hub, world: World, iss: str | None) -> None:  # noqa: F811
    """RFC 9207: another provider cannot have its answer, or its client's code, taken for this one's (mix-up)."""
    grant, surfer = ask(hub), Surfer()
    back = surfer.sign_in(surfer.begin(grant["consent_uri"]), "alice")
    assert query(back)["iss"] == world.provider.issuer.issuer
    assert surfer.hub.get(changed(back, iss=iss)).status == 403
    nothing_came_of_it(hub, grant)
    assert world.counts["refused_mints"].get("hub", 0) == 0
    assert surfer.hub.get(back).status == 403  # used up; only from the link does it start again
    assert title(surfer.consent(grant["consent_uri"], "alice")) == "Allowed"


def test_a_refusal_without_the_issuers_name_declines_nothing(hub: Hub, world: World) -> None:  # noqa: F811 - a fixture
    grant, surfer = ask(hub), Surfer()
    back = surfer.sign_in(surfer.begin(grant["consent_uri"]), "alice", "deny")
    assert surfer.hub.get(changed(back, iss="https://evil.example")).status == 403
    nothing_came_of_it(hub, grant)


# The hub is not one process for ever


def test_a_hub_that_starts_again_between_the_page_and_the_answer_knows_both(world: World) -> None:  # noqa: F811 - a fixture
    with running_hub.running(world, **PAGE) as hub:
        grant, surfer = ask(hub), Surfer()
        shown = proof(surfer.hub.get(grant["consent_uri"]))
        hub.stop()
        hub.start()
        url = onward(surfer.post(grant["consent_uri"], shown))
        hub.stop()
        hub.start()
        assert title(surfer.hub.get(surfer.sign_in(url, "alice"))) == "Allowed"
        hub.stop()
        hub.start()
        assert says(hub.ask(world.pod_of(grant["execution"])))["sub"] == "alice"
        assert world.of_hub("codes") == 1


def test_a_link_is_good_for_ten_minutes(world: World) -> None:  # noqa: F811 - a fixture
    with running_hub.running(world, **PAGE) as hub:
        grant, surfer = ask(hub), Surfer()
        back = surfer.sign_in(surfer.begin(grant["consent_uri"]), "alice")
        hub.stop()
        with (
            closing(sqlite3.connect(str(hub.content["hub"]["store"]).removeprefix("sqlite:///"))) as database,
            database,
        ):
            database.execute("UPDATE grants SET created_at = created_at - 601")
        hub.start()
        wait_for(lambda: now(hub, grant)["status"] == "ended")
        assert now(hub, grant)["reason"] == "declined"
        assert [surfer.hub.get(url).status for url in (grant["consent_uri"], back)] == [404, 404]
        assert world.of_hub("codes") == 0


@pytest.mark.peer
def test_another_replica_shows_the_page_takes_the_form_and_the_answer(world: World, postgres: Postgres) -> None:  # noqa: F811
    store = {"store": postgres.new_database()}
    with (
        running_hub.running(world, upstream=PAGE["upstream"], hub=store) as one,
        running_hub.running(world, upstream=PAGE["upstream"], hub=store | {"url": one.url}) as two,
    ):
        grant, surfer = ask(one), Surfer()

        def at(hub: Hub, url: str) -> str:
            return urlsplit(url)._replace(netloc=urlsplit(hub.url).netloc).geturl()

        link = grant["consent_uri"]
        shown = proof(surfer.hub.get(link))
        url = onward(surfer.post(at(two, link), shown, Origin=one.url))
        back = surfer.sign_in(url, "alice")
        assert back.startswith(one.url)
        one.stop()
        assert title(surfer.hub.get(at(two, back))) == "Allowed"
        assert now(two, grant)["status"] == "active"
        assert says(two.ask(world.pod_of(grant["execution"])))["sub"] == "alice"
        assert world.of_hub("codes") == 1


def test_no_secret_of_a_consent_is_in_the_log_or_the_audit_file(hub: Hub, world: World) -> None:  # noqa: F811 - a fixture
    grant, surfer = ask(hub), Surfer()
    url = surfer.begin(grant["consent_uri"])
    back = surfer.sign_in(url, "alice")
    surfer.hub.get(changed(back, iss="https://evil.example"))
    surfer.consent(grant["consent_uri"], "bob")
    again = surfer.sign_in(surfer.begin(grant["consent_uri"]), "alice")
    surfer.hub.get(again)
    given = hub.ask(world.pod_of(grant["execution"])).json()["access_token"]
    secrets = [
        query(back)["code"],
        query(again)["code"],
        query(again)["state"],
        surfer.hub.cookie.partition("=")[2],
        given,
    ]
    written = hub.log.read_text() + hub.audit.read_text() + Path(hub.file).read_text()
    assert not [secret for secret in secrets if secret in written]
