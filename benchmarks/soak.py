"""
The agent over a long time: memory and descriptors, while clients come and go.

`soak.py [SECONDS]`, 60 unless said. What counts is growth for 100,000 requests, after the first tenth of the time.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import agent as benchmark
import running_agent
import running_provider
import written


def main(seconds: float) -> None:
    body = b"grant_type=client_credentials"
    request = running_agent.request("POST", "/token", body, {"Content-Type": running_agent.FORM})
    with tempfile.TemporaryDirectory(prefix="aa-") as name, running_provider.running(lifetime=20) as provider:
        program = benchmark.built(Path(name))
        with running_agent.running(provider) as agent:
            process = Path(f"/proc/{agent.process.pid}")
            benchmark.load(program, agent.socket, 16, request, seconds / 10)
            before, open_before, requests, began = _memory(process), _descriptors(process), 0.0, time.monotonic()
            while time.monotonic() - began < seconds:
                slice_ = min(10.0, seconds)
                requests += benchmark.load(program, agent.socket, 16, request, slice_).per_second * slice_
            after, open_after = _memory(process), _descriptors(process)
            mints = agent.mints
    written.keep(
        "soak",
        {
            "seconds": seconds,
            "requests": int(requests),
            "mints of a token that lives 20 s": mints,
            "memory at first, KiB": before,
            "memory grown for 100,000 requests, KiB": (after - before) / requests * 1e5,
            "descriptors more than at first": open_after - open_before,
        },
    )


def _memory(process: Path) -> int:
    lines = (process / "status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])


def _descriptors(process: Path) -> int:
    return len(list((process / "fd").iterdir()))


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0)
