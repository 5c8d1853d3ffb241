"""The wheel: what users install holds everything that they need, and nothing that breaks other plugins."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    copy = tmp_path_factory.mktemp("project") / "copy"  # setuptools leaves its work beside the sources
    keep_out = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__", "tests", "docs")
    shutil.copytree(PROJECT, copy, ignore=keep_out, symlinks=True)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", copy / "dist", copy]
    subprocess.run(command, cwd=copy.parent, check=True, capture_output=True, timeout=120)  # not here: build/ is ours
    return zipfile.ZipFile(next((copy / "dist").glob("flytekitplugins_authagent-*-py3-none-any.whl")))


def test_every_module_is_in_it_with_its_types(wheel: zipfile.ZipFile) -> None:
    package = PROJECT / "flytekitplugins"
    modules = {path.relative_to(PROJECT).as_posix() for path in package.rglob("*.py")}
    inside = {name for name in wheel.namelist() if ".dist-info/" not in name}

    deployed = {
        f"flytekitplugins/authagent/{path.relative_to(PROJECT).as_posix()}"
        for path in (PROJECT / "deploy").rglob("*")
        if path.is_file()
    }
    assert inside == modules | deployed | {"flytekitplugins/authagent/py.typed"}
    assert "flytekitplugins/__init__.py" not in inside, "the namespace belongs to all plugins (PEP 420)"


def test_what_is_installed_from_it_prints_its_units(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path)
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "flytekitplugins.authagent", "systemd-unit"]
    for unit in ("service", "socket"):
        done = subprocess.run(
            [*command, unit], env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
        )
        packaged = (PROJECT / "deploy" / "systemd" / f"authagent.{unit}").read_text()
        assert done.stdout == packaged.replace("/opt/authagent/bin", str(Path(sys.executable).parent))


def test_its_entry_points_are_those_of_the_contract(wheel: zipfile.ZipFile) -> None:
    parser = configparser.ConfigParser()
    parser.read_string(wheel.read(next(n for n in wheel.namelist() if n.endswith("entry_points.txt"))).decode())

    assert {section: dict(parser[section]) for section in parser.sections()} == {
        "console_scripts": {"authagent": "flytekitplugins.authagent.cli:main"},
        "flytekit.auth": {"authagent": "flytekitplugins.authagent.authenticator:authenticator"},
        "flytekit.plugins": {"authagent": "flytekitplugins.authagent.auto"},
    }


def test_its_requirements_are_the_charters(wheel: zipfile.ZipFile) -> None:
    metadata = wheel.read(next(n for n in wheel.namelist() if n.endswith("METADATA"))).decode()

    for line in (
        "Requires-Dist: flytekit>=1.16.24",
        "Requires-Python: <3.13,>=3.10",
        "License: Apache-2.0",
        "Provides-Extra: agent",
        "Provides-Extra: sandbox",
        "Provides-Extra: all",
    ):
        assert line in metadata.replace("License-Expression:", "License:"), line
    assert any(name.endswith("LICENSE") for name in wheel.namelist())
