"""Where logins are kept: in the keyring, in a file where a person chose that, or in memory where neither works."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Literal

from flytekitplugins.authagent import endpoint as endpoints
from flytekitplugins.authagent import session_lock
from flytekitplugins.authagent.credential import Credential, Secret, claims, from_token, moment, token
from flytekitplugins.authagent.errors import ConfigError, Denied, ProviderError
from flytekitplugins.authagent.keyring_items import KeyringItems, KeyringTrouble
from flytekitplugins.authagent.login_files import LoginFiles
from flytekitplugins.authagent.session import Session, SessionKey, from_json

logger = logging.getLogger(__name__)

RENEWAL = 3.0
"""Seconds to wait for another process that renews a login, where the old credential is still valid."""

Enough = Callable[[Credential, float], bool]
"""Whether a credential is good for long enough at a moment."""


Place = Literal["keyring", "file"]
"""Where a person may choose to keep a login."""


class SessionStore:
    """
    Logins by key, for all threads and processes of a user.

    A login stays where it was put: in its file if it has one, else in the keyring. Where it cannot be written there it
    is kept in this process alone, and one warning says so; nothing is ever put into a file that nobody chose.
    """

    def __init__(self, items: KeyringItems, environ: Mapping[str, str]) -> None:
        self._items, self._environ, self._files = items, environ, LoginFiles(environ)
        self._memory: dict[str, Session] = {}
        self._warned = False
        self._lock = threading.Lock()
        self.trouble: str | None = None
        """Why the keyring could not be read the last time."""
        _stores.add(self)

    def load(self, key: SessionKey) -> Session | None:
        """
        The login under `key`, expired or not; `None` where there is none.

        Raises `ConfigError` for a file that others can reach.
        """
        if found := self._memory.get(str(key)):
            return found
        text = self._files.get(str(key))
        if text is None:
            text = self._of_keyring(str(key))
        if text is None:
            return None
        try:
            return self._as_pyflyte_has_it(key, from_json(text))
        except ProviderError as wrong:
            logger.warning("%s; it counts as none, and the next login replaces it", wrong)
            return None

    def save(self, key: SessionKey, session: Session, *, to: Place | None = None) -> None:
        """
        Keep `session` under `key`, in the place of what was there: where that was kept, unless `to` says where.

        Raises `ConfigError` where it cannot be kept in the place that `to` names.
        """
        session = self._shared_with_pyflyte(session)
        kept_in = to or self.kept_in(key) or "keyring"
        try:
            self._write(str(key), session, kept_in)
        except (KeyringTrouble, OSError) as trouble:
            reason = _reason(trouble)
            if to is not None:
                raise ConfigError(f"the login cannot be kept in the {to}: {reason}", hint=REMEDY[to]) from None
            self._memory[str(key)] = session
            self._warn(f"the login cannot be kept in the {kept_in}: {reason}")
            with suppress(KeyringTrouble, OSError):  # what is there still would be spent a second time
                self._erase(str(key), kept_in)
            return
        self._memory.pop(str(key), None)
        if to is not None:
            with suppress(KeyringTrouble, OSError):  # an older login in the other place
                self._erase(str(key), "keyring" if to == "file" else "file")

    def check(self, place: Place, say: Callable[[str], None]) -> None:
        """
        Find out whether `place` keeps a login, before a person makes the effort of one.

        `say` tells them where it needs them. Raises `ConfigError`.
        """
        if place == "file":
            self._files.check()
            return
        try:
            self._items.check(lambda: say("Waiting for the keyring: unlock it where it asks for its password."))
        except KeyringTrouble as trouble:
            raise ConfigError(f"the keyring cannot keep a login: {trouble}", hint=REMEDY["keyring"]) from None
        self.trouble = None

    def keyring_trouble(self) -> str | None:
        """Why the keyring cannot be read, `None` where it can."""
        self._of_keyring("authagent doctor")
        return self.trouble

    def kept_in(self, key: SessionKey) -> Place | None:
        """Where the login under `key` is kept, as far as that is known without the keyring."""
        path = self._files.path(str(key))
        return "file" if path and os.path.lexists(path) else None

    def described(self, place: Place, key: SessionKey) -> str:
        """What to tell a person about where their login is."""
        if place == "keyring":
            return "the keyring"
        return f"{self._files.path(str(key))} (readable by you only; not encrypted)"

    def delete(self, key: SessionKey) -> str:
        """Forget the login under `key`, wherever it is. Returns why it may still be in the keyring, else nothing."""
        self._memory.pop(str(key), None)
        had_file = self._files.delete(str(key))
        try:
            self._items.delete(str(key))
        except KeyringTrouble as trouble:
            if not had_file:
                logger.info("no login is removed from the keyring: %s", trouble)
                return str(trouble)
        return ""

    def _of_keyring(self, name: str) -> str | None:
        try:
            text = self._items.get(name)
        except KeyringTrouble as trouble:
            self._note(trouble)
            return None
        self.trouble = None
        return text

    def _write(self, name: str, session: Session, place: Place) -> None:
        if place == "file":
            self._files.set(name, session.to_json().reveal())
        else:
            self._items.set(name, session.to_json().reveal())

    def _erase(self, name: str, place: Place) -> None:
        if place == "file":
            self._files.delete(name)
        else:
            self._items.delete(name)

    def fresh(
        self, key: SessionKey, renew: Callable[[Session], Session], *, enough: Enough, now: Callable[[], float]
    ) -> Session | None:
        """
        The login under `key`, renewed by `renew` where it is not good for long enough; `None` where there is none.

        A refresh token is spent once: whoever comes while somebody renews waits, and takes what they got. The next
        one is kept before this one's credential is given out. While the old credential is valid it is used, whatever
        becomes of its renewal; a login that is refused then, or ends, is forgotten.

        Raises what `renew` raises, and as `session_lock.held`.
        """
        found = self.load(key) or self.of_pyflyte(key)
        if found is None or enough(found.credential, now()):
            return found
        valid = found.credential.remaining(now()) > 0
        try:
            with self.exclusively(key, wait=RENEWAL if valid else session_lock.WAIT):
                found = self.load(key) or self.of_pyflyte(key)
                if found is None or enough(found.credential, now()):
                    return found
                return self._renewed(key, found, renew, now())
        except session_lock.LockTimeout as late:  # a person is being asked to log in anew
            if not valid:
                raise
            logger.info("using the login as it is: %s", late)
            return found

    def _renewed(self, key: SessionKey, old: Session, renew: Callable[[Session], Session], now: float) -> Session:
        valid = old.credential.remaining(now) > 0
        if valid and not old.can_be_renewed(now):
            return old
        if not old.can_be_renewed(now):
            self.delete(key)
            raise Denied("the login has ended", hint="run `authagent login`")
        try:
            new = renew(old)
        except Denied as refused:
            if not valid:
                self.delete(key)
                raise
            logger.warning("the login ends with its credential, for it is not renewed: %s", refused)
            self.save(key, old.without_refresh_token())
            return old
        except ProviderError as failed:
            if not valid:
                raise
            logger.warning("using the login as it is, for it cannot be renewed now: %s", failed)
            return old
        self.save(key, new)
        return new

    @contextmanager
    def exclusively(self, key: SessionKey, *, wait: float = session_lock.WAIT) -> Iterator[None]:
        """Nobody else of this user renews or makes this login meanwhile. Raises as `session_lock.held`."""
        with session_lock.held(str(key), self._environ, wait=wait):
            yield

    def of_pyflyte(self, key: SessionKey) -> Session | None:
        """
        What `pyflyte` stored for the same Flyte, under any spelling of it; `None` where there is nothing.

        It has no moment at which it ends but the token's own; without one it counts as ended where it can be renewed.
        """
        for service in _spellings(key.endpoint):
            try:
                texts = {name: self._items.get(name, service) for name in _PYFLYTES}
            except KeyringTrouble as trouble:
                self._note(trouble)
                return None
            if texts["access_token"]:
                return _from_pyflyte(texts, service)
        return None

    def forget_pyflytes(self, key: SessionKey) -> None:
        """Take away what `pyflyte` stored for the same Flyte."""
        try:
            for service in _spellings(key.endpoint):
                for name in _PYFLYTES:
                    self._items.delete(name, service)
        except KeyringTrouble as trouble:
            self._note(trouble)

    def _as_pyflyte_has_it(self, key: SessionKey, session: Session) -> Session:
        """A login that is `pyflyte`'s too: as `pyflyte` renewed it last, where it did."""
        theirs = self.of_pyflyte(key) if session.pyflytes else None
        if theirs is None or theirs.credential.token == session.credential.token:
            return session
        return replace(
            session,
            credential=replace(theirs.credential, header=session.credential.header),
            refresh_token=theirs.refresh_token,
            refresh_expires_at=theirs.refresh_expires_at,
        )

    def _shared_with_pyflyte(self, session: Session) -> Session:
        """
        `session`, written to `pyflyte`'s own entries too where it is `pyflyte`'s login: its refresh token is spent.

        Where they cannot be written the two part here: what stands there must never be taken for newer.
        """
        if not session.pyflytes:
            return session
        texts = {
            "refresh_token": session.refresh_token,
            "access_token": session.credential.token,
            "id_token": session.credential.id_token,
        }
        try:
            for name, secret in texts.items():
                if secret is not None:
                    self._items.set(name, secret.reveal(), session.pyflytes, whole=True)
        except KeyringTrouble as trouble:
            logger.info("pyflyte's own login could not be renewed with ours: %s", trouble)
            return replace(session, pyflytes=None)
        return session

    def _note(self, trouble: KeyringTrouble) -> None:
        """Remember why the keyring was of no use. It matters to those alone who find no credential elsewhere."""
        self.trouble = str(trouble)
        logger.info("the keyring cannot be read: %s", trouble)

    def _warn(self, what: str) -> None:
        with self._lock:
            if self._warned:
                return
            self._warned = True
        logger.warning(
            "%s. It is known to this process only, and ends with it; `authagent doctor` says what to do", what
        )

    def _forked(self) -> None:
        """The parent goes on with its logins; spending one refresh token twice would end them for both."""
        self._lock = threading.Lock()
        self._memory = {name: session.without_refresh_token() for name, session in self._memory.items()}


REMEDY: Mapping[Place, str] = {
    "keyring": "`authagent login --store file` keeps it in a file that only you can read, and that is not encrypted",
    "file": "check the disk, or use `authagent login --store keyring`",
}
"""What to do where a place keeps no login."""


def _reason(trouble: KeyringTrouble | OSError) -> str:
    return str(trouble) if isinstance(trouble, KeyringTrouble) else trouble.strerror or type(trouble).__name__


_PYFLYTES = ("access_token", "refresh_token", "id_token")


def _spellings(endpoint: str) -> list[str]:
    """How `pyflyte` may have spelled it: it stores under what stands in the configuration."""
    try:
        target = endpoints.parse(endpoint).target
    except Exception:  # an issuer: pyflyte knows none
        return []
    return list(dict.fromkeys((target, endpoint, f"dns:///{target}")))


def _from_pyflyte(texts: dict[str, str | None], service: str) -> Session | None:
    try:
        credential = from_token(token(texts["access_token"] or "", of="pyflyte's login"), provider="keyring")
    except ProviderError:
        return None
    refresh_token = texts["refresh_token"]
    if credential.expires_at is None and refresh_token:
        credential = replace(credential, expires_at=0.0)
    id_token = Secret(texts["id_token"]) if texts["id_token"] else None
    ends = moment(claims(Secret(refresh_token)).get("exp")) if refresh_token else None
    return Session(
        replace(credential, endpoint=service, id_token=id_token),
        Secret(refresh_token) if refresh_token else None,
        ends,
        pyflytes=service,
    )


_stores: weakref.WeakSet[SessionStore] = weakref.WeakSet()
_of_user: list[SessionStore] = []
_of_user_lock = threading.Lock()


def of_user() -> SessionStore:
    """The store of this user; one for the process."""
    with _of_user_lock:
        if not _of_user:
            _of_user.append(SessionStore(KeyringItems(), os.environ))
        return _of_user[0]


def _after_fork() -> None:
    global _of_user_lock  # noqa: PLW0603 - a lock that another thread of the parent held would never open
    _of_user_lock = threading.Lock()
    for store in list(_stores):
        store._forked()


os.register_at_fork(after_in_child=_after_fork)
