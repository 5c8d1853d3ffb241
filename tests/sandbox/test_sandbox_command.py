"""The command in the sandbox, its environment, its end, and the wait for what it started. None needs an agent."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from flytekitplugins.authagent.cli import sandbox as cli
from flytekitplugins.authagent.errors import ConfigError
from flytekitplugins.authagent.sandbox import command, drain, environment, private, session
from flytekitplugins.authagent.sandbox.command import Command
from flytekitplugins.authagent.sandbox.signals import Signals, exit_status

pytestmark = pytest.mark.timeout(60)

CALLER = {
    "PATH": "/usr/bin:/bin",
    "HOME": "/nowhere",
    "LANG": "C.UTF-8",
    "MY_OWN": "kept",
    "AWS_PROFILE": "kept",
    "FLYTE_CREDENTIALS_CLIENT_ID": "theirs",
    "FLYTE_CREDENTIALS_CLIENT_SECRET": "s3cr3t",
    "FLYTE_CREDENTIALS_CLIENT_SECRET_LOCATION": "/etc/s3cr3t",
    "FLYTE_CREDENTIALS_CLIENT_SECRET_ENV_VAR": "S3CR3T",
    "FLYTE_CREDENTIALS_AUTH_MODE": "Pkce",
    "FLYTE_CREDENTIALS_COMMAND": "steal",
    "FLYTE_PLATFORM_URL": "prod.example.com",
    "FLYTE_PLATFORM_INSECURE_SKIP_VERIFY": "1",
    "FLYTE_PLATFORM_HTTP_PROXY_URL": "http://proxy.example.com",
    "FLYTE_INTERNAL_EXECUTION_ID": "a-pod",
    "FLYTE_API_KEY": "s3cr3t",
    "_UNION_EAGER_API_KEY": "s3cr3t",
    "FLYTECTL_CONFIG": "/nowhere/.flyte/config.yaml",
    "_FLYTECTL_CONFIG_PYFLYTE_OVERRIDE": "/nowhere/other.yaml",
    "FLYTE_DEFAULT_PROJECT": "theirs",
    "_F_L_MIN_SIZE_MB": "1",
    "AUTHAGENT_TOKEN": "s3cr3t",
    "AUTHAGENT_PROVIDER": "env",
    "AUTHAGENT_CONFIG": "/etc/theirs.yaml",
    "AUTHAGENT_AUTO": "1",
}


def of_command(tmp_path: Path, **caller: str) -> dict[str, str]:
    return environment.of_command(
        CALLER | caller, home=tmp_path / "home", endpoint="127.0.0.1:1234", agent_socket=Path("/tmp/a.sock")
    )


def test_the_command_is_a_client_of_the_sandbox_and_of_nothing_else(tmp_path):
    made = of_command(tmp_path)

    changed = {name: value for name, value in made.items() if CALLER.get(name) != value}
    assert changed == {
        "HOME": str(tmp_path / "home"),
        "FLYTECTL_CONFIG": str(tmp_path / "home/.flyte/config.yaml"),
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "FLYTE_PLATFORM_URL": "127.0.0.1:1234",
        "FLYTE_PLATFORM_INSECURE": "1",
        "FLYTE_CREDENTIALS_AUTH_MODE": "authagent",
        "AUTHAGENT_SOCKET": "/tmp/a.sock",
        "no_proxy": "127.0.0.1,localhost",
        "NO_PROXY": "127.0.0.1,localhost",
    }
    assert {name for name in CALLER if name not in made} >= {name for name in CALLER if "s3cr3t" in CALLER[name]}
    assert {"LANG", "MY_OWN", "AWS_PROFILE"} <= made.keys()
    assert not {name for name in made if name.startswith("AUTHAGENT_")} - {"AUTHAGENT_SOCKET"}


@given(
    theirs=st.dictionaries(
        st.from_regex(r"(FLYTE_CREDENTIALS_|FLYTE_PLATFORM_|FLYTE_INTERNAL_|AUTHAGENT_)[A-Z_]{1,20}", fullmatch=True),
        st.just("theirs"),
    )
)
def test_nothing_of_another_flyte_gets_through(theirs):
    assert environment.cleaned(theirs).keys() == {"no_proxy", "NO_PROXY"}


@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_what_needs_no_proxy_already_still_needs_none(tmp_path, name):
    made = of_command(tmp_path, http_proxy="http://proxy.example.com", **{name: "example.com"})

    assert made["no_proxy"] == made["NO_PROXY"] == "example.com,127.0.0.1,localhost"
    assert made["http_proxy"] == "http://proxy.example.com"


def test_the_commands_flyte_configuration_holds_where_and_no_secret(tmp_path):
    made = of_command(tmp_path)

    content = yaml.safe_load(Path(made["FLYTECTL_CONFIG"]).read_text())
    assert content == {"admin": {"endpoint": "127.0.0.1:1234", "insecure": True}}


def test_flytekit_reads_that_environment_as_it_is_meant(tmp_path):
    script = """
import json
from flytekit.configuration import Config
platform = Config.auto().platform
print(json.dumps([platform.endpoint, platform.insecure, str(platform.auth_mode), platform.client_credentials_secret]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], env=of_command(tmp_path), capture_output=True, text=True, timeout=50, check=True
    )

    assert json.loads(done.stdout) == ["127.0.0.1:1234", True, "authagent", None]


def test_a_private_file_is_never_readable_by_others(tmp_path):
    path = tmp_path / "secret"
    path.write_text("old")
    path.chmod(0o644)
    before = os.umask(0)
    try:
        private.write(path, "new")
    finally:
        os.umask(before)

    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [found.name for found in tmp_path.iterdir()] == ["secret"]


def test_a_private_file_does_not_follow_a_link_that_was_put_in_its_place(tmp_path):
    theirs = tmp_path / "theirs"
    theirs.write_text("untouched")
    (tmp_path / "secret").symlink_to(theirs)

    private.write(tmp_path / "secret", "new")

    assert theirs.read_text() == "untouched"


@pytest.mark.parametrize("before", ["wide file", "link"])
def test_a_private_file_that_is_opened_is_a_new_one(tmp_path, before):
    path, theirs = tmp_path / "log", tmp_path / "theirs"
    theirs.write_text("untouched")
    if before == "link":
        path.symlink_to(theirs)
    else:
        path.touch(0o644)

    with private.opened(path) as file:
        file.write(b"ours")

    assert path.read_text() == "ours"
    assert stat.S_IMODE(path.lstat().st_mode) == 0o600
    assert theirs.read_text() == "untouched"


def python(script: str) -> list[str]:
    return [sys.executable, "-c", script]


@pytest.mark.parametrize(
    ("script", "status"),
    [("", 0), ("raise SystemExit(7)", 7), ("import os; os.kill(os.getpid(), 9)", 137), ("1/0", 1)],
)
def test_the_status_is_the_commands_own(script, status):
    with Signals() as signals:
        assert Command(python(script), os.environ).run(signals) == status


@pytest.mark.parametrize("argv", [["/no/such/program"], ["no-such-program"], ["/"]])
def test_a_command_that_is_not_there_is_a_configuration_error(argv):
    with Signals() as signals, pytest.raises(ConfigError, match="cannot run"):
        Command(argv, os.environ).run(signals)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_goes_to_the_command_first(tmp_path, number, status):
    script = f"""
import signal, sys, time
def stop(number, frame):
    open({str(tmp_path / "seen")!r}, "w").write(str(number))
    raise SystemExit(5)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP): signal.signal(number, stop)
open({str(tmp_path / "up")!r}, "w").close()
time.sleep(50)
"""
    with Signals() as signals:
        threading.Thread(target=kill_when, args=(tmp_path / "up", number), daemon=True).start()
        returned = Command(python(script), os.environ).run(signals)

    assert (tmp_path / "seen").read_text() == str(int(number))
    assert returned == 5
    assert 128 + signals.received == status


def test_a_command_that_ignores_signals_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "GRACE_SECONDS", 0.5)
    script = f"""
import signal, time
for number in (signal.SIGINT, signal.SIGTERM): signal.signal(number, signal.SIG_IGN)
open({str(tmp_path / "up")!r}, "w").close()
time.sleep(50)
"""
    with Signals() as signals:
        threading.Thread(target=kill_when, args=(tmp_path / "up", signal.SIGINT), daemon=True).start()

        assert Command(python(script), os.environ).run(signals) == 137


def test_what_a_command_leaves_running_is_ended(tmp_path):
    script = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(50)"])
open({str(tmp_path / "child")!r}, "w").write(str(child.pid))
"""
    with Signals() as signals:
        assert Command(python(script), os.environ).run(signals) == 0

    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 10
    while running(child):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_signals_are_only_noted_and_the_first_one_counts():
    before = signal.getsignal(signal.SIGINT)
    with Signals() as signals:
        assert signals.wait(0)
        os.kill(os.getpid(), signal.SIGTERM)
        assert not signals.wait(10)
        os.kill(os.getpid(), signal.SIGINT)
        assert not signals.wait(10)
        assert signals.received == signal.SIGTERM
        assert signals.wait(0)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(("returncode", "status"), [(0, 0), (3, 3), (-2, 130), (-15, 143)])
def test_a_signal_is_told_as_a_shell_does(returncode, status):
    assert exit_status(returncode) == status


def execution(phase: str, *, name: str = "a1", error: str | None = None, principal: str = "alice") -> drain.Execution:
    return {
        "id": {"project": "p", "domain": "d", "name": name},
        "phase": phase,
        "principal": principal,
        "created_at": "2026-01-01T00:00:00+00:00",
        "duration_s": 1.25,
        "error": error,
    }


def test_the_drain_waits_for_children_that_appear_meanwhile():
    seen = [
        [execution("RUNNING")],
        [execution("RUNNING"), execution("QUEUED", name="child")],
        [execution("SUCCEEDED"), execution("RUNNING", name="child")],
        [execution("SUCCEEDED"), execution("SUCCEEDED", name="child")],
    ]
    with Signals() as signals:
        ended = drain.wait(lambda: seen.pop(0), 30, signals)

    assert [e["phase"] for e in ended] == ["SUCCEEDED", "SUCCEEDED"]
    assert drain.all_well(ended)


def test_the_drain_ends_with_its_time_and_says_what_still_runs():
    with Signals() as signals:
        left = drain.wait(lambda: [execution("RUNNING"), execution("SUCCEEDED", name="b")], 0.3, signals)

    assert [e["id"]["name"] for e in drain.running(left)] == ["a1"]
    assert not drain.all_well(left)


def test_the_drain_ends_with_a_signal():
    with Signals() as signals:
        os.kill(os.getpid(), signal.SIGTERM)

        assert drain.wait(lambda: [execution("RUNNING")], 3600, signals)


@pytest.mark.parametrize(
    ("phases", "well"),
    [
        ([], True),
        (["SUCCEEDED"], True),
        (["SUCCEEDED", "ABORTED"], True),
        (["SUCCEEDED", "FAILED"], False),
        (["TIMED_OUT"], False),
        (["RUNNING"], False),
    ],
)
def test_all_is_well_unless_one_failed_or_still_runs(phases, well):
    assert drain.all_well([execution(phase) for phase in phases]) is well


def test_a_line_tells_what_became_of_an_execution():
    failed = execution("FAILED", error="Traceback:\n  File x\nValueError: no such row\n")

    assert drain.line(failed) == "a1  FAILED  alice  1.2 s  ValueError: no such row"
    assert drain.line(execution("SUCCEEDED", principal="")) == "a1  SUCCEEDED  (no principal)  1.2 s"
    assert len(drain.line(execution("FAILED", error="x" * 10_000))) < 300


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--"], "no command"),
        (["--ready", "/no/such/directory/r.json"], "--ready"),
        (["--directory", "/" + "d" * 120], "long"),
    ],
)
def test_options_that_cannot_be_used_are_configuration_errors(arguments, named):
    with pytest.raises(ConfigError, match=named):
        cli.run(arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--drain", "-1"],
        ["--drain", "soon"],
        ["--slots", "0"],
        ["--token-lifetime", "0"],
        ["--posture", "x"],
        ["pyflyte"],
    ],
)
def test_options_that_cannot_be_read_are_usage_errors(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.run(arguments)

    assert ended.value.code == 2
    assert "usage: authagent sandbox" in capsys.readouterr().err


def test_a_directory_of_somebody_elses_files_is_left_alone(tmp_path):
    theirs = tmp_path / "theirs"
    theirs.mkdir(mode=0o755)
    (theirs / "file").write_text("x")

    with pytest.raises(ConfigError, match="not empty"):
        cli.run(["--directory", str(theirs)])

    assert stat.S_IMODE(theirs.stat().st_mode) == 0o755
    assert [path.name for path in theirs.iterdir()] == ["file"]


def test_a_ready_file_of_an_earlier_run_is_taken_away(tmp_path):
    stale = tmp_path / "ready.json"
    stale.write_text("{}")

    session._check_ready(stale)

    assert not stale.exists()


def kill_when(path: Path, number: int) -> None:
    """Send ourselves a signal once `path` is there."""
    deadline = time.monotonic() + 20
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(os.getpid(), number)


def running(pid: int) -> bool:
    """Whether this process is there and is not only waiting to be reaped by somebody else."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
