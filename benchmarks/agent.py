"""
The agent under load, beside the floor, in shuffled rounds of one run.

A cached token, one connection per request, with peer check, policy and audit. What counts are the ratios: machines
differ, and one machine differs from minute to minute.
"""

from __future__ import annotations

import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "tests" / name) for name in ("agent", "sandbox")]

import running_agent  # noqa: E402 - the tests own it
import running_provider  # noqa: E402

ROUNDS = 9
SECONDS = 1.0


@dataclass(frozen=True)
class Measured:
    """Latencies in microseconds."""

    p50: float
    p99: float
    per_second: float


def built(directory: Path) -> Path:
    """The load generator. A client in Python would measure itself."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise SystemExit("benchmarks/agent.py needs a C compiler")
    program = directory / "load"
    subprocess.run([compiler, "-O2", "-pthread", "-o", program, HERE / "load.c"], check=True)
    return program


def load(program: Path, socket: Path, clients: int, request: bytes, seconds: float = SECONDS) -> Measured:
    command = [str(program), str(socket), str(clients), str(seconds)]
    done = subprocess.run(command, input=request, capture_output=True, check=True, timeout=60)
    requests, failures, p50, p99, per_second = map(float, done.stdout.split())
    assert requests, "nothing was answered"
    # A full backlog answers EAGAIN at once (unix(7)): clients try again, so such a connection is no answer lost.
    assert failures <= requests * 0.01, f"{failures:.0f} of {requests:.0f} requests failed"
    return Measured(p50, p99, per_second)


@contextmanager
def floor(directory: Path, size: int) -> Iterator[Path]:
    socket = directory / "floor.sock"
    process = subprocess.Popen([sys.executable, HERE / "floor.py", socket, str(size)])
    try:
        while not socket.exists():
            time.sleep(0.01)
        yield socket
    finally:
        process.kill()
        process.wait()


def main() -> dict[str, float]:
    body = b"grant_type=client_credentials"
    request = running_agent.request("POST", "/token", body, {"Content-Type": running_agent.FORM})
    with tempfile.TemporaryDirectory(prefix="aa-") as name, running_provider.running() as provider:
        directory = Path(name)
        program = built(directory)
        both = ("all", "offline")
        rules = [running_agent.rule("bench", give={"upstream": "flyte", "scopes": list(both)})]
        with running_agent.running(provider, upstream_scopes=both, rules=rules) as agent:
            size = len(agent.say(request))
            with floor(directory, size) as bottom:
                places = {"floor": bottom, "agent": agent.socket}
                found: dict[tuple[str, int], list[Measured]] = {}
                for _ in range(ROUNDS):
                    order = [(which, clients) for which in places for clients in (1, 16)]
                    random.shuffle(order)
                    for which, clients in order:
                        found.setdefault((which, clients), []).append(load(program, places[which], clients, request))
            hanging = _while_a_mint_hangs(agent, program, request)

    def median(which: str, clients: int, field: str) -> float:
        return statistics.median(getattr(m, field) for m in found[which, clients])

    return {
        "floor p50, us": median("floor", 1, "p50"),
        "agent p50, us": median("agent", 1, "p50"),
        "agent p50 / floor (hold: 2)": median("agent", 1, "p50") / median("floor", 1, "p50"),
        "agent p99, us (hold: 1000)": median("agent", 1, "p99"),
        "floor, 16 clients, 1/s": median("floor", 16, "per_second"),
        "agent, 16 clients, 1/s": median("agent", 16, "per_second"),
        "agent / floor, 16 clients (hold: 0.5)": median("agent", 16, "per_second") / median("floor", 16, "per_second"),
        "agent p99, 16 clients, us (hold: 15000)": median("agent", 16, "p99"),
        "agent p50 while a mint hangs / p50 (hold: about 1)": hanging / median("agent", 1, "p50"),
    }


def _while_a_mint_hangs(agent: running_agent.Agent, program: Path, request: bytes) -> float:
    agent.provider.faults.put({"token_hang": -1})
    body = b"grant_type=client_credentials&scope=offline"
    other = running_agent.request("POST", "/token", body, {"Content-Type": running_agent.FORM})
    with agent.connect() as waiting:
        waiting.sendall(other)
        time.sleep(0.2)
        return statistics.median(load(program, agent.socket, 1, request).p50 for _ in range(3))


if __name__ == "__main__":
    for what, value in main().items():
        print(f"{what:55}{value:12.2f}")
