"""
Items in the keyring of the operating system, whatever state it is in.

A backend may be missing, locked, broken, silent or stuck; each becomes one error, `KeyringTrouble`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keyring.backend import KeyringBackend

SERVICE = "flytekitplugins-authagent"

DEADLINE = 4.0
"""Seconds for one call. It is less than the patience of every command, which has other providers to ask."""

UNLOCK = 30.0
"""Seconds for a call where a person is there, who may have to type the keyring's password first."""

REST = 60.0
"""Seconds for which a keyring that was in trouble is left alone: a locked one would ask each time."""

PART = 1000
"""Characters of one item. Windows takes 2,560 bytes of UTF-16, so 1,280 characters."""

MAX_PARTS = 100

_MARK = "authagent-parts:"
_PROBE = "authagent probe"


class KeyringTrouble(Exception):
    """The keyring cannot be used, and why; nothing of what it holds."""


class KeyringItems:
    """
    Text by name, under one service.

    What the backend refuses as a whole is written as parts of a new generation, and becomes the item when its head is
    written, last: who reads meanwhile gets the old one.
    """

    def __init__(
        self, backend: KeyringBackend | None = None, *, deadline: float = DEADLINE, unlock: float = UNLOCK
    ) -> None:
        self._backend, self._deadline, self._unlock = backend, deadline, unlock
        self._trouble: tuple[float, str] | None = None
        self._name = "its backend"
        self._wait: Callable[[], None] | None = None

    def check(self, wait: Callable[[], None]) -> None:
        """
        Find out whether it keeps what it is given, while a person is there who can unlock it.

        `wait` is called once where it is slow. Raises `KeyringTrouble`.
        """
        self._trouble, self._wait = None, wait
        try:
            self.set(_PROBE, "kept")
            self.delete(_PROBE)
        finally:
            self._wait = None

    def get(self, name: str, service: str = SERVICE) -> str | None:
        """The text, `None` where there is no such item. Raises `KeyringTrouble`."""
        head = self._call("get_password", service, name)
        if head is None or not isinstance(head, str):
            return None
        if not head.startswith(_MARK):
            return head
        generation, count = _parsed(head)
        parts = [self._call("get_password", service, _part(name, generation, n)) for n in range(count)]
        if not all(isinstance(part, str) for part in parts):
            raise KeyringTrouble("an entry of it is incomplete")
        return "".join(parts)

    def set(self, name: str, text: str, service: str = SERVICE, *, whole: bool = False) -> None:
        """
        Write the item, as it stands where it must be `whole` for others who read it.

        Raises `KeyringTrouble`, also where it cannot be read back; the old one is kept then.
        """
        old = self._old_parts(name, service)
        try:
            self._call("set_password", service, name, text)
        except KeyringTrouble:
            if len(text) <= PART or whole:
                raise
            self._set_in_parts(name, text, service, old)
        if self.get(name, service) != text:
            raise KeyringTrouble("it does not keep what it is given")
        if old:
            self._delete_parts(name, *old, service)

    def delete(self, name: str, service: str = SERVICE) -> None:
        """Take the item away; one that is not there is no trouble. Raises `KeyringTrouble`."""
        old = self._old_parts(name, service)
        self._delete_one(service, name)
        if old:
            self._delete_parts(name, *old, service)

    def _set_in_parts(self, name: str, text: str, service: str, old: tuple[int, int] | None) -> None:
        generation = 1 if old and old[0] == 0 else 0
        parts = [text[start : start + PART] for start in range(0, len(text), PART)]
        if len(parts) > MAX_PARTS:
            raise KeyringTrouble("what is to be kept is too large for it")
        for n, part in enumerate(parts):
            self._call("set_password", service, _part(name, generation, n), part)
        self._call("set_password", service, name, f"{_MARK}{generation}:{len(parts)}")

    def _old_parts(self, name: str, service: str) -> tuple[int, int] | None:
        head = self._call("get_password", service, name)
        return _parsed(head) if isinstance(head, str) and head.startswith(_MARK) else None

    def _delete_parts(self, name: str, generation: int, count: int, service: str) -> None:
        for n in range(count):
            self._delete_one(service, _part(name, generation, n))

    def _delete_one(self, service: str, name: str) -> None:
        if self._call("get_password", service, name) is not None:
            self._call("delete_password", service, name)

    def _call(self, method: str, *arguments: str) -> Any:
        """The backend's answer, from a thread of its own: it may never come."""
        if self._trouble and time.monotonic() < self._trouble[0]:
            raise KeyringTrouble(self._trouble[1])
        answer: Future[Any] = Future()

        def call() -> None:
            try:
                backend = self._backend or _usual()
                self._name = f"{type(backend).__module__}.{type(backend).__qualname__}"
                answer.set_result(getattr(backend, method)(*arguments))
            except BaseException as failed:  # a backend of anybody's: whatever it is, it is trouble
                answer.set_exception(failed)

        threading.Thread(target=call, name="authagent-keyring", daemon=True).start()
        try:
            return self._awaited(answer)
        except FutureTimeoutError:
            raise self._rested(f"{self._name} did not answer within {self._deadline:g} s") from None
        except Exception as failed:
            if method == "get_password":
                raise self._rested(_reason(failed)) from None
            raise KeyringTrouble(_reason(failed)) from None

    def _awaited(self, answer: Future[Any]) -> Any:
        try:
            return answer.result(self._deadline)
        except FutureTimeoutError:
            if answer.done() or self._wait is None:
                raise
            wait, self._wait = self._wait, None
            wait()
            return answer.result(self._unlock)

    def _rested(self, reason: str) -> KeyringTrouble:
        self._trouble = time.monotonic() + REST, reason
        return KeyringTrouble(reason)


def _usual() -> KeyringBackend:
    """The backend that `keyring` chooses. Raises what it raises, and for those that keep nothing."""
    import keyring
    from keyring.backends import fail, null
    from keyring.errors import NoKeyringError

    backend = keyring.get_keyring()
    if isinstance(backend, null.Keyring | fail.Keyring):
        raise NoKeyringError("no keyring")
    return backend


def _reason(failed: BaseException) -> str:
    """What kind of trouble it is, by the name of the error: its text is the backend's, and may be anything."""
    known = {
        "NoKeyringError": "there is none on this machine",
        "KeyringLocked": "it is locked",
        "InitError": "it could not be opened",
        "PasswordSetError": "it does not take an entry",
        "ModuleNotFoundError": "the package keyring is not installed",
    }
    return known.get(type(failed).__name__, f"it fails with {type(failed).__name__}")


def _part(name: str, generation: int, n: int) -> str:
    return f"{name} part {generation}.{n}"


def _parsed(head: str) -> tuple[int, int]:
    generation, _, count = head.removeprefix(_MARK).partition(":")
    if generation in ("0", "1") and count.isascii() and count.isdigit() and 0 < int(count[:4]) <= MAX_PARTS:
        return int(generation), int(count)
    raise KeyringTrouble("an entry of it cannot be read")
