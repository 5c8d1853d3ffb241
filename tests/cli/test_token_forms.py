"""What is said of tokens that cannot be read, and of every way to write scopes."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flyte_on_a_laptop import TESTS
from tokens import jwt

from flytekitplugins.authagent import credential
from flytekitplugins.authagent.cli import doctor, status, whoami
from flytekitplugins.authagent.credential import Credential, Secret
from flytekitplugins.authagent.diagnosis import _credential


def part(**content: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


JWE = ".".join((part(alg="RSA-OAEP", enc="A256GCM"), "a2V5", "aXY", "dGV4dA", "dGFn"))
FORMS = {
    "opaque": ("an-opaque-token", "opaque"),
    "opaque with dots": ("ya29.a0AfH6.SMBx", "opaque"),
    "opaque with four dots": ("a.b.c.d.e", "opaque"),
    "opaque that is JSON": (".".join(("e30", base64.urlsafe_b64encode(b"[1]").decode().rstrip("="), "e30")), "opaque"),
    "a JWE": (JWE, "encrypted"),
    "a JWE with a direct key": (JWE.replace("a2V5", ""), "encrypted"),
    "a JWT": (jwt(sub="alice", scp=["all"], exp=4_000_000_000), "JWT"),
}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    tmp_path.chmod(0o700)
    monkeypatch.syspath_prepend(str(TESTS))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "session_servers.HomeKeyring")
    yield
    logging.getLogger("flytekitplugins.authagent").setLevel(logging.NOTSET)  # doctor has set it, in this process


@pytest.mark.parametrize(("token", "form"), FORMS.values(), ids=FORMS)
def test_each_command_says_what_it_is_and_finds_nothing_wrong_with_it(
    token: str, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "token"
    file.write_text(token)
    file.chmod(0o600)
    monkeypatch.setenv("AUTHAGENT_TOKEN_FILE", str(file))

    assert status.run(["--json"]) == 0
    assert json.loads(capsys.readouterr().out)["token"] == form
    assert whoami.run(["--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["token"], said["scopes"]) == (form, ["all"] if form == "JWT" else [])
    assert form in said["source"] or form == "JWT"
    for command in (status, whoami):
        assert command.run([]) == 0
        assert form in capsys.readouterr().out
    doctor.run(["--json"])
    found = {finding["check"]: finding for finding in json.loads(capsys.readouterr().out)}
    if form == "JWT":
        assert found["scope"]["level"] == "good"
    else:
        assert (found["token"]["level"], f"the token is {form}" in found["token"]["what"]) == ("note", True)
        assert not {"scope", "clock", "audience"} & found.keys()


SCOPES: list[tuple[dict[str, Any], list[str], str]] = [
    ({"scp": ["openid", "all"]}, ["openid", "all"], ""),
    ({"scp": "all"}, ["all"], ""),
    ({"scp": ["all"], "scope": "openid"}, ["all"], ""),
    ({}, [], ""),  # without client_id flyteadmin takes that for all
    ({"scp": "openid all"}, ["openid", "all"], "in one text with others"),
    ({"scp": ["openid all"]}, ["openid all"], "nowhere"),
    ({"client_id": "c", "scope": "openid all"}, ["openid", "all"], "which flyteadmin does not read"),
    ({"client_id": "c", "scope": ["openid", "all"]}, ["openid", "all"], "which flyteadmin does not read"),
    ({"client_id": "c", "scope": "small"}, ["small"], "nowhere"),
    ({"client_id": "c"}, [], "nowhere"),
    ({"client_id": "c", "scp": None, "scope": "all"}, ["all"], "which flyteadmin does not read"),
    ({"client_id": "c", "scp": 7, "scope": {"all": 1}}, [], "nowhere"),
    ({"scp": ["all", 7, None]}, ["all"], ""),
    ({"scp": "  openid   all "}, ["openid", "all"], "in one text with others"),
]


@pytest.mark.parametrize(("claims", "scopes", "wrong"), SCOPES, ids=str)
def test_scopes_are_read_however_they_are_written(claims: dict[str, Any], scopes: list[str], wrong: str) -> None:
    found = Credential(Secret(jwt(sub="alice", **claims)))
    assert whoami.scopes(found) == scopes
    assert list(credential.scopes(claims)) == scopes
    (finding,) = _credential(found)
    assert (finding.check, finding.level) == ("scope", "bad" if wrong else "good")
    assert wrong in finding.what
