"""`grant`, `grants`, `revoke`: a person and their hub, at a terminal and without one."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import certificates
import pytest
import scripted_hub
from person_of_a_hub import Person
from scripted_hub import TOKEN, Hub

from flytekitplugins.authagent import diagnosis, hub_client, terminal
from flytekitplugins.authagent.cli import consent, hub, revoke
from flytekitplugins.authagent.credential import Secret
from flytekitplugins.authagent.errors import AuthAgentError, Denied, ProviderUnavailable

EXECUTION = "flytesnacks:development:abc"


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Person]:
    tmp_path.chmod(0o700)
    with scripted_hub.running() as it:
        yield Person(tmp_path, it)


def test_a_grant_is_given_and_shown(person: Person) -> None:
    done = person.run("grant", EXECUTION, "--for", "90s", "--scope", "all", "--scope", "x")
    assert (done.returncode, done.stderr) == (0, "")
    for part in (EXECUTION, "alice", "all x", "active", person.hub.only()["id"]):
        assert part in done.stdout
    assert re.search(r"\(in (89|90) s\)", done.stdout)
    assert person.hub.forms == [{"execution": EXECUTION, "expires_in": "90", "scope": "all x"}]
    said = json.loads(person.run("grant", "p:d:n", "--json").stdout)
    assert (said["execution"], said["subject"], said["scopes"], said["launched"]) == ("p:d:n", "alice", [], True)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", said["expires_at"])
    assert TOKEN not in done.stdout


def test_for_how_long_is_the_hubs_to_say_unless_the_person_does(person: Person) -> None:
    person.hub.longest = 4 * 3600
    done = person.run("grant", EXECUTION)
    assert (done.returncode, "(in 4 h)" in done.stdout) == (0, True), done.stderr
    assert person.hub.forms == [{"execution": EXECUTION}]
    done = person.run("grant", EXECUTION, "--for", "8h")
    assert (done.returncode, "ask for less time" in done.stderr) == (2, True)


def test_a_grant_that_lasts_longer_than_what_is_asked_for_stays_and_that_is_said(person: Person) -> None:
    there = person.hub.give(EXECUTION)
    until = there["expires_at"]
    done = person.run("grant", EXECUTION, "--for", "10m")
    assert (done.returncode, "(in 60 min)" in done.stdout, there["expires_at"]) == (0, True, until)
    assert re.search(r"a grant until \S+ \(in 60 min\) already, which is later, so it stays", done.stderr)
    assert f"`authagent revoke {there['id']}` ends it" in done.stderr
    done = person.run("grant", EXECUTION, "--for", "10m", "--json")
    assert (done.stderr, json.loads(done.stdout)["id"]) == ("", there["id"])


@pytest.mark.parametrize(("options", "minutes"), [((), 480), (("--for", "2h"), 120), (("--for", "60m"), 60)])
def test_a_grant_that_is_prolonged_or_lasts_as_asked_needs_no_word(
    person: Person, options: tuple[str, ...], minutes: int
) -> None:
    there = person.hub.give(EXECUTION)
    done = person.run("grant", EXECUTION, *options)
    assert (done.returncode, done.stderr) == (0, "")
    assert abs(there["expires_at"] - there["created_at"] - minutes * 60) < 10


@pytest.mark.parametrize(
    ("arguments", "environ", "code", "says"),
    [
        (("grant",), {}, 2, "PROJECT:DOMAIN:NAME"),
        (("grant", "abc"), {}, 2, "does not name an execution"),
        (("grant", EXECUTION, "--for", "forever"), {}, 2, "is no time such as"),
        (("grant", EXECUTION, "--for", "9d"), {}, 2, "ask for less time"),
        (("grant", EXECUTION), {"AUTHAGENT_HUB": ""}, 2, "no hub is configured"),
        (("grant", EXECUTION), {"AUTHAGENT_HUB": "http://hub.example.com"}, 2, "AUTHAGENT_HUB"),
        (("grant", EXECUTION), {"AUTHAGENT_HUB_TOKEN_FILE": ""}, 2, "nothing says how to log in"),
        (
            ("grant", EXECUTION),
            {"AUTHAGENT_HUB_TOKEN_FILE": "/nowhere/token"},
            2,
            "AUTHAGENT_HUB_TOKEN_FILE names /nowhere/token, which is not there",
        ),
        (("grants",), {"AUTHAGENT_HUB": "http://127.0.0.1:9"}, 5, "cannot be reached"),
        (("grants", "extra"), {}, 2, "extra"),
        (("revoke",), {}, 2, "say which grants to end"),
        (("revoke", "--all", "x"), {}, 2, "say which grants to end"),
        (("revoke", "a:b"), {}, 2, "does not name an execution"),
        (("revoke", "../x"), {}, 2, "is no grant's id"),
        (("revoke", "unknown"), {}, 4, "you have no such grant"),
    ],
)
def test_exit_codes(person: Person, arguments: tuple[str, ...], environ: dict[str, str], code: int, says: str) -> None:
    done = person.run(*arguments, **environ)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert TOKEN not in done.stderr


def test_the_grants_are_listed_a_line_each(person: Person) -> None:
    assert "No execution acts for you" in person.run("grants").stderr
    running, ended = person.hub.give(EXECUTION), person.hub.give("p:d:ended")
    running["children"] = 1
    ended |= {"status": "ended", "reason": "expired"}
    done = person.run("grants")
    headings, first, second = done.stdout.splitlines()
    assert headings.split() == ["EXECUTION", "EXPIRES", "STATUS", "CHILDREN", "ID"]
    assert first.split()[:5] == ["p:d:ended", "-", "ended", "(expired)", "0"]
    assert {line.index(word) for line, word in ((headings, "ID"), (first, ended["id"]), (second, running["id"]))} == {
        headings.index("ID")
    }
    assert second.startswith(EXECUTION)
    for part in ("in 60 min", "  active ", running["id"]):
        assert part in second
    said = json.loads(person.run("grants", "--json").stdout)
    assert [(g["execution"], g["status"], g["reason"]) for g in said] == [
        ("p:d:ended", "ended", "expired"),
        (EXECUTION, "active", None),
    ]


@pytest.mark.parametrize(
    ("reason", "says"),
    [
        ("execution_ended", "ended (the execution has ended)"),
        ("lost", "ended (lost: the identity provider does not take"),
        ("", "ended (the hub does not say why)"),
        ("something_new", "ended (something_new)"),
    ],
)
def test_why_a_grant_ended_is_said_in_words(person: Person, reason: str, says: str) -> None:
    grant = person.hub.give(EXECUTION)
    grant |= {"status": "ended", "reason": reason}
    assert says in person.run("grants").stdout


def test_a_list_that_may_go_on_says_so(person: Person) -> None:
    for n in range(199):
        person.hub.give(f"p:d:n{n}")
    assert person.run("grants").stderr == ""
    for n in range(199, 230):
        person.hub.give(f"p:d:n{n}")
    done = person.run("grants")
    assert (done.stdout.count("\n"), "There may be more" in done.stderr) == (201, True)  # with the headings


def test_grants_end_by_execution_by_id_and_all_together(person: Person) -> None:
    one, two, three = (person.hub.give(f"p:d:n{n}") for n in range(3))
    done = person.run("revoke", "p:d:n0", one["id"], "p:d:unknown", two["id"])
    assert (done.returncode, "p:d:unknown" in done.stderr) == (4, True)  # the others are ended all the same
    assert [line.split("  ")[:2] for line in done.stdout.splitlines()] == [
        ["p:d:n0", "ended (revoked)"],
        ["p:d:n0", "ended (revoked)"],
        ["p:d:n1", "ended (revoked)"],
    ]
    assert "being revoked at the identity provider" in done.stdout
    assert three["status"] == "active"
    done = person.run("revoke", "--all", "--json")
    assert [g["execution"] for g in json.loads(done.stdout)] == ["p:d:n2"]
    assert person.hub.requests == {"POST /grants/revoke": 5, "GET /grants": 2}  # once more: is that all?
    assert "No execution acts for you" in person.run("revoke", "--all").stderr


def test_all_are_ended_although_the_hub_lists_so_many_only(person: Person) -> None:
    given = [person.hub.give(f"p:d:n{n}") for n in range(230)]
    done = person.run("revoke", "--all")
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 230)
    assert {grant["reason"] for grant in given} == {"revoked"}
    assert person.hub.requests == {"POST /grants/revoke": 230, "GET /grants": 3}


def test_those_that_cannot_be_ended_are_tried_once_each_and_said(person: Person) -> None:
    person.hub.listed = 2
    stuck, *_ = given = [person.hub.give(f"p:d:n{n}") for n in range(5)]
    person.hub.stuck = {stuck["id"]}
    done = person.run("revoke", "--all", "--json")
    assert (done.returncode, done.stderr.count("\n")) == (5, 1)
    assert f"authagent: {stuck['id']}: " in done.stderr
    assert len(json.loads(done.stdout)) == 4
    assert [grant["status"] for grant in given] == ["active"] + ["ended"] * 4
    person.hub.requests.clear()
    done = person.run("revoke", "--all")
    assert (done.returncode, done.stdout) == (5, "")
    assert "No execution acts for you" not in done.stderr
    assert person.hub.requests == {"POST /grants/revoke": 1, "GET /grants": 2}


def test_what_has_ended_is_said_although_the_hub_then_goes(person: Person) -> None:
    """The token expires meanwhile, for example."""
    given = [person.hub.give(f"p:d:n{n}") for n in range(3)]
    person.hub.patience = 2
    done = person.run("revoke", "--all", "--json")
    assert (done.returncode, "the hub does not take the token" in done.stderr) == (4, True)
    assert [g["execution"] for g in json.loads(done.stdout)] == ["p:d:n2"]
    assert [grant["status"] for grant in given] == ["active", "active", "ended"]


def test_a_hub_that_never_runs_out_of_grants_is_not_asked_for_ever() -> None:
    it = Hub()
    client = hub_client.HubClient("https://hub.example.com", lambda: Secret(TOKEN))

    def mine() -> tuple[hub_client.Grant, ...]:
        return (hub_client.grant(it.give(f"p:d:n{len(it.grants)}"), client.url),)

    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hub_client.HubClient, "mine", lambda _: mine())
        with pytest.raises(ProviderUnavailable, match="more grants than these 100"):
            found.extend(revoke.living(client))


def test_a_hub_that_does_not_end_what_it_was_asked_to_is_not_believed(person: Person) -> None:
    grant = person.hub.give(EXECUTION)
    person.hub.changes = {"status": "active"}
    done = person.run("revoke", grant["id"])
    assert (done.returncode, "did not end it" in done.stderr) == (4, True)


def test_consent_is_waited_for_at_a_terminal(person: Person) -> None:
    person.hub.consent = 1
    with person.typing("grant", EXECUTION, "--no-browser", "--json") as shown:
        shown.wait_for(f"{person.hub.url}/consent/")
        status, out = shown.end()
    assert (status, json.loads(out)["status"]) == (0, "active")


def test_ctrl_c_while_consent_is_waited_for_ends_the_grant(person: Person) -> None:
    person.hub.consent = 1000
    with person.typing("grant", EXECUTION, "--no-browser", controlling=True) as shown:
        shown.wait_for("/consent/")
        os.write(shown.leader, b"\x03")
        status, out = shown.end()
    assert (status, out) == (128 + signal.SIGINT, "")
    assert person.hub.only()["reason"] == "revoked"


def someone(it: Hub, said: list[str]) -> hub.Person:
    client = hub_client.HubClient(it.url, lambda: Secret(TOKEN))
    shown = replace(terminal.here(), say=said.append, open=lambda url: False)
    return hub.Person(client, shown, sees=True, _gone=threading.Event())


@pytest.mark.parametrize(("answer", "looks"), [(None, 5), (503, 3)])
def test_nobody_who_consents_is_waited_for_no_longer_than_said(answer: int | None, looks: int) -> None:
    with scripted_hub.running(consent=1000) as it:
        said: list[str] = []
        them, clock = someone(it, said), [0.0]

        def sleep(seconds: float) -> None:
            clock[0] += seconds

        pending = them.hub.deposit(EXECUTION, seconds=60)
        if answer:
            it.answers["GET /grants/ID"] = (answer, {}, b"")
        with pytest.raises(ProviderUnavailable, match="nobody consented within 6 s"):
            consent.wait(pending, them, patience=6.0, sleep=sleep, now=lambda: clock[0])
        assert clock[0] < 6
        assert (it.only()["reason"], it.requests["GET /grants/ID"]) == ("revoked", looks - (answer == 503))
        assert any("is ended" in line for line in said)


@pytest.mark.parametrize("answer", [(404, b'{"error": "not_found"}'), (200, b"<html>")])
def test_a_hub_that_forgets_a_pending_grant_ends_the_wait(answer: tuple[int, bytes]) -> None:
    with scripted_hub.running(consent=1000) as it:
        them = someone(it, [])
        pending = them.hub.deposit(EXECUTION, seconds=60)
        it.answers["GET /grants/ID"] = (answer[0], {}, answer[1])
        with pytest.raises(AuthAgentError) as caught:
            consent.wait(pending, them, sleep=lambda seconds: None)
        assert isinstance(caught.value, Denied) == (answer[0] == 404)
        assert it.requests["GET /grants/ID"] == 1


def of_hub(person: Person, **environ: str) -> list[diagnosis.Finding]:
    return [f for f in diagnosis.diagnose(person.environ | environ) if f.check == "hub"]


def test_the_doctor_looks_at_the_hub_that_is_configured(person: Person, tmp_path: Path) -> None:
    (good,) = of_hub(person)
    assert (good.level, "https://idp.example.com" in good.what) == ("good", True)
    assert person.hub.authorizations == {""}  # no token is sent for that
    assert of_hub(person, AUTHAGENT_HUB="") == []
    (down,) = of_hub(person, AUTHAGENT_HUB="http://127.0.0.1:9")
    assert (down.level, down.exit_code, "is the hub up" in down.remedy) == ("bad", 5, True)
    (mute,) = of_hub(person, AUTHAGENT_HUB_TOKEN_FILE="")
    assert (mute.level, "client_id" in mute.remedy) == ("bad", True)


def test_the_certificate_of_the_hub_must_be_trusted(person: Person, tmp_path: Path) -> None:
    issued = certificates.issue(tmp_path, "localhost")
    with scripted_hub.running(tls=issued.server_context()) as it:
        untrusted = person.run("grants", AUTHAGENT_HUB=it.url)
        assert (untrusted.returncode, "certificate is not trusted" in untrusted.stderr) == (3, True)
        (finding,) = of_hub(person, AUTHAGENT_HUB=it.url)
        assert (finding.level, "ca_file" in finding.remedy) == ("bad", True)
        file = tmp_path / "authagent.yaml"
        file.write_text(f"hub: {{url: '{it.url}', ca_file: {issued.authority}}}\n")
        file.chmod(0o600)
        configured = {"AUTHAGENT_CONFIG": str(file), "AUTHAGENT_HUB": ""}
        assert person.run("grants", **configured).returncode == 0
        (finding,) = of_hub(person, **configured)
        assert finding.level == "good"
        assert it.requests == {"GET /grants": 1, "GET /.well-known/oauth-protected-resource": 1}
