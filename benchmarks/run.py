"""`make bench`: every benchmark, each in a process of its own, against what docs/benchmarks.md holds it to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

for name in ("in_process", "startup", "agent", "hub", "soak"):
    print(f"\n{name}", flush=True)
    subprocess.run([sys.executable, Path(__file__).parent / f"{name}.py"], check=True)
