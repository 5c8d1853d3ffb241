"""
What is wrong on this machine is exit code 2 and names the variable or the file, whichever command meets it.

A row of `TABLE` is one fault: what is set, relative to a directory with the files of `place`, and what must be named.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from certificates import issue
from peers import need

pytestmark = pytest.mark.timeout(120)

ISSUER = "https://localhost:9"
CONFIG = """
bindings:
  - provider:
      kind: client_credentials
      issuer: {issuer}
      client_id: batch
      client_secret_file: {directory}/secret
      {more}
"""


@dataclass(frozen=True)
class Row:
    """`environ` and `more` (keys of the provider) may name files of `place` by `{directory}`."""

    name: str
    named: str
    environ: Mapping[str, str] = field(default_factory=dict)
    more: str = ""
    issuer: str = ISSUER
    uid: int | None = None


BAD_FILES = {"missing": "missing.pem", "unreadable": "unreadable.pem", "empty": "empty.pem", "no PEM": "page.pem"}
PROXIES = {
    "a scheme that is none": "foo://127.0.0.1:3128",
    "no host": "http://",
    "a port that is none": "http://127.0.0.1:port",
    "a port out of range": "http://127.0.0.1:99999",
    "SOCKS without PySocks": "socks5h://127.0.0.1:1080",
    "a name that is unknown": "http://user:pl4nted@proxy.nowhere.invalid:3128",
}

TABLE = (
    *(
        Row(f"{variable}: {what}", variable, {variable: f"{{directory}}/{file}"})
        for variable in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
        for what, file in (BAD_FILES | {"under a file": "page.pem/x"}).items()
    ),
    Row("SSL_CERT_FILE: a directory", "SSL_CERT_FILE", {"SSL_CERT_FILE": "{directory}"}),
    Row("REQUESTS_CA_BUNDLE: a directory", "REQUESTS_CA_BUNDLE", {"REQUESTS_CA_BUNDLE": "{directory}"}),
    Row("SSL_CERT_DIR: missing", "SSL_CERT_DIR", {"SSL_CERT_DIR": "{directory}/missing"}),
    Row("SSL_CERT_DIR: a file", "SSL_CERT_DIR", {"SSL_CERT_DIR": "{directory}/ca.pem"}),
    Row("SSL_CERT_DIR: no hashed names", "SSL_CERT_DIR", {"SSL_CERT_DIR": "{directory}"}),
    Row("SSL_CERT_DIR: several", "SSL_CERT_DIR", {"SSL_CERT_DIR": "{directory}:/etc"}),
    *(Row(f"ca_file: {what}", file, more=f"ca_file: {{directory}}/{file}") for what, file in BAD_FILES.items()),
    *(
        Row(f"{variable}: {what}", variable, {variable: proxy})
        for variable in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY")
        for what, proxy in PROXIES.items()
    ),
    Row("proxy: a port out of range", "proxy", more="proxy: http://127.0.0.1:99999"),
    Row("proxy: a scheme that is none", "proxy", more="proxy: foo://127.0.0.1:3128"),
    Row("a name that is unknown", "idp.nowhere.invalid", issuer="https://idp.nowhere.invalid"),
    Row("AUTHAGENT_CONFIG: missing", "AUTHAGENT_CONFIG", {"AUTHAGENT_CONFIG": "{directory}/missing.yaml"}),
    Row("AUTHAGENT_TOKEN_FILE: missing", "AUTHAGENT_TOKEN_FILE", {"AUTHAGENT_TOKEN_FILE": "{directory}/missing"}),
    Row("HOME: relative", "HOME", {"HOME": "home"}),
    Row("no HOME and no such user", "HOME", {"HOME": "", "AUTHAGENT_CONFIG": ""}, uid=54321),
    Row("HOME: a file", "HOME", {"HOME": "{directory}/ca.pem", "AUTHAGENT_CONFIG": ""}),
    Row("HOME: unreadable", "closed", {"HOME": "{directory}/closed", "AUTHAGENT_CONFIG": ""}),
)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A directory with files that can and cannot be used, which belongs to whoever runs the command."""
    issue(tmp_path, "localhost")
    for name, content in (("empty.pem", ""), ("page.pem", "<html>"), ("unreadable.pem", "x"), ("secret", "s3cret")):
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o600)
    (tmp_path / "closed" / ".flyte").mkdir(parents=True)
    yield tmp_path
    (tmp_path / "closed").chmod(0o700)


WITHOUT_PRIVILEGE = """
import os, sys
from flytekitplugins.authagent import cli, default_order, resolve
from flytekitplugins.authagent.cli import doctor, status, token, whoami

uid = int(sys.argv[1])
if uid:
    os.setresuid(uid, uid, uid)
sys.exit(cli.main(sys.argv[2:]))
"""
"""As `authagent`, but as a user that no database knows; what is imported late may be in a directory of root's."""


def run(row: Row, place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`authagent ...`, without root's right to read every file."""
    config = place / "authagent.yaml"
    more = row.more.format(directory=place)
    config.write_text(CONFIG.format(issuer=row.issuer, directory=place, more=more))
    config.chmod(0o600)
    (place / "unreadable.pem").chmod(0o000)
    (place / "closed").chmod(0o000)
    environ = {
        "HOME": str(place),
        "PATH": os.environ["PATH"],
        "AUTHAGENT_CONFIG": str(config),
        "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
    } | {name: value.format(directory=place) for name, value in row.environ.items()}
    program = [sys.executable, "-m", "flytekitplugins.authagent", *arguments]
    if row.uid:
        program = [sys.executable, "-c", WITHOUT_PRIVILEGE, str(row.uid), *arguments]
    elif os.geteuid() == 0:
        need("setpriv", shutil.which("setpriv"))
        program = ["setpriv", "--inh-caps=-all", "--bounding-set=-all", *program]
    return subprocess.run(
        program,
        env={name: value for name, value in environ.items() if value},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("row", TABLE, ids=[row.name for row in TABLE])
def test_it_is_exit_2_and_named(place: Path, row: Row) -> None:
    check(place, row, "token")


FOR_ALL = [row for row in TABLE if row.name.endswith((": missing", "is none", "is unknown", "user", "unreadable"))]


@pytest.mark.parametrize("command", ["whoami", "status", "doctor"])
@pytest.mark.parametrize("row", FOR_ALL, ids=[row.name for row in FOR_ALL])
def test_every_command_says_so(place: Path, row: Row, command: str) -> None:
    check(place, row, command)


def check(place: Path, row: Row, command: str) -> None:
    if row.uid and os.geteuid() != 0:
        pytest.skip("only root can be a user that is not there")
    done = run(row, place, command)
    said = done.stdout + done.stderr
    assert row.named in said, said
    assert done.returncode == 2, said
    assert "Traceback" not in said
    assert "pl4nted" not in said
