"""Looks at executions: which of those that grants cover is to be looked at next, and what was seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection

from flytekitplugins.authagent.hub import statements as sql
from flytekitplugins.authagent.hub.database import Database
from flytekitplugins.authagent.hub.records import Grant, grant_from_row

LOOKING = 30.0
"""Seconds for which a replica that was handed an execution to look at has it to itself."""

UNSEEN = 4
"""Where all cannot be looked at, one child that nobody has seen is for every so many others: it may be made up."""


class Looks:
    """The looks of all replicas. Any thread may call; raises as `Store` does. `now`: seconds since the epoch."""

    def __init__(self, database: Database, now: Callable[[], float]) -> None:
        self._database, self._now = database, now

    def due(self, limit: int) -> list[tuple[str, Grant]]:
        """
        Executions whose next look is due, each with its grant; nobody else gets them for 30 s.

        These are `limit`, as far as there are so many: roots, and children that were seen before, and in what they
        leave children that nobody has seen; a few of those in any case. `launched` of these grants is about the
        execution, which may be a child.
        """
        now = self._now()

        def work(connection: Connection) -> list[tuple[str, Grant]]:
            rows = list(connection.execute(sql.DUE_TO_FOLLOW, {"moment": now, "most": limit}))
            room = max(limit - len(rows), limit // UNSEEN)
            rows += connection.execute(sql.DUE_TO_BE_SEEN, {"moment": now, "most": room})
            if rows:
                connection.execute(sql.CLAIM_LOOKS, {"those": [row[0] for row in rows], "later": now + LOOKING})
            return [(row[0], grant_from_row(row[2:], launched=row[1])) for row in rows]

        return self._database.write(work)

    def done(self, execution: str, *, next_look: float, launched: bool | None = None) -> None:
        """When to look at an execution again, and whether it was seen launched; nothing where none covers it now."""

        def work(connection: Connection) -> None:
            values: dict[str, Any] = {"which": execution, "later": next_look}
            if launched is None:
                connection.execute(sql.LOOKED, values)
                return
            connection.execute(sql.ROOT_LAUNCHED, {"which": execution, "seen": launched})
            connection.execute(sql.LOOKED_AND_SEEN, values | {"seen": launched})

        self._database.write(work)
