"""The tables of the store. `migrations/` makes them; a test holds the two to each other."""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    text,
)

metadata = MetaData()

grants = Table(
    "grants",
    metadata,
    Column("id", Text, primary_key=True),
    Column("execution", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("client", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("ended_at", Double),
    Column("launched", Boolean, nullable=False),
    Column("children", Integer, nullable=False),
    Column("revocation", Text, nullable=False),
    Column("next_try", Double, nullable=False),
    CheckConstraint("status IN ('pending', 'active', 'ended')", name="known_status"),
    CheckConstraint("revocation IN ('none', 'pending', 'done', 'unsupported')", name="known_revocation"),
    CheckConstraint("(status = 'ended') = (ended_at IS NOT NULL)", name="ended_has_a_moment"),
)
"""Grants, also those that have ended. `scopes` has spaces between them; moments are seconds since the epoch."""

LIVE = text("status IN ('pending', 'active')")

Index("grants_of_subject", grants.c.subject, grants.c.created_at)
Index("grants_to_expire", grants.c.expires_at, postgresql_where=LIVE, sqlite_where=LIVE)
Index("grants_ended", grants.c.ended_at)
_WAITING = text("status = 'pending'")
Index("grants_waiting", grants.c.created_at, postgresql_where=_WAITING, sqlite_where=_WAITING)
_TO_REVOKE = text("revocation = 'pending'")
Index("grants_to_revoke", grants.c.next_try, postgresql_where=_TO_REVOKE, sqlite_where=_TO_REVOKE)

covered = Table(
    "covered",
    metadata,
    Column("execution", Text, primary_key=True),
    Column("grant_id", Text, ForeignKey("grants.id"), nullable=False),
    Column("root", Boolean, nullable=False),
    Column("launched", Boolean, nullable=False),
    Column("next_look", Double, nullable=False),
    Column("acted", Boolean, nullable=False),
)
"""
Which execution a live grant covers now, the root and its children. When the grant has ended rows stay, to tell that
there was one, until the grant is forgotten or another one covers the execution: `acted` says then that an earlier one
was good for something.

The primary key is what forbids an execution two live grants.
"""

Index("covered_by_grant", covered.c.grant_id)
Index("covered_to_follow", covered.c.next_look)

sealed = Table(
    "sealed",
    metadata,
    Column("grant_id", Text, ForeignKey("grants.id"), primary_key=True),
    Column("tokens", LargeBinary),
    Column("consent", LargeBinary),
    Column("key_id", Text),
    Column("has_refresh", Boolean, nullable=False),
    Column("version", Integer, nullable=False),
)
"""
What a grant has that is secret, in a table of its own: custody locks this row, and nobody who wants to end or to extend
the grant waits for it. `key_id` is the key of both columns, null where both are; `version` counts what was kept.
"""

Index("sealed_by_key", sealed.c.key_id)

checks = Table(
    "checks",
    metadata,
    Column("key_id", Text, primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
)
"""A known text, sealed under each key that was ever the first: whoever has the key can open it."""
