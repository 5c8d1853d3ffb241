"""Where the store is: the URL of `hub.store`, and what it says about the database."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from flytekitplugins.authagent import endpoint, trust
from flytekitplugins.authagent.agent.hub_settings import HubSettings
from flytekitplugins.authagent.errors import ConfigError

MAX_FILE = 4096

HOW = "use memory, sqlite:////var/lib/authagent/hub.db or postgresql://user@host/database"

ENCRYPTED = ("verify-full", "verify-ca", "require")
"""Values of libpq's sslmode with which it does not fall back to plaintext; its own, prefer, does."""

SHOWN = frozenset({"host", "hostaddr", "port", "sslmode", "sslrootcert"})
"""Options of an address whose values are shown: any other may be a password whose name is misspelt."""


@dataclass(frozen=True)
class Address:
    """A database that the store can use: its kind, and its URL without the password in its repr and text."""

    url: URL
    path: Path | None = None

    @property
    def is_postgresql(self) -> bool:
        """Whether replicas can share it."""
        return self.url.get_backend_name() == "postgresql"

    @property
    def password(self) -> str | None:
        """What no message may hold."""
        return str(self.url.password) if self.url.password else None

    @property
    def weakness(self) -> str:
        """What somebody on the way to the database could still do; empty where nothing is known."""
        if not self.is_postgresql or _is_here(self.url, os.environ) or self.url.query["sslmode"] == "verify-full":
            return ""
        what = "whose certificate it is" if self.url.query["sslmode"] == "verify-ca" else "the server's certificate"
        return f"sslmode={self.url.query['sslmode']} does not check {what}: whoever stands between can be the database"

    def __str__(self) -> str:
        if not self.is_postgresql:
            return f"sqlite:///{self.path}" if self.path else "memory"
        query = {name: value if name in SHOWN else "..." for name, value in self.url.query.items()}
        return self.url.set(drivername="postgresql", query=query).render_as_string(hide_password=True)

    def __repr__(self) -> str:
        return f"Address({str(self)!r})"


def written(settings: HubSettings) -> str:
    """What `hub.store` says, or the file `hub.store_file`. Raises `ConfigError`."""
    if settings.store_file is None:
        return settings.store
    try:
        return trust.read(settings.store_file, secret=True, limit=MAX_FILE).decode().strip()
    except FileNotFoundError:
        raise ConfigError(f"hub: store_file {settings.store_file} is not there") from None
    except UnicodeDecodeError:
        raise ConfigError(f"hub: store_file {settings.store_file} is not text") from None


def address(text: str) -> Address:
    """
    What `text` says. Raises `ConfigError`, which never quotes it: there may be a password inside.

    A PostgreSQL off this machine is one only where the address itself wants TLS.
    """
    text = text.strip()
    if text == "memory":
        return Address(URL.create("sqlite"))
    scheme = text.split(":", 1)[0]
    if scheme == "sqlite":
        return _sqlite(text)
    if scheme == "postgresql":
        return _postgresql(text)
    shown = f" ({scheme}:)" if ":" in text and re.fullmatch(r"[a-z][a-z0-9+]{0,30}", scheme) else ""
    raise ConfigError(f"the store is not at an address that this release knows{shown}", hint=HOW)


def _sqlite(text: str) -> Address:
    path = text.removeprefix("sqlite:///")
    if path == text or not path.startswith("/") or "?" in path or "\0" in path or path.endswith("/"):
        raise ConfigError(
            "the store's SQLite file needs an absolute path, and nothing after it",
            hint="four slashes: sqlite:////var/lib/authagent/hub.db; or use memory",
        )
    return Address(URL.create("sqlite", database=path), Path(path))


def _postgresql(text: str) -> Address:
    try:
        url: URL | None = make_url(text).set(drivername="postgresql+psycopg")
    except (ArgumentError, ValueError):
        url = None
    if url is None or "@" in f"{url.host}{url.database}":  # behind which is the second half of a password
        raise ConfigError(
            "the store's PostgreSQL address cannot be read",
            hint="postgresql://user:password@host:5432/database; write @ : / % in a password as %40 %3A %2F %25",
        )
    if {"password", "passfile", "sslpassword"} & url.query.keys():
        raise ConfigError(
            "the store's PostgreSQL address has a password after the question mark, where it would be shown",
            hint="postgresql://user:password@host/database",
        )
    if not url.database:
        raise ConfigError("the store's PostgreSQL address names no database", hint="postgresql://user@host/database")
    if not _is_here(url, os.environ) and url.query.get("sslmode") not in ENCRYPTED:
        raise ConfigError(
            "the store's PostgreSQL is on another machine, and its address lets the connection be plaintext",
            hint="write ?sslmode=verify-full&sslrootcert=system, or the file of its CA; verify-ca does not check whose "
            "certificate it is, and require checks none",
        )
    return Address(url)


def _is_here(url: URL, environ: Mapping[str, str]) -> bool:
    """Whether a connection cannot leave this machine; libpq takes from the environment what the address leaves out."""
    if "service" in url.query or environ.get("PGSERVICE"):
        return False
    hosts = [*_listed(url.host), *_listed(url.query.get("host"))] or _listed(environ.get("PGHOST"))
    return all(map(_is_local, hosts + (_listed(url.query.get("hostaddr")) or _listed(environ.get("PGHOSTADDR")))))


def _listed(value: str | tuple[str, ...] | None) -> list[str]:
    several = (value,) if isinstance(value, str) else value or ()
    return [host for text in several for host in text.split(",") if host]


def _is_local(host: str) -> bool:
    """Of a name, an address, or the directory of a socket (libpq, section 34.1.2); a name may have a port after it."""
    if host.startswith(("/", "@")):
        return True
    try:
        return endpoint.parse(host).loopback
    except ConfigError:
        return False
