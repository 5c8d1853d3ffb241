"""deploy/systemd: units that systemd reads, and that fit the agent."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from peers import need

from flytekitplugins.authagent.cli import systemd_unit

UNITS = Path(__file__).parent.parent.parent / "deploy" / "systemd"


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=True, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign] # systemd's keys are told apart by case
    parser.read(UNITS / name)
    return parser


def test_the_units_fit_each_other_and_the_agent() -> None:
    listening, serving = unit("authagent.socket")["Socket"], unit("authagent.service")["Service"]

    assert listening["ListenStream"] == "/run/authagent/agent.sock"  # /var/run is a link to /run
    assert serving["Type"] == "notify"
    assert serving["ExecReload"].endswith("-HUP $MAINPID")
    assert serving["LimitCORE"] == "0"
    assert serving["ReadWritePaths"] == str(Path(listening["ListenStream"]).parent)
    assert serving["CapabilityBoundingSet"] == ""


@pytest.mark.peer
def test_systemd_finds_nothing_wrong_with_them(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    need("systemd-analyze (Debian: systemd)", analyze)
    for file in UNITS.iterdir():
        (tmp_path / file.name).write_text(file.read_text().replace("/opt/authagent/bin/authagent", sys.executable))
    command = [str(analyze), "verify", "--man=no", *map(str, tmp_path.iterdir())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    service = tmp_path / "authagent.service"
    service.write_text(service.read_text() + "[Service]\nType=x\n")
    broken = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "authagent.service" in broken.stderr  # it would have said so


def test_the_command_prints_a_unit_that_starts_this_installation() -> None:
    command = [sys.executable, "-m", "flytekitplugins.authagent", "systemd-unit"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("ExecStart=")]
    program, *arguments = line.removeprefix("ExecStart=").split()

    assert subprocess.run([program, "--version"], timeout=60, check=True, capture_output=True).stdout
    assert arguments == ["serve", "--config", "/etc/authagent/agent.yaml"]
    assert done.stdout.count("\n") == (UNITS / "authagent.service").read_text().count("\n")


@pytest.mark.parametrize(
    ("script", "starts"),
    [
        ("/opt/authagent/bin/authagent", "/opt/authagent/bin/authagent"),
        ("/opt/my agent/bin/authagent", '"/opt/my agent/bin/authagent"'),
        ("/opt/100%/$HOME/authagent", "/opt/100%%/$$HOME/authagent"),
        ('/opt/a"b/authagent', '"/opt/a\\"b/authagent"'),
    ],
)
def test_a_path_is_one_word_for_systemd(script: str, starts: str) -> None:
    assert systemd_unit._quoted(script) == starts


@pytest.mark.parametrize(
    ("prefix", "hidden"), [("/opt/authagent", False), ("/home/me/venv", True), ("/root/x", True), ("/homely", False)]
)
def test_an_installation_that_the_unit_hides_is_noted(prefix: str, hidden: bool) -> None:
    assert systemd_unit._is_hidden(prefix) is hidden
