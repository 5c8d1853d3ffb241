"""The person at this terminal, and their way to the hub that keeps their grants."""

from __future__ import annotations

import os
import select
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from flytekitplugins.authagent import config, hub_client, providers, terminal
from flytekitplugins.authagent.config import Hub
from flytekitplugins.authagent.credential import Credential, Secret
from flytekitplugins.authagent.errors import ConfigError, NoCredential, Rejected
from flytekitplugins.authagent.http import Door, check_url
from flytekitplugins.authagent.hub_client import HubClient
from flytekitplugins.authagent.providers import Provider, Wanted
from flytekitplugins.authagent.providers.person import PersonProvider
from flytekitplugins.authagent.session import SessionKey
from flytekitplugins.authagent.source import WAIT, Source
from flytekitplugins.authagent.specs import LoginSpec, PkceSpec, ProviderSpec, ServerSpec
from flytekitplugins.authagent.terminal import Terminal

HINT = (
    "write hub: {url: https://..., client_id: ...} into ~/.flyte/authagent.yaml, "
    "or set both AUTHAGENT_HUB and AUTHAGENT_HUB_TOKEN_FILE"
)


@dataclass(frozen=True)
class Person:
    """`hub` speaks for them, `terminal` speaks to them; `sees` is whether they read what is said there."""

    hub: HubClient
    terminal: Terminal
    sees: bool
    _gone: threading.Event = field(repr=False)

    def leave(self) -> None:
        """Ask them nothing from here on, and read nothing that they type: the terminal is another program's now."""
        self._gone.set()


@dataclass(frozen=True)
class _HubLogin(PersonProvider):
    """A login for the hub, kept apart from the one for Flyte: an issuer and a client may be those of both."""

    hub: str = ""

    def key(self, wanted: Wanted) -> SessionKey:
        """See `PersonProvider`. It is no endpoint, so nothing that `pyflyte` kept is taken for it."""
        return replace(super().key(wanted), endpoint=f"the hub at {self.hub}")

    @property
    def how_to_keep(self) -> str:
        """See `PersonProvider`. `authagent login` is for Flyte, and keeps no login for a hub."""
        return (
            "To keep one, unlock or install a keyring; or name a file that holds a token in AUTHAGENT_HUB_TOKEN_FILE."
        )


@contextmanager
def person(*, browser: bool = True) -> Iterator[Person]:
    """
    Whoever runs this command. Without `browser` none is opened, and addresses are only shown.

    A login that the hub refuses is forgotten, so that the next command asks for a new one. Raises `ConfigError` where
    no hub is configured, or nothing that gives it a token.
    """
    settings = config.load(os.environ)
    if settings.hub is None:
        raise ConfigError("no hub is configured", hint=HINT)
    door = Door(ca_file=settings.hub.ca_file)
    spec = _spec(settings.hub, door)
    gone = threading.Event()
    shown = _terminal(gone, browser)
    provider = _provider(spec, settings, shown)
    wanted = Wanted(audience=settings.hub.audience)
    source = Source(
        _Fetch(provider, wanted, gone), patience=WAIT + (spec.patience if isinstance(spec, LoginSpec) else 0)
    )
    hub = HubClient(settings.hub.url, lambda: _token(source), door)
    try:
        yield Person(hub, shown, bool(sys.stderr and sys.stderr.isatty()), gone)
    except Rejected as refused:
        if not isinstance(provider, PersonProvider):
            raise Rejected(str(refused.args[0]), hint=f"the token comes from {provider.kind}: renew it there") from None
        provider.store.delete(provider.key(wanted))
        raise Rejected(str(refused.args[0]), hint="run this again to log in to the hub anew") from None
    finally:
        gone.set()


@dataclass(frozen=True)
class _Fetch:
    provider: Provider
    wanted: Wanted
    gone: threading.Event

    def __call__(self, min_lifetime: float | None) -> Credential:
        provider = self.provider
        if self.gone.is_set() and isinstance(provider, PersonProvider):
            provider = replace(provider, terminal=replace(provider.terminal, is_there=False))
        credential = provider.fetch(self.wanted, min_lifetime=min_lifetime)
        if credential is None:
            raise NoCredential(f"no token for the hub: {provider.kind}: {provider.absent}", hint=self._remedy)
        return credential

    @property
    def _remedy(self) -> str:
        person = isinstance(self.provider, PersonProvider)
        return "run this at a terminal, or set AUTHAGENT_HUB_TOKEN_FILE" if person else self.provider.remedy


def _token(source: Source) -> Secret:
    credential = source.get()
    if credential.is_anonymous:
        raise NoCredential("what is configured gives no token, and the hub wants one", hint=HINT)
    return credential.token


def _spec(hub: Hub, door: Door) -> ProviderSpec:
    """What gives the person's token: what is configured, or a login at the issuer that the hub names (RFC 9728)."""
    if hub.provider is not None:
        if isinstance(hub.provider, ServerSpec) and hub.provider.audience is None and hub.audience:
            return hub.provider.model_copy(update={"audience": hub.audience})
        return hub.provider
    if not hub.client_id:
        raise ConfigError(
            "nothing says how to log in to the hub",
            hint="write client_id: or provider: under hub: in authagent.yaml, or set AUTHAGENT_HUB_TOKEN_FILE",
        )
    said = hub_client.describe(hub.url, door)
    if hub.audience and said.resource != hub.audience:
        raise ConfigError(
            f"the hub takes tokens for the audience {said.resource!r}, and not for {hub.audience!r}",
            hint="correct audience: under hub:, and check its url",
        )
    check_url(said.issuer)
    return PkceSpec(issuer=said.issuer, client_id=hub.client_id, audience=said.resource, scopes=said.scopes)


def _provider(spec: ProviderSpec, settings: config.Settings, shown: Terminal) -> Provider:
    built = providers.build(spec, os.environ, in_pod=settings.in_pod)
    if not isinstance(built, PersonProvider):
        return built
    if not isinstance(built.spec, LoginSpec):
        return replace(built, terminal=shown)
    assert settings.hub is not None  # noqa: S101 - its spec is here
    return _HubLogin(built.spec, built.client, built.store, shown, built.in_pod, hub=settings.hub.url)


def _terminal(gone: threading.Event, browser: bool) -> Terminal:
    """The terminal of this process, from which nobody reads any more once they are `gone`."""
    here = terminal.here()

    def ask() -> str | None:
        while not gone.is_set() and sys.stdin and not sys.stdin.closed:
            if select.select([sys.stdin], [], [], 0.1)[0]:
                return None if gone.is_set() else here.ask()
        return None

    return replace(here, ask=ask, open=here.open if browser else lambda url: False)
