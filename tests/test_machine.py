"""A run of the tests is the same on every machine, whatever agent, configuration and logins that has."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import machine
import pytest
from peers import need

TESTS = Path(__file__).parent

MEETS_THE_MACHINE = """
cli/test_command_line.py
task/test_children.py::TestWhereNothingIsTold
task/test_errors_in_flyte.py
agent/test_daemon.py
test_config.py
test_discovery.py
test_http.py
test_resolve.py
whole/test_readme.py::test_the_code_of_the_readme_runs
"""
"""Files, and tests, that failed where an agent ran, before the tests left the machine behind; one a line."""


def test_a_test_sees_none_of_the_variables_of_the_machine() -> None:
    seen = {name for name in os.environ if name not in machine.KEPT and not name.startswith(machine.KEPT_PREFIXES)}
    assert seen == {"HOME", "LANG", "TZ"}


@pytest.mark.peer
@pytest.mark.timeout(900)
def test_a_run_meets_nothing_of_a_machine_with_an_agent_and_logins_of_its_own() -> None:
    need("root, who can mount", os.geteuid() == 0 and shutil.which("unshare"))
    command = [sys.executable, TESTS / "hostile_machine.py", sys.executable, "-m", "pytest", "-n", "0", "-q"]
    done = subprocess.run(
        [*command, *MEETS_THE_MACHINE.split()],
        cwd=TESTS,
        env=machine.environment(Path(os.environ["HOME"])),
        capture_output=True,
        text=True,
        timeout=880,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert re.search(r"\d+ passed", done.stdout)
