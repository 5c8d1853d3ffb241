"""What is installed without an extra names the extra, ends with 2, and shows no traceback."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flytekitplugins.authagent import extras

PROJECT = Path(__file__).parent.parent.parent

BLOCKED = """
import runpy, sys
from importlib.machinery import PathFinder
class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {missing!r} else PathFinder.find_spec(name, path, target)
sys.meta_path[:] = [Without if finder is PathFinder else finder for finder in sys.meta_path]
sys.argv[:] = ["authagent", *{arguments!r}]
runpy.run_module("flytekitplugins.authagent", run_name="__main__")
"""

AGENT = """
socket: {directory}/agent.sock
upstreams: {{f: {{kind: keyring, issuer: "https://idp.example.com"}}}}
rules: [{{name: a, who: {{uid: 0}}, give: {{upstream: f}}}}]
"""

HUB = """
listen: http://127.0.0.1:8443
attestor: kubernetes
flyte: {{endpoint: "dns:///flyte.example.com"}}
hub:
  url: https://hub.example.com
  people: {{issuer: "https://i.example.com", audience: a}}
  keys_env: K
  ask_flyte_as: s
upstreams:
  s: {{kind: keyring, issuer: "https://i.example.com"}}
  p: {{kind: grant, consent: page, issuer: "https://i.example.com", client_id: h, client_secret_file: /s}}
rules: []
"""

CASES = {
    "serve": (AGENT, ("serve", "--config", "{file}"), "agent"),
    "serve --check": (AGENT, ("serve", "--check", "--config", "{file}"), "agent"),
    "serve, a hub": (HUB, ("serve", "--config", "{file}"), "hub"),
    "serve --check, a hub": (HUB, ("serve", "--check", "--config", "{file}"), "hub"),
    "sandbox": (AGENT, ("sandbox",), "sandbox"),
    "sandbox, a command": (AGENT, ("sandbox", "--", "true"), "sandbox"),
    "sandbox, a hub": (AGENT, ("sandbox", "--hub", "--posture", "external", "--", "true"), "sandbox"),
}

ROWS = [(case, extras.MODULES[extra][end]) for case, (_, _, extra) in CASES.items() for end in (0, -1)]


@pytest.mark.parametrize(("case", "module"), ROWS)
def test_the_extra_is_named(case: str, module: str, tmp_path: Path) -> None:
    content, arguments, extra = CASES[case]
    tmp_path.chmod(0o700)
    file = tmp_path / "agent.yaml"
    file.write_text(content.format(directory=tmp_path))
    file.chmod(0o600)
    program = BLOCKED.format(missing={module}, arguments=[word.format(file=file) for word in arguments])
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)

    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert f"needs {module}, which is not installed" in done.stderr
    assert f"hint: pip install 'flytekitplugins-authagent[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_fixture_names_it_too(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(
        'import sys\nsys.modules["uvloop"] = None\npytest_plugins = ["flytekitplugins.authagent.testing"]\n'
    )
    (tmp_path / "test_it.py").write_text("def test_it(sandbox_remote): pass\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--rootdir", tmp_path]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [*command, tmp_path], env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert "ConfigError: sandbox_remote needs uvloop, which is not installed" in done.stdout
    assert "flytekitplugins-authagent[sandbox]" in done.stdout


def test_the_table_has_what_setup_cfg_has() -> None:
    parser = configparser.ConfigParser()
    parser.read(PROJECT / "setup.cfg")
    for extra, modules in extras.MODULES.items():
        wanted = parser["options.extras_require"][extra].split("\n")
        names = {line.partition(">")[0].partition("[")[0].replace("-", "_") for line in wanted if line}
        assert set(modules) == names


def test_what_is_installed_is_not_missed() -> None:
    extras.need("sandbox", "a test")
