"""The database below the store: connections, transactions, and what their failures mean."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, exc, pool

from flytekitplugins.authagent.errors import AuthAgentError, ConfigError, ProviderError, ProviderUnavailable
from flytekitplugins.authagent.hub import schema
from flytekitplugins.authagent.hub.address import Address
from flytekitplugins.authagent.hub.database_file import DatabaseFile

T = TypeVar("T")

CHECKOUT = 5.0
"""Seconds to wait for a connection of the pool."""

WAIT = 15.0
"""Seconds to wait for a row that another one has locked, and for whoever writes to SQLite."""

ATTEMPTS = 5
"""Times to find out who was faster; each needs a grant that ends at that very moment."""

OLDEST_SQLITE = (3, 35, 0)
"""The first with RETURNING."""

LOCK_SECONDS = 60.0
"""
Seconds after which PostgreSQL takes a lock back on which nothing happens: more than a provider may take to answer
(`agent.upstream.LONGEST_TIMEOUT`), its name being resolved beside.
"""

# By the server itself, so that a replica that hangs, or whose machine is gone, gives its locks back.
_SESSION = {
    "statement_timeout": "20s",
    "lock_timeout": f"{WAIT:.0f}s",
    "idle_in_transaction_session_timeout": f"{LOCK_SECONDS:.0f}s",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}

_PHRASES = (
    "password authentication failed",
    "authentication failed",
    "no password supplied",
    "does not exist",
    "no pg_hba.conf entry",
    "permission denied",
    "invalid connection option",
    "certificate verify failed",
    "server does not support SSL",
    "connection refused",
    "Connection refused",
    "Connection timed out",
    "connection timeout expired",
    "failed to resolve host",
    "No such file or directory",
    "server closed the connection unexpectedly",
    "terminating connection",
    "the database system is starting up",
    "the database system is shutting down",
    "too many clients",
    "too many connections",
    "lock timeout",
    "statement timeout",
    "deadlock detected",
    "read-only transaction",
    "database or disk is full",
    "database is locked",
    "database disk image is malformed",
    "attempt to write a readonly database",
    "unable to open database file",
    "file is not a database",
    "disk I/O error",
    "no such table",
)
"""Of what databases say, what is repeated (docs/decisions/0022-quoting-peers.md)."""

_MISTAKEN = ("authentication failed", "does not exist", "no password supplied", "invalid connection option")
_MISTAKES = ("28", "3D", "42501")
"""SQLSTATEs that waiting does not help: who we are, which database, what we may."""

Work = Callable[[Connection], T]
"""What is done in one transaction. It may be done twice: once more where the first connection turns out to be dead."""


class Database:
    """
    One of three: in memory, a SQLite file that is locked to this process, a PostgreSQL that replicas share.

    Every failure to reach it, to wait for it or to write to it is `ProviderUnavailable`, and has changed nothing,
    except that nobody can know it where the connection broke during the commit.
    """

    def __init__(self, address: Address, *, size: int) -> None:
        self.address = address
        self._file = DatabaseFile(address.path) if address.path else None
        # SQLite has one writer, and in memory one connection: who waits, waits here, with a deadline.
        self._writer: threading.Lock | None = None if address.is_postgresql else threading.Lock()
        self._reader = self._writer if not address.is_postgresql and not address.path else None
        if address.is_postgresql:
            half = max(1, size // 2)
            # Reads are by far the most: connections are as those need them, and who writes changes its own meanwhile.
            self._reads = _postgresql(address, half, CHECKOUT, isolation_level="AUTOCOMMIT")
            self._engine: Engine = self._reads.execution_options(isolation_level="READ COMMITTED")
            # Custody keeps a connection while a provider is asked; that must not take them from everybody else.
            self._patient = _postgresql(address, half, WAIT)
        else:
            self._engine = self._patient = _sqlite(address, size)
            self._reads = self._engine.execution_options(only_reads=True)

    @property
    def has_row_locks(self) -> bool:
        """Whether transactions can keep rows from other processes: PostgreSQL's."""
        return self.address.is_postgresql

    def start(self) -> None:
        """Make the database ready. Raises `ConfigError`, `ProviderUnavailable`."""
        if not self.address.is_postgresql and sqlite3.sqlite_version_info < OLDEST_SQLITE:
            raise ConfigError(f"SQLite {sqlite3.sqlite_version} is too old", hint="3.35 or newer, or PostgreSQL")
        if self._file:
            self._file.take()
        try:
            with self.failures(at_start=True), self._engine.begin() as connection:
                schema.migrate(connection, str(self.address))
        except BaseException:
            self.close()
            raise

    def read(self, work: Work[T]) -> T:
        """What `work` finds, in one statement or in several that need not agree."""
        with self.failures(), _turn(self._reader):
            return self._twice(lambda: self._once(self._reads, work))

    def write(self, work: Work[T]) -> T:
        """What `work` returns, after it is committed."""
        with self.failures(), _turn(self._writer):
            return self._twice(lambda: self._once(self._engine, work))

    def begin(self, work: Work[T]) -> tuple[Connection, T]:
        """A connection whose transaction stays open, and what `work` found in it. The caller ends it with `end`."""
        with self.failures():
            return self._twice(lambda: self._begun(work))

    def commit(self, connection: Connection, work: Work[T]) -> T:
        """The rest of what `begin` began."""
        with self.failures():
            result = work(connection)
            connection.commit()
            return result

    def end(self, connection: Connection) -> None:
        """Give the connection back; what is not committed did not happen."""
        with suppress(exc.SQLAlchemyError):
            connection.close()

    def close(self) -> None:
        """Let go of everything. A store that is closed is not used again."""
        self._engine.dispose()
        self._patient.dispose()
        if self._file:
            self._file.release()

    @contextmanager
    def failures(self, *, at_start: bool = False) -> Iterator[None]:
        """Turn what the toolkit and the drivers raise into our errors; `IntegrityError` is for the caller."""
        try:
            yield
        except (AuthAgentError, exc.IntegrityError):
            raise
        except exc.TimeoutError:
            raise ProviderUnavailable(
                "no connection to the store's database was free in time", hint="try again, or add a replica"
            ) from None
        except exc.DBAPIError as failed:
            meaning = self._meaning(failed, at_start=at_start)
            for said in filter(None, (failed, failed.orig)):
                said.args = (type(said).__name__,)  # it stays in the error's context, and its words must not
            raise meaning from None

    def _meaning(self, failed: exc.DBAPIError, *, at_start: bool) -> AuthAgentError:
        words = _reason(failed.orig)
        state = getattr(failed.orig, "sqlstate", None) or ""
        message = f"the store at {self.address}: {words}"
        if at_start and (state.startswith(_MISTAKES) or isinstance(failed, exc.ProgrammingError) or _is_mistake(words)):
            return ConfigError(message, hint="check hub.store: the user, the password, the database")
        if isinstance(failed, _Committing):
            return ProviderUnavailable(f"{message}, during a commit", hint="look whether it happened, or do it again")
        if isinstance(failed, exc.OperationalError | exc.InterfaceError | exc.InternalError):
            return ProviderUnavailable(message, hint="nothing was changed; try again when the database is well")
        return ProviderError(message)

    def _twice(self, attempt: Callable[[], T]) -> T:
        """A connection may have died in the pool, all of them when the server restarted: the second one is new."""
        try:
            return attempt()
        except exc.DBAPIError as failed:
            if not failed.connection_invalidated or isinstance(failed, _Committing):
                raise
        return attempt()

    def _once(self, engine: Engine, work: Work[T]) -> T:
        with engine.connect() as connection:
            result = work(connection)
            if engine is not self._reads:
                _commit(connection)
            return result

    def _begun(self, work: Work[T]) -> tuple[Connection, T]:
        connection = self._patient.connect()
        try:
            return connection, work(connection)
        except BaseException:
            self.end(connection)
            raise


class _Committing(exc.OperationalError):
    """The connection broke during the commit: nobody knows whether it happened, so it is not done again."""


def _commit(connection: Connection) -> None:
    try:
        connection.commit()
    except exc.DBAPIError as failed:
        raise _Committing("COMMIT", None, failed.orig or failed, connection_invalidated=True) from None


@contextmanager
def _turn(lock: threading.Lock | None) -> Iterator[None]:
    with nullcontext() if lock is None else _acquired(lock):
        yield


@contextmanager
def _acquired(lock: threading.Lock) -> Iterator[None]:
    if not lock.acquire(timeout=WAIT):
        raise ProviderUnavailable(f"the store's database was busy for {WAIT:g} s", hint="is its disk well?")
    try:
        yield
    finally:
        lock.release()


def _postgresql(address: Address, size: int, checkout: float, **more: Any) -> Engine:
    theirs = address.url.query.get("options", "")
    options = theirs if isinstance(theirs, str) else " ".join(theirs)
    return create_engine(
        address.url.difference_update_query(["options"]),
        pool_size=size,
        max_overflow=0,
        pool_timeout=checkout,
        hide_parameters=True,
        connect_args={
            "connect_timeout": 5,
            "application_name": "authagent-hub",
            "options": " ".join([options, *(f"-c {name}={value}" for name, value in _SESSION.items())]).strip(),
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 20_000,
        },
        **more,
    )


def _sqlite(address: Address, size: int) -> Engine:
    # Both are told, as threads take turns on the connections.
    arguments: dict[str, Any] = {"check_same_thread": False, "timeout": 5.0, "isolation_level": None}
    if address.path:
        engine = create_engine(
            address.url,
            connect_args=arguments,
            hide_parameters=True,
            poolclass=pool.QueuePool,
            pool_size=size,
            max_overflow=0,
            pool_timeout=CHECKOUT,
        )
    else:
        engine = create_engine(address.url, connect_args=arguments, hide_parameters=True, poolclass=pool.StaticPool)
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: Any, _: object) -> None:
    cursor = connection.cursor()
    # FULL: a refresh token that was rotated must outlast a power cut, or the grant is lost.
    for setting in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000", "foreign_keys=ON", "secure_delete=ON"):
        cursor.execute(f"PRAGMA {setting}")
    cursor.close()


def _begin(connection: Connection) -> None:
    """The driver begins nothing by itself here; and a transaction that will write must be the writer from its start."""
    if not connection.get_execution_options().get("only_reads"):
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _reason(error: BaseException | None) -> str:
    """What kind of failure it is, in phrases that are known here: all else that a database says may be a secret."""
    words = str(error)
    return ", ".join(phrase for phrase in _PHRASES if phrase in words) or f"it fails with {type(error).__name__}"


def _is_mistake(words: str) -> bool:
    """The driver gives no SQLSTATE for what ends a connection before there is a session."""
    return any(sign in words for sign in _MISTAKEN)
