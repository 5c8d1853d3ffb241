"""Children: the executions that a grant covers beside its own."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from flytekitplugins.authagent.errors import ProviderUnavailable
from flytekitplugins.authagent.hub import statements as sql
from flytekitplugins.authagent.hub.database import ATTEMPTS, Database
from flytekitplugins.authagent.hub.records import Grant, Taken, TooMany, began, found_grant, grant_from_row

MOST_CHILDREN = 1000
"""Executions that a grant covers at one time beside its own: each of them is looked at now and then."""


def dropped(connection: Connection, execution: str) -> bool:
    """
    Make room for another grant of `execution` where the last one has ended; whether that, or one before it, was good
    for something.
    """
    last = connection.execute(sql.LAST_COVERING, {"which": execution}).first()
    connection.execute(sql.DROP_ENDED, {"which": execution})
    return last is not None and (bool(last[-1]) or began(grant_from_row(last)))


class Children:
    """The children of all grants. Any thread may call; raises as `Store` does. `now`: seconds since the epoch."""

    def __init__(self, database: Database, now: Callable[[], float]) -> None:
        self._database, self._now = database, now

    def adopt(self, child: str, parent: str) -> Grant | None:
        """
        Let the active grant that covers `parent` cover `child`, too. Again is as good as once.

        `None` where there is no such grant; raises `Taken` where another one covers the child, and `TooMany`.
        """
        for _ in range(ATTEMPTS):
            try:
                return self._database.write(lambda connection: self._adopt(connection, child, parent))
            except IntegrityError:
                continue  # another one was faster, or the grant that was in the way is gone
        raise ProviderUnavailable("too many others register this child", hint="try again")

    def forget(self, child: str) -> None:
        """Let go of one child; a root is let go of by `Store.end`."""

        def work(connection: Connection) -> None:
            id = connection.execute(sql.LOCK_OF_CHILD, {"which": child}).scalar()
            if id and connection.execute(sql.DROP_CHILD, {"which": child, "grant": id}).rowcount:
                connection.execute(sql.ONE_CHILD_LESS, {"grant": id})

        self._database.write(work)

    def _adopt(self, connection: Connection, child: str, parent: str) -> Grant | None:
        grant = found_grant(connection.execute(sql.LOCK_PARENT, {"which": parent, "moment": self._now()}).first())
        if grant is None:
            return None
        there = found_grant(connection.execute(sql.COVERING, {"which": child}).first())
        if there is None and grant.children >= MOST_CHILDREN:
            raise TooMany
        if there is None:
            row = {"execution": child, "grant_id": grant.id, "root": False, "launched": False, "next_look": self._now()}
            connection.execute(sql.NEW_COVERED, row | {"acted": dropped(connection, child)})
            return found_grant(connection.execute(sql.ANOTHER_CHILD, {"grant": grant.id}).first())
        if there.id != grant.id:
            raise Taken(there)
        return grant
