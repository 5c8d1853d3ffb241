"""All flows at DEBUG, with everything that went over the wire known: none of it is in a log, a repr or an error."""

from __future__ import annotations

import io
import logging
import re
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import running_provider
from browsing import Browser
from foreign import Cluster, projected
from hunt import Hunt
from recording_proxy import Recorded, recording
from running_provider import Running, send
from session_servers import FileKeyring

from flytekitplugins.authagent import providers
from flytekitplugins.authagent.credential import Credential
from flytekitplugins.authagent.errors import AuthAgentError
from flytekitplugins.authagent.keyring_items import KeyringItems
from flytekitplugins.authagent.oauth import revocation, userinfo
from flytekitplugins.authagent.oauth.client_authentication import METHODS, Proof
from flytekitplugins.authagent.providers import Wanted
from flytekitplugins.authagent.providers.oauth_client import OAuthClient
from flytekitplugins.authagent.providers.person import PersonProvider
from flytekitplugins.authagent.session_store import SessionStore
from flytekitplugins.authagent.specs import (
    ClientCredentialsSpec,
    CommandSpec,
    DeviceSpec,
    KeyringSpec,
    PkceSpec,
    TokenExchangeSpec,
)
from flytekitplugins.authagent.terminal import Terminal

ADDRESS = re.compile(r"http://127\S+")


@dataclass
class Shown:
    """Everything that anybody could read: logs of every level, what is said, reprs, errors with their tracebacks."""

    log: io.StringIO = field(default_factory=io.StringIO)

    def show(self, *things: object) -> None:
        for thing in things:
            self.log.write(f"{thing!r} {thing}\n")
            if isinstance(thing, BaseException):
                self.log.write("".join(traceback.format_exception(thing)))

    def read(self) -> bytes:
        return self.log.getvalue().encode()


@pytest.fixture
def shown() -> Iterator[Shown]:
    it = Shown()
    handler = logging.StreamHandler(it.log)
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield it
    root.removeHandler(handler)
    root.setLevel(level)
    assert [h for h in root.handlers if h in before] == before


@dataclass
class Place:
    provider: Running
    recorded: Recorded
    shown: Shown
    directory: Path
    cluster: Cluster

    def file(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.write_text(text)
        path.chmod(0o600)
        return path

    def spec(self, kind: type, **options: Any) -> Any:
        return kind(issuer=self.provider.issuer.issuer, proxy=self.recorded.url, **options)

    def fetch(self, spec: Any, **wanted: Any) -> Credential | None:
        provider = providers.build(spec, {}, in_pod=False)
        return self._shown(provider, lambda: provider.fetch(Wanted(**wanted)))

    def person(self, spec: Any, decision: str = "allow") -> PersonProvider:
        def say(line: str) -> None:
            if spec.kind == "device" and "compare the code" in line:
                url = ADDRESS.findall(line)[0]
                threading.Thread(target=Browser().decide, args=(url, "alice", decision)).start()

        def opened(url: str) -> bool:
            def answer() -> None:
                location = Browser().decide(url, "alice", decision).headers["location"]
                self.recorded.secrets |= set(re.findall(r"code=([\w.\-]+)", location))
                send("GET", location)

            self.recorded.secrets |= set(re.findall(r"[?&]state=([\w\-]+)", url))
            threading.Thread(target=answer).start()
            return True

        store = SessionStore(KeyringItems(FileKeyring(self.directory / "keyring")), {"HOME": str(self.directory)})
        return PersonProvider(spec, OAuthClient(spec, spec.kind), store, Terminal(say, opened, lambda: None))

    def fetch_as_person(self, provider: PersonProvider, **options: Any) -> Credential | None:
        return self._shown(provider, lambda: provider.fetch(Wanted(), **options))

    def _shown(self, provider: Any, fetch: Callable[[], Credential | None]) -> Credential | None:
        try:
            found = fetch()
        except AuthAgentError as error:
            self.shown.show(provider, error)
            return None
        self.shown.show(provider, found)
        return found


@pytest.fixture
def place(tmp_path: Path, shown: Shown) -> Iterator[Place]:
    cluster = Cluster()
    with (
        running_provider.running("external", trusted=[cluster.trusted()]) as provider,
        recording() as recorded,
    ):
        yield Place(provider, recorded, shown, tmp_path, cluster)


def everything(place: Place) -> None:
    """Every flow once as it should be, and once as it should not."""
    for client in ("batch", "night:ly +job"):
        secret = place.file(f"secret {client[:5]}", place.provider.secret(client))
        for method in ("client_secret_basic", "client_secret_post"):
            spec = place.spec(
                ClientCredentialsSpec, client_id=client, client_secret_file=secret, client_authentication=method
            )
            assert place.fetch(spec)
    wrong = place.file("wrong", "a-wrong-secret-of-ours")
    assert place.fetch(place.spec(ClientCredentialsSpec, client_id="batch", client_secret_file=wrong)) is None

    subject = place.file("subject", projected(place.provider.issuer.issuer))
    exchange = {"client_id": "batch", "client_secret_file": place.directory / "secret batch"}
    for grant in ("token_exchange", "jwt_bearer"):
        place.fetch(place.spec(TokenExchangeSpec, subject_token_file=subject, grant=grant, **exchange))
        place.fetch(place.spec(TokenExchangeSpec, subject_token_file=wrong, grant=grant, **exchange))

    options = {"client_id": "flytectl", "scopes": ("all", "offline", "openid")}
    pkce = place.person(place.spec(PkceSpec, **options))
    assert place.fetch_as_person(pkce)
    assert place.fetch_as_person(pkce, min_lifetime=100_000)  # renewed, and no longer than it is
    device = place.person(place.spec(DeviceSpec, client_id="flytectl", scopes=("all",), patience=20))
    assert place.fetch_as_person(device)
    for kind in (PkceSpec, DeviceSpec):
        declining = place.person(place.spec(kind, client_id="flytectl", scopes=("offline",), patience=20), "deny")
        assert place.fetch_as_person(declining) is None

    session = pkce.store.load(pkce.key(Wanted()))
    assert session is not None
    assert session.refresh_token is not None
    place.shown.show(session, pkce.key(Wanted()), pkce.store)
    client = pkce.client
    who = userinfo.read(
        client.send(userinfo.request(client.metadata.need("userinfo_endpoint"), session.credential.token))
    )
    assert who.subject == "alice"
    sent = revocation.request(
        client.metadata.need("revocation_endpoint"),
        METHODS["none"]("flytectl", Proof()),
        session.refresh_token,
        "refresh_token",
    )
    place.shown.show(sent)
    revocation.check(client.send(sent))
    ended = place.person(place.spec(KeyringSpec, **options))
    assert place.fetch_as_person(ended, min_lifetime=100_000)  # as it is, for it cannot be renewed

    place.fetch(CommandSpec(command=("sh", "-c", "echo a-token-that-a-command-prints; exit 1")))
    place.recorded.secrets.add("a-token-that-a-command-prints; exit")


def test_nothing_of_what_went_over_the_wire_is_shown(place: Place) -> None:
    everything(place)

    asked = {line.split()[1] for line in place.recorded.requests}
    assert {"/token", "/device", "/revoke", "/userinfo"} <= asked or len(asked) >= 5, asked
    assert len(place.recorded.secrets) > 20
    assert len(place.shown.read()) > 5_000
    hunt = Hunt(place.recorded.secrets)
    assert hunt.found(place.shown.read()) == set()


def test_the_hunt_finds_what_is_planted(place: Place) -> None:
    secret = place.file("secret", place.provider.secret("batch"))
    found = place.fetch(place.spec(ClientCredentialsSpec, client_id="batch", client_secret_file=secret))
    assert found is not None
    hunt = Hunt(place.recorded.secrets)
    assert hunt.found(place.shown.read()) == set()
    for planted in (found.token.reveal(), place.provider.secret("batch")):
        assert planted in place.recorded.secrets
        before = place.shown.read()
        logging.getLogger("flytekitplugins.authagent.http").debug("sent %s", planted)
        assert hunt.found(place.shown.read()) >= {"raw"}
        place.shown.log.seek(0)
        place.shown.log.truncate()
        place.shown.log.write(before.decode())
