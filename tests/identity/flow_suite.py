"""
Every flow through the package's own providers, at the pages of a real identity provider.

A test file for each provider subclasses `FlowSuite` and brings the fixture `peer`. What a provider does not offer is
declared there with the reason, and must fail with one error of ours: a flow that works all of a sudden fails the suite.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests
import yaml
from flow_peer import FLOWS, Peer
from session_servers import FileKeyring

from flytekitplugins.authagent import providers
from flytekitplugins.authagent.credential import Credential, claims
from flytekitplugins.authagent.errors import AuthAgentError, Denied, ProviderError
from flytekitplugins.authagent.keyring_items import KeyringItems
from flytekitplugins.authagent.oauth import revocation, token_exchange, userinfo
from flytekitplugins.authagent.providers import Wanted
from flytekitplugins.authagent.providers.oauth_client import OAuthClient
from flytekitplugins.authagent.providers.person import PersonProvider
from flytekitplugins.authagent.sandbox.control_plane import ControlPlane
from flytekitplugins.authagent.sandbox.counts import Counts
from flytekitplugins.authagent.sandbox.faults import Faults
from flytekitplugins.authagent.sandbox.foreign_issuer import ForeignIssuer
from flytekitplugins.authagent.sandbox.posture import Posture
from flytekitplugins.authagent.session_store import SessionStore
from flytekitplugins.authagent.specs import ClientCredentialsSpec, DeviceSpec, KeyringSpec, PkceSpec, TokenExchangeSpec
from flytekitplugins.authagent.terminal import Terminal

PROJECT = Path(__file__).parents[2]

SECRETS = {"client_secret_basic": "basic", "client_secret_post": "post", "client_secret_jwt": "secret_jwt"}


def fetched(spec: Any) -> Credential:
    found = providers.build(spec, {}, in_pod=False).fetch(Wanted())
    assert found is not None
    return found


def meant_for(peer: Peer, credential: Credential) -> dict[str, Any]:
    """The claims of a token that Flyte would take: its audience, and `all` in `scp`."""
    found = claims(credential.token)
    audiences = found["aud"] if isinstance(found["aud"], list) else [found["aud"]]
    assert peer.audience in audiences
    assert "all" in found["scp"]
    assert 0 < credential.remaining(time.time()) <= 3600
    return found


def person(peer: Peer, spec: Any) -> PersonProvider:
    """Somebody whose browser goes where it is sent, and logs in there."""

    def opened(url: str) -> bool:
        def answer() -> None:
            redirect = dict(parse_qsl(urlsplit(url).query))["redirect_uri"]
            requests.get(peer.approve(url, redirect), timeout=20)

        threading.Thread(target=answer, daemon=True).start()
        return True

    def say(line: str) -> None:
        if "compare the code" in line:
            url = line.split()[2]
            threading.Thread(target=peer.approve, args=(url, ""), daemon=True).start()

    store = SessionStore(KeyringItems(FileKeyring(peer.directory / "keyring")), {"HOME": str(peer.directory)})
    return PersonProvider(spec, OAuthClient(spec, spec.kind), store, Terminal(say, opened, lambda: None))


def logged_in(peer: Peer, kind: type = PkceSpec, client: str = "app", scopes: tuple[str, ...] = ()) -> PersonProvider:
    spec = kind(**peer.client(client), scopes=scopes or ("openid", "all", peer.offline), patience=30)
    provider = person(peer, spec)
    provider.store.delete(provider.key(Wanted()))
    assert provider.fetch(Wanted()) is not None
    return provider


def session_of(provider: PersonProvider) -> Any:
    found = provider.store.load(provider.key(Wanted()))
    assert found is not None
    return found


def end_now(provider: PersonProvider) -> None:
    """Let the access token of the login be about to end."""
    found = session_of(provider)
    old = replace(found.credential, expires_at=time.time() - 1)
    provider.store.save(provider.key(Wanted()), replace(found, credential=old))


def renewed_in_a_process(peer_options: dict[str, Any], directory: Any, together: Any, answers: Any) -> None:
    spec = PkceSpec(**peer_options)
    store = SessionStore(KeyringItems(FileKeyring(directory / "keyring")), {"HOME": str(directory)})
    nobody = Terminal(lambda line: None, lambda url: False, lambda: None, is_there=False)
    provider = PersonProvider(spec, OAuthClient(spec, spec.kind), store, nobody)
    together.wait()
    try:
        found = provider.fetch(Wanted())
        answers.put(found.token.reveal() if found else "nothing")
    except AuthAgentError as error:
        answers.put(f"{type(error).__name__}: {error}")


class FlowSuite:
    """One suite for all. `peer` is a fixture of the file that subclasses it."""

    def flow(self, peer: Peer, name: str, run: Callable[[], None]) -> None:
        """Run it where it is offered; where it is not, see it fail with one error of ours."""
        if name in peer.offered:
            run()
            return
        with pytest.raises((AuthAgentError, AssertionError)):
            run()

    @pytest.mark.parametrize("method", SECRETS)
    def test_a_client_with_a_secret(self, peer: Peer, method: str) -> None:
        def run() -> None:
            meant_for(peer, fetched(ClientCredentialsSpec(**peer.client(SECRETS[method]), scopes=("all",))))

        self.flow(peer, method, run)

    def test_a_client_with_a_key(self, peer: Peer) -> None:
        def run() -> None:
            meant_for(peer, fetched(ClientCredentialsSpec(**peer.client("key_jwt"), scopes=("all",))))

        self.flow(peer, "private_key_jwt", run)

    def test_a_pod_without_any_secret(self, peer: Peer) -> None:
        def run() -> None:
            file = peer.file("projected", peer.projected(peer.issuer))
            spec = ClientCredentialsSpec(issuer=peer.issuer, client_assertion_file=file)
            meant_for(peer, fetched(spec))

        self.flow(peer, "federated", run)

    def test_a_login_in_a_browser(self, peer: Peer) -> None:
        def run() -> None:
            session = session_of(logged_in(peer))
            meant_for(peer, session.credential)
            assert session.credential.id_token is not None
            assert session.refresh_token is not None

        self.flow(peer, "pkce", run)

    def test_a_login_on_another_device(self, peer: Peer) -> None:
        def run() -> None:
            meant_for(peer, session_of(logged_in(peer, DeviceSpec, "device", ("all",))).credential)

        self.flow(peer, "device", run)

    def test_a_refresh_token_is_spent_once_and_the_login_lives_on(self, peer: Peer) -> None:
        def run() -> None:
            provider = logged_in(peer)
            first = session_of(provider)
            end_now(provider)
            answers: list[Any] = []
            together = threading.Barrier(8)

            def ask() -> None:
                together.wait()
                answers.append(provider.fetch(Wanted()))

            threads = [threading.Thread(target=ask) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
            assert len({answer.token.reveal() for answer in answers}) == 1
            second = session_of(provider)
            assert second.refresh_token != first.refresh_token

            end_now(provider)
            context = multiprocessing.get_context("spawn")
            processes_together, tokens = context.Barrier(8), context.Queue()
            options = provider.spec.model_dump(exclude={"kind"}, exclude_defaults=True)
            arguments = (options, peer.directory, processes_together, tokens)
            processes = [context.Process(target=renewed_in_a_process, args=arguments) for _ in range(8)]
            for process in processes:
                process.start()
            got = {tokens.get(timeout=90) for _ in processes}
            for process in processes:
                process.join(20)
            assert len(got) == 1
            assert got.pop().count(".") == 2

            end_now(provider)
            found = provider.fetch(Wanted())
            assert found is not None
            meant_for(peer, found)

        self.flow(peer, "refresh", run)

    def test_what_is_revoked_does_not_refresh(self, peer: Peer) -> None:
        def run() -> None:
            provider = logged_in(peer)
            session, client = session_of(provider), provider.client
            endpoint = client.metadata.need("revocation_endpoint")
            sent = revocation.request(endpoint, client.authentication(), session.refresh_token, "refresh_token")
            revocation.check(client.send(sent))
            end_now(provider)
            keyring = replace(
                provider, spec=KeyringSpec(**provider.spec.model_dump(include={"issuer", "client_id", "scopes"}))
            )
            assert keyring.fetch(Wanted()) is None
            assert provider.store.load(provider.key(Wanted())) is None

        self.flow(peer, "revocation", run)

    def test_who_logged_in(self, peer: Peer) -> None:
        def run() -> None:
            name = "profile" if "profile" in peer.clients else "app"
            provider = logged_in(peer, client=name, scopes=("openid", "profile"))
            session, client = session_of(provider), provider.client
            asked = userinfo.request(client.metadata.need("userinfo_endpoint"), session.credential.token)
            said = userinfo.read(client.send(asked))
            assert "alice" in (said.subject, said.name)

        self.flow(peer, "userinfo", run)

    def _exchanged(self, peer: Peer, **more: Any) -> Credential:
        name = "exchange" if "exchange" in peer.clients else "post"
        own = fetched(ClientCredentialsSpec(**peer.client("post"), scopes=("all",)))
        subject = peer.file("subject", own.token.reveal())
        spec = TokenExchangeSpec(
            **peer.client(name),
            subject_token_file=subject,
            subject_token_type=token_exchange.ACCESS_TOKEN,
            scopes=peer.exchange_scopes,
            **more,
        )
        return fetched(spec)

    def test_an_exchange_speaks_for_the_subject(self, peer: Peer) -> None:
        def run() -> None:
            found = meant_for(peer, self._exchanged(peer))
            own = fetched(ClientCredentialsSpec(**peer.client("post"), scopes=("all",)))
            assert found["sub"] == claims(own.token)["sub"]

        self.flow(peer, "exchange", run)

    def test_who_acts_for_the_subject_is_recorded_or_missed(self, peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
        actor = peer.file("actor", peer.projected(peer.issuer))
        found = self._exchanged(peer, actor_token_file=actor)
        if "actor" in peer.offered:
            assert token_exchange.actor_of(found)
        else:
            assert "did not record the actor" in caplog.text

    def test_a_pods_token_is_a_grant(self, peer: Peer) -> None:
        def run() -> None:
            name = "grant" if "grant" in peer.clients else "post"
            subject = peer.file("grant", peer.projected(peer.issuer))
            spec = TokenExchangeSpec(
                **peer.client(name), subject_token_file=subject, grant="jwt_bearer", scopes=peer.exchange_scopes
            )
            meant_for(peer, fetched(spec))

        self.flow(peer, "jwt_bearer", run)

    def test_a_task_runs_in_a_flyte_that_takes_its_tokens(self, peer: Peer) -> None:
        binding = {
            "provider": {"kind": "client_credentials", "scopes": ["all"]}
            | {name: str(value) for name, value in peer.client("post").items()}
        }
        counts, faults, environ = Counts(), Faults(), {}
        flyte = ControlPlane(
            issuer=ForeignIssuer(peer.issuer, audience=peer.audience),
            counts=counts,
            faults=faults,
            posture=Posture(issuer="external"),
            directory=peer.directory / "flyte",
            task_environment=environ,
        )
        flyte.start()
        try:
            environ |= {
                "AUTHAGENT_CONFIG": str(peer.file("authagent.yaml", yaml.safe_dump({"bindings": [binding]}))),
                "FLYTE_CREDENTIALS_AUTH_MODE": "authagent",
                "FLYTE_PLATFORM_URL": flyte.endpoint,
                "FLYTE_PLATFORM_INSECURE": "1",
            }
            done = subprocess.run(
                [Path(sys.executable).parent / "pyflyte", "run", "--remote", "--wait", "examples/hello.py", "main"],
                cwd=PROJECT,
                env={"HOME": str(peer.directory), "PATH": os.environ["PATH"], **environ},
                capture_output=True,
                text=True,
                timeout=100,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            assert [execution["phase"] for execution in flyte.executions()] == ["SUCCEEDED"]
            rpcs = counts.snapshot()["rpcs"]
            assert sum(rpc["rejected"] for rpc in rpcs.values()) == 0
            assert rpcs["CreateExecution"]["accepted"] == 1
        finally:
            flyte.stop()

    @pytest.mark.parametrize("wrong", ["secret", "client", "issuer", "assertion", "subject"])
    def test_what_is_wrong_is_one_error_that_shows_nothing(
        self, peer: Peer, wrong: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        planted = "a-wrong-secret-that-nobody-may-see"
        good = peer.client("post", scopes=("all",))
        file = peer.file("planted", planted)
        spec: Any = {
            "secret": lambda: ClientCredentialsSpec(**good | {"client_secret_file": file}),
            "client": lambda: ClientCredentialsSpec(**good | {"client_id": "nobody"}),
            "issuer": lambda: ClientCredentialsSpec(**good | {"issuer": f"{peer.issuer}/elsewhere"}),
            "assertion": lambda: ClientCredentialsSpec(issuer=peer.issuer, client_assertion_file=file),
            "subject": lambda: TokenExchangeSpec(**good, subject_token_file=file),
        }[wrong]()
        provider = providers.build(spec, {}, in_pod=False)
        with pytest.raises(AuthAgentError) as caught:
            provider.fetch(Wanted())
        assert isinstance(caught.value, Denied | ProviderError)
        shown = "".join(traceback.format_exception(caught.value)) + caplog.text + repr(provider)
        assert planted not in shown
        assert peer.clients["post"].secret not in shown
        assert peer.issuer in str(caught.value)

    def test_the_declarations_are_of_flows_that_there_are(self, peer: Peer) -> None:
        assert set(peer.not_offered) <= set(FLOWS)
        assert all(peer.not_offered.values())
