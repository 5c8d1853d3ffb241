"""`authagent policy`: an operator asks what the rules mean before anybody else finds out."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from test_command_line import authagent

FILE = """
socket: /run/authagent/agent.sock
upstreams:
  flyte: {kind: keyring, issuer: "https://idp.example.com", scopes: [all]}
  unused: {kind: keyring, issuer: "https://idp.example.com"}
rules:
  - {name: nightly, who: {uid: 1001}, give: {upstream: flyte, scopes: [all], max_lifetime: 15m}}
  - {name: billing, who: {uid: 1000}, narrow: {task: "billing.*"}, give: {upstream: flyte, max_lifetime: 15m}}
  - {name: others, who: {uid: [1000, 1002]}, give: {upstream: flyte, scopes: [all]}}
  - {name: forgotten, who: {uid: [1000, 1002]}, give: {upstream: flyte, scopes: [all], max_lifetime: 1m}}
"""
PODS = """
socket: /run/authagent/agent.sock
attestor: kubernetes
upstreams:
  flyte: {kind: keyring, issuer: "https://idp.example.com", scopes: [all]}
rules:
  - name: red
    who: {namespace: "*-production", project: billing}
    narrow: {labels: {team: red}, execution_identity: alice}
    give: {upstream: flyte, scopes: [all], max_lifetime: 15m}
"""
HUB = """
listen: http://127.0.0.1:8443
audit: /var/log/authagent/audit.jsonl
attestor: kubernetes
flyte: {endpoint: "dns:///flyte.example.com"}
hub:
  url: https://hub.example.com
  people: {issuer: "https://idp.example.com", audience: authagent-hub}
  store: memory
  keys_env: KEYS
  ask_flyte_as: service
upstreams:
  service: {kind: client_credentials, issuer: "https://idp.example.com", client_id: s, client_secret_file: /s, scopes: [all]}
  people: {kind: grant, consent: page, issuer: "https://idp.example.com", client_id: h, client_secret_file: /h, scopes: [all]}
rules:
  - {name: asked, who: {namespace: a}, give: {upstream: people, scopes: [all], max_lifetime: 15m, when: asked, principal: "a*", wait: 2s}}
  - {name: after, who: {namespace: a}, give: {upstream: service, max_lifetime: 15m}}
  - name: either
    who: {namespace: b}
    give: {upstream: people, scopes: [all], max_lifetime: 15m, scheduled: refuse, otherwise: {upstream: service, scopes: [all]}}
  - {name: long, who: {namespace: c}, give: {upstream: people, scheduled: refuse}}
"""  # noqa: E501 - one rule a line


def written(tmp_path: Path, content: str = FILE) -> str:
    file = tmp_path / "agent.yaml"
    file.write_text(content)
    file.chmod(0o600)
    return str(file)


def test_check_says_what_each_rule_is_and_notes_what_may_be_a_mistake(tmp_path: Path) -> None:
    done = authagent("policy", "check", written(tmp_path))

    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert len(lines) == 4
    gives = "gives from flyte, scopes of the upstream, at most 900 s"
    assert lines[1] == f"2. billing: uid 1000, narrowed by hints to task billing.*: {gives}"
    for note in ("'forgotten' never decides", "'others' has no max_lifetime", "upstream 'unused'", "no audit:"):
        assert note in done.stderr


def test_explain_says_which_rule_and_why_not_the_others(tmp_path: Path) -> None:
    done = authagent("policy", "explain", "--config", written(tmp_path), "--as", "uid=1000", "task=other.task")

    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["no", "no", "yes", "-", "given:"]
    assert "uid: 1000 is none of 1001" in done.stdout
    assert "task (hint): 'other.task' is none of billing.*" in done.stdout
    assert "given: by the rule 'others'" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("uid=7",), 4, "refused: invalid_client"),
        (("uid=1000", "--scope", "root"), 4, "refused: invalid_scope"),
        (("uid=1000", "--audience", "https://x"), 4, "refused: invalid_target"),
        (("uid=1000", "--requested-subject", "alice"), 4, "refused: unauthorized_client"),
        (("uid=65534",), 4, "refused: invalid_client"),
        (("uid",), 2, "KEY=VALUE"),
        (("uid=me",), 2, "uid is a number"),
        (("root=yes",), 2, "'root=yes' is not understood"),
    ],
)
def test_refusals_and_mistakes(tmp_path: Path, arguments: tuple[str, ...], code: int, says: str) -> None:
    done = authagent("policy", "explain", "--config", written(tmp_path), "--as", *arguments)

    assert done.returncode == code, done.stderr
    assert says in done.stdout + done.stderr


def test_pods_are_explained_by_what_is_attested_and_what_is_hinted(tmp_path: Path) -> None:
    file = written(tmp_path, PODS)
    pod = ("namespace=billing-production", "service_account=runner", "execution=billing:production:f1")

    given = authagent(
        "policy", "explain", "--config", file, "--json", "--as", *pod, "label.team=red", "execution_identity=alice"
    )
    refused = authagent("policy", "explain", "--config", file, "--json", "--as", *pod, "label.team=blue")

    assert (given.returncode, json.loads(given.stdout)["rule"]) == (0, "red")
    content = json.loads(refused.stdout)
    assert (refused.returncode, content["outcome"]) == (4, "unauthorized_client")
    assert [(d["key"], d["hint"]) for d in content["rules"][0]["differences"]] == [
        ("execution_identity", True),
        ("labels.team", True),
    ]


def test_a_bad_file_is_named(tmp_path: Path) -> None:
    for arguments in (("check", "/nowhere/a.yaml"), ("check", written(tmp_path, "rules: 1"))):
        done = authagent("policy", *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert arguments[1] in done.stderr


def test_names_with_control_characters_do_not_reach_the_terminal(tmp_path: Path) -> None:
    done = authagent("policy", "check", written(tmp_path, FILE.replace("name: nightly", 'name: "night\\e[2Jly"')))

    assert "\x1b" not in done.stdout + done.stderr


def test_check_says_what_rules_give_by_consent_and_what_without(tmp_path: Path) -> None:
    done = authagent("policy", "check", "--rules-only", written(tmp_path, HUB))

    assert done.returncode == 0
    by = "by the consent for the execution"
    assert [line.partition(": gives ")[2] for line in done.stdout.splitlines()] == [
        "from people, scopes all, by the consent of a* for the execution, at most 900 s; "
        "only to tasks that ask for a person; without it nothing, after 2 s",
        "from service, scopes of the upstream, at most 900 s",
        f"from people, scopes all, {by}, at most 900 s; without it from service, scopes all, but nothing, after 10 s, "
        "to tasks that ask for a person; and nothing to scheduled executions",
        f"from people, scopes of the upstream, {by}; without it nothing, after 10 s",
    ]


def test_check_notes_what_may_be_a_mistake_about_grants_and_nothing_else(tmp_path: Path) -> None:
    done = authagent("policy", "check", "--rules-only", written(tmp_path, HUB))

    notes = done.stderr.splitlines()
    for number, words in enumerate(
        (
            "'either' gives the tokens of 'service' wherever nobody has consented",
            "'either' has no max_lifetime in otherwise",
            "'long' has no max_lifetime, so its tokens live as long as the provider lets them, past the end of a grant",
            "'long' has scheduled: refuse",
            "people: names no clients",
            "the store is memory",
        )
    ):
        assert words in notes[number]
    assert len(notes) == 6  # `after` may decide, and `service` asks Flyte


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("namespace=a",), 0, "given: by the rule 'after'"),
        (("namespace=a", "--requested-subject", "alice"), 0, "given: by the rule 'asked', if alice has consented"),
        (("namespace=a", "--requested-subject", "bob"), 4, "refused: unauthorized_client"),
        (("namespace=b",), 0, "given: by the rule 'either', of 'people' with consent, else of 'service'"),
        (("namespace=b", "--requested-subject", "bob"), 0, "given: by the rule 'either', if bob has consented"),
        (("namespace=c",), 0, "given: by the rule 'long', if whoever launched it has consented"),
    ],
)
def test_a_person_who_is_asked_for_is_judged_as_the_server_does(
    tmp_path: Path, arguments: tuple[str, ...], code: int, says: str
) -> None:
    done = authagent("policy", "explain", "--config", written(tmp_path, HUB), "--as", *arguments)

    assert done.returncode == code, done.stderr
    assert done.stdout.splitlines()[-1].startswith(says)


def test_json_says_that_consent_is_needed(tmp_path: Path) -> None:
    file = written(tmp_path, HUB)
    needs = [
        json.loads(authagent("policy", "explain", "--config", file, "--json", "--as", f"namespace={name}").stdout)
        for name in "abc"
    ]
    assert [content["needs_consent"] for content in needs] == [False, True, True]


def test_the_rules_of_a_node_say_that_its_hub_decides(tmp_path: Path) -> None:
    node = """
socket: /run/authagent/agent.sock
attestor: kubernetes
upstreams: {hub: {kind: hub, url: "https://hub.example.com"}}
rules: [{name: all, who: {namespace: "*"}, give: {upstream: hub, scopes: [all], max_lifetime: 15m}}]
"""
    done = authagent("policy", "check", written(tmp_path, node))
    assert done.stdout.endswith("by the consent for the execution, at most 900 s; the hub decides by its own rules\n")


def test_serve_check_says_what_hub_it_would_be(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    content = HUB.replace("/var/log/authagent", str(tmp_path)).replace("keys_env: KEYS", f"keys_file: {tmp_path}/keys")
    for name, text in {"s": "secret", "h": "secret", "keys": base64.b64encode(bytes(32)).decode()}.items():
        file = tmp_path / name
        file.write_text(text)
        file.chmod(0o600)
        content = content.replace(f"client_secret_file: /{name},", f"client_secret_file: {file},")
    done = authagent("serve", "--check", "--config", written(tmp_path, content))
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(
        "4 rules, 2 upstreams, listen http://127.0.0.1:8443, "
        "hub https://hub.example.com (consent: page, for people of https://idp.example.com)\n"
    )
