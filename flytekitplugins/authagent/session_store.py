"""Where logins are kept: in the keyring, or in memory where there is none that works."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace

from flytekitplugins.authagent import endpoint as endpoints
from flytekitplugins.authagent import session_lock
from flytekitplugins.authagent.credential import Credential, Secret, claims, from_token, moment, token
from flytekitplugins.authagent.errors import Denied, ProviderError
from flytekitplugins.authagent.keyring_items import KeyringItems, KeyringTrouble
from flytekitplugins.authagent.session import Session, SessionKey, from_json

logger = logging.getLogger(__name__)

Enough = Callable[[Credential, float], bool]
"""Whether a credential is good for long enough at a moment."""


class SessionStore:
    """
    Logins by key, for all threads and processes of a user.

    Where the keyring is in trouble a login is kept in this process alone, and one warning says so.
    """

    def __init__(self, items: KeyringItems, environ: Mapping[str, str]) -> None:
        self._items, self._environ = items, environ
        self._memory: dict[str, Session] = {}
        self._warned = False
        self._lock = threading.Lock()
        _stores.add(self)

    def load(self, key: SessionKey) -> Session | None:
        """The login under `key`, expired or not; `None` where there is none."""
        if found := self._memory.get(str(key)):
            return found
        try:
            text = self._items.get(str(key))
        except KeyringTrouble as trouble:
            self._warn(trouble)
            return None
        if text is None:
            return None
        try:
            return self._as_pyflyte_has_it(key, from_json(text))
        except ProviderError as wrong:
            logger.warning("%s; it counts as none, and the next login replaces it", wrong)
            return None

    def save(self, key: SessionKey, session: Session) -> None:
        """Keep `session` under `key`, in the place of what was there."""
        session = self._shared_with_pyflyte(session)
        try:
            self._items.set(str(key), session.to_json().reveal())
        except KeyringTrouble as trouble:
            self._memory[str(key)] = session
            self._warn(trouble)
            with suppress(KeyringTrouble):  # what is there still would be spent a second time
                self._items.delete(str(key))
        else:
            self._memory.pop(str(key), None)

    def delete(self, key: SessionKey) -> None:
        """Forget the login under `key`."""
        self._memory.pop(str(key), None)
        try:
            self._items.delete(str(key))
        except KeyringTrouble as trouble:
            self._warn(trouble)

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
        with self.exclusively(key):
            found = self.load(key) or self.of_pyflyte(key)
            if found is None or enough(found.credential, now()):
                return found
            return self._renewed(key, found, renew, now())

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
    def exclusively(self, key: SessionKey) -> Iterator[None]:
        """Nobody else of this user renews or makes this login meanwhile. Raises as `session_lock.held`."""
        with session_lock.held(str(key), self._environ):
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
                self._warn(trouble)
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
            self._warn(trouble)

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

    def _warn(self, trouble: KeyringTrouble) -> None:
        with self._lock:
            if self._warned:
                return
            self._warned = True
        logger.warning(
            "the keyring cannot be used: %s. Logins are known to this process only, and end with it; `authagent doctor`"
            " says what to do",
            trouble,
        )

    def _forked(self) -> None:
        """The parent goes on with its logins; spending one refresh token twice would end them for both."""
        self._lock = threading.Lock()
        self._memory = {name: session.without_refresh_token() for name, session in self._memory.items()}


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
