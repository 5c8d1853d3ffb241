"""`AUTHAGENT_AUTO`: on, every task has a remote; off, nothing is there; wrong, it is said and nothing breaks."""

from __future__ import annotations

import subprocess
import sys

import pytest
from flyte_place import Place

PROGRAM = """
import flytekit
from flytekit import dynamic, task, workflow, map_task

@task
def plain(x: int) -> str:
    return str(len(flytekit.current_context().remote.list_projects()))

@task(enable_deck=True)
async def asynchronous(x: int) -> str:
    return str(len(flytekit.current_context().remote.list_projects()))

@dynamic
def dynamically(x: int) -> str:
    flytekit.current_context().remote
    return plain(x=x)

@task
def identified() -> str:
    return type(flytekit.current_context().identity).__name__

@workflow
def mapped() -> list[str]:
    return map_task(plain)(x=[1, 2])

import asyncio
print(plain(x=1), asyncio.run(asynchronous(x=1)), dynamically(x=1), *mapped(), identified())
"""

IDLE = """
import sys, flytekit
from flytekit.core.context_manager import ExecutionParameters
print("remote" in vars(ExecutionParameters))
print(sorted(m for m in sys.modules if m.startswith("flytekitplugins.authagent")))
"""


def run(place: Place, program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A program in a process of its own: the switch is read when flytekit is imported."""
    file = place.directory / "program.py"  # flytekit wants to read the source of a task
    file.write_text(program)
    return place.process(sys.executable, "-W", "always", file, **environment)


def test_every_task_has_a_remote_and_an_identity_without_a_word_in_its_code(place: Place) -> None:
    done = run(place, PROGRAM, AUTHAGENT_AUTO="1")

    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["1"] * 5 + ["Identity"]
    assert place.calls("batch")["ListProjects"] == {"accepted": 5, "rejected": 0}


@pytest.mark.parametrize("switch", [None, "", "0", "false", "FALSE"])
def test_switched_off_it_adds_nothing_and_imports_one_module_of_two_lines(switch: str | None, place: Place) -> None:
    done = run(place, IDLE, **({} if switch is None else {"AUTHAGENT_AUTO": switch}))

    assert done.returncode == 0, done.stderr
    found, modules = done.stdout.splitlines()
    assert found == "False"
    assert modules == "['flytekitplugins.authagent', 'flytekitplugins.authagent.auto']"


def test_a_bad_switch_warns_at_import_and_fails_where_the_remote_is_used(place: Place) -> None:
    done = run(place, PROGRAM, AUTHAGENT_AUTO="yes")

    assert done.returncode != 0
    assert "AUTHAGENT_AUTO cannot be 'yes'" in done.stderr.partition("Traceback")[0] or "UserWarning" in done.stderr
    assert "ConfigError" in done.stderr
    assert place.counts.snapshot()["rpcs"] == {}

    idle = run(place, IDLE, AUTHAGENT_AUTO="yes")
    assert idle.returncode == 0
    assert "UserWarning: AUTHAGENT_AUTO cannot be 'yes'" in idle.stderr
    assert idle.stdout.startswith("True")


def test_whatever_breaks_in_it_does_not_break_the_import_of_flytekit(place: Place) -> None:
    program = "import sys; sys.modules['flytekitplugins.authagent.auto_binding'] = None\n" + IDLE

    done = run(place, program, AUTHAGENT_AUTO="1")

    assert done.returncode == 0, done.stderr
    assert "no automatic binding" in done.stderr
    assert done.stdout.startswith("False")


def test_a_bound_task_keeps_its_own_remote_beside_the_automatic_one(place: Place) -> None:
    program = """
import flytekit
from flytekit import task
from flytekitplugins.authagent import AuthAgent

@task(task_config=AuthAgent(project="mine"))
def bound() -> str:
    return flytekit.current_context().remote.default_project

@task
def plain() -> str:
    return flytekit.current_context().remote.default_project

print(bound(), plain())
"""
    done = run(place, program, AUTHAGENT_AUTO="1")

    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["mine", "flytesnacks"]
