"""What may stand before a Flyte, or in its place, each served on loopback for real."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from certificates import issue
from dripping_server import Drip, dripping
from flyteidl.service import auth_pb2, auth_pb2_grpc
from http2_server import Http2Answer, http2
from scripted_server import ScriptedServer

PAGE = "<html><title>pl4nted words of a page</title></html>"


@dataclass(frozen=True)
class Met:
    """Where it is, and how the client is configured: `insecure` (plaintext), and whom it trusts."""

    port: int
    insecure: bool = True
    ca_file: Path | None = None
    host: str = "localhost"


Situation = Callable[[Path], AbstractContextManager[Met]]


def page(status: int, *more: tuple[str, str], content_type: str = "text/html", body: str = PAGE) -> Situation:
    """A proxy that answers by itself, over HTTP/2 and TLS, as an ingress does."""

    @contextmanager
    def situation(directory: Path) -> Iterator[Met]:
        issued = issue(directory, "localhost")
        headers = ((":status", str(status)), ("content-type", content_type), *more)
        with http2(Http2Answer(headers, body.encode()), issued.server_context()) as port:
            yield Met(port, insecure=False, ca_file=issued.authority)

    return situation


def plain_page(status: int, content_type: str = "text/html") -> Situation:
    """The same over plaintext HTTP/2."""

    @contextmanager
    def situation(_: Path) -> Iterator[Met]:
        headers = ((":status", str(status)), ("content-type", content_type))
        with http2(Http2Answer(headers, PAGE.encode())) as port:
            yield Met(port)

    return situation


def http_1(status: str = "200 OK", *, tls: bool = False) -> Situation:
    """A web server that speaks HTTP/1.1 only."""
    answer = f"HTTP/1.1 {status}\r\nContent-Type: text/html\r\nContent-Length: {len(PAGE)}\r\n\r\n{PAGE}".encode()

    @contextmanager
    def situation(directory: Path) -> Iterator[Met]:
        issued = issue(directory, "localhost")
        with socket.create_server(("127.0.0.1", 0)) as listening:
            wrapped = issued.server_context().wrap_socket(listening, server_side=True) if tls else listening
            server = ScriptedServer(wrapped, answer)
            yield Met(wrapped.getsockname()[1], insecure=not tls, ca_file=issued.authority)
            server.close()

    return situation


@contextmanager
def closed_port(_: Path) -> Iterator[Met]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield Met(taken.getsockname()[1])


@contextmanager
def silent(_: Path) -> Iterator[Met]:
    with dripping(Drip(endless=b"", hears=False)) as port:
        yield Met(port)


@contextmanager
def unknown_name(_: Path) -> Iterator[Met]:
    yield Met(443, insecure=False, host="flyte.nowhere.invalid")


def goaway(code: int) -> Situation:
    @contextmanager
    def situation(_: Path) -> Iterator[Met]:
        with http2(Http2Answer(goaway=code)) as port:
            yield Met(port)

    return situation


class _Metadata(auth_pb2_grpc.AuthMetadataServiceServicer):
    def GetPublicClientConfig(self, request: object, context: object) -> auth_pb2.PublicClientAuthConfigResponse:
        return auth_pb2.PublicClientAuthConfigResponse(client_id="flytectl")


def flyte(*, insecure: bool = False, trusted: bool = True, name: str = "localhost", days: int = 1) -> Situation:
    """A Flyte with TLS that the client is, or is not, configured for."""

    @contextmanager
    def situation(directory: Path) -> Iterator[Met]:
        issued = issue(directory, name, days=days)
        server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
        auth_pb2_grpc.add_AuthMetadataServiceServicer_to_server(_Metadata(), server)
        pair = [(issued.key.read_bytes(), issued.certificate.read_bytes())]
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials(pair))
        server.start()
        yield Met(port, insecure=insecure, ca_file=issued.authority if trusted else None)
        server.stop(0).wait(5)

    return situation


def plain_grpc(*methods: str, insecure: bool = True, code: grpc.StatusCode | None = None) -> Situation:
    """A gRPC server over plaintext that has `methods`, each of which answers with an empty message, or with `code`."""

    def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
        if code:
            context.abort(code, "pl4nted words")
        return b""

    class Handler(grpc.GenericRpcHandler):
        def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
            return grpc.unary_unary_rpc_method_handler(answer) if call.method in methods else None

    @contextmanager
    def situation(_: Path) -> Iterator[Met]:
        server = grpc.server(ThreadPoolExecutor(4), [Handler()], options=[("grpc.so_reuseport", 0)])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield Met(port, insecure=insecure)
        server.stop(0).wait(5)

    return situation


def flyte_2(*, auth: bool = True, insecure: bool = True) -> Situation:
    """The gRPC services of a Flyte 2 (flyteidl2 2.0)."""
    services = ["project.ProjectService/ListProjects", "workflow.RunService/ListRuns", "task.TaskService/ListTasks"]
    if auth:
        services += ["auth.AuthMetadataService/GetPublicClientConfig", "auth.IdentityService/UserInfo"]
    return plain_grpc(*(f"/flyteidl2.{service}" for service in services), insecure=insecure)


@contextmanager
def flyte_2_connect(_: Path) -> Iterator[Met]:
    """A Flyte 2 that speaks Connect over HTTP/1.1 only."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            known = self.path.startswith("/flyteidl2.")
            body = b"{}" if known else b"404 page not found\n"
            self.send_response(200 if known else 404)
            self.send_header("Content-Type", "application/json" if known else "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield Met(server.server_port)
    server.shutdown()
    server.server_close()


@dataclass(frozen=True)
class Row:
    """A situation, what is said of it, and the hint. `sort`: the exit code of a command that meets it."""

    name: str
    situation: Situation
    seen: str
    hint: str
    exit_code: int = 3


OWN_LOGIN = "wants a login of its own"
METADATA = "/flyteidl.service.AuthMetadataService/GetPublicClientConfig"

TABLE = (
    Row(
        "a closed port", closed_port, "asked over plaintext, without a token: the connection was refused", "the port", 5
    ),
    Row(
        "a server that says nothing",
        silent,
        "asked over plaintext, without a token: nothing was answered in time",
        "a firewall",
        5,
    ),
    Row("an unknown name", unknown_name, "flyte.nowhere.invalid cannot be resolved", "spelling", 2),
    Row(
        "401 of a proxy",
        page(401),
        "over TLS, without a token: the answer was HTTP 401 (text/html), not gRPC",
        OWN_LOGIN,
    ),
    Row(
        "403 of a proxy",
        page(403),
        "over TLS, without a token: the answer was HTTP 403 (text/html)",
        "ask its operator",
    ),
    Row(
        "302 to a login page",
        page(302, ("location", "https://login.example.com/start?state=pl4nted")),
        "over TLS, without a token: the answer was HTTP 302 (text/html), not gRPC,"
        " with a redirect to https://login.example.com",
        OWN_LOGIN,
    ),
    Row("404 of nginx", page(404), "over TLS, without a token: the answer was HTTP 404 (text/html)", "no way to Flyte"),
    Row(
        "413 of a proxy", page(413), "over TLS, without a token: the answer was HTTP 413 (text/html)", "no way to Flyte"
    ),
    Row(
        "429 of a proxy",
        page(429),
        "over TLS, without a token: the answer was HTTP 429 (text/html)",
        "try again later",
        5,
    ),
    Row(
        "500 of a proxy",
        page(500),
        "over TLS, without a token: the answer was HTTP 500 (text/html)",
        "flyteadmin is up",
        5,
    ),
    Row(
        "502 of a proxy",
        page(502),
        "over TLS, without a token: the answer was HTTP 502 (text/html)",
        "flyteadmin is up",
        5,
    ),
    Row(
        "503 of a proxy",
        page(503),
        "over TLS, without a token: the answer was HTTP 503 (text/html)",
        "flyteadmin is up",
        5,
    ),
    Row(
        "504 of a proxy",
        page(504),
        "over TLS, without a token: the answer was HTTP 504 (text/html)",
        "flyteadmin is up",
        5,
    ),
    Row(
        "a console over HTTP/2",
        page(200),
        "over TLS, without a token: the answer was HTTP 200 (text/html)",
        "not that of its console",
    ),
    Row(
        "a page over plaintext HTTP/2",
        plain_page(200),
        "over plaintext, without a token: the answer was HTTP 200 (text/html)",
        "of its console",
    ),
    Row(
        "a page over plaintext HTTP/1.1",
        http_1(),
        "over plaintext, without a token: the answer was HTTP 200 (text/html)",
        "of its console",
    ),
    Row(
        "a redirect to https",
        http_1("301 Moved\r\nLocation: https://localhost/"),
        "HTTP 301 (text/html), not gRPC, with a redirect to https://localhost",
        "`insecure: false`",
    ),
    Row(
        "a web server of HTTP/1.1 with TLS",
        http_1(tls=True),
        "over TLS, without a token: the answer was HTTP 200 (text/html)",
        "of its console",
    ),
    Row(
        "gRPC-Web only",
        page(200, content_type="application/grpc-web+proto", body="x"),
        "over TLS, without a token: the answer was HTTP 200 (application/grpc-web+proto)",
        "and not gRPC-Web",
    ),
    Row(
        "TLS, and `insecure: true`",
        flyte(insecure=True),
        "asked over plaintext, without a token: it speaks TLS",
        "`insecure: false`",
    ),
    Row(
        "plaintext, and no `insecure: true`",
        plain_grpc(METADATA, insecure=False),
        "asked over TLS, without a token: it does not speak TLS",
        "`insecure: true`",
    ),
    Row("a CA that is not known", flyte(trusted=False), "not trusted: no CA that is known here", "caCertFilePath"),
    Row("a certificate of another name", flyte(name="other.example.com"), "not for the name localhost", "a name that"),
    Row("an expired certificate", flyte(days=-1), "it has expired", "renew the certificate"),
    Row("GOAWAY", goaway(2), "the connection was closed before an answer", "must allow gRPC", 5),
    Row("ENHANCE_YOUR_CALM", goaway(11), "the connection was closed before an answer", "must allow gRPC", 5),
    Row(
        "PERMISSION_DENIED of a proxy",
        plain_grpc(METADATA, code=grpc.StatusCode.PERMISSION_DENIED),
        "PERMISSION_DENIED (asked over plaintext, without a token: the call was refused)",
        OWN_LOGIN,
    ),
    Row(
        "UNAUTHENTICATED of a proxy",
        plain_grpc(METADATA, code=grpc.StatusCode.UNAUTHENTICATED),
        "UNAUTHENTICATED (asked over plaintext, without a token: the call was refused)",
        OWN_LOGIN,
    ),
    Row("a Flyte 2", flyte_2(), "is a Flyte 2", "Flyte 2 SDK"),
    Row("a Flyte 2 without authentication", flyte_2(auth=False), "is a Flyte 2", "Flyte 2 SDK"),
    Row("a Flyte 2 over Connect", flyte_2_connect, "is a Flyte 2", "Flyte 2 SDK"),
)
"""Add a line: the tests of the library and of the commands, and the table of docs/operators.md, are made of it."""
