"""deploy/systemd: units that systemd reads, and that fit the agent."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from peers import need

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
        (tmp_path / file.name).write_text(file.read_text().replace("/usr/bin/authagent", sys.executable))
    command = [str(analyze), "verify", "--man=no", *map(str, tmp_path.iterdir())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    service = tmp_path / "authagent.service"
    service.write_text(service.read_text() + "[Service]\nType=x\n")
    broken = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "authagent.service" in broken.stderr  # it would have said so
