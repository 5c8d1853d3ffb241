"""`authagent env` and `login --write-config`: what makes `pyflyte` take the login that is there."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import peers
import pytest
import yaml
from flyte_on_a_laptop import Laptop, laptop
from real_terminal import AUTHAGENT
from test_person_commands import login, sign_in

from flytekitplugins.authagent.cli import config_edit
from flytekitplugins.authagent.cli.env import LINES
from flytekitplugins.authagent.errors import ConfigError

pytestmark = pytest.mark.timeout(150)

MODE = {"authType": "authagent"}

ODD = [
    "plain",
    "",
    "two words",
    "it's",
    'a "quote"',
    "$HOME `id` $(id)",
    "back\\slash\\",
    "line\nline",
    "; rm -rf x",
    "ü",
]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Laptop]:
    tmp_path.chmod(0o700)
    with laptop(tmp_path) as it:
        it.configure()
        yield it


def authorizations(place: Laptop) -> int:
    """How often somebody was sent to the provider to log in."""
    return int(sum(place.provider.counts.snapshot()["mints"].values()))


def pyflyte(place: Laptop, *before: str) -> subprocess.CompletedProcess[str]:
    """`pyflyte` in a shell that has run what `before` says; it has no browser, so a login of its own would fail."""
    command = f"{Path(sys.executable).with_name('pyflyte')} register --non-fast -v 1 examples/hello.py"
    return place.start(["sh", "-c", "; ".join((*before, command))], BROWSER="/bin/true")


@pytest.mark.parametrize("value", ODD)
@pytest.mark.parametrize("shell", ["sh", "bash", "dash", "zsh", "fish"])
def test_a_shell_reads_every_value_as_it_is(shell: str, value: str) -> None:
    program = shutil.which(shell)
    peers.need(f"{shell} (Debian: apt-get install {shell})", program)
    assert program
    line = LINES["fish" if shell == "fish" else "sh"]("A_NAME", value)
    done = subprocess.run([program, "-c", line + "printenv A_NAME"], capture_output=True, text=True, check=True)
    assert done.stdout == value + "\n"


def test_after_a_login_its_lines_let_pyflyte_take_it_without_a_second_one(place: Laptop) -> None:
    with place.typing("login", "--no-browser") as terminal:
        sign_in(terminal)
        assert terminal.end()[0] == 0
    assert 'eval "$(authagent env)"' in terminal.shown.replace("\\", "")
    assert "--write-config" in terminal.shown
    findings = {f["check"]: f for f in json.loads(place.run("doctor", "--json").stdout)}
    assert "pyflyte does not use it" in findings["pyflyte"]["what"]
    assert "authagent env" in findings["pyflyte"]["remedy"]

    before = authorizations(place)
    done = pyflyte(place, f'eval "$({" ".join(AUTHAGENT)} env)"')
    assert (done.returncode, "Successfully registered" in done.stdout) == (0, True), done.stdout + done.stderr
    assert authorizations(place) == before
    on = {"FLYTE_CREDENTIALS_AUTH_MODE": "authagent"}
    assert "pyflyte" not in {f["check"] for f in json.loads(place.run("doctor", "--json", **on).stdout)}


def test_written_into_the_configuration_every_shell_takes_it(place: Laptop) -> None:
    file = place.home / ".flyte" / "config.yaml"
    before_edit = "# mine\n" + file.read_text()
    file.write_text(before_edit)
    with place.typing("login", "--no-browser", "--write-config") as terminal:
        sign_in(terminal)
        assert terminal.end()[0] == 0, terminal.shown
    assert "+  authType: authagent" in terminal.shown
    assert file.read_text() == before_edit.replace("admin:\n", "admin:\n  authType: authagent\n")
    assert (file.parent / "config.yaml.bak").read_text() == before_edit
    assert stat.S_IMODE(file.stat().st_mode) == 0o600

    before = authorizations(place)
    done = pyflyte(place)
    assert (done.returncode, "Successfully registered" in done.stdout) == (0, True), done.stdout + done.stderr
    assert authorizations(place) == before
    with place.typing("login", "--no-browser", "--write-config") as terminal:
        sign_in(terminal)
        assert terminal.end()[0] == 0, terminal.shown
    assert "says already" in terminal.shown
    assert not (file.parent / "config.yaml.bak1").exists()


def test_without_a_configuration_one_is_made(place: Laptop) -> None:
    file = place.home / ".flyte" / "config.yaml"
    file.unlink()
    login(place, "--no-browser", "--write-config", "--endpoint", f"http://{place.flyte.endpoint}")
    made = yaml.safe_load(file.read_text())
    assert made == {"admin": {"authType": "authagent", "endpoint": place.flyte.endpoint, "insecure": True}}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert pyflyte(place).returncode == 0


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("admin: {endpoint: %s, insecure: true}\n", "cannot be edited safely"),
        ("admin:\n  endpoint: %s\n  insecure: true\n  authType: DeviceFlow\n", "would be lost"),
        ("admin:\n  endpoint: elsewhere.example.com\n", "is about elsewhere.example.com"),
    ],
)
def test_a_file_that_cannot_be_edited_stops_before_the_browser_opens(place: Laptop, content: str, says: str) -> None:
    file = place.home / ".flyte" / "config.yaml"
    written = content % place.flyte.endpoint if "%s" in content else content
    file.write_text(written)
    named = f"http://{place.flyte.endpoint}"
    with place.typing("login", "--no-browser", "--write-config", "--endpoint", named) as terminal:
        assert terminal.end() == (2, "")
    assert says in terminal.shown
    assert "authagent env" in terminal.shown
    assert file.read_text() == written


def test_the_lines_of_places(place: Laptop) -> None:
    assert place.run("env").stdout == "export FLYTE_CREDENTIALS_AUTH_MODE=authagent\n"
    assert place.run("env", SHELL="/usr/bin/fish").stdout == "set -gx FLYTE_CREDENTIALS_AUTH_MODE 'authagent'\n"
    assert place.run("env", "--shell", "sh", SHELL="/usr/bin/fish").stdout.startswith("export ")
    named = json.loads(place.run("env", "--json", "--endpoint", "http://127.0.0.1:1").stdout)
    assert named == {
        "FLYTE_CREDENTIALS_AUTH_MODE": "authagent",
        "FLYTE_PLATFORM_URL": "127.0.0.1:1",
        "FLYTE_PLATFORM_INSECURE": "true",
    }
    kept = place.run("env", AUTHAGENT_TOKEN="pl4nted", AUTHAGENT_SOCKET="/run/a b/agent.sock").stdout
    assert "export AUTHAGENT_SOCKET='/run/a b/agent.sock'\n" in kept
    assert "pl4nted" not in kept
    (place.home / ".flyte" / "config.yaml").unlink()
    done = place.run("env")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no Flyte is configured" in done.stderr


def test_a_client_secret_that_overrules_the_mode_is_named(place: Laptop) -> None:
    done = place.run("env", FLYTE_CREDENTIALS_CLIENT_SECRET="pl4nted")
    assert (done.returncode, done.stdout) == (2, "")
    assert "FLYTE_CREDENTIALS_CLIENT_SECRET" in done.stderr
    assert "pl4nted" not in done.stderr


EDITS = {
    "no file": (None, "admin:\n  authType: authagent\n"),
    "an empty one": ("", "admin:\n  authType: authagent\n"),
    "a comment only": ("# mine\n", "# mine\nadmin:\n  authType: authagent\n"),
    "no admin": ("logger:\n  level: 1\n", "logger:\n  level: 1\nadmin:\n  authType: authagent\n"),
    "no newline at its end": ("logger: 1", "logger: 1\nadmin:\n  authType: authagent\n"),
    "the key is missing": (
        "admin:\n  # the Flyte\n  endpoint: a.example.com # here\nlogger: {level: 1}\n",
        "admin:\n  # the Flyte\n  authType: authagent\n  endpoint: a.example.com # here\nlogger: {level: 1}\n",
    ),
    "the key is there": (
        "admin:\n    endpoint: a\n    authType: Pkce   # why\n",
        "admin:\n    endpoint: a\n    authType: authagent   # why\n",
    ),
    "in quotes": ('admin:\n  authType: "Pkce"\n', "admin:\n  authType: authagent\n"),
    "no indentation of others": (
        "a:\n- b\nadmin:\n endpoint: a\n",
        "a:\n- b\nadmin:\n authType: authagent\n endpoint: a\n",
    ),
    "letters beyond ASCII": (
        "# für\nadmin:\n  endpoint: a # ü\n",
        "# für\nadmin:\n  authType: authagent\n  endpoint: a # ü\n",
    ),
}


@pytest.mark.parametrize("case", EDITS)
def test_every_other_line_stays_as_it_is(tmp_path: Path, case: str) -> None:
    before, after = EDITS[case]
    file = tmp_path / "config.yaml"
    if before is not None:
        file.write_text(before)
        file.chmod(0o644)
    edit = config_edit.edit(file, MODE)
    assert not file.exists() or file.read_text() == before
    edit.write()
    assert file.read_text() == after
    assert before is None or stat.S_IMODE(file.stat().st_mode) == 0o644
    assert config_edit.edit(file, MODE).diff == ""


@pytest.mark.parametrize(
    "content",
    [
        "admin: {endpoint: a}\n",
        "{admin: {endpoint: a}}\n",
        "admin: &anchor\n  endpoint: a\nother: *anchor\n",
        "admin: *nothing\n",
        "admin: [\n",
        "admin: text\n",
        "- admin\n",
        "admin:\n  authType: |\n    Pkce\n",
        "admin:\n  authType: [Pkce]\n",
        "admin:\n  endpoint: a\r\n",
        "admin:\n  endpoint: a\n---\nadmin:\n  endpoint: b\n",
        "admin:\n  endpoint: a\n...\n",
        "admin:\n",
        "  admin:\n    endpoint: a\nother: 1\n",
        "admin:\n  authType: !!str Pkce\n  authType: Pkce\n",
        "a: &b [x]\nc: *b\nadmin:\n  endpoint: a\n",
        "a: 2024-13-45\nadmin:\n  endpoint: a\n",
    ],
)
def test_what_cannot_be_edited_safely_is_refused_and_left_alone(tmp_path: Path, content: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_bytes(content.encode())
    try:
        edit = config_edit.edit(file, MODE)
    except ConfigError as refused:
        assert str(file) in str(refused)
    else:  # then it is right all the same
        before, after = (yaml.safe_load(text) for text in (content, edit.new))
        assert after == {**before, "admin": {**(before["admin"] or {}), **MODE}}
    assert file.read_bytes() == content.encode()


def test_a_link_and_a_file_that_changed_meanwhile_are_left_alone(tmp_path: Path) -> None:
    file, other = tmp_path / "config.yaml", tmp_path / "other.yaml"
    other.write_text("admin:\n  endpoint: a\n")
    file.symlink_to(other)
    with pytest.raises(ConfigError, match="symbolic link"):
        config_edit.edit(file, MODE)
    edit = config_edit.edit(other, MODE)
    other.write_text("admin:\n  endpoint: b\n")
    with pytest.raises(ConfigError, match="changed meanwhile"):
        edit.write()
    assert other.read_text() == "admin:\n  endpoint: b\n"
