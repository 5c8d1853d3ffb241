"""
Where one message ends and the next begins, however the bytes arrive: a body is never taken for a request.

What a connection hands on is compared with what the parser alone finds in the same bytes.
"""

from __future__ import annotations

import asyncio
import fcntl
import struct
import termios
import time
from functools import partial
from itertools import combinations, pairwise
from typing import Any, NamedTuple

import fuzz_connection
import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from running_agent import FORM, Agent, read_all, reply, request

from flytekitplugins.authagent.agent.connection import Connection
from flytekitplugins.authagent.agent.connections import Connections

FOR_PAGES = partial(Connection, browsers=True)
FORM_BODY = b"grant_type=client_credentials"
LEARNED = request("POST", "/token", FORM_BODY, {"Content-Type": FORM})
"""What an agent answers again and again."""


class Found(NamedTuple):
    """What of a request decides something."""

    method: bytes
    target: bytes
    body: bytes
    authorization: bytes | None
    content_type: bytes | None
    cookie: bytes | None


class ParserAlone:
    """Messages of whole bytes, up to the one after which the connection closes. Trailers are left out."""

    def __init__(self, data: bytes) -> None:
        self.found: list[Found] = []
        self._over = False
        self.on_message_begin()
        self._parser = httptools.HttpRequestParser(self)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            assert self._over, "only after the end of a connection there may be anything"

    def on_message_begin(self) -> None:
        self._target = self._body = b""
        self._headers: dict[bytes, bytes] = {}
        self._in_headers = True

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_headers:
            self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        self._in_headers = False

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if not self._over:
            names = (b"authorization", b"content-type", b"cookie")
            values = map(self._headers.get, names)
            self.found.append(Found(self._parser.get_method(), self._target, self._body, *values))
        self._over = self._over or not self._parser.should_keep_alive()


def seen(pieces: list[bytes], kind: Any = FOR_PAGES) -> tuple[bytes, list[Found]]:
    written, requests = asyncio.run(fuzz_connection.exchange(pieces, kind, Connections()))
    return written, [
        Found(
            each.method,
            each.path + (b"" if each.query is None else b"?" + each.query),
            each.body,
            each.headers.get(b"authorization"),
            each.headers.get(b"content-type"),
            each.headers.get(b"cookie"),
        )
        for each in requests
    ]


def chunked(body: bytes, size: int, trailers: bytes) -> bytes:
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x;a=b\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n" + trailers + b"\r\n"


BODIES = st.sampled_from([b"", FORM_BODY, LEARNED, LEARNED * 2, b"0\r\n\r\n" + LEARNED, b"x" * 600])
TRAILERS = st.lists(
    st.sampled_from(
        [b"Authorization: Basic eDo=\r\n", b"Content-Type: text/plain\r\n", b"Cookie: a=b\r\n", b"Host: b\r\n"]
    ),
    max_size=3,
).map(b"".join)


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """One request as a client might write it."""
    version = draw(st.sampled_from([b"1.1", b"1.1", b"1.1", b"1.0"]))
    lines = [b"POST %s HTTP/%s" % (draw(st.sampled_from([b"/token", b"/livez?a=b"])), version), b"Host: a"]
    lines += draw(
        st.lists(
            st.sampled_from(
                [b"Content-Type: text/plain", b"Authorization: Bearer x", b"Cookie: c=d", b"Expect: 100-continue"]
            ),
            unique=True,
        )
    )
    lines += draw(st.sampled_from([[], [], [b"Connection: close"], [b"Connection: keep-alive"]]))
    body = draw(BODIES)
    if version == b"1.1" and draw(st.booleans()):
        content = chunked(body, draw(st.sampled_from([1, 7, 64, 4096])), draw(TRAILERS))
        lines.append(b"Transfer-Encoding: chunked")
    else:
        content = body
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([*lines, b"", b""]) + content


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(ends)]


@settings(max_examples=400, deadline=None)
@given(st.lists(messages(), min_size=1, max_size=4), st.lists(st.integers(0, 5000), max_size=6))
def test_pipelined_messages_are_what_the_parser_alone_finds(pipelined: list[bytes], places: list[int]) -> None:
    data = b"".join(pipelined)

    expected = ParserAlone(data).found

    assert seen(cut(data, places))[1] == expected
    assert seen([data])[1] == expected


@settings(max_examples=200, deadline=None)
@given(st.lists(messages(), min_size=1, max_size=3))
def test_pipelined_messages_that_come_one_by_one_are_what_the_parser_alone_finds(pipelined: list[bytes]) -> None:
    assert seen(pipelined)[1] == ParserAlone(b"".join(pipelined)).found


@pytest.mark.parametrize("learned", [LEARNED, LEARNED.replace(b"Connection: close\r\n", b"")], ids=["close", "kept"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("before", [b"", b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"], ids=["alone", "behind another"])
def test_a_body_that_is_a_request_is_a_body_wherever_it_is_cut(learned: bytes, framing: str, before: bytes) -> None:
    head = b"POST /livez HTTP/1.1\r\nHost: a\r\n"
    if framing == "length":
        data = head + b"Content-Length: %d\r\n\r\n" % len(learned) + learned
    else:
        data = head + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(learned, len(learned), b"")
    data = before + data
    start = data.index(learned)
    near = [*range(0, len(data), 7), start - 1, start, start + 1, start + len(learned), start + len(learned) - 1]
    connections = Connections()
    for kind in (Connection, FOR_PAGES):
        asyncio.run(fuzz_connection.exchange([learned], kind, connections))
        for places in [*combinations(sorted(set(near)), 1), (start, start + len(learned))]:
            _, requests = asyncio.run(fuzz_connection.exchange(cut(data, list(places)), kind, connections))
            assert [(each.path, each.body) for each in requests][bool(before) :] == [(b"/livez", learned)]


def until_read(connection: Any) -> None:
    """What was sent has been read at the other end (SIOCOUTQ)."""
    deadline = time.monotonic() + 20
    while struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, b"\0" * 4))[0]:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_an_agent_does_not_execute_a_body_whose_head_came_in_an_earlier_read(agent: Agent) -> None:
    for _ in range(3):
        assert reply(agent.say(LEARNED)).status == 200
    given = len(agent.records())
    with agent.connect() as connection:
        before = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"
        head = b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(LEARNED)
        connection.sendall(before + head)
        until_read(connection)
        connection.sendall(LEARNED)
        answer = read_all(connection)
    assert answer.count(b"HTTP/1.1 200 ") == answer.count(b"ok\n") == 2
    assert b"access_token" not in answer
    assert len(agent.records()) == given


# One line for each way to write a message in which two readers might see two things.
AMBIGUOUS = {
    "two authorizations": b"Authorization: Basic eDo=\r\nAuthorization: Basic eDo=\r\n",
    "two authorizations, in other letters": b"authorization: Basic eDo=\r\nAUTHORIZATION: Bearer x\r\n",
    "an empty authorization first": b"Authorization:\r\nAuthorization: Bearer x\r\n",
    "two content types": b"Content-Type: text/plain\r\n",
    "two hosts": b"Host: b\r\n",
    "two lengths": b"Content-Length: 29\r\n",
    "two different lengths": b"Content-Length: 5\r\n",
    "a list of lengths": b"Content-Length: 29, 29\r\n",
    "a length and chunks": b"Transfer-Encoding: chunked\r\n",
    "a length and another coding": b"Transfer-Encoding: identity\r\n",
    "a folded header": b"X: a\r\n b\r\n",
    "a folded authorization": b"Authorization: Basic\r\n eDo=\r\n",
    "a header without a colon": b"nothing\r\n",
    "a space before the colon": b"Content-Length : 29\r\n",
    "a NUL in a value": b"X: a\x00b\r\n",
    "a NUL in a name": b"X\x00: a\r\n",
    "a bare CR in a value": b"X: a\rb\r\n",
    "a bare LF": b"X: a\n",
}


@pytest.mark.parametrize("header", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_a_message_that_can_be_read_in_two_ways_is_refused(agent: Agent, header: bytes) -> None:
    head = b"POST /token HTTP/1.1\r\nHost: a\r\nContent-Length: 29\r\nContent-Type: " + FORM.encode() + b"\r\n"
    raw = head + header + b"\r\n" + FORM_BODY
    given = len(agent.records())

    for kind in (Connection, FOR_PAGES):
        for pieces in ([raw], [bytes([byte]) for byte in raw]):
            written, requests = asyncio.run(fuzz_connection.exchange(pieces, kind, Connections()))
            assert written.startswith(b"HTTP/1.1 400 ")
            assert not requests
    assert agent.say(raw).startswith(b"HTTP/1.1 400 ")
    assert len(agent.records()) == given


@pytest.mark.parametrize(
    "coding",
    [b"gzip, chunked", b"identity", b"chunked, chunked", b"xchunked", b"chunked\r\nTransfer-Encoding: chunked"],
)
def test_a_transfer_coding_but_chunked_is_refused(coding: bytes) -> None:
    raw = b"POST /token HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: %s\r\n\r\n" % coding + chunked(FORM_BODY, 64, b"")
    written, requests = asyncio.run(fuzz_connection.exchange([raw], Connection, Connections()))
    assert written.startswith(b"HTTP/1.1 400 ")
    assert not requests


@pytest.mark.parametrize(
    "trailer",
    [
        b"Authorization: Bearer stolen\r\n",
        b"Content-Type: application/x-www-form-urlencoded\r\n",
        b"Cookie: a=b\r\n",
        b"Origin: https://evil.example\r\n",
        b"Sec-Fetch-Site: same-origin\r\n",
        b"Host: b\r\n",
    ],
)
def test_a_trailer_sets_nothing(trailer: bytes) -> None:
    raw = b"POST /token HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(FORM_BODY, 64, trailer)
    _, requests = asyncio.run(fuzz_connection.exchange([raw, raw], FOR_PAGES, Connections()))
    assert [(each.authorization, each.content_type, each.body) for each in requests] == [(None, b"", FORM_BODY)] * 2
    assert all(each.headers.keys() == {b"host", b"transfer-encoding"} for each in requests)


def test_a_trailer_opens_nothing_at_an_agent(agent: Agent) -> None:
    head = b"POST /token HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n"
    plain = head + b"\r\n" + chunked(FORM_BODY, 64, f"Content-Type: {FORM}\r\n".encode())
    assert reply(agent.say(plain)).status == 415
    typed = head + f"Content-Type: {FORM}\r\n\r\n".encode() + chunked(FORM_BODY, 64, b"Authorization: Bearer x\r\n")
    assert reply(agent.say(typed)).status == 200


@pytest.mark.parametrize("endless", [b"X: " + b"a" * 4096, b"a" * 4096], ids=["trailer value", "trailer name"])
def test_a_trailer_that_does_not_end_is_refused(endless: bytes) -> None:
    head = b"POST /token HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    written, requests = asyncio.run(
        fuzz_connection.exchange([head, endless, *[b"a" * 4096] * 64], Connection, Connections())
    )
    assert written.startswith((b"HTTP/1.1 413 ", b"HTTP/1.1 431 ", b"HTTP/1.1 400 "))
    assert not requests


def test_an_answer_that_is_awaited_has_no_second_request_beside_it_however_it_is_cut() -> None:
    one = LEARNED.replace(b"Connection: close\r\n", b"")

    async def statuses(pieces: list[bytes]) -> list[int]:
        async def never(_peer: Any, _request: Any) -> Any:
            await asyncio.sleep(3600)

        wire = fuzz_connection.Wire()
        connection = Connection(never, Connections(), attested=False)
        connection.connection_made(wire)  # type: ignore[arg-type]
        for piece in pieces:
            connection.data_received(piece)
        connection.connection_lost(None)
        return fuzz_connection.read(wire.written)

    data = one + one
    for at in range(len(one), len(data)):
        assert asyncio.run(statuses(cut(data, [at]))) == [400]
