"""
What the store asks its database: every statement once, so that its text is compiled once.

Whoever locks rows of several tables does so in the order sealed, grants, covered, or skips what is locked.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import BindParameter, Text, bindparam, case, delete, func, insert, literal_column, select, update
from sqlalchemy.sql.elements import ColumnElement

from flytekitplugins.authagent.hub.tables import checks, covered, grants, sealed

GRANT = (
    grants.c.id,
    grants.c.execution,
    grants.c.subject,
    grants.c.client,
    grants.c.scopes,
    grants.c.status,
    grants.c.reason,
    grants.c.created_at,
    grants.c.expires_at,
    grants.c.ended_at,
    grants.c.launched,
    grants.c.children,
    grants.c.revocation,
)
"""The columns of a `Grant`, in its order."""

_id: BindParameter[Any] = bindparam("grant")
_now: BindParameter[Any] = bindparam("moment")
_limit: BindParameter[Any] = bindparam("most")
_execution: BindParameter[Any] = bindparam("which")

# Written out: an index of some rows serves no condition whose value the planner does not see.
_PENDING: ColumnElement[str] = literal_column("'pending'")
_ACTIVE: ColumnElement[str] = literal_column("'active'")
_ENDED: ColumnElement[str] = literal_column("'ended'")
_NEVER: ColumnElement[float] = literal_column("1e18")


def _live() -> ColumnElement[bool]:
    return grants.c.status.in_((_PENDING, _ACTIVE))


_active = (grants.c.status == _ACTIVE) & (grants.c.expires_at > _now)
_covering = grants.join(covered, covered.c.grant_id == grants.c.id)
_with_sealed = grants.join(sealed, sealed.c.grant_id == grants.c.id)

# Looking.
GET = select(*GRANT).where(grants.c.id == _id)
LAST_COVERING = select(*GRANT, covered.c.acted).select_from(_covering).where(covered.c.execution == _execution)
COVERING = select(*GRANT).select_from(_covering).where(covered.c.execution == _execution, _live())
ACTIVE = GET.where(_active)
ACTIVE_TOKENS = (
    select(*GRANT, sealed.c.tokens, sealed.c.version).select_from(_with_sealed).where(grants.c.id == _id, _active)
)
OF_EXECUTION = (
    select(*GRANT, sealed.c.tokens)
    .select_from(_covering.join(sealed, sealed.c.grant_id == grants.c.id))
    .where(covered.c.execution == _execution, _active)
)
OF_SUBJECT = (
    select(*GRANT)
    .where(grants.c.subject == bindparam("whose"), _live() | (grants.c.ended_at >= bindparam("since")))
    .order_by(grants.c.ended_at.is_not(None), grants.c.created_at.desc(), grants.c.id)  # those that live come first
    .limit(_limit)
)
COUNT_LIVE = select(func.count(), func.count().filter(~grants.c.launched)).where(
    grants.c.subject == bindparam("whose"), _live()
)
_within: BindParameter[str] = bindparam("within", type_=Text())
LIVE_IN = (
    select(grants.c.id)
    .where(grants.c.subject == bindparam("whose"), _live())
    .where(func.substr(grants.c.execution, 1, func.length(_within)) == _within)
    .limit(1)
)
CONSENT = (
    select(*GRANT, sealed.c.consent)
    .select_from(_with_sealed)
    .where(grants.c.id == _id, grants.c.status == _PENDING, grants.c.expires_at > _now)
)
OVERDUE = (
    select(grants.c.id)
    .where(grants.c.status == _PENDING, grants.c.created_at < bindparam("before"))
    .order_by(grants.c.created_at)
    .limit(_limit)
)
TO_EXPIRE = select(grants.c.id).where(_live(), grants.c.expires_at <= _now).order_by(grants.c.expires_at).limit(_limit)

# A grant's life.
NEW_GRANT = insert(grants)
NEW_COVERED = insert(covered)
NEW_SEALED = insert(sealed).values(
    grant_id=_id,
    tokens=bindparam("sealed_tokens"),
    consent=bindparam("sealed_consent"),
    key_id=bindparam("key"),
    has_refresh=bindparam("refreshable"),
    version=0,
)
# From now on it is there, and the time within which its execution must appear begins.
ACTIVATE = (
    update(grants)
    .where(grants.c.id == _id, grants.c.status == _PENDING, grants.c.expires_at > _now)
    .values(status="active", created_at=_now)
    .returning(*GRANT)
)
EXTEND = (
    update(grants)
    .where(grants.c.id == _id, _live(), grants.c.expires_at > _now)
    .values(expires_at=case((grants.c.expires_at < bindparam("until"), bindparam("until")), else_=grants.c.expires_at))
    .returning(*GRANT)
)
LOCK_LIVE = select(grants.c.id).where(grants.c.id == _id, _live()).with_for_update()
LOCK_PENDING = select(grants.c.id).where(grants.c.id == _id, grants.c.status == _PENDING).with_for_update()
LOCK_UNLAUNCHED = select(grants.c.id).where(grants.c.id == _id, _live(), ~grants.c.launched).with_for_update()
END = (
    update(grants)
    .where(grants.c.id == _id)
    .values(
        status="ended",
        reason=bindparam("why"),
        ended_at=_now,
        children=0,
        revocation=bindparam("revoke"),
        next_try=_now,
    )
    .returning(*GRANT)
)
UNCOVER = update(covered).where(covered.c.grant_id == _id).values(next_look=_NEVER)
DROP_ENDED = delete(covered).where(
    covered.c.execution == _execution,
    covered.c.grant_id.in_(select(grants.c.id).where(grants.c.status == _ENDED).scalar_subquery()),
)
"""Before an execution is covered anew."""

# Children.
LOCK_PARENT = (
    select(*GRANT).select_from(_covering).where(covered.c.execution == _execution, _active).with_for_update(of=grants)
)
ANOTHER_CHILD = update(grants).where(grants.c.id == _id).values(children=grants.c.children + 1).returning(*GRANT)
LOCK_OF_CHILD = (
    select(grants.c.id)
    .select_from(_covering)
    .where(covered.c.execution == _execution, covered.c.root.is_(False), _live())
    .with_for_update(of=grants)
)
DROP_CHILD = delete(covered).where(
    covered.c.execution == _execution, covered.c.grant_id == _id, covered.c.root.is_(False)
)
ONE_CHILD_LESS = update(grants).where(grants.c.id == _id).values(children=grants.c.children - 1)

# Following executions.
_known = covered.c.root | covered.c.launched
_due = (
    select(covered.c.execution, covered.c.launched, *GRANT)
    .select_from(_covering)
    .where(covered.c.next_look <= _now, _live())
    .where((grants.c.status == _ACTIVE) | grants.c.launched)  # else it has yet to begin
    .order_by(covered.c.next_look)
    .limit(_limit)
    .with_for_update(of=covered, skip_locked=True)
)
DUE_TO_FOLLOW = _due.where(_known)
DUE_TO_BE_SEEN = _due.where(~_known)
"""Children that nobody has seen yet, of which a task can name many."""

CLAIM_LOOKS = (
    update(covered)
    .where(covered.c.execution.in_(bindparam("those", expanding=True)))
    .values(next_look=bindparam("later"))
)
ROOT_LAUNCHED = (
    update(grants)
    .where(
        grants.c.id.in_(
            select(covered.c.grant_id).where(covered.c.execution == _execution, covered.c.root).scalar_subquery()
        )
    )
    .values(launched=bindparam("seen"))
)
LOOKED = (
    update(covered)
    .where(covered.c.execution == _execution, covered.c.next_look < _NEVER)  # else its grant ended meanwhile
    .values(next_look=bindparam("later"))
)
LOOKED_AND_SEEN = LOOKED.values(launched=bindparam("seen"))

# Custody.
LOCK_SEALED = select(sealed.c.tokens, sealed.c.version).where(sealed.c.grant_id == _id).with_for_update()
LOCK_STATUS = select(grants.c.status).where(grants.c.id == _id).with_for_update()
HAS_REFRESH = select(sealed.c.has_refresh).where(sealed.c.grant_id == _id)
KEEP = (
    update(sealed)
    .where(sealed.c.grant_id == _id)
    .values(
        tokens=bindparam("sealed_tokens"),
        consent=None,
        key_id=bindparam("key"),
        has_refresh=bindparam("refreshable"),
        version=sealed.c.version + 1,
    )
)
AMEND = (
    update(sealed)
    .where(
        sealed.c.grant_id.in_(
            select(grants.c.id)
            .where(grants.c.id == _id, grants.c.status == _PENDING, grants.c.expires_at > _now)
            .scalar_subquery()
        )
    )
    .values(consent=bindparam("sealed_consent"), key_id=bindparam("key"), version=sealed.c.version + 1)
)
# Not the version: tokens that are kept after this are newer still, and to be revoked.
_NOTHING = {"tokens": None, "consent": None, "key_id": None, "has_refresh": False}
ERASE = update(sealed).where(sealed.c.grant_id == _id).values(_NOTHING)
# Whoever has the row now, in custody, finds the grant ended when it keeps something.
ERASE_UNLESS_HELD = (
    update(sealed)
    .where(
        sealed.c.grant_id.in_(
            select(sealed.c.grant_id)
            .where(sealed.c.grant_id == _id, sealed.c.has_refresh.is_(False))
            .with_for_update(skip_locked=True)
            .scalar_subquery()
        )
    )
    .values(_NOTHING)
)

# Revocation.
REVOKE_ANEW = update(grants).where(grants.c.id == _id).values(revocation="pending", next_try=_now)
DUE_TO_REVOKE = (
    select(*GRANT, sealed.c.tokens)
    .select_from(_with_sealed)
    .where(grants.c.revocation == _PENDING, grants.c.next_try <= _now)
    .order_by(grants.c.next_try)
    .limit(_limit)
    .with_for_update(of=[sealed, grants], skip_locked=True)
)
ONE_TO_REVOKE = (
    select(*GRANT, sealed.c.tokens)
    .select_from(_with_sealed)
    .where(grants.c.id == _id, grants.c.revocation == _PENDING)
    .with_for_update(of=[sealed, grants], skip_locked=True)
)
CLAIM_REVOCATIONS = (
    update(grants).where(grants.c.id.in_(bindparam("those", expanding=True))).values(next_try=bindparam("later"))
)
REVOKED = (
    update(grants).where(grants.c.id == _id, grants.c.revocation == _PENDING).values(revocation=bindparam("outcome"))
)
TRY_LATER = (
    update(grants).where(grants.c.id == _id, grants.c.revocation == _PENDING).values(next_try=bindparam("later"))
)

# Keys.
KEYS_IN_USE = (
    select(sealed.c.key_id, func.max(sealed.c.grant_id)).where(sealed.c.key_id.is_not(None)).group_by(sealed.c.key_id)
)
ANY_OF = select(sealed.c.grant_id, sealed.c.tokens, sealed.c.consent).where(sealed.c.grant_id == _id)
CHECKS = select(checks.c.key_id, checks.c.sealed)
NEW_CHECK = insert(checks)
UNDER_OLD_KEYS = (
    select(sealed.c.grant_id, sealed.c.tokens, sealed.c.consent)
    .where(sealed.c.key_id.in_(bindparam("old", expanding=True)))
    .limit(_limit)
    .with_for_update(skip_locked=True)
)
RESEAL = (
    update(sealed)
    .where(sealed.c.grant_id == _id)
    .values(tokens=bindparam("sealed_tokens"), consent=bindparam("sealed_consent"), key_id=bindparam("key"))
)

# Housekeeping.
LONG_ENDED = (
    select(grants.c.id).where(grants.c.ended_at < bindparam("before"), grants.c.revocation != _PENDING).limit(_limit)
)
PURGE_COVERED = delete(covered).where(covered.c.grant_id.in_(bindparam("those", expanding=True)))
PURGE_SEALED = delete(sealed).where(sealed.c.grant_id.in_(bindparam("those", expanding=True)))
PURGE = delete(grants).where(grants.c.id.in_(bindparam("those", expanding=True)), grants.c.revocation != _PENDING)
BY_STATUS = select(grants.c.status, func.count()).group_by(grants.c.status)
TO_REVOKE = select(func.count()).where(grants.c.revocation == _PENDING)
BY_KEY = select(sealed.c.key_id, func.count()).where(sealed.c.key_id.is_not(None)).group_by(sealed.c.key_id)
