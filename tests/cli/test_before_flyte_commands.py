"""What stands before Flyte, or in its place, as `doctor`, `whoami` and `token` tell it to somebody new."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from before_flyte import TABLE, Met, Row, plain_grpc
from flyte_on_a_laptop import Laptop, laptop
from tokens import jwt

from flytekitplugins.authagent.sandbox.posture import POSTURES

pytestmark = pytest.mark.timeout(120)

GARBAGE = "garbage-pl4nted"


def run(home: Path, met: Met, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """`authagent ...` where Flyte's configuration names what was met."""
    home.chmod(0o700)
    (home / ".flyte").mkdir(mode=0o700, exist_ok=True)
    admin = {"endpoint": f"{met.host}:{met.port}", "insecure": met.insecure}
    if met.ca_file:
        admin["caCertFilePath"] = str(met.ca_file)
    (home / ".flyte" / "config.yaml").write_text(yaml.safe_dump({"admin": admin}))
    own = {"HOME": str(home), "PATH": os.environ["PATH"], "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring"}
    return subprocess.run(
        [sys.executable, "-m", "flytekitplugins.authagent", *arguments],
        env=own | environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("row", TABLE, ids=[row.name for row in TABLE])
def test_doctor_calls_it_what_it_is(tmp_path: Path, row: Row) -> None:
    with row.situation(tmp_path) as met:
        done = run(tmp_path, met, "doctor", "--json", AUTHAGENT_TOKEN=GARBAGE)
    findings = {finding["check"]: finding for finding in json.loads(done.stdout)}
    assert row.seen in findings["endpoint"]["what"]
    assert row.hint in findings["endpoint"]["remedy"]
    assert (findings["endpoint"]["level"], done.returncode) == ("bad", row.exit_code)
    assert "pl4nted" not in done.stdout + done.stderr


KINDS = [row for row in TABLE if row.name.startswith(("a Flyte 2", "401", "TLS, and"))]


@pytest.mark.parametrize("row", KINDS, ids=[row.name for row in KINDS])
def test_token_and_whoami_call_it_that_too(tmp_path: Path, row: Row) -> None:
    """`token` needs Flyte where a client is to be discovered from it."""
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    secret.chmod(0o600)
    client = {
        "FLYTE_CREDENTIALS_CLIENT_ID": "batch",
        "FLYTE_CREDENTIALS_CLIENT_SECRET_LOCATION": str(secret),
    }
    with row.situation(tmp_path) as met:
        for command in ("token", "whoami", "status"):
            done = run(tmp_path, met, command, **client)
            assert row.seen in done.stderr + done.stdout, command
            assert done.returncode == row.exit_code
            assert "takes no such token" not in done.stderr
            assert "Traceback" not in done.stderr


def test_a_grpc_server_that_is_no_flyte(tmp_path: Path) -> None:
    with plain_grpc("/grpc.health.v1.Health/Check")(tmp_path) as met:
        doctor = run(tmp_path, met, "doctor", AUTHAGENT_TOKEN=GARBAGE)
        whoami = run(tmp_path, met, "whoami", FLYTE_PLATFORM_AUTH="0")
    assert "is no Flyte: it has no flyteidl.service.AdminService" in doctor.stdout
    assert doctor.returncode == 3
    assert whoami.returncode == 3


def test_a_flyte_without_authentication_is_one(tmp_path: Path) -> None:
    with plain_grpc("/flyteidl.service.AdminService/GetVersion")(tmp_path) as met:
        done = run(tmp_path, met, "doctor", AUTHAGENT_TOKEN=GARBAGE)
    assert "answers, and has no authentication" in done.stdout


@pytest.fixture
def open_to_all(tmp_path: Path) -> Iterator[Laptop]:
    tmp_path.chmod(0o700)
    with laptop(tmp_path, POSTURES["disable-for-grpc"]) as place:
        place.configure()
        yield place


def test_a_token_that_changes_nothing(open_to_all: Laptop) -> None:
    """flyteadmin with `disableForGrpc` takes whoever shows garbage for an anonymous caller."""
    other = jwt(sub="mallory", iss="https://other.example.com", exp=4_000_000_000, scp=["all"])
    for token in (GARBAGE, other):
        doctor = open_to_all.run("doctor", "--json", AUTHAGENT_TOKEN=token)
        finding = {each["check"]: each for each in json.loads(doctor.stdout)}["accepted"]
        assert "takes the caller for nobody: its answer is the same without the token" in finding["what"]
        assert (finding["level"], finding["exit_code"]) == ("bad", 4)
        assert "disableForGrpc" in finding["remedy"]

        whoami = open_to_all.run("whoami", "--json", AUTHAGENT_TOKEN=token)
        assert json.loads(whoami.stdout)["subject"] is None
        assert whoami.returncode == 4
        assert "takes the caller for nobody" in whoami.stderr
        assert token not in whoami.stdout + whoami.stderr + doctor.stdout


def test_a_token_that_counts_where_none_is_wanted(open_to_all: Laptop) -> None:
    token = open_to_all.provider.own_token("batch", scope="all").json()["access_token"]
    doctor = open_to_all.run("doctor", "--json", AUTHAGENT_TOKEN=token)
    findings = {each["check"]: each for each in json.loads(doctor.stdout)}
    assert doctor.returncode == 0, doctor.stdout
    assert "Flyte takes the token of batch" in findings["accepted"]["what"]
    assert "lets callers in without a token" in findings["anonymous"]["what"]
    whoami = open_to_all.run("whoami", "--json", AUTHAGENT_TOKEN=token)
    assert (whoami.returncode, json.loads(whoami.stdout)["subject"]) == (0, "batch")


def test_no_token_where_none_is_wanted(open_to_all: Laptop) -> None:
    assert open_to_all.run("whoami").returncode == 3


def test_a_flyte_that_wants_tokens_has_no_such_note(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with laptop(tmp_path) as place:
        place.configure()
        token = place.provider.own_token("batch", scope="all").json()["access_token"]
        done = place.run("doctor", AUTHAGENT_TOKEN=token)
    assert done.returncode == 0
    assert "without a token, too" not in done.stdout
