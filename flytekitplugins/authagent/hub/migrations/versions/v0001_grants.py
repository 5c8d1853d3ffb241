"""Grants, the executions that they cover, and what is sealed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the four tables. They are written out: `tables.py` goes on, and this stays as it is."""
    op.create_table(
        "grants",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("execution", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("client", sa.Text, nullable=False),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
        sa.Column("ended_at", sa.Double),
        sa.Column("launched", sa.Boolean, nullable=False),
        sa.Column("children", sa.Integer, nullable=False),
        sa.Column("revocation", sa.Text, nullable=False),
        sa.Column("next_try", sa.Double, nullable=False),
        sa.CheckConstraint("status IN ('pending', 'active', 'ended')", name="known_status"),
        sa.CheckConstraint("revocation IN ('none', 'pending', 'done', 'unsupported')", name="known_revocation"),
        sa.CheckConstraint("(status = 'ended') = (ended_at IS NOT NULL)", name="ended_has_a_moment"),
    )
    live, waiting = sa.text("status IN ('pending', 'active')"), sa.text("status = 'pending'")
    to_revoke = sa.text("revocation = 'pending'")
    op.create_index("grants_of_subject", "grants", ["subject", "created_at"])
    op.create_index("grants_to_expire", "grants", ["expires_at"], postgresql_where=live, sqlite_where=live)
    op.create_index("grants_ended", "grants", ["ended_at"])
    op.create_index("grants_waiting", "grants", ["created_at"], postgresql_where=waiting, sqlite_where=waiting)
    op.create_index("grants_to_revoke", "grants", ["next_try"], postgresql_where=to_revoke, sqlite_where=to_revoke)
    op.create_table(
        "covered",
        sa.Column("execution", sa.Text, primary_key=True),
        sa.Column("grant_id", sa.Text, sa.ForeignKey("grants.id"), nullable=False),
        sa.Column("root", sa.Boolean, nullable=False),
        sa.Column("launched", sa.Boolean, nullable=False),
        sa.Column("next_look", sa.Double, nullable=False),
        sa.Column("acted", sa.Boolean, nullable=False),
    )
    op.create_index("covered_by_grant", "covered", ["grant_id"])
    op.create_index("covered_to_follow", "covered", ["next_look"])
    op.create_table(
        "sealed",
        sa.Column("grant_id", sa.Text, sa.ForeignKey("grants.id"), primary_key=True),
        sa.Column("tokens", sa.LargeBinary),
        sa.Column("consent", sa.LargeBinary),
        sa.Column("key_id", sa.Text),
        sa.Column("has_refresh", sa.Boolean, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
    )
    op.create_index("sealed_by_key", "sealed", ["key_id"])
    op.create_table(
        "checks",
        sa.Column("key_id", sa.Text, primary_key=True),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
    )
