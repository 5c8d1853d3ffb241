"""
`authagent token` from start to printed token, beside the bare interpreter, in shuffled rounds of one run.

In a wheel install by pip 26 or newer: older pips write console scripts that start half as fast, and an editable
install adds an import hook.
"""

from __future__ import annotations

import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "tests" / name) for name in ("agent", "sandbox")]

import running_agent  # noqa: E402 - the tests own it
import running_provider  # noqa: E402

ROUNDS = 60


def installed(directory: Path) -> Path:
    """Our wheel and nothing else, in an environment of its own: the fast path needs no dependency."""
    environment, copy = directory / "v", directory / "copy"  # setuptools leaves its work beside the sources
    shutil.copytree(HERE.parent / "flytekitplugins", copy / "flytekitplugins")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(HERE.parent / name, copy / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    into = [*pip, "--python", environment / "bin" / "python", "install", "--no-deps"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", directory, copy], check=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    subprocess.run([*into, next(directory.glob("*.whl"))], check=True)
    return environment / "bin"


def seconds(command: list[str], environ: dict[str, str]) -> float:
    start = time.perf_counter()
    done = subprocess.run(command, env=environ, stdout=subprocess.PIPE, check=True)
    took = time.perf_counter() - start
    assert done.stdout or command[-1] == "pass"
    return took


def main() -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="aa-") as name, running_provider.running() as provider:
        programs = installed(Path(name))
        with running_agent.running(provider) as agent:
            environ = {"PATH": os.environ["PATH"], "HOME": name, "AUTHAGENT_SOCKET": str(agent.socket)}
            commands = {
                "python -c pass": [str(programs / "python"), "-c", "pass"],
                "authagent token": [str(programs / "authagent"), "token"],
            }
            for command in commands.values():  # once, so that everything is compiled and in the page cache
                seconds(command, environ)
            found: dict[str, list[float]] = {which: [] for which in commands}
            for _ in range(ROUNDS):
                for which in random.sample(list(commands), len(commands)):
                    found[which].append(seconds(commands[which], environ))
    bare, ours = (statistics.median(found[which]) * 1000 for which in commands)
    return {
        "bare interpreter, ms": bare,
        "authagent token, ms": ours,
        "authagent token / bare interpreter (hold: 1.5)": ours / bare,
    }


if __name__ == "__main__":
    for what, value in main().items():
        print(f"{what:55}{value:12.2f}")
