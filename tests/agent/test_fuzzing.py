"""Any bytes, in any pieces: what must hold of a connection (fuzz_connection.py), a form, and an agent's answer."""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import fuzz_connection
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from peers import need

from flytekitplugins.authagent import wire
from flytekitplugins.authagent.agent.asked import Asked, read
from flytekitplugins.authagent.agent.refusal import Refusal

HERE = Path(__file__).parent
CORPUS = sorted((HERE / "corpus").iterdir())

WORDS = [b"GET", b"POST", b" ", b"/token", b"/livez", b"?a=b", b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b"\r\n", b"\n", b":"]
WORDS += [b"Host: a\r\n", b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Content-Length: 99999999999\r\n"]
WORDS += [b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"Connection: upgrade\r\nUpgrade: x\r\n"]
WORDS += [
    b"Authorization: Basic eDo=\r\n",
    b"5\r\nhello\r\n",
    b"0\r\n\r\n",
    b"hello",
    b"\x00",
    b"\xff",
    b"grant_type=x",
]
TRAFFIC = st.lists(st.sampled_from(WORDS) | st.binary(max_size=8), max_size=24).map(b"".join)
PIECES = [b"HTTP/1.1 200 OK\r\n", b"Content-Length: 2\r\n", b"\r\n", b"{}"]
KEPT = b"POST /token HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\ngrant_type=x"
CUTS = st.lists(st.integers(0, 2000), max_size=4)


@pytest.mark.parametrize("file", CORPUS, ids=lambda file: file.name)
def test_known_traffic_is_answered_alike_however_it_is_cut(file: Path) -> None:
    data = file.read_bytes()[3:]
    for cut in range(0, len(data) + 1, 3):
        asyncio.run(fuzz_connection.check(data, [cut]))


@settings(max_examples=400, deadline=None)
@given(TRAFFIC, CUTS)
@example(b"GET / HTTP/1.1\r\n\r\n" * 3, [17, 18, 19])
@example(KEPT + KEPT.replace(b"Host: a", b"Connection: close"), [])
@example(KEPT + KEPT, [])
def test_any_traffic_is_answered_alike_however_it_is_cut(data: bytes, cuts: list[int]) -> None:
    asyncio.run(fuzz_connection.check(data, cuts))


@pytest.mark.parametrize("bug", fuzz_connection.PLANTED)
def test_a_bug_that_is_planted_is_found(bug: str) -> None:
    kind = fuzz_connection.PLANTED[bug]
    with pytest.raises(AssertionError):
        for file in CORPUS:
            for cut in range(0, 200, 3):
                asyncio.run(fuzz_connection.check(file.read_bytes()[3:], [cut], kind))


def fuzzed(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    need("atheris (Linux, Python 3.11)", importlib.util.find_spec("atheris"))
    corpus = tmp_path / "corpus"
    shutil.copytree(HERE / "corpus", corpus)
    command = [sys.executable, str(HERE / "fuzz_connection.py"), *arguments]
    command += ["-max_total_time=20", "-seed=1", str(corpus)]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.peer
def test_the_fuzzer_finds_nothing(tmp_path: Path) -> None:
    done = fuzzed(tmp_path, "-runs=20000")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "cov:" in done.stderr


@pytest.mark.peer
def test_the_fuzzer_finds_what_is_planted(tmp_path: Path) -> None:
    done = fuzzed(tmp_path, "--plant", "forgets", "-runs=20000")
    assert done.returncode != 0
    assert "AssertionError" in done.stderr + done.stdout


@settings(max_examples=500, deadline=None)
@given(
    st.binary(max_size=300)
    | st.lists(st.tuples(st.sampled_from(["grant_type", "scope", "min_lifetime", "subject_token", "x"]), st.text()))
    .map(wire.form),
    st.none() | st.text(max_size=40),
    st.booleans(),
)  # fmt: skip
def test_any_form_is_read_or_refused(body: bytes, authorization: str | None, exchanges: bool) -> None:
    try:
        asked = read(body, authorization, exchanges=exchanges)
    except Refusal as refusal:
        assert 400 <= refusal.status < 500
        assert refusal.error
    else:
        assert isinstance(asked, Asked)
        assert exchanges or asked.subject_token is None


@settings(max_examples=500, deadline=None)
@given(
    st.lists(
        st.binary(max_size=40) | st.sampled_from([b"HTTP/1.1 200 OK\r\n", b"Content-Length: 2\r\n", b"\r\n", b"{}"])
    )
)
def test_any_answer_is_read_or_broken(pieces: list[bytes]) -> None:
    reader = wire.Reader()
    try:
        for piece in pieces:
            reader.feed(piece)
            if reader.reply is not None:
                assert len(reader.reply.body) == int(reader.reply.headers["content-length"])
                return
        reader.end()
    except wire.Broken:
        pass
