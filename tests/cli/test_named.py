"""What a person names and cannot be used: every command stops with exit 2 and names it, whatever else could serve."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import scripted_agent
import yaml

pytestmark = pytest.mark.timeout(120)

COMMANDS = ("token", "status", "doctor", "whoami")


@dataclass(frozen=True)
class Place:
    """A home with one file of every kind. Commands have a token that would serve them in `AUTHAGENT_TOKEN`."""

    home: Path

    def run(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        work = self.home / "work"
        work.mkdir(exist_ok=True)
        own = {
            "HOME": str(self.home),
            "PATH": os.environ["PATH"],
            "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
            "AUTHAGENT_TOKEN": "fallback",
        }
        return subprocess.run(
            [sys.executable, "-m", "flytekitplugins.authagent", *arguments],
            cwd=work,
            env=own | {name: value.format(home=self.home) for name, value in environ.items()},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    def configured(self, provider: dict[str, object], **binding: object) -> dict[str, str]:
        """An `authagent.yaml` whose only binding has `provider`."""
        filled = {k: v.format(home=self.home) if isinstance(v, str) else v for k, v in provider.items()}
        file = self.home / "bindings.yaml"
        file.write_text(yaml.safe_dump({"bindings": [{"provider": filled, **binding}]}))
        file.chmod(0o600)
        return {"AUTHAGENT_CONFIG": str(file)}


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="aa-") as directory:
        home = Path(directory)
        for name, text in {"empty": "", "words": "not a token\n", "file": "abc\n", "loose": "abc\n"}.items():
            (home / name).write_text(text)
            (home / name).chmod(0o666 if name == "loose" else 0o600)
        (home / "dangling").symlink_to("gone")
        (home / "loop").symlink_to("loop")
        yield Place(home)


FILES = ("{home}/none", "{home}/none/none", "{home}", "{home}/empty", "{home}/loose", "{home}/dangling", "{home}/loop")
FILES += ("relative", "~/file", "/dev/null")
"""Names of files that cannot be used."""

VARIABLES: list[tuple[str, str]] = [
    *[("AUTHAGENT_CONFIG", file) for file in FILES if not file.startswith("~")],
    *[("AUTHAGENT_TOKEN_FILE", file) for file in FILES if not file.startswith("~")],
    *[("AUTHAGENT_POD_TOKEN", file) for file in FILES if not file.startswith("~")],
    *[("AUTHAGENT_HUB_TOKEN_FILE", file) for file in FILES if not file.startswith("~")],
    *[("FLYTECTL_CONFIG", file) for file in FILES],
    *[("_FLYTECTL_CONFIG_PYFLYTE_OVERRIDE", file) for file in FILES],
    *[("FLYTE_PLATFORM_CA_CERT_FILE_PATH", file) for file in FILES if not file.startswith("~")],
    *[("FLYTE_CREDENTIALS_CLIENT_SECRET_LOCATION", file) for file in FILES if not file.startswith("~")],
    *[("FLYTE_CREDENTIALS_SCOPES_FROM_FILE", file) for file in FILES],
    ("AUTHAGENT_CONFIG", "{home}/words"),
    ("AUTHAGENT_TOKEN_FILE", "{home}/words"),
    ("AUTHAGENT_SOCKET", "{home}/none.sock"),
    ("AUTHAGENT_SOCKET", "{home}/none/none.sock"),
    ("AUTHAGENT_SOCKET", "{home}/file"),
    ("AUTHAGENT_SOCKET", "{home}"),
    ("AUTHAGENT_SOCKET", "relative.sock"),
    ("AUTHAGENT_SOCKET", "{home}/" + "x" * 120),
    ("AUTHAGENT_PROVIDER", "agnet"),
    ("AUTHAGENT_ALLOW_PLAINTEXT", "a b"),
    ("AUTHAGENT_ALLOW_PLAINTEXT", "host:99999"),
    ("AUTHAGENT_HUB", "http://hub.example.com"),
    ("AUTHAGENT_TOKEN", " "),
    ("AUTHAGENT_TOKEN", "not a token"),
    ("FLYTECTL_CONFIG", "{home}/words"),
    ("FLYTE_PLATFORM_URL", "not an endpoint"),
    ("FLYTE_PLATFORM_URL", "unix:relative.sock"),
    ("FLYTE_PLATFORM_URL_FROM_ENV_VAR", "NOT_SET"),
    ("FLYTE_PLATFORM_INSECURE", "maybe"),
    ("FLYTE_PLATFORM_INSECURE_SKIP_VERIFY", "maybe"),
    ("FLYTE_PLATFORM_HTTP_PROXY_URL", "not a proxy"),
    ("FLYTE_PLATFORM_AUTH", "off"),
    ("FLYTE_CREDENTIALS_CLIENT_SECRET_ENV_VAR", "NOT_SET"),
    ("FLYTE_CREDENTIALS_CLIENT_SECRET_FROM_ENV_VAR", "NOT_SET"),
    ("FLYTE_CREDENTIALS_CLIENT_SECRET_FROM_FILE", "{home}/none"),
    ("FLYTE_CREDENTIALS_AUTHORIZATION_METADATA_KEY", "not a header"),
    ("FLYTE_CREDENTIALS_SCOPES", 'a"b'),
    ("FLYTE_CREDENTIALS_COMMAND", "print 'no end"),
    ("XDG_RUNTIME_DIR", "relative"),
    ("HOME", "relative"),
]
"""A variable, and a value of it that cannot be used."""


@pytest.mark.parametrize(("variable", "value"), VARIABLES)
def test_a_variable(place: Place, variable: str, value: str) -> None:
    done = place.run("token", **{variable: value})
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert variable in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", COMMANDS[1:])
@pytest.mark.parametrize(("variable", "value"), sorted(dict(VARIABLES).items()))
def test_a_variable_by_the_commands_that_look(place: Place, command: str, variable: str, value: str) -> None:
    done = place.run(command, **{variable: value})
    assert done.returncode == 2, done.stdout + done.stderr
    assert variable in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "fallback" not in done.stdout


@pytest.mark.parametrize("variable", sorted({name for name, _ in VARIABLES} - {"AUTHAGENT_TOKEN"}))
def test_an_empty_variable_is_one_that_is_not_set(place: Place, variable: str) -> None:
    done = place.run("token", **{variable: ""})
    assert (done.returncode, done.stdout) == (0, "fallback\n"), done.stderr


KEYS: list[tuple[dict[str, object], str]] = [
    *[({"kind": "file", "path": file}, "path") for file in FILES if file[0] not in "r~"],
    ({"kind": "file", "path": "relative"}, "path"),
    ({"kind": "agent", "socket": "{home}/none.sock"}, "socket"),
    ({"kind": "agent", "socket": "{home}/none/none.sock"}, "socket"),
    ({"kind": "agent", "socket": "{home}/file"}, "socket"),
    ({"kind": "agent", "socket": "relative.sock"}, "socket"),
    ({"kind": "env", "variable": "NOT_SET"}, "variable: NOT_SET"),
    ({"kind": "api_key", "variable": "NOT_SET"}, "variable: NOT_SET"),
    ({"kind": "api_key", "path": "{home}/none"}, "path"),
    ({"kind": "command", "command": ["no-such-program"]}, "no-such-program"),
    ({"kind": "command", "command": ["./program"]}, "./program"),
    ({"kind": "nothing"}, "kind"),
    *[
        ({"kind": "client_credentials", "token_endpoint": "https://127.0.0.1:9/", "client_id": "c", key: value}, key)
        for key, value in (
            ("client_secret_file", "{home}/none"),
            ("client_secret_file", "{home}/empty"),
            ("client_secret_file", "{home}"),
            ("client_secret_file", "relative"),
            ("client_secret_env", "NOT_SET"),
            ("private_key_file", "{home}/none"),
            ("client_assertion_file", "{home}/none"),
            ("client_secret", "s"),
        )
    ],
]
"""A provider that cannot be used, and what the message names."""


@pytest.mark.parametrize(("provider", "named"), KEYS, ids=str)
def test_a_key(place: Place, provider: dict[str, object], named: str) -> None:
    done = place.run("token", **place.configured(provider))
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert named in done.stderr
    assert "Traceback" not in done.stderr


OPTIONS: list[tuple[tuple[str, ...], str]] = [
    *[((command, "--endpoint", value), "--endpoint") for command in COMMANDS for value in ("not one", "", "a:99999")],
    (("login", "--endpoint", ""), "--endpoint"),
    (("logout", "--endpoint", ""), "--endpoint"),
    (("login", "--timeout", "nan"), "--timeout"),
    (("login", "--timeout", "-1"), "--timeout"),
    (("token", "--audience", ""), "--audience"),
    (("token", "--scope", ""), "--scope"),
    (("token", "--scope", "two words"), "--scope"),
    (("login", "--scope", "two words"), "--scope"),
    (("grant", "p:d:n", "--scope", "two words"), "--scope"),
    (("serve", "--config", "/nowhere/agent.yaml"), "/nowhere/agent.yaml"),
    (("policy", "check", "/nowhere/agent.yaml"), "/nowhere/agent.yaml"),
]
"""A command line that cannot be used, and what the message names."""


@pytest.mark.parametrize(("arguments", "named"), OPTIONS, ids=str)
def test_an_option(place: Place, arguments: tuple[str, ...], named: str) -> None:
    done = place.run(*arguments)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert named in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("named_by", ["variable", "binding", "binding in a pod"])
def test_a_socket_that_a_dead_agent_left_is_unavailable_and_never_passed_over(place: Place, named_by: str) -> None:
    dead = place.home / "dead.sock"
    dead.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(dead))
    environ = {"AUTHAGENT_SOCKET": str(dead)}
    if named_by != "variable":
        environ = place.configured({"kind": "agent", "socket": str(dead), "wait": 0.5})
    if named_by == "binding in a pod":
        environ["FLYTE_INTERNAL_EXECUTION_ID"] = "x"
    done = place.run("token", **environ)
    assert (done.returncode, done.stdout) == (5, ""), done.stderr
    assert str(dead) in done.stderr


def test_what_is_named_and_cannot_be_used_stops_the_quick_way_to_the_agent_too(place: Place) -> None:
    path = place.home / "agent.sock"
    with scripted_agent.answering(path, lambda: "abc", "flyte.example.com:443"):
        assert place.run("token", AUTHAGENT_SOCKET=str(path)).stdout == "abc\n"
        for variable, value in dict(reversed(VARIABLES)).items():
            if variable in ("AUTHAGENT_SOCKET", "AUTHAGENT_TOKEN", "HOME", "XDG_RUNTIME_DIR"):
                continue  # the socket is another one then, or they are of no account beside it
            done = place.run("token", AUTHAGENT_SOCKET=str(path), **{variable: value})
            assert (done.returncode, done.stdout) == (2, ""), (variable, done.stderr)
            assert variable in done.stderr


def test_doctor_reports_it_as_a_finding(place: Place) -> None:
    done = place.run("doctor", "--json", FLYTECTL_CONFIG="{home}/none")
    [finding] = [it for it in json.loads(done.stdout) if it["level"] == "bad"]
    assert (finding["check"], finding["exit_code"]) == ("config", 2)
    assert "FLYTECTL_CONFIG names" in finding["what"]
