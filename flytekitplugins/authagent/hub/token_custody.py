"""Custody of a grant's tokens: one caller at a time spends them, and what comes in return is kept before it is used."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from sqlalchemy import Connection

from flytekitplugins.authagent.hub import statements as sql
from flytekitplugins.authagent.hub.database import WAIT, Database
from flytekitplugins.authagent.hub.records import Grant, Row, Tokens, grant_from_row
from flytekitplugins.authagent.hub.sealing import Sealing
from flytekitplugins.authagent.hub.turns import Turns

logger = logging.getLogger(__name__)

Write = Callable[[Connection | None, str, Tokens, int], None]
"""Writes tokens of a grant in the place of those of a version: in the transaction that is open, or in a new one."""


class TokenCustody:
    """
    Custody of the tokens of grants, in all replicas. Any thread may call.

    `turns` are those of this process; `now` is in seconds since the epoch.
    """

    def __init__(self, database: Database, sealing: Sealing, turns: Turns, now: Callable[[], float]) -> None:
        self._database, self._sealing, self._turns, self._now = database, sealing, turns, now

    @contextmanager
    def of(self, id: str) -> Iterator[InCustody | None]:
        """
        Keep a grant's tokens from everybody else, in all replicas, while they are spent; `None` where it is not active.

        Raises `ProviderUnavailable` where another one has had them for 15 s.
        """
        with self._turns.taken(id, wait=WAIT):  # threads wait here, and not with a connection each
            if not self._database.has_row_locks:
                values = {"grant": id, "moment": self._now()}
                row = self._database.read(lambda connection: connection.execute(sql.ACTIVE_TOKENS, values).first())
                yield self._held(row, row[-2], row[-1], None) if row else None
                return
            connection, (row, held) = self._database.begin(lambda connection: self._locked(connection, id))
            try:
                yield self._held(row, held[0], held[1], connection) if row and held else None
            finally:
                self._database.end(connection)

    def _locked(self, connection: Connection, id: str) -> tuple[Row | None, Row | None]:
        """The row of a grant that is active after its tokens are locked, and the tokens as they are then."""
        held = connection.execute(sql.LOCK_SEALED, {"grant": id}).first()
        return connection.execute(sql.ACTIVE, {"grant": id, "moment": self._now()}).first(), held

    def _held(self, row: Row, tokens: bytes | None, version: int, connection: Connection | None) -> InCustody:
        return InCustody(grant_from_row(row), self._sealing.tokens(row[0], tokens), version, connection, self._write)

    def _write(self, connection: Connection | None, id: str, tokens: Tokens, version: int) -> None:
        work = partial(self._keep, id=id, tokens=tokens, version=version)
        if connection is None:
            self._database.write(work)
            return
        try:
            self._database.commit(connection, work)
        finally:
            self._database.end(connection)

    def _keep(self, connection: Connection, id: str, tokens: Tokens, version: int) -> None:
        held = connection.execute(sql.LOCK_SEALED, {"grant": id}).first()
        if held is None or held[1] != version:
            # Somebody kept tokens since, or we did, and were not told: these are the older ones, or the same.
            if held is None or self._sealing.tokens(id, held[0]) != tokens:
                logger.warning("newer tokens of the grant %s are kept already", id)
            return
        ended = connection.execute(sql.LOCK_STATUS, {"grant": id}).scalar() == "ended"
        if ended and tokens.refresh is None:
            connection.execute(sql.ERASE, {"grant": id})
            return
        connection.execute(sql.KEEP, self._sealing.kept(id, tokens))
        if ended:  # while the provider was asked: what it gave is to be revoked, not what was spent
            connection.execute(sql.REVOKE_ANEW, {"grant": id, "moment": self._now()})


class InCustody:
    """An active grant and its tokens, which nobody else spends as long as the block of `TokenCustody.of` lasts."""

    def __init__(self, grant: Grant, tokens: Tokens, version: int, connection: Connection | None, write: Write) -> None:
        self.grant, self.tokens = grant, tokens
        self._version, self._connection, self._write = version, connection, write

    def keep(self, tokens: Tokens) -> None:
        """
        Keep `tokens` in the place of those that were spent; they are on disk when this returns.

        A grant that ended meanwhile keeps them, too, until they are revoked. Raises `ProviderUnavailable`: call it
        again then, also after the block; what somebody else kept meanwhile is not overwritten.
        """
        version = self._version
        connection, self._connection = self._connection, None
        self._write(connection, self.grant.id, tokens, version)
        self.tokens, self._version = tokens, version + 1
