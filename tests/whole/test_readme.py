"""What the README says is so: its commands run, its help is the program's, its code and its files are good."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import flyte_on_a_laptop
import pytest
from browsing import Browser
from running_provider import send

from flytekitplugins.authagent import flyte_config, kind, yaml_file
from flytekitplugins.authagent.agent.file import AgentFile
from flytekitplugins.authagent.config import ClientFile
from flytekitplugins.authagent.sandbox.sandbox import Sandbox

PROJECT = Path(__file__).parents[2]
README = (PROJECT / "README.md").read_text()
PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]
BIN = Path(sys.executable).parent


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("command", re.findall(r"^<!-- (.* --help) -->$", README, re.MULTILINE))
def test_the_help_in_the_readme_is_the_programs(command: str) -> None:
    shown = README.partition(f"<!-- {command} -->\n```console\n$ {command}\n")[2].partition("```")[0]
    environment = {**os.environ, "COLUMNS": "100", "PATH": f"{BIN}:/usr/bin:/bin"}

    said = subprocess.run(shlex.split(command), env=environment, capture_output=True, text=True, timeout=30, check=True)

    assert said.stdout == shown


COMMANDS = [
    line[2:].partition("  #")[0].strip()
    for block in blocks(README, "console")
    for line in block.splitlines()
    if line.startswith("$ ")
]


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("authagent sandbox -- ")])
def test_the_commands_of_the_tour_work(command: str) -> None:
    done = subprocess.run(
        shlex.split(command),
        cwd=PROJECT,
        env={**os.environ, "PATH": f"{BIN}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()


LAPTOP = [
    line[2:].partition("  #")[0].strip()
    for line in README.split("## On a laptop")[1].split("## ")[0].splitlines()
    if line.startswith("$ ")
]


@pytest.mark.timeout(120)
def test_the_commands_for_a_laptop_work_one_after_the_other(tmp_path: Path) -> None:
    with flyte_on_a_laptop.laptop(tmp_path) as laptop:
        laptop.configure()
        laptop.environ["PATH"] = f"{BIN}:/usr/bin:/bin"
        for command in LAPTOP:
            if command == "authagent login":
                with laptop.typing("login") as terminal:
                    url = terminal.wait_for(r"(http://127\S+)").group(1)
                    send("GET", Browser().decide(url).headers["location"])
                    assert terminal.end()[0] == 0
                continue
            if command == 'eval "$(authagent env)"':
                lines = laptop.run("env").stdout.removeprefix("export ").splitlines()
                laptop.environ |= dict(line.split("=", 1) for line in lines)
                continue
            program, *arguments = shlex.split(command)
            done = laptop.run(*arguments) if program == "authagent" else laptop.start([f"{BIN}/{program}", *arguments])
            assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        rpcs = laptop.provider.counts.snapshot()["rpcs"]
        assert rpcs["CreateExecution"] == {"accepted": 1, "rejected": 0}


def test_every_other_command_is_one_that_another_test_or_the_gate_runs() -> None:
    others = {c for c in COMMANDS if not c.startswith("authagent sandbox -- ") and not c.endswith("--help")}
    told = "authagent run -- pyflyte run --remote examples/acts_for_you.py main"  # by demo/delegation.py
    assert others - set(LAPTOP) == {"make demo", "make test", told, "pip install 'flytekitplugins-authagent[all]'"}
    makefile = (PROJECT / "Makefile").read_text()
    for target in ("demo", "test", "lint", "bench"):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    assert "make test" in (PROJECT / ".ci" / "run").read_text()


def test_the_code_of_the_readme_runs(sandbox: Sandbox, client: dict[str, str], tmp_path: Path) -> None:
    first, ways = blocks(README, "python")
    uses = "\nimport asyncio\nprint(projects(), on_dask(), also_on_dask(), anywhere(), asyncio.run(children()))\n"
    for name, program in {"first.py": first, "ways.py": ways + uses}.items():
        file = tmp_path / name
        file.write_text(program)
        done = subprocess.run(
            [sys.executable, file], env=client, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr

    assert done.stdout.split() == ["1"] * 5
    assert sum(n["rejected"] for n in sandbox.counts.snapshot()["rpcs"].values()) == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_configuration_file_that_is_shown_is_a_good_one(page: Path) -> None:
    for block in blocks(page.read_text(), "yaml"):
        if "upstreams:" in block:
            assert yaml_file.parse(block.encode(), AgentFile, name=page.name).rules
        elif block.startswith("# ~/.flyte/config.yaml"):
            assert yaml_file.parse(block.encode(), flyte_config.File, name=page.name).admin.endpoint
        elif "bindings:" in block:
            assert yaml_file.parse(block.encode(), ClientFile, name=page.name).bindings


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_feature_table_names_the_providers_that_there_are() -> None:
    rows = [line for line in README.splitlines() if line.startswith("| providers ")]
    there = {name for row in rows if "| yes" in row for name in re.findall(r"`(\w+)`", row)}
    assert there == set(kind.KINDS)
