"""`authagent policy`: an operator asks what the rules mean before anybody else finds out."""

from __future__ import annotations

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
