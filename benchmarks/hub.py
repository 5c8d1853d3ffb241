"""
Hubs under load: 1, 2 and 4 replicas on one PostgreSQL, in shuffled rounds of one run.

Tokens of people that are in the database, over TLS connections that stay open (kept.c): what a node agent asks for.
Pods are attested, rules are gone through, the grant is read and its tokens opened, the answer is written down first.
Beside it the floor: /livez of the same hub, and the hub's own look-up by itself. Database, replicas and load share the
cores here, so what a replica costs is told in processor time, too, which does not depend on how many cores there are.
"""

from __future__ import annotations

import base64
import os
import random
import shutil
import signal
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "tests")] + [
    str(HERE.parent / "tests" / name) for name in ("agent", "hub", "sandbox")
]

import certificates  # noqa: E402 - the tests own it
import kubernetes_api  # noqa: E402
import postgres  # noqa: E402
import psycopg  # noqa: E402
import running_hub  # noqa: E402
import tokens  # noqa: E402
import written  # noqa: E402
from running_hub import FORM, Hub, World  # noqa: E402
from sqlalchemy.dialects import postgresql  # noqa: E402

from flytekitplugins.authagent.credential import Secret  # noqa: E402
from flytekitplugins.authagent.hub import statements  # noqa: E402
from flytekitplugins.authagent.hub.records import Access  # noqa: E402
from flytekitplugins.authagent.hub.seal import Key, Seal  # noqa: E402
from flytekitplugins.authagent.hub.store import Store, Tokens  # noqa: E402
from flytekitplugins.authagent.sandbox.port import free_port  # noqa: E402

ROUNDS = 3
GRANTS = 100_000
PODS = 128
"""How many executions are asked for, evenly spread over all that have a grant."""

REPLICAS = (1, 2, 4)
CLIENTS = 32
RATE = 200.0
"""Requests a second at which latencies are taken: a third or less of what one replica can answer."""

SECONDS = 1.5
RATED_SECONDS = 4.0
"""Longer where latencies are taken: of 800 answers 8 are beyond the p99."""

HOUR = 3600.0


@dataclass(frozen=True)
class Measured:
    """Latencies and processor time in microseconds, the latter of an answer."""

    p50: float
    p99: float
    per_second: float
    of_hubs: float = 0.0
    of_database: float = 0.0


def built(directory: Path) -> Path:
    """The load generator. A client in Python would measure itself."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise SystemExit("benchmarks/hub.py needs a C compiler, and OpenSSL's headers (Debian: libssl-dev)")
    program = directory / "kept"
    subprocess.run([compiler, "-O2", "-pthread", "-o", program, HERE / "kept.c", "-lssl", "-lcrypto"], check=True)
    return program


def execution(number: int) -> str:
    return f"billing:production:f{number:020x}"


def fill(url: str, numbers: Sequence[int]) -> None:
    """A live grant for each of these executions, with tokens as long as real ones, sealed and good for two hours."""
    seal = Seal([Key(base64.b64decode(running_hub.KEY))])
    store = Store(url, seal)
    store.start()
    store.close()
    now = time.time()
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        rows: dict[str, list[tuple[Any, ...]]] = {"grants": [], "covered": [], "sealed": []}
        for number in numbers:
            name, subject, of = f"grant-{number:018x}", f"person-{number % 1000}", execution(number)
            ends = now + 2 * HOUR
            text = tokens.jwt(sub=subject, aud="https://flyte", iat=int(now), exp=int(ends), jti=name, scp=["all"])
            text = text.rpartition(".")[0] + "." + base64.urlsafe_b64encode(os.urandom(256)).decode().rstrip("=")
            kept = Tokens(Secret(f"refresh-{name}"), ends, (Access(Secret(text), ends, ("all",)),)).to_json()
            blob = seal.seal(kept, what="tokens", row=name)
            more = ("active", "", now, ends, None, True, 0, "none", now)
            rows["grants"].append((name, of, subject, "authagent-cli", "all", *more))
            rows["covered"].append((of, name, True, True, now, False))
            rows["sealed"].append((name, blob, None, seal.first, True, 1))
        for table, of_table in rows.items():
            with cursor.copy(f"COPY {table} FROM STDIN") as copy:
                for row in of_table:
                    copy.write_row(row)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")


@contextmanager
def hub(world: World, issued: certificates.Issued, store: str) -> Iterator[Hub]:
    port = free_port()
    address = f"https://localhost:{port}"
    with running_hub.running(
        world,
        wait=False,
        listen=f"https://127.0.0.1:{port}",
        tls={"certificate_file": str(issued.certificate), "key_file": str(issued.key)},
        hub={"url": address, "store": store, "rate": 100_000, "look_every": "10s"},
    ) as made:
        made.url, made.context = address, ssl.create_default_context(cafile=str(issued.authority))
        made.wait_until_it_answers()
        yield made


def request_of(pod_token: str) -> bytes:
    form = {
        "grant_type": "client_credentials",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": pod_token,
    }
    body = urlencode(form).encode()
    head = f"POST /token HTTP/1.1\r\nHost: localhost\r\nContent-Type: {FORM}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Load:
    """What the load generator is told, and what the processes of a machine spend meanwhile."""

    def __init__(self, program: Path, database: int) -> None:
        self._program, self._database = program, database

    def __call__(
        self, hubs: Sequence[Hub], requests: Sequence[bytes], rate: float = 0, seconds: float = SECONDS
    ) -> Measured:
        ports = [hub.url.rpartition(":")[2] for hub in hubs]
        command = [str(self._program), str(CLIENTS), str(seconds), str(rate), *ports]
        framed = b"".join(b"%d\n%s" % (len(request), request) for request in requests)
        replicas = [hub.process.pid for hub in hubs]
        hubs_before, database_before = spent(replicas), spent(children(self._database))
        done = subprocess.run(command, input=framed, capture_output=True, check=True, timeout=60)
        answered, failures, p50, p99, per_second = map(float, done.stdout.split())
        assert answered and not failures, f"{failures:.0f} failures beside {answered:.0f} answers"
        of_hubs = grown(hubs_before, spent(replicas)) / answered * 1e6
        of_database = grown(database_before, spent(children(self._database))) / answered * 1e6
        return Measured(p50, p99, per_second, of_hubs, of_database)


def spent(processes: Sequence[int]) -> dict[int, float]:
    """Seconds of processor time so far, by process (proc(5)); one that is gone meanwhile is left out."""
    found: dict[int, float] = {}
    for process in processes:
        with suppress(FileNotFoundError, ProcessLookupError):
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            found[process] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return found


def grown(before: dict[int, float], after: dict[int, float]) -> float:
    """Seconds, of those that were there all the time: a connection of the hub's is a process of PostgreSQL's."""
    return sum(seconds - before[process] for process, seconds in after.items() if process in before)


def children(process: int) -> list[int]:
    return [int(number) for number in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def only(these: Sequence[Hub], all_hubs: Sequence[Hub]) -> None:
    """Let the others rest: they follow executions, and would take the processor for it."""
    for one in all_hubs:
        one.process.send_signal(signal.SIGCONT if one in these else signal.SIGSTOP)


def looked_up(url: str, seconds: float = SECONDS / 2, threads: int = 16) -> float:
    """The hub's own look-up, a second: the same statement by the same driver, as many threads, and nothing else."""
    text = str(statements.OF_EXECUTION.compile(dialect=postgresql.psycopg.dialect()))
    done, ends = [0] * threads, time.monotonic() + seconds

    def work(number: int) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            while time.monotonic() < ends:
                which = execution(random.randrange(GRANTS))
                assert connection.execute(text, {"which": which, "moment": time.time()}).fetchone()
                done[number] += 1

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(done) / seconds


def main() -> dict[str, object]:
    if postgres.binaries() is None:
        raise SystemExit("benchmarks/hub.py needs PostgreSQL (Debian: postgresql)")
    found: dict[str, list[Measured]] = {}
    look_ups: list[float] = []
    kubernetes_api._Handler.disable_nagle_algorithm = True  # a real API server does not wait 40 ms before it answers
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aa-")))
        program, issued = built(directory), certificates.issue(directory, "localhost")
        server = stack.enter_context(postgres.running())
        server.sql("ALTER SYSTEM SET max_connections = 300")  # a replica may open 44
        server.stop("fast")
        server.start()
        world = stack.enter_context(running_hub.world())
        asked = range(0, GRANTS, GRANTS // PODS)[:PODS]
        few, many = server.new_database(), server.new_database()
        fill(few, asked)
        began = time.monotonic()
        fill(many, range(GRANTS))
        filled = time.monotonic() - began
        for number in range(GRANTS):
            world.admin.launch(execution(number), f"person-{number % 1000}")
        requests = [request_of(world.pod_of(execution(number), uid=f"pod-{number}")) for number in asked]
        lone = stack.enter_context(hub(world, issued, few))
        replicas = [stack.enter_context(hub(world, issued, many)) for _ in range(max(REPLICAS))]
        everybody = [lone, *replicas]
        stack.callback(only, everybody, everybody)
        load = Load(program, int((server.home / "data" / "postmaster.pid").read_text().split()[0]))
        livez = [b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"]
        stages: dict[str, tuple[list[Hub], list[bytes], float]] = {
            "few": ([lone], requests, RATE),
            "many": (replicas[:1], requests, RATE),
            "livez": (replicas[:1], livez, 0),
            **{str(count): (replicas[:count], requests, 0) for count in REPLICAS},
        }
        for _ in range(ROUNDS):
            for stage in random.sample(list(stages), len(stages)):
                hubs, what, rate = stages[stage]
                only(hubs, everybody)
                if stage != "livez":
                    for one in hubs:  # so that all of its pods are attested, as they are every ten seconds
                        load([one], requests, seconds=0.5)
                found.setdefault(stage, []).append(load(hubs, what, rate, RATED_SECONDS if rate else SECONDS))
            only([], everybody)
            look_ups.append(looked_up(many))

    def median(stage: str, field: str) -> float:
        return statistics.median(getattr(one, field) for one in found[stage])

    def ratio(stage: str, base: str, field: str) -> float:
        """The median over rounds, each against the base of the same round."""
        pairs = zip(found[stage], found[base], strict=True)
        return statistics.median(getattr(one, field) / getattr(other, field) for one, other in pairs)

    results: dict[str, object] = {
        "grants stored": GRANTS,
        "seconds to store them": filled,
        f"p50, {len(asked)} grants, {RATE:.0f}/s, us": median("few", "p50"),
        f"p99, {len(asked)} grants, {RATE:.0f}/s, us": median("few", "p99"),
        f"p50, {GRANTS} grants, {RATE:.0f}/s, us": median("many", "p50"),
        f"p99, {GRANTS} grants, {RATE:.0f}/s, us": median("many", "p99"),
        f"p50, {GRANTS} grants / {len(asked)} grants": ratio("many", "few", "p50"),
        f"p99, {GRANTS} grants / {len(asked)} grants": ratio("many", "few", "p99"),
    }
    for count in map(str, REPLICAS):
        name = f"{count} replica{'s' * (count != '1')}"
        results |= {
            f"{name}: tokens/s": median(count, "per_second"),
            f"{name}: tokens/s to 1 replica": ratio(count, "1", "per_second"),
            f"{name}: p99 at full load, us": median(count, "p99"),
            f"{name}: hub's processor time for a token, us": median(count, "of_hubs"),
            f"{name}: PostgreSQL's for a token, us": median(count, "of_database"),
        }
    results |= {
        "/livez, 1 replica: 1/s": median("livez", "per_second"),
        "tokens/s to /livez": ratio("1", "livez", "per_second"),
        "look-ups by themselves: 1/s": statistics.median(look_ups),
        "tokens/s to look-ups": median("1", "per_second") / statistics.median(look_ups),
    }
    return results


if __name__ == "__main__":
    written.keep("hub", main())
