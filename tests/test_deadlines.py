"""
Every client of another program gives up in time, whatever that program drips: one deadline for a whole exchange.

A new client is a line of `OF_HTTP`, `OF_TLS` or `OF_THE_AGENT`; a new way to drip is a line of `dripping_server`.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests
from certificates import Issued, issue
from dripping_server import IN_HTTP, IN_THE_PLACE_OF_TLS, Drip, dripping, dripping_socket

from flytekitplugins.authagent import discovery, endpoint, hub_client, program, wire
from flytekitplugins.authagent.agent import forward
from flytekitplugins.authagent.agent.api_server import ApiServer
from flytekitplugins.authagent.agent.kubernetes_settings import KubernetesSettings
from flytekitplugins.authagent.agent.people_settings import PeopleSettings
from flytekitplugins.authagent.agent.refusal import Refusal
from flytekitplugins.authagent.agent.upstream import HubSpec
from flytekitplugins.authagent.cli import agent_facts, token
from flytekitplugins.authagent.credential import Secret
from flytekitplugins.authagent.deadline import DeadlineSession
from flytekitplugins.authagent.discovery import FlyteServer
from flytekitplugins.authagent.errors import AuthAgentError, ProviderUnavailable
from flytekitplugins.authagent.http import Door
from flytekitplugins.authagent.hub.issuer_clock import IssuerClock
from flytekitplugins.authagent.hub.keys import Keys
from flytekitplugins.authagent.hub.people import People
from flytekitplugins.authagent.oauth.message import Request
from flytekitplugins.authagent.providers import agent as agent_provider
from flytekitplugins.authagent.providers import oauth_client
from flytekitplugins.authagent.providers.agent import AgentProvider

pytestmark = pytest.mark.timeout(90)

SECONDS = 0.5
"""The deadline that every client is given."""

ENOUGH = 6.0
"""In which it has ended on the slowest machine; what is served never ends."""


def gives_up(client: Callable[[], object]) -> BaseException:
    """How `client` ended. It must fail, and in time."""
    started = time.monotonic()
    with pytest.raises((AuthAgentError, Refusal)) as caught:
        client()
    assert time.monotonic() - started < ENOUGH
    return caught.value


def form(url: str, **door: Any) -> object:
    return Door(timeout=SECONDS, **door).send(Request(url, (("client_secret", "x" * 100),)))


def of_kubernetes(url: str, tmp_path: Path, issued: Issued) -> object:
    token = tmp_path / "own-token"
    token.write_text("t0ken")
    settings = KubernetesSettings(api_server=url, token_file=token, ca_file=issued.authority)
    return ApiServer(settings).pod("flytesnacks-development", "f1-n0-0", time.monotonic() + SECONDS)


def keys(url: str, ca_file: Path) -> object:
    clock = IssuerClock(time.time, time.monotonic)
    found = Keys(url, Door(timeout=SECONDS, ca_file=ca_file), clock, jwks_uri=f"{url}/jwks")
    return found.fitting("kid", "RS256")


def hub_upstream(url: str, ca_file: Path) -> object:
    hub = HubSpec(kind="hub", url=url, ca_file=ca_file, timeout=SECONDS)
    return forward._sent(hub, Request(f"{url}/token", (("a", "b"),)))


def hub_of_a_person(url: str, ca_file: Path) -> object:
    return hub_client.HubClient(url, lambda: Secret("t"), Door(timeout=SECONDS, ca_file=ca_file)).mine()


def introspection(url: str, ca_file: Path) -> object:
    secret = ca_file.parent / "secret"
    secret.write_text("s3cret")
    secret.chmod(0o600)
    settings = PeopleSettings.model_validate(
        {
            "issuer": url,
            "audience": "hub",
            "ca_file": str(ca_file),
            "timeout": SECONDS,
            "introspect": True,
            "introspection_endpoint": f"{url}/introspect",
            "introspection": {"client_id": "hub", "client_secret_file": str(secret), "token_endpoint": f"{url}/token"},
        }
    )
    people = People(settings, not_audiences=frozenset(), not_clients=frozenset())
    return people.authenticate(Secret("0paque-token"))


OF_HTTP: dict[str, Callable[[str, Issued, Path], object]] = {
    "identity provider": lambda url, ca, tmp: form(url, ca_file=ca.authority),
    "discovery": lambda url, ca, tmp: oauth_client.discover(url, Door(timeout=SECONDS, ca_file=ca.authority)),
    "keys of an issuer": lambda url, ca, tmp: keys(url, ca.authority),
    "introspection": lambda url, ca, tmp: introspection(url, ca.authority),
    "hub of an agent": lambda url, ca, tmp: hub_upstream(url, ca.authority),
    "hub of a person": lambda url, ca, tmp: hub_of_a_person(url, ca.authority),
    "Kubernetes": lambda url, ca, tmp: of_kubernetes(url, tmp, ca),
}


@pytest.fixture
def issued(tmp_path: Path) -> Issued:
    return issue(tmp_path, "localhost")


@pytest.mark.parametrize("drip", IN_HTTP.values(), ids=IN_HTTP.keys())
@pytest.mark.parametrize("client", OF_HTTP.values(), ids=OF_HTTP.keys())
def test_http_that_drips(tmp_path: Path, issued: Issued, client: Callable[..., object], drip: Drip) -> None:
    with dripping(drip) as port:
        gives_up(lambda: client(f"http://localhost:{port}", issued, tmp_path))


@pytest.mark.parametrize("drip", (IN_HTTP | IN_THE_PLACE_OF_TLS).values(), ids=(IN_HTTP | IN_THE_PLACE_OF_TLS).keys())
@pytest.mark.parametrize("name", ["identity provider", "Kubernetes"])
def test_https_that_drips(tmp_path: Path, issued: Issued, name: str, drip: Drip) -> None:
    with dripping(drip, issued.server_context()) as port:
        gives_up(lambda: OF_HTTP[name](f"https://localhost:{port}", issued, tmp_path))


@pytest.mark.parametrize("drip", IN_HTTP.values(), ids=IN_HTTP.keys())
def test_a_proxy_that_drips(drip: Drip) -> None:
    with dripping(drip) as port:
        gives_up(lambda: form("https://idp.example.com/token", proxy=f"http://127.0.0.1:{port}"))


OF_THE_AGENT: dict[str, Callable[[AgentProvider], object]] = {
    "GET /identity": lambda agent: agent.takes_children(within=SECONDS),
    "who launched": lambda agent: agent.launcher("p:d:n", within=SECONDS),
    "cover a child": lambda agent: agent.adopt("p:d:n", patience=SECONDS),
    "a page": lambda agent: agent.page("/readyz"),
}


@pytest.mark.parametrize("drip", IN_HTTP.values(), ids=IN_HTTP.keys())
@pytest.mark.parametrize("client", OF_THE_AGENT.values(), ids=OF_THE_AGENT.keys())
def test_an_agents_socket_that_drips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client: Callable[[AgentProvider], object], drip: Drip
) -> None:
    monkeypatch.setattr(agent_provider, "ANSWER_TIMEOUT", SECONDS)
    with dripping_socket(tmp_path / "agent.sock", drip) as path:
        gives_up(lambda: client(AgentProvider(path)))


@pytest.mark.parametrize("drip", IN_HTTP.values(), ids=IN_HTTP.keys())
def test_all_that_people_are_told_of_an_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drip: Drip) -> None:
    """Several questions have one deadline."""
    monkeypatch.setattr(agent_facts, "SECONDS", SECONDS)
    with dripping_socket(tmp_path / "agent.sock", drip) as path:
        started = time.monotonic()
        facts = agent_facts.look(path)
        assert time.monotonic() - started < ENOUGH
    assert facts
    assert facts["ready"].startswith("no: ")


def test_an_agent_that_accepts_nobody(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    with socket.socket(socket.AF_UNIX) as full, socket.socket(socket.AF_UNIX) as waiting:
        full.bind(str(path))
        full.listen(0)
        waiting.connect(str(path))
        with pytest.raises(ProviderUnavailable, match="is busy"):
            AgentProvider(path).page("/readyz")


@pytest.mark.parametrize("drip", IN_HTTP.values(), ids=IN_HTTP.keys())
def test_the_short_way_to_an_agent(tmp_path: Path, drip: Drip) -> None:
    with dripping_socket(tmp_path / "agent.sock", drip) as path:
        started = time.monotonic()
        with suppress(TimeoutError):
            assert token._ask(str(path), wire.post("/token", b""), started + SECONDS) is None
        assert time.monotonic() - started < ENOUGH


SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
IN_HTTP_2 = IN_HTTP | {
    "frames of HTTP/2": Drip(SETTINGS, SETTINGS),
    "a frame of HTTP/2": Drip(SETTINGS + b"\x00\x40\x00\x01\x04\x00\x00\x00\x01", b"\x82"),
}


@pytest.mark.parametrize("how", [{"insecure": True}, {"insecure": False}, {"insecure": False, "skip_verify": True}])
@pytest.mark.parametrize("drip", (IN_HTTP_2 | IN_THE_PLACE_OF_TLS).values(), ids=(IN_HTTP_2 | IN_THE_PLACE_OF_TLS))
def test_a_flyte_that_drips(issued: Issued, how: dict[str, bool], drip: Drip) -> None:
    with dripping(drip, None if how["insecure"] else issued.server_context()) as port:
        server = FlyteServer(endpoint.parse(f"localhost:{port}"), ca_file=issued.authority, timeout=SECONDS, **how)
        gives_up(lambda: discovery.public_client(server))


@pytest.mark.parametrize(
    "script", ["while :; do printf x; sleep 0.1; done", "sleep 60 & sleep 60", "yes", "trap '' TERM; sleep 60"]
)
def test_a_program_that_does_not_end(script: str) -> None:
    gives_up(lambda: program.output(["sh", "-c", script], timeout=SECONDS))


def test_a_name_that_is_not_resolved_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The resolver of the C library has no time limit to set."""
    answered = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_more: answered.wait(60))
    try:
        assert isinstance(gives_up(lambda: form("https://idp.example.com/token")), ProviderUnavailable)
    finally:
        answered.set()


def test_a_server_that_does_not_read() -> None:
    """A request that is larger than what the kernel takes: sending has the same deadline."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        gives_up(lambda: Door(timeout=SECONDS).send(Request(url, (("assertion", "x" * (8 << 20)),))))


def test_a_connection_that_is_used_again_has_a_deadline_of_its_own_each_time() -> None:
    """What an exchange left of its time is not the next one's."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    with socket.create_server(("127.0.0.1", 0)) as listening, DeadlineSession() as session:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"

        def serve() -> None:
            connection = listening.accept()[0]
            for pause in (0.0, 2.5, 0.0):
                connection.recv(65536)
                time.sleep(pause)
                connection.sendall(answer)
            connection.recv(65536)
            time.sleep(60)

        threading.Thread(target=serve, daemon=True).start()
        for seconds in (2.0, 60.0, 2.0):
            _, body = session.exchange("GET", url, deadline=time.monotonic() + seconds, limit=100)
            assert body == b"{}"
        with pytest.raises(requests.exceptions.Timeout):
            session.exchange("GET", url, deadline=time.monotonic() + SECONDS, limit=100)
