"""`authagent run`: the grant before the launch, a command that runs as if we were not there, and what is said after."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import running_provider
import scripted_hub
from browsing import Browser
from person_of_a_hub import Person
from running_provider import send
from scripted_hub import TOKEN

from flytekitplugins.authagent.cli import launcher
from flytekitplugins.authagent.sandbox.dialect import HUB_AUDIENCE

pytestmark = pytest.mark.timeout(120)

NAME = r"f[0-9a-f]{19}"
ADDRESS = r"(http://127\.0\.0\.1:\d+/\S+)"


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Person]:
    tmp_path.chmod(0o700)
    with scripted_hub.running() as hub:
        yield Person(tmp_path, hub)


def test_a_launcher_finds_the_name_in_its_arguments_and_in_its_environment(person: Person) -> None:
    done = person.run(
        "run", "--for", "15m", "--scope", "all", "--", "launcher", "x={execution}", "echo", input="hello\n"
    )

    assert (done.returncode, done.stdout) == (0, "said: hello\nlaunched\n"), done.stderr
    execution = person.hub.only()["execution"]
    assert re.fullmatch(f"flytesnacks:development:{NAME}", execution)
    name = execution.rpartition(":")[2]
    assert person.lines("launches") == [execution]
    started = json.loads(person.lines("started")[0])
    assert started["argv"][1:] == [f"x={name}", "echo"]
    assert person.hub.forms == [{"execution": execution, "expires_in": "900", "scope": "all", "launch": "later"}]
    assert person.hub.requests == {"POST /grants": 1, "GET /grants/ID": 1}
    assert done.stderr.count("\n") == 1
    for part in (execution, "alice", "all", "in 15 min", f"authagent revoke {person.hub.only()['id']}"):
        assert part in done.stderr


def test_the_command_has_the_environment_that_it_would_have_had_and_no_token(person: Person) -> None:
    file = person.home / ".flyte" / "authagent.yaml"
    file.parent.mkdir(mode=0o700)
    file.write_text(f"hub: {{url: '{person.hub.url}', provider: {{kind: env}}}}\n")
    file.chmod(0o600)
    del person.environ["AUTHAGENT_HUB_TOKEN_FILE"]
    done = person.run("run", "--project", "p", "--domain", "d", "--", "launcher", AUTHAGENT_TOKEN=TOKEN, LC_X="kept")

    assert done.returncode == 0, done.stderr
    started = json.loads(person.lines("started")[0])
    name = person.hub.only()["execution"].rpartition(":")[2]
    told = {"AUTHAGENT_EXECUTION": name, "AUTHAGENT_EXECUTION_PROJECT": "p", "AUTHAGENT_EXECUTION_DOMAIN": "d"}
    expected = person.environ | {"LC_X": "kept"} | told
    assert {k: v for k, v in started["environ"].items() if k != "LC_CTYPE"} == expected  # Python's own, in C locales
    assert TOKEN not in json.dumps(started) + done.stdout + done.stderr


def test_pyflyte_is_told_with_its_own_option_and_its_environment_is_left_alone(person: Person) -> None:
    command = ("pyflyte", "-v", "run", "--remote", "-p", "p", "-d", "d", "hello.py", "main", "--x", "{execution}")
    done = person.run("run", "--", *command)

    started = json.loads(person.lines("started")[0])
    name = person.hub.only()["execution"].rpartition(":")[2]
    assert person.hub.only()["execution"].startswith("p:d:")
    assert started["argv"][1:] == ["-v", "run", "--name", name, *command[3:]]
    assert not {key for key in started["environ"] if key.startswith("AUTHAGENT_EXECUTION")}
    assert started["environ"].get("GRPC_VERBOSITY") is None
    assert (done.returncode, done.stdout) == (0, "launched\n"), done.stderr


BESIDE_US = {"PATH": str(Path(sys.executable).parent)}


def plan(*command: str, environ: dict[str, str] | None = None, **where: str | None) -> launcher.Launch:
    known: dict[str, str | None] = {"project": None, "domain": None}
    environ = BESIDE_US | (environ or {"HOME": "/nowhere"})
    return launcher.plan(command, "f0", environ, **(known | where))  # type: ignore[arg-type]


def told(launch: launcher.Launch) -> list[str]:
    """What pyflyte finds as its arguments."""
    python, wrapper, program, count, *arguments = launch.argv
    assert Path(python).samefile(sys.executable)
    assert (wrapper, Path(program).name) == (str(launcher.NAMED_PYFLYTE), "pyflyte")
    name = launch.environ["AUTHAGENT_EXECUTION"]
    assert name not in " ".join(launch.argv)
    return [a.replace("{execution}", name) for a in arguments[: int(count)]] + arguments[int(count) :]


@pytest.mark.parametrize(
    ("command", "where", "after_run"),
    [
        ("pyflyte run --remote x.py w", "", "--name f0 --remote x.py w"),
        ("pyflyte run -r x.py w -p other", "", "--name f0 -r x.py w -p other"),
        ("pyflyte -k a -c b.yaml run -rp p -dd x.py w", "p:d", "--name f0 -rp p -dd x.py w"),
        ("pyflyte -vv --pkgs=a run --project=p --domain d -r x.py", "p:d", "--name f0 --project=p --domain d -r x.py"),
        ("pyflyte run -p a -p b --remote x.py", "b:development", "--name f0 -p a -p b --remote x.py"),
        ("pyflyte run --env A=-r --tag -d --remote x.py", "", "--name f0 --env A=-r --tag -d --remote x.py"),
        ("pyflyte run --remote -- x.py w", "", "--name f0 --remote -- x.py w"),
        ("pyflyte run remote-task a.b", "", "--name f0 remote-task a.b"),
        ("pyflyte run -r --name {execution} x.py {execution}", "", "-r --name f0 x.py {execution}"),
        ("pyflyte run -r --name={execution} x.py", "", "-r --name=f0 x.py"),
        (f"{BESIDE_US['PATH']}/pyflyte run -r x.py", "", "--name f0 -r x.py"),
    ],
)
def test_how_pyflytes_command_line_is_read_and_that_pyflyte_reads_it_so(
    command: str, where: str, after_run: str
) -> None:
    """Each is parsed by flytekit's own command too, which must see the name, the project and the domain."""
    made = plan(*command.split())
    execution = f"{where or 'flytesnacks:development'}:f0"
    assert made.execution == execution
    assert " ".join(["", *told(made)]).partition(" run ")[2] == after_run

    from flytekit.clis.sdk_in_container.run import run as flytekits

    with flytekits.make_context("run", after_run.split()) as parsed:
        said = [parsed.params[key] for key in ("project", "domain", "name")]
        assert ":".join(said) == execution
        assert parsed.params["remote"] or after_run.split()[2].startswith("remote-")


def test_the_options_with_a_value_are_flytekits() -> None:
    from flytekit.clis.sdk_in_container.pyflyte import main

    for command, ours in ((main, launcher.OF_PYFLYTE), (main.commands["run"], launcher.WITH_VALUE)):
        theirs = {name for p in command.params if not (p.is_flag or p.count) for name in p.opts}  # type: ignore[attr-defined]
        assert theirs == ours


def test_where_nobody_says_the_project_is_the_one_that_pyflyte_takes(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    command = ("pyflyte", "run", "-r", "x.py")
    assert plan(*command, environ=home).execution == "flytesnacks:development:f0"
    (tmp_path / ".flyte").mkdir(mode=0o700)
    (tmp_path / ".flyte" / "config.yaml").write_text("task: {project: fp, domain: fd}\n")
    assert plan(*command, environ=home).execution == "fp:fd:f0"
    assert plan(*command, environ=home | {"FLYTE_DEFAULT_PROJECT": "ep"}).execution == "ep:fd:f0"
    wanted = plan(*command, environ=home | {"FLYTE_DEFAULT_PROJECT": "ep"}, project="op")
    assert (wanted.execution, told(wanted)[1:5]) == ("op:fd:f0", ["--name", "f0", "--project", "op"])
    assert plan("launcher", environ=home).execution == "fp:fd:f0"
    (tmp_path / ".flyte" / "config").write_text("[local]\nproject = lp\n")
    assert plan(*command, environ=home).execution == "lp:development:f0"


def test_names_are_not_guessed() -> None:
    names = {launcher.new_name() for _ in range(1000)}
    assert len(names) == 1000
    assert all(re.fullmatch(NAME, name) for name in names)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "no command after --"),
        (("--",), "no command after --"),
        (("--for", "8", "--", "launcher"), "is no time such as"),
        (("--for", "0h", "--", "launcher"), "is no time such as"),
        (("--", "no-such-launcher"), "there is no such program"),
        (("--", "pyflyte", "run", "x.py", "w"), "without --remote launches nothing"),
        (("--", "pyflyte", "run", "x.py", "--remote"), "without --remote launches nothing"),
        (("--", "pyflyte", "run", "--remote", "--help"), "launches nothing"),
        (("--", "pyflyte", "run", "--remote", "--name", "mine", "x.py"), "authagent grant"),
        (("--", "pyflyte", "run", "--remote", "--name=mine", "x.py"), "who guesses the name"),
        (("--project", "a", "--", "pyflyte", "run", "-rp", "b", "x.py"), "say it once"),
        (("--project", "a b", "--", "launcher"), "does not name an execution"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_asked_or_launched(
    person: Person, arguments: tuple[str, ...], says: str
) -> None:
    done = person.run("run", *arguments)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert (person.hub.requests, person.lines("started")) == ({}, [])


JSON = {"content-type": "application/json"}


def refusing(status: int, error: str) -> tuple[int, dict[str, str], bytes]:
    return status, JSON, json.dumps({"error": error, "error_description": "so it is"}).encode()


@pytest.mark.parametrize(
    ("answer", "code", "says"),
    [
        (refusing(400, "invalid_request"), 2, "refused: invalid_request"),
        (refusing(401, "invalid_token"), 4, "the token comes from file"),
        (refusing(403, "access_denied"), 4, "refused: access_denied"),
        (refusing(409, "conflict"), 4, "refused: conflict"),
        (refusing(503, "temporarily_unavailable"), 5, "answered 503"),
        ((200, {"content-type": "text/html"}, b"<html>Log in"), 3, "an HTML page"),
        ((302, {"location": "https://evil.example.com/"}, b""), 3, "a redirect"),
        ((200, JSON, b" " * (2 << 20)), 3, "more than"),
    ],
)
def test_where_the_grant_fails_nothing_is_launched_and_that_is_said(
    person: Person, answer: tuple[int, dict[str, str], bytes], code: int, says: str
) -> None:
    person.hub.answers["POST /grants"] = answer
    done = person.run("run", "--", "launcher")
    assert (done.returncode, done.stdout) == (code, "")
    assert says in done.stderr
    assert "so it is" not in done.stderr
    assert "nothing was launched" in done.stderr
    assert TOKEN not in done.stderr
    assert (person.hub.requests, person.lines("started")) == ({"POST /grants": 1}, [])


def test_a_grant_for_another_execution_launches_nothing(person: Person) -> None:
    person.hub.changes = {"execution": "flytesnacks:development:another"}
    done = person.run("run", "--", "launcher")
    assert (done.returncode, "another execution" in done.stderr, person.lines("started")) == (3, True, [])


def test_a_hub_that_lets_less_than_usual_needs_no_option(person: Person) -> None:
    person.hub.longest = 4 * 3600
    done = person.run("run", "--", "launcher")
    assert (done.returncode, "in 4 h" in done.stderr) == (0, True), done.stderr
    assert person.hub.forms == [{"execution": person.hub.only()["execution"], "launch": "later"}]


def test_longer_than_the_hub_lets_is_refused(person: Person) -> None:
    done = person.run("run", "--for", "2d", "--", "launcher")
    assert (done.returncode, "ask for less time" in done.stderr, person.lines("started")) == (2, True, [])


@pytest.mark.parametrize(("arguments", "status"), [(("7",), 7), (("die",), 128 + signal.SIGKILL)])
def test_the_status_of_the_command_is_ours(person: Person, arguments: tuple[str, ...], status: int) -> None:
    done = person.run("run", "--", "launcher", *arguments)
    assert done.returncode == status
    assert person.hub.only()["status"] == "active"  # it launched, and then failed: the execution runs
    assert person.hub.requests == {"POST /grants": 1, "GET /grants/ID": 1}


def test_a_command_that_fails_before_it_launches_leaves_no_grant(person: Person) -> None:
    done = person.run("run", "--", "launcher", "nothing", "7")
    assert done.returncode == 7
    assert person.hub.only()["reason"] == "revoked"
    assert "the command failed (7)" in done.stderr
    assert "the grant is revoked" in done.stderr
    assert person.hub.requests == {"POST /grants": 1, "GET /grants/ID": 1, "POST /grants/revoke": 1}


def test_a_launcher_that_does_not_use_the_name_is_found_out(person: Person) -> None:
    started = time.monotonic()
    done = person.run("run", "--", "launcher", "nothing")
    assert 8 < time.monotonic() - started < 25
    assert (done.returncode, done.stdout) == (1, "launched\n")
    assert person.hub.only()["reason"] == "revoked"
    assert "does not act for you" in done.stderr
    assert "AUTHAGENT_EXECUTION" in done.stderr
    assert 8 <= person.hub.requests["GET /grants/ID"] <= 12


def test_who_launches_as_somebody_else_is_told_so_and_not_to_use_the_name(person: Person) -> None:
    person.hub.ends = "foreign"
    done = person.run("run", "--", "launcher", "nothing")
    assert done.returncode == 1
    assert done.stderr.count("somebody else launched it") == 1
    assert "`authagent whoami`" in done.stderr
    assert "AUTHAGENT_EXECUTION" not in done.stderr


@pytest.mark.parametrize(
    ("reason", "arguments", "status"),
    [("execution_ended", (), 0), ("revoked", (), 1), ("lost", (), 1), ("expired", ("7",), 7)],
)
def test_a_grant_that_has_ended_meanwhile_is_said_loudly(
    person: Person, reason: str, arguments: tuple[str, ...], status: int
) -> None:
    person.hub.ends = reason
    done = person.run("run", "--", "launcher", *arguments)
    assert done.returncode == status
    assert ("DOES NOT ACT FOR YOU" in done.stderr) == (reason != "execution_ended")
    assert person.hub.requests["POST /grants/revoke"] == 0


def test_a_hub_that_is_away_when_the_command_has_ended(person: Person) -> None:
    person.hub.answers["GET /grants/ID"] = refusing(503, "temporarily_unavailable")
    done = person.run("run", "--", "launcher", "3")
    assert (done.returncode, "cannot be looked at" in done.stderr) == (3, True)
    done = person.run("run", "--", "launcher")
    assert (done.returncode, "cannot be looked at" in done.stderr) == (5, True)
    assert "authagent revoke" in done.stderr


def test_a_grant_that_cannot_be_revoked_is_said(person: Person) -> None:
    person.hub.answers["POST /grants/revoke"] = refusing(503, "temporarily_unavailable")
    done = person.run("run", "--", "launcher", "nothing", "3")
    assert (done.returncode, "COULD NOT BE REVOKED" in done.stderr) == (3, True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_reach_the_command_once_and_its_status_is_passed_on(person: Person, number: signal.Signals) -> None:
    with person.started("run", "--", "launcher", "wait") as process:
        assert process.stderr
        assert "may act for alice" in process.stderr.readline()
        assert process.stderr.readline() == "ready\n"
        process.send_signal(number)
        assert process.wait(20) == 9
    assert person.lines("signals") == [number.name]


def test_ctrl_c_at_a_terminal_reaches_the_command_once(person: Person) -> None:
    with person.typing("run", "--", "launcher", "wait", controlling=True) as terminal:
        terminal.wait_for("ready")
        os.write(terminal.leader, b"\x03")
        status, _ = terminal.end()
    assert (status, person.lines("signals")) == (9, ["SIGINT"]), terminal.shown
    assert person.hub.requests["GET /grants/ID"] == 1  # and we lived to look


def test_consent_is_waited_for_and_then_it_launches(person: Person) -> None:
    person.hub.consent = 2
    opened = person.home / "opened"
    browser = person.home / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" >> {opened}\n')
    browser.chmod(0o755)
    with person.typing("run", "--", "launcher", BROWSER=str(browser)) as terminal:
        status, out = terminal.end()
    assert (status, out) == (0, "launched\n"), terminal.shown
    page = f"{person.hub.url}/consent/{person.hub.only()['id']}"
    assert (opened.read_text(), page in terminal.shown) == (page + "\n", True)
    assert person.hub.requests == {"POST /grants": 1, "GET /grants/ID": 3}


def test_without_a_terminal_nobody_is_asked_unless_only_the_address_is_wanted(person: Person) -> None:
    person.hub.consent = 1
    done = person.run("run", "--", "launcher")
    assert (done.returncode, "consent needs a terminal" in done.stderr) == (2, True)
    assert (person.hub.only()["reason"], person.lines("started")) == ("revoked", [])
    person.hub.grants.clear()
    done = person.run("run", "--no-browser", "--", "launcher")
    assert (done.returncode, done.stdout) == (0, "launched\n")
    assert f"{person.hub.url}/consent/" in done.stderr


def test_who_declines_launches_nothing(person: Person) -> None:
    person.hub.consent, person.hub.declines = 1, True
    done = person.run("run", "--no-browser", "--", "launcher")
    assert (done.returncode, "declined" in done.stderr, person.lines("started")) == (4, True, [])


def test_a_page_elsewhere_is_not_shown(person: Person) -> None:
    person.hub.consent, person.hub.consent_uri = 1, "https://evil.example.com/consent"
    done = person.run("run", "--no-browser", "--", "launcher")
    assert (done.returncode, "evil" in done.stderr, person.lines("started")) == (3, False, [])


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_while_consent_is_waited_for_revokes_and_launches_nothing(
    person: Person, number: signal.Signals, status: int
) -> None:
    person.hub.consent = 1000
    with person.started("run", "--no-browser", "--", "launcher") as process:
        assert process.stderr
        while "/consent/" not in process.stderr.readline():
            pass
        process.send_signal(number)
        _, shown = process.communicate(timeout=20)
    assert (process.returncode, "Nothing was launched" in shown) == (status, True), shown
    assert person.hub.only()["reason"] == "revoked"
    assert (person.hub.requests["POST /grants/revoke"], person.lines("started")) == (1, [])


def test_a_signal_while_the_hub_takes_its_time_ends_what_may_have_arrived(person: Person) -> None:
    person.hub.answers["POST /grants"] = (None, {}, b"")
    with person.started("run", "--", "launcher") as process:
        while not person.hub.requests:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
    assert process.returncode == 130
    assert person.hub.forms[1:] == [{"execution": person.hub.forms[0]["execution"]}]
    assert person.lines("started") == []


def test_who_has_to_log_in_does_so_and_what_they_type_then_is_the_commands(person: Person) -> None:
    """The login that takes a pasted address must not read on: a line would be lost."""
    with running_provider.running("external") as provider:
        file = person.home / ".flyte" / "authagent.yaml"
        file.parent.mkdir(mode=0o700)
        file.write_text(f"hub: {{url: '{person.hub.url}', client_id: flytectl}}\n")
        file.chmod(0o600)
        person.hub.issuer, person.hub.audience, person.hub.token = provider.issuer.issuer, HUB_AUDIENCE, None
        del person.environ["AUTHAGENT_HUB_TOKEN_FILE"]
        with person.typing("run", "--no-browser", "--", "launcher", "later", "echo") as terminal:
            url = terminal.wait_for(ADDRESS).group(1)
            send("GET", Browser().decide(url).headers["location"])
            terminal.wait_for("may act for alice")
            terminal.wait_for("ready")  # and it does not read yet
            terminal.type("for the command")
            status, out = terminal.end()
        assert (status, out) == (0, "said: for the command\nlaunched\n"), terminal.shown
        listed = person.run("grants")  # by the login that is kept
        assert (listed.returncode, listed.stdout.count("\n")) == (0, 2), listed.stderr  # with the headings
        person.hub.token = "another"
        done = person.run("grants")
        assert (done.returncode, "log in to the hub anew" in done.stderr) == (4, True)
        done = person.run("grants")  # the login is forgotten, and there is no terminal
        assert (done.returncode, "AUTHAGENT_HUB_TOKEN_FILE" in done.stderr) == (3, True), done.stderr


def test_a_login_for_the_hub_that_cannot_be_kept_names_a_remedy_that_works_for_the_hub(person: Person) -> None:
    with running_provider.running("external") as provider:
        file = person.home / ".flyte" / "authagent.yaml"
        file.parent.mkdir(mode=0o700)
        file.write_text(f"hub: {{url: '{person.hub.url}', client_id: flytectl}}\n")
        file.chmod(0o600)
        person.hub.issuer, person.hub.audience, person.hub.token = provider.issuer.issuer, HUB_AUDIENCE, None
        del person.environ["AUTHAGENT_HUB_TOKEN_FILE"]
        person.environ["PYTHON_KEYRING_BACKEND"] = "keyring.backends.fail.Keyring"
        with person.typing("grants") as terminal:
            terminal.wait_for(ADDRESS)
    assert "this login ends with this program" in terminal.shown
    assert "AUTHAGENT_HUB_TOKEN_FILE" in terminal.shown
    assert "authagent login" not in terminal.shown


def test_real_pyflyte_takes_the_command_line_that_is_made(tmp_path: Path) -> None:
    made = plan("pyflyte", "run", "--remote", "-p", "p", "-d", "d", environ={"HOME": str(tmp_path)})
    environ = {"HOME": str(tmp_path), **BESIDE_US, **made.environ}
    for wrong, status, says in (("--help", 0, "Usage: pyflyte run"), ("--no-such-option", 2, "Usage: pyflyte run")):
        done = subprocess.run(
            [*made.argv, wrong], capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path, env=environ
        )
        assert (done.returncode, says in done.stdout + done.stderr) == (status, True), done.stderr


def test_nobody_else_sees_the_name_of_a_pyflyte_that_is_under_way(person: Person) -> None:
    """Every argument of every process of ours is looked at, as any user of the machine could."""
    with person.started("run", "--", "pyflyte", "run", "--remote", "hello.py", "wait") as process:
        assert process.stderr
        while process.stderr.readline() != "ready\n":
            pass
        name = person.hub.only()["execution"].rpartition(":")[2].encode()
        seen = []
        for about in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                seen.append(about.read_bytes())
        assert any(b"named_pyflyte.py" in line and b"--name\0{execution}\0" in line for line in seen)
        assert not [line for line in seen if name in line]
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 9
    assert person.lines("launches")[0].encode().endswith(name)


def test_a_pyflyte_that_is_no_python_script_is_told_and_so_is_the_person(person: Person) -> None:
    """As a shim of pyenv's: what it starts is known to it alone."""
    program = person.home / "pyflyte"
    program.write_text(f'#!/bin/sh\nexec {person.home}/launcher "$@"\n')
    done = person.run("run", "--", "pyflyte", "run", "--remote", "hello.py")
    assert done.returncode == 0, done.stderr
    name = person.hub.only()["execution"].rpartition(":")[2]
    assert json.loads(person.lines("started")[0])["argv"][1:] == ["run", "--name", name, "--remote", "hello.py"]
    assert "other users of this machine can read the execution's name" in done.stderr
    assert (done.stderr.count("\n"), done.stdout) == (2, "launched\n")


SHOWN = """\
import json, os, sys
import status
print(json.dumps([sys.argv, sys.path[0], __name__, __file__, status.OURS, "AUTHAGENT_EXECUTION" in os.environ]))
raise SystemExit(7)
"""


@pytest.mark.parametrize(
    "start",
    [
        "#!{python}\n",
        "#!/usr/bin/env python\n",
        "#!{python} -u\n",
        "#!/bin/sh\n'''exec' \"{python}\" \"$0\" \"$@\"\n' '''\n",
    ],
    ids=["plain", "env", "with an option", "by sh, as for a long path"],
)
def test_the_script_runs_as_if_it_had_been_started_itself(tmp_path: Path, start: str) -> None:
    """Through a link, too, as pipx makes them; with modules beside it that are called as some of ours are."""
    directory = tmp_path / "of its own"
    directory.mkdir()
    program = directory / "pyflyte"
    program.write_text(start.format(python=sys.executable) + SHOWN)
    program.chmod(0o755)
    (directory / "status.py").write_text("OURS = False\n")
    (tmp_path / "pyflyte").symlink_to(program)
    environ = {"PATH": f"{tmp_path}:{BESIDE_US['PATH']}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    made = launcher.plan(["pyflyte", "run", "-r", "x y.py", "{execution}"], "f0", environ, project="p", domain="d")
    assert not made.is_seen
    own = subprocess.run(["pyflyte", "1"], capture_output=True, text=True, check=False, env=environ)
    done = subprocess.run(made.argv, capture_output=True, text=True, check=False, env=environ | made.environ)
    expected = json.loads(own.stdout)
    expected[0][1:] = ["run", "--name", "f0", "--project", "p", "--domain", "d", "-r", "x y.py", "{execution}"]
    assert (json.loads(done.stdout), done.returncode) == (expected, own.returncode), done.stderr
