"""Revocations: the refresh tokens that grants leave behind, until the identity provider has taken them back."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from sqlalchemy import Connection

from flytekitplugins.authagent.errors import ProviderError
from flytekitplugins.authagent.hub import statements as sql
from flytekitplugins.authagent.hub.database import Database
from flytekitplugins.authagent.hub.records import Grant, Row, Tokens, grant_from_row, row_from_grant
from flytekitplugins.authagent.hub.sealing import Sealing
from flytekitplugins.authagent.hub.turns import Turns

logger = logging.getLogger(__name__)

REVOKING = 60.0
"""Seconds for which whoever was handed a grant to revoke has it alone; longer than a request to a provider takes."""


class Revocations:
    """
    What is to be revoked, in all replicas. Any thread may call; raises as `Store` does.

    `turns` are those of whoever has tokens in custody here; `now` is in seconds since the epoch.
    """

    def __init__(self, database: Database, sealing: Sealing, turns: Turns, now: Callable[[], float]) -> None:
        self._database, self._sealing, self._turns, self._now = database, sealing, turns, now

    def add(self, asked_for: Grant, tokens: Tokens) -> None:
        """
        Let `tokens` be revoked, which came where `asked_for` was to get its own, and belong to no grant.

        They have a record of their own, of a grant of nobody that has ended.
        """
        now = self._now()
        of_nobody = replace(
            asked_for,
            id=secrets.token_urlsafe(18),
            subject="",
            status="ended",
            reason="unwanted",
            created_at=now,
            expires_at=now,
            ended_at=now,
            children=0,
            revocation="pending",
        )

        def work(connection: Connection) -> None:
            connection.execute(sql.NEW_GRANT, row_from_grant(of_nobody, next_try=now))
            connection.execute(sql.NEW_SEALED, self._sealing.kept(of_nobody.id, tokens) | {"sealed_consent": None})

        self._database.write(work)

    def claim(self, id: str) -> Tokens | None:
        """The tokens of one ended grant, to be revoked now by the caller; `None` where somebody else is at it."""
        now = self._now()

        def work(connection: Connection) -> Row | None:
            row = connection.execute(sql.ONE_TO_REVOKE, {"grant": id}).first()
            if row is None or id in self._turns:
                return None
            connection.execute(sql.CLAIM_REVOCATIONS, {"those": [id], "later": now + REVOKING})
            return row

        row = self._database.write(work)
        return None if row is None else self._sealing.tokens(id, row[-1])

    def due(self, limit: int) -> list[tuple[Grant, Tokens]]:
        """
        Ended grants whose refresh token is to be revoked now; nobody else gets them for 60 s.

        One that is in custody still is left for later: it may be about to have a newer refresh token. One that does
        not open is logged and stays.
        """
        now = self._now()

        def work(connection: Connection) -> list[Row]:
            rows = connection.execute(sql.DUE_TO_REVOKE, {"moment": now, "most": limit}).all()
            free = [row for row in rows if row[0] not in self._turns]
            if free:
                connection.execute(sql.CLAIM_REVOCATIONS, {"those": [row[0] for row in free], "later": now + REVOKING})
            return free

        found = []
        for row in self._database.write(work):
            try:
                found.append((grant_from_row(row), self._sealing.tokens(row[0], row[-1])))
            except ProviderError as closed:
                logger.error("%s; it is not revoked", closed)  # noqa: TRY400 - the traceback says nothing more
        return found

    def finished(self, id: str, outcome: Literal["done", "unsupported"]) -> None:
        """Write down how the revocation went, and erase the tokens."""

        def work(connection: Connection) -> None:
            connection.execute(sql.LOCK_SEALED, {"grant": id})
            if connection.execute(sql.REVOKED, {"grant": id, "outcome": outcome}).rowcount:
                connection.execute(sql.ERASE, {"grant": id})

        self._database.write(work)

    def failed(self, id: str, *, next_try: float) -> None:
        """When to try again."""
        values = {"grant": id, "later": next_try}
        self._database.write(lambda connection: connection.execute(sql.TRY_LATER, values).rowcount)
