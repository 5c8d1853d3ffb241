"""The hub: its parts, how they are made of a configuration, and how they begin and end."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

from flytekitplugins.authagent.agent.asked import Asked
from flytekitplugins.authagent.agent.audit import Audit
from flytekitplugins.authagent.agent.connection import Connection
from flytekitplugins.authagent.agent.connections import Connections
from flytekitplugins.authagent.agent.file import AgentFile
from flytekitplugins.authagent.agent.hub_settings import HubSettings
from flytekitplugins.authagent.agent.metrics import Beside
from flytekitplugins.authagent.agent.mint import Mint
from flytekitplugins.authagent.agent.rule import Give, Rule, Who
from flytekitplugins.authagent.agent.server import Server
from flytekitplugins.authagent.errors import AuthAgentError, ConfigError
from flytekitplugins.authagent.hub import address, listener
from flytekitplugins.authagent.hub.browsers import Browsers
from flytekitplugins.authagent.hub.consent import Consent
from flytekitplugins.authagent.hub.custody import Custody
from flytekitplugins.authagent.hub.delegate import Delegate
from flytekitplugins.authagent.hub.flyte import Executions
from flytekitplugins.authagent.hub.grants import Grants
from flytekitplugins.authagent.hub.listener import Certificate, NetworkListener
from flytekitplugins.authagent.hub.page_flow import PageFlow
from flytekitplugins.authagent.hub.people import People
from flytekitplugins.authagent.hub.routes import Routes
from flytekitplugins.authagent.hub.seal import Seal
from flytekitplugins.authagent.hub.store import Grant, Store
from flytekitplugins.authagent.hub.watch import Watch
from flytekitplugins.authagent.providers.oauth_client import OAuthClient
from flytekitplugins.authagent.source import Source

DATABASE_THREADS = 16
PROVIDER_THREADS = 16
PEOPLE_THREADS = 8
BACKGROUND_THREADS = 4
AUTHENTICATION_THREADS = 8
"""For strangers: whoever shows a token may have the issuer asked, and is to take no thread from anybody else."""

LOOK_THREADS = 8
REVOCATION_THREADS = 4
POOL = 2 * PROVIDER_THREADS
"""Connections to the database at most. Half of them are for those who keep one while the provider is asked."""


class Made(NamedTuple):
    """What a configuration makes anew."""

    people: People
    consent: Consent
    seal: Seal
    certificate: Certificate | None


class Hub:
    """See `agent.daemon.Hub`. Raises `ConfigError` for what cannot be used, the database and its keys included."""

    def __init__(self, file: AgentFile, audit: Audit, mint: Mint, *, now: Callable[[], float] = time.time) -> None:
        self._file, self._mint, self._now = file, mint, now
        settings = self.settings
        made = _made(file)
        self._database = ThreadPoolExecutor(DATABASE_THREADS, "hub-database")
        self._provider = ThreadPoolExecutor(PROVIDER_THREADS, "hub-provider")
        self._asking_flyte = ThreadPoolExecutor(LOOK_THREADS, "hub-asking-flyte")
        self._for_people = ThreadPoolExecutor(PEOPLE_THREADS, "hub-people")
        self._background = ThreadPoolExecutor(BACKGROUND_THREADS, "hub-background")
        self._authentication = ThreadPoolExecutor(AUTHENTICATION_THREADS, "hub-authentication")
        self._looking = ThreadPoolExecutor(LOOK_THREADS, "hub-looking")
        self._revoking = ThreadPoolExecutor(REVOCATION_THREADS, "hub-revoking")
        self._store = Store(address.written(settings), made.seal, now=now, pool=POOL)
        self._store.start()
        self._people, self._certificate = made.people, made.certificate
        assert file.flyte is not None  # noqa: S101 - checked with the file
        self._executions = Executions(file.flyte, self._asks_flyte)
        self._custody = Custody(self._store, made.consent, now, ended=self._has_ended)
        self._grants = Grants(self._store, made.consent, self._executions, now=now, ended=self._has_ended)
        self._delegate = Delegate(
            self._store,
            self._custody,
            self._executions,
            database=self._database,
            provider=self._provider,
            looking=self._asking_flyte,
            now=now,
            ended=self._has_ended,
        )
        self._pages = PageFlow(
            self._store,
            made.consent,
            self._executions,
            _browsers(settings, made.seal),
            audit,
            base=settings.url,
            threads=self._for_people,
            outlives=self._outlives,
            now=now,
        )
        self._audit = audit
        self._connections = Connections(listener.MAX_CONNECTIONS, listener.MAX_CONNECTIONS_PER_ADDRESS)
        self._consent = made.consent
        self._listener: NetworkListener | None = None
        self._routes: Routes | None = None

    @property
    def settings(self) -> HubSettings:
        """`hub:` of the configuration."""
        assert self._file.hub is not None  # noqa: S101 - only then there is one of us
        return self._file.hub

    @property
    def delegation(self) -> Delegate:
        """See `agent.daemon.Hub`."""
        return self._delegate

    async def start(self, server: Server) -> None:
        """See `agent.daemon.Hub`."""
        self._watch = Watch(
            self._store,
            self._custody,
            self._consent,
            self._executions,
            self.settings,
            threads=self._background,
            looking=self._looking,
            revoking=self._revoking,
            write=self._audit.write,
            now=self._now,
        )
        self._routes = Routes(
            server,
            self._people,
            self._grants,
            self._pages,
            self._audit,
            threads=self._for_people,
            authentication=self._authentication,
            longest=lambda: self.settings.longest,
            rate=self.settings.rate,
            after_revocation=self._revoke_now,
            document_of_resource=self._resource,
        )
        made = partial(Connection, self._routes.on_network, self._connections, attested=False, browsers=True)
        self._listener = NetworkListener(self._file.listen or "", self._certificate, made, self._connections)
        server.metrics.beside.append(self._counted)
        server.troubles.append(self._trouble)
        self._watch.start()

    def prepare(self, file: AgentFile) -> Callable[[], None]:
        """See `agent.daemon.Hub`."""
        assert file.hub is not None  # noqa: S101 - checked before
        if address.written(file.hub) != address.written(self.settings):
            raise ConfigError("hub: store: cannot change while the hub runs", hint="restart it")
        if file.hub.url != self.settings.url:
            raise ConfigError("hub: url: cannot change while the hub runs", hint="restart it")
        if file.flyte != self._file.flyte:
            raise ConfigError("flyte: cannot change while the hub runs", hint="restart it")
        made = _made(file)
        self._store.sealing.check(made.seal)
        return partial(self._adopt, file, made)

    def sweep(self, now: float) -> None:
        """See `agent.daemon.Hub`."""
        self._connections.sweep(now)
        if self._listener:
            self._listener.sweep(now)

    async def stop(self, seconds: float) -> None:
        """See `agent.daemon.Hub`."""
        if self._listener:
            self._listener.close()
        await self._watch.stop()
        await self._connections.drain(seconds)
        if self._custody.unsaved:
            try:
                await asyncio.get_running_loop().run_in_executor(self._background, self._custody.save)
            except AuthAgentError:
                return

    def close(self) -> None:
        """See `agent.daemon.Hub`."""
        for threads in (
            self._database,
            self._provider,
            self._asking_flyte,
            self._for_people,
            self._background,
            self._authentication,
            self._looking,
            self._revoking,
        ):
            threads.shutdown(wait=False, cancel_futures=True)
        self._executions.close()
        self._store.close()

    def _adopt(self, file: AgentFile, made: Made) -> None:
        self._file, self._people = file, made.people
        self._store.sealing.use(made.seal)  # `prepare` has checked it
        self._custody.use(made.consent)
        self._grants.consent = made.consent
        self._pages.use(made.consent, _browsers(self.settings, made.seal))
        self._watch.use(made.consent, self.settings)
        if self._routes:
            self._routes.use(made.people, self.settings.rate)
        if self._listener:
            self._listener.use(made.certificate)

    def _asks_flyte(self) -> Source:
        """The source of the tokens that ask Flyte."""
        upstream = self.settings.ask_flyte_as
        give = Give(upstream=upstream, scopes=getattr(self._file.upstreams[upstream], "scopes", ()))
        return self._mint.source(Rule(name="the hub itself", who=Who(uid=(os.getuid(),)), give=give), Asked())

    def _outlives(self) -> float | None:
        """How long tokens of people may live, by the rules that give them."""
        lives = [rule.give.max_lifetime for rule in self._file.delegating_rules]
        return None if not lives or None in lives else max(life for life in lives if life is not None)

    def _revoke_now(self, grant: Grant) -> str:
        """In a thread: what is kept of a grant that has just ended is revoked at once, or soon."""
        if grant.revocation != "pending":
            return grant.revocation
        tokens = self._store.revocations.claim(grant.id)
        if tokens is None:  # somebody else is at it
            return "pending"
        return self._watch.revoke(grant, tokens)

    def _has_ended(self, grant: Grant, reason: str) -> None:
        self._watch.tell(grant, reason)

    def _resource(self) -> dict[str, Any]:
        """RFC 9728 section 2: what tokens for this hub must be."""
        people = self.settings.people
        return {
            "resource": people.audience,
            "authorization_servers": [people.issuer],
            "bearer_methods_supported": ["header"],
        }

    def _trouble(self) -> str:
        """What is wrong, as far as it is known without asking anybody."""
        if self._watch.trouble:
            return f"the database: {self._watch.trouble}"
        return f"people: {self._people.trouble}" if self._people.trouble else ""

    def _counted(self) -> Beside:
        """The numbers of the hub, by metric and label."""
        routes = self._routes.counts if self._routes else {}
        return Beside(
            {
                "people": dict(routes),
                "delegations": dict(self._delegate.counts),
                "grant_mints": dict(self._custody.counts),
                "grants_watched": dict(self._watch.counts),
            },
            {
                "stored": dict(self._watch.stored),
                "unsaved_rotations": {"": self._custody.unsaved},
                "network_connections": {"": len(self._connections)},
            },
        )


def check(file: AgentFile) -> None:
    """Raise `ConfigError` where a hub could not be made of `file`: its keys, its certificate, its clients."""
    _made(file)


def _made(file: AgentFile) -> Made:
    """Raises `ConfigError`."""
    settings, spec = file.hub, file.grants
    assert settings is not None and spec is not None  # noqa: S101 - checked with the file
    return Made(
        People(settings.people, not_audiences=_flytes_audiences(file), not_clients=_own_clients(file)),
        Consent(spec, OAuthClient(spec, spec.kind)),
        Seal.from_file(settings.keys_file) if settings.keys_file else Seal.from_environment(settings.keys_env or ""),
        Certificate(file.tls) if file.tls else None,
    )


def _flytes_audiences(file: AgentFile) -> frozenset[str]:
    """What the tokens are for that tasks are given."""
    named = [getattr(upstream, name, None) for upstream in file.upstreams.values() for name in ("audience", "resource")]
    named += [give.audience for rule in file.rules for give in (rule.give, rule.give.otherwise) if give]
    return frozenset(filter(None, named))


def _own_clients(file: AgentFile) -> frozenset[str]:
    """To whom the tokens are issued that tasks are given."""
    return frozenset(filter(None, (getattr(upstream, "client_id", None) for upstream in file.upstreams.values())))


def _browsers(settings: HubSettings, seal: Seal) -> Browsers:
    return Browsers(seal.derived(b"browsers"), secure=settings.url.startswith("https:"), origin=settings.url)
