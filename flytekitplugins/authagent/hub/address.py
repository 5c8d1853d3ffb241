"""Where the store is: the URL of `hub.store`, and what it says about the database."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from flytekitplugins.authagent.errors import ConfigError

HOW = "use memory, sqlite:////var/lib/authagent/hub.db or postgresql://user@host/database"


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

    def __str__(self) -> str:
        if not self.is_postgresql:
            return f"sqlite:///{self.path}" if self.path else "memory"
        return self.url.set(drivername="postgresql").render_as_string(hide_password=True)

    def __repr__(self) -> str:
        return f"Address({str(self)!r})"


def address(text: str) -> Address:
    """What `hub.store` says. Raises `ConfigError`, which never quotes it: there may be a password inside."""
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
        url = make_url(text)
        url = url.set(drivername="postgresql+psycopg")
    except (ArgumentError, ValueError):
        raise ConfigError(
            "the store's PostgreSQL address cannot be read",
            hint="postgresql://user:password@host:5432/database; write @ : / % in a password as %40 %3A %2F %25",
        ) from None
    if "password" in url.query or "passfile" in url.query:
        raise ConfigError(
            "the store's PostgreSQL address has a password after the question mark, where it would be shown",
            hint="postgresql://user:password@host/database",
        )
    if not url.database:
        raise ConfigError("the store's PostgreSQL address names no database", hint="postgresql://user@host/database")
    return Address(url)
