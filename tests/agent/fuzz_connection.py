"""
What must hold for a connection, whatever bytes come in, in whatever pieces.

`check` holds it for one input. As a program it is a coverage-guided fuzzer (atheris): `fuzz_connection.py [--plant BUG]
-runs=N CORPUS`; with a planted bug it must find it.
"""

from __future__ import annotations

import asyncio
import re
import sys
from typing import Any

from flytekitplugins.authagent.agent import connection as connections_module
from flytekitplugins.authagent.agent.connection import MAX_BODY, MAX_PATH, Connection
from flytekitplugins.authagent.agent.connections import Connections
from flytekitplugins.authagent.agent.http import REASONS, Answer, Request

ANSWER = re.compile(
    rb"HTTP/1\.1 (\d{3}) [^\r\n]+\r\nContent-Type: [^\r\n]+\r\nCache-Control: no-store\r\n"
    rb"Content-Length: (\d+)\r\n(Connection: close\r\n)?\r\n"
)
LIMIT = 8192
"""Bytes of an input: below the bounds on headers, so that how it is cut makes no difference."""


class Wire:
    """The transport: it keeps what is written, and says when it was closed."""

    def get_extra_info(self, name: str) -> Any:
        """Nobody is at the other end."""
        return None

    def __init__(self) -> None:
        self.written = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed, "written after the end"
        self.written += data

    def close(self) -> None:
        self.closed = True

    abort = close

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        """Nothing to pause."""

    resume_reading = pause_reading


class Twice(Connection):
    """A planted bug: bodies of a certain length are answered twice."""

    def _send(self, answer: Answer, keep_alive: bool) -> None:
        super()._send(answer, keep_alive)
        if answer.body == b"29" and not self._over:
            super()._send(answer, keep_alive)


class Forgets(Connection):
    """A planted bug: what is cut inside the body is lost."""

    def on_body(self, body: bytes) -> None:
        if not self._body:
            super().on_body(body)


PLANTED: dict[str, type[Connection]] = {"twice": Twice, "forgets": Forgets}


async def exchange(
    pieces: list[bytes], kind: type[Connection], connections: Connections
) -> tuple[bytes, list[Request]]:
    """What is answered to `pieces`, and the requests that were handed on."""
    seen: list[Request] = []

    def handler(_peer: Any, request: Request) -> Answer:
        seen.append(request)
        return Answer(200, b"%d" % len(request.body))

    wire = Wire()
    one = kind(handler, connections, attested=False)
    one.connection_made(wire)  # type: ignore[arg-type]
    for piece in pieces:
        if wire.closed:
            break
        one.data_received(piece)
        assert len(one._body) <= MAX_BODY + LIMIT
        assert len(one._path) <= MAX_PATH + LIMIT
    one.connection_lost(None)
    assert len(connections) == 0, "a connection is left"
    statuses = read(wire.written)
    assert len(statuses) <= len(seen) + 1, "more answers than requests"
    assert statuses.count(200) == len(seen), "a request without its answer"
    assert all(status in REASONS for status in statuses)
    assert all(status == 200 for status in statuses[:-1]), "something was answered after a refusal"
    return wire.written, seen


def read(written: bytes) -> list[int]:
    statuses = []
    while written:
        head = ANSWER.match(written)
        assert head, f"not an answer: {written[:80]!r}"
        body = written[head.end() : head.end() + int(head[2])]
        assert len(body) == int(head[2]), "shorter than it says"
        statuses.append(int(head[1]))
        written = written[head.end() + len(body) :]
        assert not (head[3] and written), "something follows the last answer"
    return statuses


async def check(data: bytes, cuts: list[int], kind: type[Connection] = Connection) -> None:
    """However `data` is cut, it is answered alike, on any connection of many."""
    data = data[:LIMIT]
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    ends = [*places, len(data)]
    pieces = [data[start:end] for start, end in zip([0, *places], ends, strict=True) if end > start]
    connections = Connections()
    whole = await exchange([data], kind, connections)
    assert await exchange(pieces, kind, connections) == whole, "it matters how the bytes are cut"
    assert await exchange([data], kind, connections) == whole, "what came before makes a difference"


def main() -> None:
    kind = Connection
    if "--plant" in sys.argv:
        at = sys.argv.index("--plant")
        kind = PLANTED[sys.argv[at + 1]]
        del sys.argv[at : at + 2]
    import atheris

    atheris.instrument_func(check)
    for name in ("data_received", "on_url", "on_header", "on_body", "on_message_complete", "_send"):
        setattr(Connection, name, atheris.instrument_func(getattr(Connection, name)))
    assert connections_module.Connection is Connection
    loop = asyncio.new_event_loop()

    def one(data: bytes) -> None:
        cuts = list(data[:3])
        loop.run_until_complete(check(data[3:], cuts, kind))

    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
