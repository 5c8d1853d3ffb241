"""
The agent under load, beside the floor and other agents, in shuffled rounds of one run.

A cached token, with peer check, policy and audit: one connection per request by load.c, kept ones by h2load. What
counts are the ratios: machines differ, and one machine differs from minute to minute.
"""

from __future__ import annotations

import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "tests" / name) for name in ("agent", "sandbox")]

import running_agent  # noqa: E402 - the tests own it
import running_provider  # noqa: E402
import written  # noqa: E402
from others import Other, oidc_agent, ssh_agent  # noqa: E402

ROUNDS = 5
CLIENTS = (1, 16, 256)
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


def load(program: Path, socket: Path, clients: int, request: bytes, seconds: float = SECONDS, *more: str) -> Measured:
    command = [str(program), str(socket), str(clients), str(seconds), *more]
    done = subprocess.run(command, input=request, capture_output=True, check=True, timeout=60)
    requests, failures, p50, p99, per_second = map(float, done.stdout.split())
    assert requests, "nothing was answered"
    # A full backlog answers EAGAIN at once (unix(7)): clients try again, so such a connection is no answer lost.
    assert failures <= requests * 0.01 or clients > 16, f"{failures:.0f} of {requests:.0f} requests failed"
    return Measured(p50, p99, per_second)


def kept_alive(socket: Path, clients: int, body: Path) -> float:
    """Answers per second over connections that stay open, by h2load."""
    program = shutil.which("h2load")
    if program is None:
        raise SystemExit("benchmarks/agent.py needs h2load (Debian: nghttp2-client)")
    command = [program, "--h1", f"--requests={clients * 1000}", f"--clients={clients}", f"--base-uri=unix:{socket}"]
    command += [f"--data={body}", "--header=Content-Type: application/x-www-form-urlencoded", "http://agent/token"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    done, rate = re.search(r"(\d+) succeeded, 0 failed", said), re.search(r"finished in \S+ ([\d.]+) req/s", said)
    assert done and rate and int(done[1]) == clients * 1000, said
    return float(rate[1])


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


def main() -> dict[str, object]:
    body = b"grant_type=client_credentials"
    request = running_agent.request("POST", "/token", body, {"Content-Type": running_agent.FORM})
    found: dict[tuple[str, int], list[Measured]] = {}
    kept: dict[int, list[float]] = {}
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aa-")))
        provider = stack.enter_context(running_provider.running())
        program = built(directory)
        (directory / "body").write_bytes(body)
        both = ("all", "offline")
        rules = [running_agent.rule("bench", give={"upstream": "flyte", "scopes": list(both)})]
        agent = stack.enter_context(running_agent.running(provider, upstream_scopes=both, rules=rules))
        bottom = stack.enter_context(floor(directory, len(agent.say(request))))
        places = {
            "floor": Other(bottom, request, 0, "HTTP/1.1 200"),
            "agent": Other(agent.socket, request, 0, "HTTP/1.1 200"),
        }
        for name, other in (("ssh-agent", ssh_agent), ("oidc-agent", oidc_agent)):
            place = stack.enter_context(other(directory))
            if place is None:
                print(f"{name} is not installed, and not compared")
            else:
                places[name] = place
        for _ in range(ROUNDS):
            order = [(which, clients) for which in places for clients in CLIENTS]
            random.shuffle(order)
            for which, clients in order:
                asked = places[which]
                more = (str(asked.enough), asked.start)
                measured = load(program, asked.socket, clients, asked.request, SECONDS, *more)
                found.setdefault((which, clients), []).append(measured)
            for clients in CLIENTS:
                kept.setdefault(clients, []).append(kept_alive(agent.socket, clients, directory / "body"))
        mints = agent.mints
        burst = _burst(agent, request)
        hanging = _while_a_mint_hangs(agent, program, request)

    def median(which: str, clients: int, field: str) -> float:
        return statistics.median(getattr(m, field) for m in found[which, clients])

    def ratio(which: str, clients: int, field: str) -> float:
        """The median over rounds, each against the floor of the same round."""
        pairs = zip(found[which, clients], found["floor", clients], strict=True)
        return statistics.median(getattr(one, field) / getattr(base, field) for one, base in pairs)

    results: dict[str, object] = {
        "agent p50 / floor (hold: 2)": ratio("agent", 1, "p50"),
        "agent p99, us (hold: 1000)": median("agent", 1, "p99"),
        "agent / floor, 16 clients": ratio("agent", 16, "per_second"),
        "agent p99, 16 clients, us (hold: 15000)": median("agent", 16, "p99"),
        "agent p50 while a mint hangs / p50 (hold: about 1)": hanging / median("agent", 1, "p50"),
        "a burst of 256 connections: answers (hold: 256)": burst,
        "mints for all of it (hold: 1)": mints,
    }
    for which in places:
        for clients in CLIENTS:
            name = f"{which}, {clients} client{'s' * (clients > 1)}"
            results |= {
                f"{name}: p50, us": median(which, clients, "p50"),
                f"{name}: p99, us": median(which, clients, "p99"),
                f"{name}: 1/s": median(which, clients, "per_second"),
                f"{name}: 1/s to the floor": ratio(which, clients, "per_second"),
            }
    for clients, rates in kept.items():
        results[f"agent, {clients} kept connection{'s' * (clients > 1)}: 1/s"] = statistics.median(rates)
    return results


def _burst(agent: running_agent.Agent, request: bytes) -> int:
    """Answers to 256 connections that are all open before the first one asks."""
    with ExitStack() as stack:
        connections = [stack.enter_context(agent.connect()) for _ in range(256)]
        for connection in connections:
            connection.sendall(request)
        return sum(running_agent.read_all(connection).startswith(b"HTTP/1.1 200") for connection in connections)


def _while_a_mint_hangs(agent: running_agent.Agent, program: Path, request: bytes) -> float:
    agent.provider.faults.put({"token_hang": -1})
    body = b"grant_type=client_credentials&scope=offline"
    other = running_agent.request("POST", "/token", body, {"Content-Type": running_agent.FORM})
    with agent.connect() as waiting:
        waiting.sendall(other)
        time.sleep(0.2)
        return statistics.median(load(program, agent.socket, 1, request).p50 for _ in range(3))


if __name__ == "__main__":
    written.keep("agent", main())
