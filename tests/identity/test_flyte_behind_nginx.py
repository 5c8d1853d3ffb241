"""
A Flyte behind nginx with `auth_request`, as in a self-managed Union: the proxy decides, by the header that Flyte names.

The clients are the package's own remote; the decision is that of a real flyteadmin's `/me`, made of the same tokens.
"""

from __future__ import annotations

import http.server
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import running_provider
import yaml
from nginx import nginx
from running_provider import Running

from flytekitplugins.authagent import AuthAgent, Rejected
from flytekitplugins.authagent.handle import Handle
from flytekitplugins.authagent.sandbox.control_plane import ControlPlane
from flytekitplugins.authagent.sandbox.posture import Posture

pytestmark = [pytest.mark.peer, pytest.mark.timeout(120)]


@dataclass
class Me:
    """flyteadmin's `/me`: 200 to a token of the provider that is still good, 401 to others, or what `says` is."""

    provider: Running
    url: str = ""
    says: int = 0
    asked: list[int] = field(default_factory=list)
    revoked: set[str] = field(default_factory=set)

    def decide(self, shown: str) -> int:
        token = shown.removeprefix("Bearer ")
        try:
            ends = self.provider.read(token).claims["exp"]
        except ValueError:
            return 401
        return 401 if token in self.revoked or ends <= time.time() else 200


@contextmanager
def deciding(provider: Running) -> Iterator[Me]:
    me = Me(provider)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status = me.says or me.decide(self.headers.get("flyte-authorization", ""))
            me.asked.append(status)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    me.url = f"http://127.0.0.1:{server.server_port}/me"
    yield me
    server.shutdown()
    server.server_close()


@dataclass
class Place:
    """Flyte, which leaves the deciding to the proxy (`disableForGrpc`), and a client of it."""

    provider: Running
    flyte: ControlPlane
    me: Me
    directory: Path

    @contextmanager
    def proxied(self, **options: object) -> Iterator[Handle]:
        directory = self.directory / "nginx"
        directory.mkdir()
        with nginx(directory, backend=self.flyte.endpoint, me=self.me.url, **options) as proxy:  # type: ignore[arg-type]
            secret = self.directory / "secret"
            secret.write_text(self.provider.secret("batch"))
            secret.chmod(0o600)
            client = {"kind": "client_credentials", "client_id": "batch", "client_secret_file": str(secret)}
            binding = {"provider": {**client, "scopes": ["all"]}, "endpoint": proxy.target, "insecure": True}
            file = self.directory / "authagent.yaml"
            file.write_text(yaml.safe_dump({"bindings": [binding]}))
            file.chmod(0o600)
            os.environ["AUTHAGENT_CONFIG"] = str(file)
            yield Handle(AuthAgent())

    def mints(self) -> int:
        return self.provider.counts.snapshot()["mints"].get("batch", 0)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with running_provider.running("external") as provider, deciding(provider) as me:
        flyte = ControlPlane(
            issuer=provider.issuer,
            counts=provider.counts,
            faults=provider.faults,
            posture=Posture(issuer="external", disable_for_grpc=True),
            directory=tmp_path / "flyte",
            task_environment={},
        )
        flyte.start()
        yield Place(provider, flyte, me, tmp_path)
        flyte.stop()


def call(handle: Handle) -> int:
    return len(handle.remote().client.list_projects_paginated()[0])


def test_the_first_call_has_a_token_under_the_header_that_flyte_names(place: Place) -> None:
    with place.proxied() as handle:
        for _ in range(5):
            assert call(handle) == 1
    assert place.me.asked == [200] * 5  # none of them was refused first
    assert place.mints() == 1


def test_a_revoked_token_is_renewed_once_and_one_that_is_never_taken_ends(place: Place) -> None:
    with place.proxied() as handle:
        call(handle)
        place.me.revoked.add(current(handle))
        time.sleep(5.1)  # nobody renews a token that is younger, whoever refuses it
        assert call(handle) == 1
        assert (place.mints(), place.me.asked) == (2, [200, 401, 200])

        place.me.says = 401
        place.me.asked.clear()
        with pytest.raises(Exception, match="rejected the credential") as caught:
            call(handle)
        assert isinstance(caught.value.__cause__ or caught.value, Rejected)
        assert len(place.me.asked) <= 2
        assert place.mints() <= 3


def current(handle: Handle) -> str:
    platform = handle.remote().config.platform
    return str(platform.resolution.source.get().token.reveal())


def test_a_redirect_to_a_login_page_is_a_rejection_and_a_broken_decision_is_none(place: Place) -> None:
    with place.proxied(sign_in="https://login.example.com/") as handle:
        call(handle)
        place.me.says = 401
        with pytest.raises(Exception, match="rejected the credential"):
            call(handle)
        mints = place.mints()
        place.me.says = 503
        place.me.asked.clear()
        with pytest.raises(Exception, match="500"):
            call(handle)
        assert place.mints() == mints  # a good token is not renewed because somebody else is broken


def test_what_the_proxy_remembers_is_told_apart_from_what_is_so(place: Place) -> None:
    """A cached yes outlives a revocation: short lives of tokens are the real revocation (docs/security.md)."""
    with place.proxied(cache_seconds=300) as handle:
        call(handle)
        place.me.revoked.add(current(handle))
        assert call(handle) == 1
    assert place.me.asked == [200]


@pytest.mark.parametrize("large_headers", [True, False])
def test_a_token_of_more_than_8_kb_passes_where_the_proxy_has_room(place: Place, large_headers: bool) -> None:
    place.me.says = 200
    long = place.directory / "long"
    long.write_text("x" * 9000)
    long.chmod(0o600)
    with place.proxied(large_headers=large_headers):
        file = place.directory / "authagent.yaml"
        binding = yaml.safe_load(file.read_text())["bindings"][0]
        binding["provider"] = {"kind": "file", "path": str(long)}
        file.write_text(yaml.safe_dump({"bindings": [binding]}))
        handle = Handle(AuthAgent())
        if large_headers:
            assert call(handle) == 1
        else:
            with pytest.raises(Exception, match=r"nreachable|navailable|GOAWAY|closed"):
                call(handle)
