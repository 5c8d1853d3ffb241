"""The wire: any bytes give a reply or one error, in pieces of any size."""

from __future__ import annotations

from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flytekitplugins.authagent import wire


@given(st.lists(st.tuples(st.text(min_size=1), st.text(min_size=1)), min_size=1))
def test_a_form_is_what_others_read(fields: list[tuple[str, str]]) -> None:
    encoded = wire.form(fields).decode("ascii")
    assert parse_qsl(encoded, keep_blank_values=True, strict_parsing=True, errors="surrogatepass") == fields


@given(st.binary(max_size=200), st.integers(1, 50), st.sampled_from([200, 400, 503]))
def test_an_answer_in_pieces(body: bytes, size: int, status: int) -> None:
    raw = b"HTTP/1.1 %d Whatever\r\nA: b\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)
    reader = wire.Reader()
    for start in range(0, len(raw), size):
        assert reader.reply is None
        reader.feed(raw[start : start + size])
    assert reader.reply is not None
    assert (reader.reply.status, reader.reply.body, reader.reply.headers["a"]) == (status, body, "b")


@given(st.binary(max_size=400))
def test_any_bytes_are_a_reply_not_yet_one_or_broken(raw: bytes) -> None:
    reader = wire.Reader()
    try:
        reader.feed(raw)
        if reader.reply is None:
            reader.end()
    except wire.Broken:
        return
    assert reader.reply is not None


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n",
        b"HTTP/1.1 2OO OK\r\nContent-Length: 0\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"x" * (wire.MAX_REPLY + 1),
    ],
)
def test_what_is_no_answer_is_broken(raw: bytes) -> None:
    with pytest.raises(wire.Broken):
        wire.Reader().feed(raw)


def test_whom_a_client_trusts() -> None:
    assert wire.trusted_server(1000, 1000, None)
    assert wire.trusted_server(0, 1000, None)
    assert wire.trusted_server(7, 1000, 7)
    assert not wire.trusted_server(7, 1000, None)
    assert not wire.trusted_server(wire.NOBODY, wire.NOBODY, wire.NOBODY)
