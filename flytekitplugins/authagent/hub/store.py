"""The store of grants: in memory, in a SQLite file, or in a PostgreSQL that replicas share."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from flytekitplugins.authagent.credential import Secret
from flytekitplugins.authagent.errors import ProviderUnavailable
from flytekitplugins.authagent.hub import statements as sql
from flytekitplugins.authagent.hub.address import address
from flytekitplugins.authagent.hub.children import Children, dropped
from flytekitplugins.authagent.hub.database import ATTEMPTS, Database
from flytekitplugins.authagent.hub.looks import Looks
from flytekitplugins.authagent.hub.records import (
    Grant,
    Held,
    Row,
    Taken,
    Tokens,
    TooMany,
    found_grant,
    grant_from_row,
    row_from_grant,
)
from flytekitplugins.authagent.hub.revocations import Revocations
from flytekitplugins.authagent.hub.seal import Seal
from flytekitplugins.authagent.hub.sealing import Sealing
from flytekitplugins.authagent.hub.token_custody import TokenCustody
from flytekitplugins.authagent.hub.turns import Turns

__all__ = ["Grant", "Held", "Store", "Taken", "Tokens", "TooMany"]


_LOCKS = {"declined": sql.LOCK_PENDING, "never_launched": sql.LOCK_UNLAUNCHED}


class Store:
    """
    Grants and their tokens, which are sealed. Any thread may call.

    The life of a grant, and how to find it, are here; the rest has parts of its own over the same database: `custody`,
    `children`, `looks`, `revocations`, `sealing`.

    Raises `ProviderUnavailable` where the database cannot be used now (nothing has changed then), `ProviderError` where
    what it holds does not open, and `ConfigError` at the start.
    """

    def __init__(self, url: str, seal: Seal, *, now: Callable[[], float] = time.time, pool: int = 16) -> None:
        self._database, self._now = Database(address(url), size=pool), now
        turns = Turns()
        self.sealing = Sealing(self._database, seal)
        self.custody = TokenCustody(self._database, self.sealing, turns, now)
        self.children = Children(self._database, now)
        self.looks = Looks(self._database, now)
        self.revocations = Revocations(self._database, self.sealing, turns, now)

    def start(self) -> None:
        """Bring the schema to its newest revision, and see that what is sealed opens."""
        self._database.start()
        try:
            self.sealing.check(self.sealing.seal)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()

    # A grant's life

    def deposit(
        self,
        execution: str,
        subject: str,
        client: str,
        scopes: tuple[str, ...],
        *,
        expires_at: float,
        launched: bool,
        pending: Secret | None,
    ) -> Grant:
        """
        A new grant, which is pending where there is a consent to wait for: `pending`, which is sealed.

        Raises `Taken` where the execution has a live grant, its own or its parent's.
        """
        grant = Grant(
            secrets.token_urlsafe(18),
            execution,
            subject,
            client,
            tuple(scopes),
            status="active" if pending is None else "pending",
            reason="",
            created_at=self._now(),
            expires_at=expires_at,
            ended_at=None,
            launched=launched,
            children=0,
            revocation="none",
        )
        for _ in range(ATTEMPTS):
            try:
                return self._database.write(lambda connection: self._insert(connection, grant, pending))
            except IntegrityError:
                there = self.covering(execution)
            if there is None:
                continue
            if there.expires_at > self._now():
                raise Taken(there)
            self.end(there.id, "expired")
        raise ProviderUnavailable("too many others deposit a grant for this execution", hint="try again")

    def activate(self, id: str, tokens: Tokens) -> Grant | None:
        """Make a pending grant active, once; `None` where it is not pending any more."""

        def work(connection: Connection) -> Grant | None:
            grant = found_grant(connection.execute(sql.ACTIVATE, {"grant": id, "moment": self._now()}).first())
            if grant:
                connection.execute(sql.KEEP, self.sealing.kept(id, tokens))
            return grant

        return self._database.write(work)

    def pending(self, id: str) -> tuple[Grant, Secret] | None:
        """A pending grant, and the consent that it waits for."""
        row = self._first(sql.CONSENT, grant=id, moment=self._now())
        return (grant_from_row(row), self.sealing.consent(id, row[-1])) if row else None

    def amend(self, id: str, pending: Secret, *, instead_of: Secret | None = None) -> bool:
        """
        Put `pending` in the place of the consent; whether the grant still waits for it.

        With `instead_of` only if that is the consent still: of all who saw it, one succeeds.
        """
        only = {"grant": id, "moment": self._now()}
        consent, key = self.sealing.sealed_consent(id, pending)
        values = only | {"sealed_consent": consent, "key": key}

        def work(connection: Connection) -> bool:
            connection.execute(sql.LOCK_SEALED, {"grant": id})  # first: what is looked at next is as it is then
            if instead_of is not None:
                row = connection.execute(sql.CONSENT, only).first()
                if row is None or self.sealing.consent(id, row[-1]) != instead_of:
                    return False
            return bool(connection.execute(sql.AMEND, values).rowcount)

        return self._database.write(work)

    def extend(self, id: str, expires_at: float) -> Grant | None:
        """Let a live grant last until `expires_at`, if that is later; `None` where it is not live."""
        values = {"grant": id, "until": expires_at, "moment": self._now()}
        return self._database.write(lambda connection: found_grant(connection.execute(sql.EXTEND, values).first()))

    def end(self, id: str, reason: str, *, whatever: bool = False) -> Grant | None:
        """
        End a live grant, once, and with it what covers its children; `None` where it has ended.

        One that is active is not `declined`, and one that was seen launched not `never_launched`, whatever the caller
        has seen before; but with `whatever`.

        Where there is a refresh token it is to be revoked from now on; other secrets are erased at once.
        """

        def work(connection: Connection) -> Grant | None:
            only = {"grant": id}
            lock = sql.LOCK_LIVE if whatever else _LOCKS.get(reason, sql.LOCK_LIVE)
            if connection.execute(lock, only).first() is None:
                return None
            revoke = "pending" if connection.execute(sql.HAS_REFRESH, only).scalar() else "none"
            values = {"grant": id, "moment": self._now(), "why": reason, "revoke": revoke}
            grant = found_grant(connection.execute(sql.END, values).first())
            connection.execute(sql.UNCOVER, only)
            if revoke == "none":
                connection.execute(sql.ERASE_UNLESS_HELD, only)
            return grant

        return self._database.write(work)

    def discard(self, id: str, tokens: Tokens, reason: str) -> None:
        """End a grant, if it has not ended, and let `tokens`, which nobody is going to use, be revoked."""
        self.end(id, reason, whatever=True)

        def work(connection: Connection) -> None:
            if connection.execute(sql.LOCK_SEALED, {"grant": id}).first() is None:
                return
            connection.execute(sql.KEEP, self.sealing.kept(id, tokens))
            connection.execute(sql.REVOKE_ANEW, {"grant": id, "moment": self._now()})

        if tokens.refresh is not None:
            self._database.write(work)

    # Looking

    def get(self, id: str) -> Grant | None:
        """A grant, live or ended."""
        return found_grant(self._first(sql.GET, grant=id))

    def covering(self, execution: str) -> Grant | None:
        """The grant that covers an execution, pending or active; it may have expired, and not be ended yet."""
        return found_grant(self._first(sql.COVERING, which=execution))

    def last_covering(self, execution: str) -> tuple[Grant, bool] | None:
        """
        The grant that covers an execution, or the last one that did, as long as it is remembered; and whether one
        before it was good for something.
        """
        row = self._first(sql.LAST_COVERING, which=execution)
        return (grant_from_row(row), row[-1]) if row else None

    def count_live(self, subject: str) -> tuple[int, int]:
        """How many grants of a person live, and how many of those are for executions that nobody has seen launched."""
        row = self._first(sql.COUNT_LIVE, whose=subject)
        return (row[0], row[1]) if row else (0, 0)

    def has_live(self, subject: str, *, within: str) -> bool:
        """Whether a grant of a person lives whose execution begins with `within`, a project and domain."""
        return self._first(sql.LIVE_IN, whose=subject, within=within) is not None

    def of_subject(self, subject: str, *, ended_since: float, limit: int) -> list[Grant]:
        """
        A person's grants that are live or ended at or after `ended_since`, newest first.

        Where there are more than `limit`, those that ended are left out before any that lives.
        """
        values = {"whose": subject, "since": ended_since, "most": limit}
        found = [grant_from_row(row) for row in self._all(sql.OF_SUBJECT, **values)]
        return sorted(found, key=lambda grant: (-grant.created_at, grant.id))

    def of_execution(self, execution: str) -> Held | None:
        """The active grant that covers an execution, its own or its parent's, and the tokens."""
        row = self._first(sql.OF_EXECUTION, which=execution, moment=self._now())
        return Held(grant_from_row(row), self.sealing.tokens(row[0], row[-1])) if row else None

    # Housekeeping

    def due_to_expire(self, limit: int) -> list[str]:
        """Live grants that have expired. They are not claimed: `end` ends each of them once."""
        return [row[0] for row in self._all(sql.TO_EXPIRE, moment=self._now(), most=limit)]

    def overdue_consents(self, before: float, limit: int) -> list[str]:
        """Grants that still wait for their person, and were asked for before. They are not claimed, as above."""
        return [row[0] for row in self._all(sql.OVERDUE, before=before, most=limit)]

    def purge(self, ended_before: float, limit: int) -> int:
        """Forget `limit` grants at most that ended before, and have nothing left to revoke; how many that were."""

        def work(connection: Connection) -> int:
            rows = connection.execute(sql.LONG_ENDED, {"before": ended_before, "most": limit}).all()
            if not rows:
                return 0
            those = {"those": [row[0] for row in rows]}
            connection.execute(sql.PURGE_COVERED, those)
            connection.execute(sql.PURGE_SEALED, those)
            return connection.execute(sql.PURGE, those).rowcount

        return self._database.write(work)

    def counts(self) -> dict[str, int]:
        """Grants as `pending`, `active`, `ended`, `revocation_pending`; sealed rows as `key:ID`."""

        def work(connection: Connection) -> dict[str, int]:
            found = {"pending": 0, "active": 0, "ended": 0}
            found |= {row[0]: row[1] for row in connection.execute(sql.BY_STATUS)}
            found["revocation_pending"] = connection.execute(sql.TO_REVOKE).scalar() or 0
            return found | {f"key:{key}": number for key, number in connection.execute(sql.BY_KEY)}

        return self._database.read(work)

    def __repr__(self) -> str:
        return f"Store({str(self._database.address)!r})"

    # Below

    def _insert(self, connection: Connection, grant: Grant, pending: Secret | None) -> Grant:
        now = self._now()
        consent, key = (None, None) if pending is None else self.sealing.sealed_consent(grant.id, pending)
        connection.execute(sql.NEW_GRANT, row_from_grant(grant, next_try=now))
        connection.execute(
            sql.NEW_COVERED,
            {
                "acted": dropped(connection, grant.execution),
                "execution": grant.execution,
                "grant_id": grant.id,
                "root": True,
                "launched": grant.launched,
                "next_look": now,
            },
        )
        nothing = {"grant": grant.id, "sealed_tokens": None, "refreshable": False}
        connection.execute(sql.NEW_SEALED, nothing | {"sealed_consent": consent, "key": key})
        return grant

    def _first(self, statement: Any, **values: Any) -> Row | None:
        return self._database.read(lambda connection: connection.execute(statement, values).first())

    def _all(self, statement: Any, **values: Any) -> list[Row]:
        return self._database.read(lambda connection: list(connection.execute(statement, values)))
