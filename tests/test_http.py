"""The door to identity providers, against real loopback servers that misbehave."""

from __future__ import annotations

import contextlib
import http.server
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from certificates import Issued, issue
from scripted_server import ScriptedServer

from flytekitplugins.authagent.credential import Secret
from flytekitplugins.authagent.errors import ConfigError, ProviderError, ProviderUnavailable
from flytekitplugins.authagent.http import MAX_BODY, Door, check_url
from flytekitplugins.authagent.oauth.message import Request


class Server(ScriptedServer):
    """One on loopback, at `url`."""

    def __init__(self, answer: bytes, *, pause: float = 0.0) -> None:
        listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}/token"
        super().__init__(listening, answer, pause=pause)


@contextmanager
def serving(answer: bytes, **settings: float) -> Iterator[Server]:
    server = Server(answer, **settings)
    try:
        yield server
    finally:
        server.close()


def test_what_is_sent_is_on_the_wire_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login other password pl4nted\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(netrc))
    with serving(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}") as server:
        answer = Door().send(Request(server.url, (("a", "b c"), ("d", "é&=")), (("Authorization", "Basic eA=="),)))

    head, _, body = server.heard[0].partition(b"\r\n\r\n")
    assert (answer.status, answer.json()) == (200, {})
    assert head.startswith(b"POST /token HTTP/1.1\r\n")
    assert head.lower().count(b"authorization:") == 1
    assert b"authorization: basic ea==" in head.lower()
    assert body == b"a=b+c&d=%C3%A9%26%3D"


def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    with serving(b"HTTP/1.1 307 X\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n") as server:
        assert Door().send(Request(server.url, (("client_secret", "x"),))).status == 307
        assert len(server.heard) == 1


def test_an_answer_without_end_is_bounded() -> None:
    with (
        serving(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (MAX_BODY + 70_000)) as server,
        pytest.raises(ProviderError, match=f"more than {MAX_BODY} bytes"),
    ):
        Door().send(Request(server.url))


class DrippingServer:
    """Sends `head` at once, and `body` byte by byte; over TLS where it has a context for it."""

    def __init__(self, head: bytes, body: bytes, *, pause: float, tls: ssl.SSLContext | None = None) -> None:
        self._head, self._body, self._pause, self._tls = head, body, pause, tls
        self._listening = socket.create_server(("127.0.0.1", 0))

    def __enter__(self) -> str:
        threading.Thread(target=self._serve, daemon=True).start()
        return f"http://127.0.0.1:{self._listening.getsockname()[1]}/"

    def __exit__(self, *_: object) -> None:
        self._listening.close()

    def _serve(self) -> None:
        connection = self._listening.accept()[0]
        if self._tls:
            connection = self._tls.wrap_socket(connection, server_side=True)
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            connection.sendall(self._head)
            for byte in self._body:
                connection.sendall(bytes([byte]))
                time.sleep(self._pause)


def test_an_answer_that_trickles_has_a_deadline() -> None:
    started = time.monotonic()
    with (
        serving(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 65536 * 15, pause=0.3) as server,
        pytest.raises(ProviderUnavailable, match=r"took too long|did not answer"),
    ):
        Door(timeout=0.7).send(Request(server.url))
    assert time.monotonic() - started < 5


def test_an_answer_that_drips_has_the_same_deadline() -> None:
    """A body that never fills a buffer, and never falls silent for as long as one read may take."""
    started = time.monotonic()
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 60\r\n\r\n"
    with DrippingServer(head, b"x" * 60, pause=0.2) as url, pytest.raises(ProviderUnavailable, match="took too long"):
        Door(timeout=1.0).send(Request(url))
    assert time.monotonic() - started < 4


HEADERS = b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(9)) + b"\r\n"


@pytest.mark.parametrize("secure", [False, True])
def test_headers_that_drip_have_the_same_deadline(tmp_path: Path, secure: bool) -> None:
    """Each byte comes well within what one read may take, and all of them would take fifteen seconds."""
    issued = issue(tmp_path, "localhost")
    dripping = DrippingServer(b"", HEADERS, pause=0.15, tls=issued.server_context() if secure else None)
    with dripping as plain, pytest.raises(ProviderUnavailable, match=r"did not answer in 1 s"):
        url = plain.replace("http://127.0.0.1", "https://localhost") if secure else plain
        started = time.monotonic()
        Door(timeout=1.0, ca_file=issued.authority).send(Request(url))
    assert time.monotonic() - started < 2.5


def test_a_proxy_that_drips_has_the_same_deadline() -> None:
    started = time.monotonic()
    with DrippingServer(b"", HEADERS, pause=0.15) as proxy, pytest.raises(ProviderUnavailable):
        Door(timeout=1.0, proxy=proxy).send(Request("https://idp.example.com/token"))
    assert time.monotonic() - started < 2.5


def test_a_handshake_that_does_not_begin_has_the_same_deadline() -> None:
    started = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/"
        with pytest.raises(ProviderUnavailable, match=r"did not answer in 0\.5 s"):
            Door(timeout=0.5).send(Request(url))
    assert time.monotonic() - started < 2


def test_the_addresses_of_a_name_share_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first does not accept: its backlog is full. The second is asked all the same, and within the time."""
    with (
        socket.socket() as full,
        socket.socket() as filling,
        serving(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}") as server,
    ):
        full.bind(("127.0.0.2", urlsplit(server.url).port or 0))
        full.listen(0)
        filling.connect(full.getsockname())
        found = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, urlsplit(server.url).port))
            for host in ("127.0.0.2", "127.0.0.2", "127.0.0.1")
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_more: found)
        started = time.monotonic()
        assert Door(timeout=3.0).send(Request(server.url)).status == 200
        assert time.monotonic() - started < 3
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_more: found[:2] * 3)
        started = time.monotonic()
        with pytest.raises(ProviderUnavailable, match=r"did not answer in 1 s"):
            Door(timeout=1.0).send(Request(server.url))
        assert time.monotonic() - started < 2


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n"])
def test_a_port_without_tls_is_called_that(answer: bytes) -> None:
    with serving(answer) as server, pytest.raises(ProviderError, match="does not speak TLS") as caught:
        Door(timeout=5).send(Request(server.url.replace("http:", "https:")))
    assert "certificate" not in str(caught.value)


def test_who_says_nothing_is_given_up() -> None:
    with (
        serving(b"", pause=0) as server,
        pytest.raises(ProviderUnavailable),
    ):
        Door(timeout=0.5).send(Request(server.url))


def test_nobody_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(ProviderUnavailable, match="cannot be reached"):
            Door(timeout=2).send(Request(f"http://127.0.0.1:{taken.getsockname()[1]}/"))


@pytest.mark.parametrize(
    "url",
    [
        "http://idp.example.com/token",
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
        "https://",
        "http://127.0.0.1.example.com/",
        "",
        "//127.0.0.1/",
    ],
)
def test_where_a_secret_could_be_read_on_the_way_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="is not an https URL"):
        check_url(url)


def test_credentials_in_a_url_are_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigError, match="holds credentials") as caught:
        check_url("https://user:pl4nted@idp.example.com/")
    assert "pl4nted" not in str(caught.value)


def test_loopback_and_https_are_allowed() -> None:
    for url in ("http://localhost:1/", "http://127.0.0.1/", "http://[::1]:5/", "https://idp.example.com/token"):
        check_url(url)


@contextmanager
def serving_tls(issued: Issued) -> Iterator[str]:
    """An identity provider that says `{}` over TLS."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        do_GET = do_POST = _answer

        def log_message(self, *_: object) -> None:
            """Nothing."""

    class Quiet(http.server.ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """A client that does not trust it goes away."""

    server = Quiet(("127.0.0.1", 0), Handler)
    server.socket = issued.server_context().wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"https://localhost:{server.server_port}/token"
    server.shutdown()
    server.server_close()


def test_an_authority_of_ones_own_is_trusted_where_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    issued = issue(tmp_path, "localhost")
    with serving_tls(issued) as url:
        request = Request(url, (("client_secret", "pl4nted"),))
        with pytest.raises(ProviderError, match="certificate is not trusted") as caught:
            Door(timeout=5).send(request)
        assert "caCertFilePath" in str(caught.value)
        assert "pl4nted" not in str(caught.value)
        assert Door(timeout=5, ca_file=issued.authority).send(request).status == 200
        monkeypatch.setenv("SSL_CERT_FILE", str(issued.authority))
        assert Door(timeout=5).send(request).status == 200


def test_a_certificate_of_another_name_is_taken_only_where_none_is_verified(tmp_path: Path) -> None:
    issued = issue(tmp_path, "another.example.com")
    with serving_tls(issued) as url:
        with pytest.raises(ProviderError, match="certificate is not trusted"):
            Door(timeout=5, ca_file=issued.authority).send(Request(url))
        assert Door(timeout=5, verify=False).send(Request(url)).status == 200


def test_a_proxy_is_used_where_it_is_named_and_sees_its_own_token() -> None:
    with serving(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}") as proxy:
        door = Door(
            timeout=5, proxy=proxy.url.removesuffix("/token"), proxy_authorization=lambda: Secret("for-the-proxy")
        )
        assert door.send(Request("http://127.0.0.1:9/token", (("a", "b"),))).status == 200
        assert "127.0.0.1" not in repr(door)
    assert proxy.heard[0].startswith(b"POST http://127.0.0.1:9/token HTTP/1.1")
    assert b"proxy-authorization: bearer for-the-proxy" in proxy.heard[0].lower()


def test_a_proxy_that_is_down_is_named() -> None:
    with pytest.raises(ProviderUnavailable, match="through the proxy"):
        Door(timeout=5, proxy="http://127.0.0.1:9").send(Request("http://127.0.0.1:8/token"))


# One line for each way in which people write the same proxy.
SPELLINGS = ("http://{proxy}", "{proxy}", "user@{proxy}", "user:pl4nted@{proxy}", "http://user:pl4nted@{proxy}")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_proxy_in_the_environment_needs_no_scheme(monkeypatch: pytest.MonkeyPatch, spelling: str, host: str) -> None:
    with serving(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}") as proxy:
        monkeypatch.setenv("http_proxy", spelling.format(proxy=f"{host}:{urlsplit(proxy.url).port}"))
        monkeypatch.setenv("no_proxy", "elsewhere")
        assert Door(timeout=5).send(Request("http://127.0.0.2:9/token")).status == 200
    assert proxy.heard[0].startswith(b"GET http://127.0.0.2:9/token HTTP/1.1")
