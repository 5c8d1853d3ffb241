"""What a benchmark found, kept as JSON beside the facts of the machine: build/bench/NAME.json."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path


def keep(name: str, found: Mapping[str, object]) -> Path:
    """Write `found`, and print it."""
    machine = {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "load": os.getloadavg()[0],
        "versions": {package: version(package) for package in ("flytekitplugins-authagent", "uvloop", "httptools")},
    }
    file = Path(__file__).parent.parent / "build" / "bench" / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"machine": machine, "found": found}, indent=2) + "\n")
    for what, value in found.items():
        print(f"{what:58}{value:14.2f}" if isinstance(value, float) else f"{what:58}{value:>14}")
    return file
