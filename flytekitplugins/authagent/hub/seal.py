"""The seal on what the hub keeps: authenticated encryption under keys that the database does not have."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from flytekitplugins.authagent import trust
from flytekitplugins.authagent.credential import Secret
from flytekitplugins.authagent.errors import ConfigError, ProviderError

KEY = 32
"""Bytes of a key: AES-256."""

MAX_FILE = 64 * 1024
"""Bytes of a file with keys."""

MAX_KEYS = 16
"""Keys that are in use at the same time; two are enough to rotate."""

HOW = "make a key: head -c 32 /dev/urandom | base64"

_FORMAT = b"\x01"
_ID = 8
_NONCE = 12
_HEAD = len(_FORMAT) + _ID + _NONCE


@dataclass(frozen=True)
class Key:
    """One key, and the name that what it sealed carries: a digest, from which nobody can find the key."""

    material: bytes = field(repr=False)

    @property
    def id(self) -> str:
        """16 hexadecimal digits."""
        return hashlib.sha256(b"authagent hub key id\0" + self.material).hexdigest()[: 2 * _ID]

    def cipher(self, context: bytes) -> AESGCM:
        """
        The cipher for one context, under a key of its own: HKDF-Expand, one block (RFC 5869 section 2.3).

        So the random nonces need to be unlike each other among the versions of one row only, and not among all
        that is ever sealed: 2^32 of these are soon spent where 100 000 grants are refreshed (SP 800-38D 8.3).
        """
        return AESGCM(hmac.digest(self.material, context + b"\x01", "sha256"))


class Seal:
    """
    Keys: the first one seals, all of them open. Immutable: to rotate, build another one and `Sealing.use` it.

    What is sealed is `0x01 | key id (8) | nonce (12) | AES-256-GCM`, with `what` it is and the `row` it belongs to as
    associated data, so that it opens nowhere else.
    """

    def __init__(self, keys: Iterable[Key]) -> None:
        self._keys: Mapping[str, Key] = {key.id: key for key in keys}
        if not self._keys:
            raise ConfigError("there is no key to seal with", hint=HOW)
        self._first = next(iter(self._keys.values()))
        self._first_id = self._first.id

    @classmethod
    def from_file(cls, path: Path, *, in_pod: bool = False) -> Seal:
        """The keys in a file, one a line. `in_pod`: whose only user is us. Raises `ConfigError`."""
        try:
            content = trust.read(path, secret=not in_pod, limit=MAX_FILE)
        except (FileNotFoundError, NotADirectoryError):
            raise ConfigError(f"the keys file {path} is not there", hint=HOW) from None
        try:
            text = content.decode("ascii")
        except UnicodeDecodeError:
            raise ConfigError(f"the keys file {path} is not text", hint="one base64 key a line; " + HOW) from None
        return cls(_keys(text, f"the keys file {path}"))

    @classmethod
    def from_environment(cls, name: str, environ: Mapping[str, str] = os.environ) -> Seal:
        """The keys in a variable, one a line. Raises `ConfigError`."""
        text = environ.get(name, "")
        if not text.strip():
            raise ConfigError(f"the variable {name}, which should hold the keys, is not set", hint=HOW)
        return cls(_keys(text, f"the variable {name}"))

    @classmethod
    def fresh(cls) -> Seal:
        """One key that nobody else has, and that is gone with this process: for a store in memory."""
        return cls([Key(os.urandom(KEY))])

    @property
    def first(self) -> str:
        """The id of the key that seals."""
        return self._first_id

    @property
    def key_ids(self) -> tuple[str, ...]:
        """Of all keys, the first one first."""
        return tuple(self._keys)

    def derived(self, use: bytes) -> bytes:
        """32 bytes that all who have the first key agree on, for another `use` of theirs (RFC 5869 section 2.3)."""
        return hmac.digest(self._first.material, b"authagent hub derived\0" + use + b"\x01", "sha256")

    def seal(self, secret: Secret, *, what: str, row: str) -> bytes:
        """`secret`, sealed for its place: the column `what` of `row`."""
        context, nonce = _context(what, row), os.urandom(_NONCE)
        sealed = self._first.cipher(context).encrypt(nonce, secret.reveal().encode(), context)
        return b"".join((_FORMAT, bytes.fromhex(self._first_id), nonce, sealed))

    def open(self, sealed: bytes, *, what: str, row: str) -> Secret:
        """What was sealed for this place. Raises `ProviderError` for anything else."""
        if sealed[:1] != _FORMAT or len(sealed) <= _HEAD:
            raise ProviderError(f"the sealed {what} of {row} have a format that is not known", hint="restore them")
        key = self._keys.get(sealed[1 : 1 + _ID].hex())
        if key is None:
            raise ProviderError(
                f"the {what} of {row} are sealed under the key {sealed[1 : 1 + _ID].hex()}, which is not here",
                hint="add that key to the keys; all replicas need a new one before one of them seals under it",
            )
        context = _context(what, row)
        try:
            opened = key.cipher(context).decrypt(sealed[1 + _ID : _HEAD], sealed[_HEAD:], context)
        except InvalidTag:
            raise ProviderError(
                f"the sealed {what} of {row} do not open: they were changed, or moved here from elsewhere",
                hint="find out who writes to the database, and revoke the grant",
            ) from None
        return Secret(opened.decode())

    def __repr__(self) -> str:
        return f"Seal({', '.join(self._keys)})"


def _context(what: str, row: str) -> bytes:
    """Unambiguous: no name of a column has a NUL."""
    return f"{what}\0{row}".encode()


def _keys(text: str, of: str) -> list[Key]:
    found: dict[Key, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        content = line.split("#", 1)[0].strip()
        if not content:
            continue
        key = _key(content, f"line {number} of {of}")
        if key in found:
            raise ConfigError(f"line {number} of {of} is the key of line {found[key]} again", hint="delete one of them")
        found[key] = number
    if not found:
        raise ConfigError(f"{of} holds no key", hint=HOW)
    if len(found) > MAX_KEYS:
        raise ConfigError(f"{of} holds {len(found)} keys; {MAX_KEYS} is the most", hint="delete what seals nothing now")
    return list(found)


def _key(content: str, where: str) -> Key:
    try:
        material = base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        raise ConfigError(f"{where} is not base64", hint=HOW) from None
    if len(material) != KEY:
        raise ConfigError(f"{where} holds {len(material)} bytes; a key has {KEY}", hint=HOW)
    return Key(material)
