"""The store of grants: in memory, in a SQLite file, or in a PostgreSQL that replicas share."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from flytekitplugins.authagent.credential import Secret
from flytekitplugins.authagent.errors import ConfigError, ProviderError, ProviderUnavailable
from flytekitplugins.authagent.hub import statements as sql
from flytekitplugins.authagent.hub.address import address
from flytekitplugins.authagent.hub.database import WAIT, Database
from flytekitplugins.authagent.hub.records import Grant, Held, Taken, Tokens, TooMany, tokens_from_json
from flytekitplugins.authagent.hub.seal import Seal
from flytekitplugins.authagent.hub.turns import Turns

__all__ = ["Custody", "Grant", "Held", "Store", "Taken", "Tokens", "TooMany"]

logger = logging.getLogger(__name__)

Row = Any
"""What a statement found: its columns in order. SQLAlchemy's own types for it differ from 2.0 to 2.1."""

LOOKING = 30.0
"""Seconds for which a replica that was handed an execution to look at has it to itself."""

REVOKING = 60.0
"""The same for a grant to revoke; longer than any request to a provider takes."""

MOST_CHILDREN = 1000
"""Executions that a grant covers at one time beside its own: each of them is looked at now and then."""

UNSEEN = 4
"""Where all cannot be looked at, one child that nobody has seen is for every so many others: it may be made up."""

ATTEMPTS = 5
"""Times to find out who was faster; each needs a grant that ends at that very moment."""

_TOKENS, _CONSENT, _CHECK = "tokens", "consent", "check"
_KNOWN = Secret("authagent hub")


class Store:
    """
    Grants and their tokens, which are sealed. Any thread may call.

    Raises `ProviderUnavailable` where the database cannot be used now (nothing has changed then), `ProviderError` where
    what it holds does not open, and `ConfigError` at the start.
    """

    def __init__(self, url: str, seal: Seal, *, now: Callable[[], float] = time.time, pool: int = 16) -> None:
        self._database = Database(address(url), size=pool)
        self._seal, self._now = seal, now
        self._turns = Turns()

    def start(self) -> None:
        """Bring the schema to its newest revision, and see that what is sealed opens."""
        self._database.start()
        try:
            self.check(self._seal)
        except BaseException:
            self.close()
            raise

    def use(self, seal: Seal) -> None:
        """Seal under the keys of `seal`, which `check` has let pass, from now on. Nothing stops for it."""
        self._seal = seal

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
            grant = _grant(connection.execute(sql.ACTIVATE, {"grant": id, "moment": self._now()}).first())
            if grant:
                connection.execute(sql.KEEP, self._kept(id, tokens))
            return grant

        return self._database.write(work)

    def pending(self, id: str) -> tuple[Grant, Secret] | None:
        """A pending grant, and the consent that it waits for."""
        row = self._first(sql.CONSENT, grant=id, moment=self._now())
        return (_known(row), self._seal.open(row[-1], what=_CONSENT, row=id)) if row else None

    def amend(self, id: str, pending: Secret, *, instead_of: Secret | None = None) -> bool:
        """
        Put `pending` in the place of the consent; whether the grant still waits for it.

        With `instead_of` only if that is the consent still: of all who saw it, one succeeds.
        """
        seal, only = self._seal, {"grant": id, "moment": self._now()}
        values = only | {"sealed_consent": seal.seal(pending, what=_CONSENT, row=id), "key": seal.first}

        def work(connection: Connection) -> bool:
            connection.execute(sql.LOCK_SEALED, {"grant": id})  # first: what is looked at next is as it is then
            if instead_of is not None:
                row = connection.execute(sql.CONSENT, only).first()
                if row is None or self._seal.open(row[-1], what=_CONSENT, row=id) != instead_of:
                    return False
            return bool(connection.execute(sql.AMEND, values).rowcount)

        return self._database.write(work)

    def extend(self, id: str, expires_at: float) -> Grant | None:
        """Let a live grant last until `expires_at`, if that is later; `None` where it is not live."""
        values = {"grant": id, "until": expires_at, "moment": self._now()}
        return self._database.write(lambda connection: _grant(connection.execute(sql.EXTEND, values).first()))

    def end(self, id: str, reason: str) -> Grant | None:
        """
        End a live grant, once, and let go of its children; `None` where it has ended.

        Where there is a refresh token it is to be revoked from now on; other secrets are erased at once.
        """

        def work(connection: Connection) -> Grant | None:
            only = {"grant": id}
            if connection.execute(sql.LOCK_LIVE, only).first() is None:
                return None
            revoke = "pending" if connection.execute(sql.HAS_REFRESH, only).scalar() else "none"
            values = {"grant": id, "moment": self._now(), "why": reason, "revoke": revoke}
            grant = _grant(connection.execute(sql.END, values).first())
            connection.execute(sql.UNCOVER, only)
            if revoke == "none":
                connection.execute(sql.ERASE_UNLESS_HELD, only)
            return grant

        return self._database.write(work)

    def discard(self, id: str, tokens: Tokens, reason: str) -> None:
        """End a grant, if it has not ended, and let `tokens`, which nobody is going to use, be revoked."""
        self.end(id, reason)

        def work(connection: Connection) -> None:
            if connection.execute(sql.LOCK_SEALED, {"grant": id}).first() is None:
                return
            connection.execute(sql.KEEP, self._kept(id, tokens))
            connection.execute(sql.REVOKE_ANEW, {"grant": id, "moment": self._now()})

        if tokens.refresh is not None:
            self._database.write(work)

    # Looking

    def get(self, id: str) -> Grant | None:
        """A grant, live or ended."""
        return _grant(self._first(sql.GET, grant=id))

    def covering(self, execution: str) -> Grant | None:
        """The grant that covers an execution, pending or active; it may have expired, and not be ended yet."""
        return _grant(self._first(sql.COVERING, which=execution))

    def of_subject(self, subject: str, *, ended_since: float, limit: int) -> list[Grant]:
        """
        A person's grants that are live or ended at or after `ended_since`, newest first.

        Where there are more than `limit`, those that ended are left out before any that lives.
        """
        values = {"whose": subject, "since": ended_since, "most": limit}
        found = [_known(row) for row in self._all(sql.OF_SUBJECT, **values)]
        return sorted(found, key=lambda grant: (-grant.created_at, grant.id))

    def of_execution(self, execution: str) -> Held | None:
        """The active grant that covers an execution, its own or its parent's, and the tokens."""
        row = self._first(sql.OF_EXECUTION, which=execution, moment=self._now())
        return Held(_known(row), self._opened(row[0], row[-1])) if row else None

    # Children

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

    def forget_child(self, child: str) -> None:
        """Let go of one child; a root is let go of by `end`."""

        def work(connection: Connection) -> None:
            id = connection.execute(sql.LOCK_OF_CHILD, {"which": child}).scalar()
            if id and connection.execute(sql.DROP_CHILD, {"which": child, "grant": id}).rowcount:
                connection.execute(sql.ONE_CHILD_LESS, {"grant": id})

        self._database.write(work)

    # Custody

    @contextmanager
    def custody(self, id: str) -> Iterator[Custody | None]:
        """
        Keep a grant's tokens from everybody else, in all replicas, while they are spent; `None` where it is not active.

        Raises `ProviderUnavailable` where another one has had them for 15 s.
        """
        with self._turns.taken(id, wait=WAIT):  # threads wait here, and not with a connection each
            if not self._database.has_row_locks:
                row = self._first(sql.ACTIVE_TOKENS, grant=id, moment=self._now())
                yield self._custody(row, row[-2], row[-1], None) if row else None
                return
            connection, (row, held) = self._database.begin(lambda connection: self._locked(connection, id))
            try:
                yield self._custody(row, held[0], held[1], connection) if row and held else None
            finally:
                self._database.end(connection)

    # Following executions

    def due_to_follow(self, limit: int) -> list[tuple[str, Grant]]:
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
            return [(row[0], _known(row[2:], launched=row[1])) for row in rows]

        return self._database.write(work)

    def looked(self, execution: str, *, next_look: float, launched: bool | None = None) -> None:
        """When to look at an execution again, and whether it was seen launched; nothing where none covers it now."""

        def work(connection: Connection) -> None:
            values: dict[str, Any] = {"which": execution, "later": next_look}
            if launched is None:
                connection.execute(sql.LOOKED, values)
                return
            connection.execute(sql.ROOT_LAUNCHED, {"which": execution, "seen": launched})
            connection.execute(sql.LOOKED_AND_SEEN, values | {"seen": launched})

        self._database.write(work)

    def due_to_expire(self, limit: int) -> list[str]:
        """Live grants that have expired. They are not claimed: `end` ends each of them once."""
        return [row[0] for row in self._all(sql.TO_EXPIRE, moment=self._now(), most=limit)]

    def overdue_consents(self, before: float, limit: int) -> list[str]:
        """Grants that still wait for their person, and were asked for before. They are not claimed, as above."""
        return [row[0] for row in self._all(sql.OVERDUE, before=before, most=limit)]

    # Revocation

    def claim_revocation(self, id: str) -> Tokens | None:
        """The tokens of one ended grant, to be revoked now by the caller; `None` where somebody else is at it."""
        now = self._now()

        def work(connection: Connection) -> Row | None:
            row = connection.execute(sql.ONE_TO_REVOKE, {"grant": id}).first()
            if row is None or id in self._turns:
                return None
            connection.execute(sql.CLAIM_REVOCATIONS, {"those": [id], "later": now + REVOKING})
            return row

        row = self._database.write(work)
        return None if row is None else self._opened(id, row[-1])

    def due_to_revoke(self, limit: int) -> list[tuple[Grant, Tokens]]:
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
                found.append((_known(row), self._opened(row[0], row[-1])))
            except ProviderError as closed:
                logger.error("%s; it is not revoked", closed)  # noqa: TRY400 - the traceback says nothing more
        return found

    def revoked(self, id: str, outcome: Literal["done", "unsupported"]) -> None:
        """Write down how the revocation went, and erase the tokens."""

        def work(connection: Connection) -> None:
            connection.execute(sql.LOCK_SEALED, {"grant": id})
            if connection.execute(sql.REVOKED, {"grant": id, "outcome": outcome}).rowcount:
                connection.execute(sql.ERASE, {"grant": id})

        self._database.write(work)

    def revocation_failed(self, id: str, *, next_try: float) -> None:
        """When to try again."""
        self._change(sql.TRY_LATER, grant=id, later=next_try)

    # Keys, and housekeeping

    def reseal(self, limit: int) -> int:
        """Seal `limit` rows at most, which are under an older key, under the first one; how many that were."""
        seal = self._seal
        old = list(seal.key_ids[1:])
        if not old:
            return 0

        def work(connection: Connection) -> int:
            rows = connection.execute(sql.UNDER_OLD_KEYS, {"old": old, "most": limit}).all()
            for id, tokens, consent in rows:
                connection.execute(
                    sql.RESEAL,
                    {
                        "grant": id,
                        "key": seal.first,
                        "sealed_tokens": _resealed(seal, tokens, _TOKENS, id),
                        "sealed_consent": _resealed(seal, consent, _CONSENT, id),
                    },
                )
            return len(rows)

        return self._database.write(work)

    def purge(self, ended_before: float, limit: int) -> int:
        """Forget `limit` grants at most that ended before, and have nothing left to revoke; how many that were."""

        def work(connection: Connection) -> int:
            rows = connection.execute(sql.LONG_ENDED, {"before": ended_before, "most": limit}).all()
            if not rows:
                return 0
            those = {"those": [row[0] for row in rows]}
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
        seal, now = self._seal, self._now()
        consent = None if pending is None else seal.seal(pending, what=_CONSENT, row=grant.id)
        connection.execute(sql.NEW_GRANT, vars(grant) | {"scopes": " ".join(grant.scopes), "next_try": now})
        self._cover(connection, grant.execution, grant.id, root=True, launched=grant.launched)
        connection.execute(
            sql.NEW_SEALED,
            {
                "grant_id": grant.id,
                "tokens": None,
                "consent": consent,
                "key_id": consent and seal.first,
                "has_refresh": False,
                "version": 0,
            },
        )
        return grant

    def _cover(self, connection: Connection, execution: str, id: str, *, root: bool, launched: bool) -> None:
        row = {"execution": execution, "grant_id": id, "root": root, "launched": launched, "next_look": self._now()}
        connection.execute(sql.NEW_COVERED, row)

    def _adopt(self, connection: Connection, child: str, parent: str) -> Grant | None:
        grant = _grant(connection.execute(sql.LOCK_PARENT, {"which": parent, "moment": self._now()}).first())
        if grant is None:
            return None
        there = _grant(connection.execute(sql.COVERING, {"which": child}).first())
        if there is None and grant.children >= MOST_CHILDREN:
            raise TooMany
        if there is None:
            self._cover(connection, child, grant.id, root=False, launched=False)
            return _grant(connection.execute(sql.ANOTHER_CHILD, {"grant": grant.id}).first())
        if there.id != grant.id:
            raise Taken(there)
        return grant

    def _locked(self, connection: Connection, id: str) -> tuple[Row | None, Row | None]:
        """The row of a grant that is active after its tokens are locked, and the tokens as they are then."""
        held = connection.execute(sql.LOCK_SEALED, {"grant": id}).first()
        return connection.execute(sql.ACTIVE, {"grant": id, "moment": self._now()}).first(), held

    def _custody(self, row: Row, tokens: bytes | None, version: int, connection: Connection | None) -> Custody:
        return Custody(self, _known(row), self._opened(row[0], tokens), version, connection)

    def _keep(self, connection: Connection, id: str, tokens: Tokens, version: int) -> None:
        held = connection.execute(sql.LOCK_SEALED, {"grant": id}).first()
        if held is None or held[1] != version:
            # Somebody kept tokens since, or we did, and were not told: these are the older ones, or the same.
            if held is None or self._opened(id, held[0]) != tokens:
                logger.warning("newer tokens of the grant %s are kept already", id)
            return
        ended = connection.execute(sql.LOCK_STATUS, {"grant": id}).scalar() == "ended"
        if ended and tokens.refresh is None:
            connection.execute(sql.ERASE, {"grant": id})
            return
        connection.execute(sql.KEEP, self._kept(id, tokens))
        if ended:  # while the provider was asked: what it gave is to be revoked, not what was spent
            connection.execute(sql.REVOKE_ANEW, {"grant": id, "moment": self._now()})

    def _kept(self, id: str, tokens: Tokens) -> dict[str, Any]:
        seal = self._seal
        return {
            "grant": id,
            "sealed_tokens": seal.seal(tokens.to_json(), what=_TOKENS, row=id),
            "key": seal.first,
            "refreshable": tokens.refresh is not None,
        }

    def _opened(self, id: str, sealed: bytes | None) -> Tokens:
        return Tokens() if sealed is None else tokens_from_json(self._seal.open(sealed, what=_TOKENS, row=id))

    def check(self, seal: Seal) -> None:
        """See that `seal` opens what was sealed, by one row of each key. Raises `ConfigError`."""
        where = self._database.address

        def work(connection: Connection) -> None:
            for key, id in connection.execute(sql.KEYS_IN_USE).all():
                if key not in seal.key_ids:
                    raise ConfigError(
                        f"the store at {where} has rows under the key {key}, which is not among the keys "
                        f"({', '.join(seal.key_ids)})",
                        hint="add that key after the first one; only what is resealed does without its old key",
                    )
                _, tokens, consent = connection.execute(sql.ANY_OF, {"grant": id}).one()
                _opens(seal, tokens, _TOKENS, id, f"a row of the store at {where}")
                _opens(seal, consent, _CONSENT, id, f"a row of the store at {where}")
            known = {row[0]: row[1] for row in connection.execute(sql.CHECKS)}
            for key in seal.key_ids:
                _opens(seal, known.get(key), _CHECK, key, f"what the store at {where} knows the key {key} by")
            if seal.first not in known:
                sealed = seal.seal(_KNOWN, what=_CHECK, row=seal.first)
                connection.execute(sql.NEW_CHECK, {"key_id": seal.first, "sealed": sealed})

        for last in (False, True):
            try:
                self._database.write(work)
            except IntegrityError:  # another replica wrote the same check
                if last:
                    raise
            else:
                return

    def _first(self, statement: Any, **values: Any) -> Row | None:
        return self._database.read(lambda connection: connection.execute(statement, values).first())

    def _all(self, statement: Any, **values: Any) -> list[Row]:
        return self._database.read(lambda connection: list(connection.execute(statement, values)))

    def _change(self, statement: Any, **values: Any) -> int:
        return self._database.write(lambda connection: connection.execute(statement, values).rowcount)


class Custody:
    """An active grant and its tokens, which nobody else spends as long as the block of `Store.custody` lasts."""

    def __init__(self, store: Store, grant: Grant, tokens: Tokens, version: int, connection: Connection | None) -> None:
        self.grant, self.tokens = grant, tokens
        self._store, self._version, self._connection = store, version, connection

    def keep(self, tokens: Tokens) -> None:
        """
        Keep `tokens` in the place of those that were spent; they are on disk when this returns.

        A grant that ended meanwhile keeps them, too, until they are revoked. Raises `ProviderUnavailable`: call it
        again then, also after the block; what somebody else kept meanwhile is not overwritten.
        """
        store, id, version = self._store, self.grant.id, self._version
        connection, self._connection = self._connection, None

        def work(connection: Connection) -> None:
            store._keep(connection, id, tokens, version)

        if connection is None:
            store._database.write(work)
        else:
            try:
                store._database.commit(connection, work)
            finally:
                store._database.end(connection)
        self.tokens, self._version = tokens, version + 1


def _grant(row: Row) -> Grant | None:
    return None if row is None else _known(row)


def _known(row: Row, *, launched: bool | None = None) -> Grant:
    return Grant(
        row[0],
        row[1],
        row[2],
        row[3],
        tuple(row[4].split()),
        row[5],
        row[6],
        row[7],
        row[8],
        row[9],
        row[10] if launched is None else launched,
        row[11],
        row[12],
    )


def _resealed(seal: Seal, sealed: bytes | None, what: str, row: str) -> bytes | None:
    return None if sealed is None else seal.seal(seal.open(sealed, what=what, row=row), what=what, row=row)


def _opens(seal: Seal, sealed: bytes | None, what: str, row: str, of: str) -> None:
    try:
        _resealed(seal, sealed, what, row)
    except ProviderError:
        raise ConfigError(f"{of} does not open under the key of its id", hint="restore the key, or a backup") from None
