"""What a gRPC client sees of a proxy that asks somebody else whether a call may pass."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import grpc
import pytest
from nginx import METADATA_SERVICE, nginx

from flytekitplugins.authagent.sandbox.port import free_port

pytestmark = pytest.mark.peer

METHOD = "/example.Echo/Say"
GOOD = "Bearer good"


class Me:
    """Says 200 to GOOD, 401 to others, and counts; `status` is said to everybody instead."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.status = 0
        me = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                shown = self.headers.get("flyte-authorization", "")
                me.asked.append(shown)
                self.send_response(me.status or (200 if shown.startswith(GOOD) else 401))
                self.send_header("x-user-subject", "alice")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/me"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def me() -> Iterator[Me]:
    answering = Me()
    yield answering
    answering.stop()


@pytest.fixture(scope="module")
def backend() -> Iterator[str]:
    """A gRPC server that answers every call with the subject that it was told."""

    class Echo(grpc.GenericRpcHandler):
        def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
            told = dict(details.invocation_metadata).get("x-user-subject", "")
            return grpc.unary_unary_rpc_method_handler(lambda _request, _context: told.encode())

    server = grpc.server(futures.ThreadPoolExecutor(2), handlers=[Echo()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(0).wait(5)


def call(target: str, *metadata: tuple[str, str], method: str = METHOD) -> bytes | grpc.RpcError:
    """One call: its answer, or the error."""
    with grpc.insecure_channel(target) as channel:
        try:
            answer: bytes = channel.unary_unary(method)(b"", metadata=metadata, timeout=10)
        except grpc.RpcError as error:
            return error
        return answer


def code(answer: bytes | grpc.RpcError) -> grpc.StatusCode:
    assert isinstance(answer, grpc.RpcError), answer
    return answer.code()


def test_a_good_token_passes_and_the_subject_is_the_proxys_word(me: Me, backend: str, tmp_path: Path) -> None:
    with nginx(tmp_path, backend=backend, me=me.url) as proxy:
        said = call(proxy.target, ("flyte-authorization", GOOD), ("x-user-subject", "mallory"))

    assert (said, me.asked) == (b"alice", [GOOD])


def test_no_token_is_unauthenticated_but_metadata_are_for_everybody(me: Me, backend: str, tmp_path: Path) -> None:
    with nginx(tmp_path, backend=backend, me=me.url) as proxy:
        refused = call(proxy.target)
        elsewhere = call(proxy.target, ("authorization", GOOD))
        asked = len(me.asked)
        metadata = call(proxy.target, method=f"{METADATA_SERVICE}GetPublicClientConfig")

    assert (code(refused), code(elsewhere), metadata) == (grpc.StatusCode.UNAUTHENTICATED,) * 2 + (b"",)
    assert asked == len(me.asked) == 2


def test_a_redirect_to_a_login_page_is_unknown(me: Me, backend: str, tmp_path: Path) -> None:
    with nginx(tmp_path, backend=backend, me=me.url, sign_in="https://login.example.com/") as proxy:
        refused = call(proxy.target)

    assert code(refused) == grpc.StatusCode.UNKNOWN
    assert "302" in refused.details()


@pytest.mark.parametrize("gone", [True, False])
def test_a_failing_decision_is_unknown(me: Me, backend: str, tmp_path: Path, gone: bool) -> None:
    me.status = 503
    url = f"http://127.0.0.1:{free_port()}/me" if gone else me.url

    with nginx(tmp_path, backend=backend, me=url) as proxy:
        refused = call(proxy.target, ("flyte-authorization", GOOD))

    assert code(refused) == grpc.StatusCode.UNKNOWN
    assert "500" in refused.details()


@pytest.mark.parametrize("large_headers", [True, False])
def test_a_token_over_8_kb_needs_large_buffers(me: Me, backend: str, tmp_path: Path, large_headers: bool) -> None:
    with nginx(tmp_path, backend=backend, me=me.url, large_headers=large_headers) as proxy:
        said = call(proxy.target, ("flyte-authorization", GOOD + "x" * 9000))

    if large_headers:
        assert said == b"alice"
    else:
        assert (code(said), me.asked) == (grpc.StatusCode.UNAVAILABLE, [])


@pytest.mark.parametrize(("cache_seconds", "asked"), [(0, 6), (300, 2)])
def test_answers_are_cached_only_if_told_to(
    me: Me, backend: str, tmp_path: Path, cache_seconds: int, asked: int
) -> None:
    """A token that was revoked goes on to pass, and one that was refused goes on to be."""
    with nginx(tmp_path, backend=backend, me=me.url, cache_seconds=cache_seconds) as proxy:
        before = [call(proxy.target, ("flyte-authorization", token)) for token in (GOOD, "Bearer bad")]
        me.status = 401
        revoked = [call(proxy.target, ("flyte-authorization", GOOD)) for _ in range(2)]
        me.status = 200
        restored = [call(proxy.target, ("flyte-authorization", "Bearer bad")) for _ in range(2)]

    assert (before[0], code(before[1])) == (b"alice", grpc.StatusCode.UNAUTHENTICATED)
    assert len(me.asked) == asked
    if cache_seconds:
        assert revoked == [b"alice"] * 2
        assert {code(answer) for answer in restored} == {grpc.StatusCode.UNAUTHENTICATED}
    else:
        assert {code(answer) for answer in revoked} == {grpc.StatusCode.UNAUTHENTICATED}
        assert restored == [b"alice"] * 2


def test_nothing_is_left_of_it(me: Me, backend: str, tmp_path: Path) -> None:
    with nginx(tmp_path, backend=backend, me=me.url) as proxy:
        group = proxy.process.pid
        assert len(of_group(group)) >= 2, "a master and a worker"

    assert of_group(group) == []


def of_group(group: int) -> list[str]:
    """Who lives in a process group."""
    stats = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = file.read_text().rpartition(")")
        except OSError:
            continue
        state, _, pgrp = rest.split()[:3]
        if int(pgrp) == group and state != "Z":
            stats.append(name)
    return stats
