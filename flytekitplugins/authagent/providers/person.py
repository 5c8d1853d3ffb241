"""A person's login: kept in the keyring, renewed there, and made anew where a person is there to do so."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

from flytekitplugins.authagent import credential as credentials
from flytekitplugins.authagent import session_lock, session_store, terminal
from flytekitplugins.authagent.credential import Credential
from flytekitplugins.authagent.discovery import FlyteServer
from flytekitplugins.authagent.errors import ConfigError, Denied
from flytekitplugins.authagent.oauth import refresh, token_response
from flytekitplugins.authagent.oauth.client_authentication import METHODS, Added, Proof
from flytekitplugins.authagent.oauth.target import Target
from flytekitplugins.authagent.oauth.token_response import Granted
from flytekitplugins.authagent.providers import Wanted, login
from flytekitplugins.authagent.providers.oauth_client import OAuthClient
from flytekitplugins.authagent.session import Session, SessionKey
from flytekitplugins.authagent.session_lock import LockTimeout
from flytekitplugins.authagent.session_store import Enough, Place, SessionStore
from flytekitplugins.authagent.specs import DeviceSpec, KeyringSpec, LoginSpec, PkceSpec
from flytekitplugins.authagent.terminal import Terminal

logger = logging.getLogger(__name__)

PersonSpec = KeyringSpec | PkceSpec | DeviceSpec

SOON = 2.0
"""Seconds within which another process has renewed a login; one that takes longer waits for the person."""

EARLY = 300.0
"""Seconds before its end from which a login is renewed; half its life for a short one."""


@dataclass(frozen=True)
class PersonProvider:
    """
    `keyring`: the login that is there. `pkce` and `device`: that, or a new one.

    Nobody is ever asked in a pod, nor where no terminal shows the question.
    """

    spec: PersonSpec
    client: OAuthClient
    store: SessionStore = field(repr=False)
    terminal: Terminal = field(repr=False)
    in_pod: bool = False

    @property
    def kind(self) -> str:
        """See `Provider`."""
        return self.spec.kind

    @property
    def absent(self) -> str:
        """See `Provider`."""
        if self.in_pod:
            return "nobody can log in in a pod"
        if self.spec.kind == "keyring" or self.terminal.is_there:
            if self.store.trouble:
                return f"no login is in a file, and the keyring cannot be read ({self.store.trouble})"
            return "nobody is logged in, or the login has ended"
        return f"nobody can be asked to log in: {self.terminal.missing}"

    @property
    def remedy(self) -> str:
        """See `Provider`."""
        if self.in_pod:
            return "use a provider such as agent"
        return "run `authagent login --store file`" if self.store.trouble else "run `authagent login`"

    @property
    def how_to_keep(self) -> str:
        """What a person does about a login that ends with the program, as a sentence."""
        return "To keep one, run `authagent login --store file`."

    def fetch(self, wanted: Wanted, *, min_lifetime: float | None = None) -> Credential | None:
        """
        The credential of the login, renewed where it is about to end; `None` where there is none and nobody to ask.

        Raises `Denied` where it does not have what is wanted or a new login is declined, and as
        `oauth.token_response` and `http` say.
        """
        if self.in_pod:
            return None
        target = self.client.target(wanted)
        kept = self.kept(wanted, min_lifetime)
        if kept is not None:
            return self._named(kept.credential)
        if self.spec.kind == "keyring":
            return None
        if not self.client.is_needed:
            return credentials.anonymous(provider=self.kind)
        if not self.terminal.is_there:
            return None
        with self.alone(wanted):  # another process may have asked the person already
            made = self.store.load(self.key(wanted))
            if made is None or not _enough(min_lifetime)(made.credential, self.client.clock()):
                made = self.log_in(target, wanted)
        return self._named(made.credential)

    @contextmanager
    def alone(self, wanted: Wanted) -> Iterator[bool]:
        """
        The person is asked by one program at a time. Yields whether another one has asked them meanwhile.

        Raises `ProviderUnavailable` where that one still waits after `patience` seconds.
        """
        key, waited = self.key(wanted), False
        with ExitStack() as stack:
            try:
                stack.enter_context(self.store.exclusively(key, wait=SOON))
            except LockTimeout:
                self.terminal.say(
                    "Another program of yours waits for this login. Finish it there, and it serves here too."
                )
                patience = self.spec.patience if isinstance(self.spec, LoginSpec) else session_lock.WAIT
                stack.enter_context(self.store.exclusively(key, wait=patience))
                waited = True
            yield waited

    def kept(self, wanted: Wanted, min_lifetime: float | None = None) -> Session | None:
        """
        The login that is there, fresh enough; `None` where there is none, or it has ended.

        Raises `ProviderUnavailable` and `ProviderError` where it cannot be renewed and is not valid any more.
        """
        try:
            return self.store.fresh(
                self._kept_under(wanted), self._renewed, enough=_enough(min_lifetime), now=self.client.clock
            )
        except Denied as ended:
            logger.info("%s: %s", self.kind, ended)
            return None

    def log_in(self, target: Target, wanted: Wanted, *, browser: bool = True, keep_in: Place | None = None) -> Session:
        """
        A new login, kept for the next time. Without `browser` its address is only shown.

        `keep_in` is where it must be kept, found out before the person is asked; without it, the login is for this
        process alone where the keyring is in trouble. Raises as `SessionStore.check`, `login.by_browser` and
        `login.by_device`.
        """
        if keep_in is not None:
            self.store.check(keep_in, self.terminal.say)
        elif self.store.trouble and self.store.kept_in(self.key(wanted)) is None:
            self.terminal.say(
                f"The keyring cannot be used ({self.store.trouble}), so this login ends with this program."
                f" {self.how_to_keep}\n"
            )
        scopes = target.scopes or self.client.from_flyte.scopes
        asked = replace(target, scopes=scopes)
        if isinstance(self.spec, DeviceSpec):
            granted = login.by_device(self.client, asked, self.terminal, patience=self.spec.patience)
        elif isinstance(self.spec, PkceSpec):
            granted = login.by_browser(
                self.client,
                asked,
                self.terminal,
                redirect_uri=self.spec.redirect_uri,
                patience=self.spec.patience,
                open_browser=browser,
            )
        else:
            raise ConfigError("keyring only keeps logins", hint="use pkce or device")
        made = self._session(granted)
        self.store.save(self.key(wanted), made, to=keep_in)
        return made

    def key(self, wanted: Wanted) -> SessionKey:
        """Under what the login is kept: what was configured and asked, so that finding it needs no network."""
        where = self.client.server.endpoint.target if self.client.server else self.spec.issuer or ""
        return SessionKey(where, self.spec.client_id or "", "", wanted.scopes or self.spec.scopes)

    def _kept_under(self, wanted: Wanted) -> SessionKey:
        """
        The key of a login that serves `wanted`.

        `keyring` finds the login of `authagent login` too, which is kept under the Flyte, and under a client and scopes
        only where they were configured then. Such a login must be of the very issuer, client and audience, and have
        the scopes.
        """
        key, spec = self.key(wanted), self.spec
        if spec.kind != "keyring":
            return key
        named = replace(key, endpoint=spec.issuer) if spec.issuer else key
        for exact in dict.fromkeys((key, named)):
            if self.store.load(exact) is not None:
                return exact
        places = (key.endpoint, named.endpoint) if spec.issuer or not spec.token_endpoint else ()
        for place in dict.fromkeys(places):
            for client_id in dict.fromkeys((key.client_id, "")):
                for scopes in dict.fromkeys((key.scopes, ())):
                    other = SessionKey(place, client_id, "", scopes)
                    found = self.store.load(other)
                    if found and found.serves(
                        issuer=spec.issuer, client_id=spec.client_id, audience=spec.audience, scopes=key.scopes
                    ):
                        return other
        return named  # under an issuer nothing of `pyflyte` is found, which does not say whose its login is

    def _session(self, granted: Granted) -> Session:
        metadata = self.client.metadata
        return Session(
            self.client.labelled(granted.credential),
            granted.refresh_token,
            granted.refresh_expires_at,
            issuer=metadata.issuer,
            token_endpoint=metadata.token_endpoint,
            revocation_endpoint=metadata.revocation_endpoint,
            userinfo_endpoint=metadata.userinfo_endpoint,
            client_id=self.client.client_id or "",
            audience=self.spec.audience,
        )

    def _renewed(self, session: Session) -> Session:
        """The next of `session` (RFC 6749 section 6). A server that gives no new refresh token means the old one."""
        if session.refresh_token is None:
            raise Denied("the login has ended", hint=self.remedy)
        endpoint = session.token_endpoint or self.client.metadata.need("token_endpoint")
        target = Target(resource=self.spec.resource)
        sent = refresh.request(endpoint, self.as_client_of(session), session.refresh_token, target)
        response = self.client.send(sent)
        refresh.check(response, sent)
        granted = token_response.granted(response, sent, now=self.client.clock(), provider=self.kind)
        fresh, old = granted.credential, session.credential
        return replace(
            session,
            credential=replace(
                fresh,
                header=fresh.header or old.header,
                endpoint=fresh.endpoint or old.endpoint,
                scopes=fresh.scopes or old.scopes,
                id_token=fresh.id_token or old.id_token,
            ),
            refresh_token=granted.refresh_token or session.refresh_token,
            refresh_expires_at=granted.refresh_expires_at if granted.refresh_token else session.refresh_expires_at,
        )

    def as_client_of(self, session: Session) -> Added:
        """What shows that the client is the one of `session`; a public one needs no discovery for that."""
        if self.spec.method != "none":
            return self.client.authentication()
        return METHODS["none"](session.client_id or self.client.client_id, Proof())

    def _named(self, credential: Credential) -> Credential:
        return replace(credential, provider=self.kind)


def _enough(min_lifetime: float | None) -> Enough:
    """Whether a credential is good for long enough at a moment: for as long as is asked, else until it is due."""

    def enough(credential: Credential, now: float) -> bool:
        left = credential.remaining(now)
        if min_lifetime:
            return left >= min_lifetime
        life = EARLY * 2 if credential.lifetime is None else credential.lifetime
        return left > min(EARLY, life / 2)

    return enough


def provider(spec: PersonSpec, server: FlyteServer | None, *, in_pod: bool, interactive: bool = True) -> PersonProvider:
    """The provider of `spec`, at the terminal of this process, with the keyring of its user."""
    client = OAuthClient(spec, spec.kind, server, in_pod=in_pod)
    shown = terminal.here()
    if not interactive:
        shown = replace(shown, is_there=False, missing="this command does not ask")
    return PersonProvider(spec, client, session_store.of_user(), shown, in_pod=in_pod)
