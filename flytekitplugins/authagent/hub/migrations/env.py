"""What alembic runs: it migrates the connection that `database.py` hands it, inside that one's transaction."""

from __future__ import annotations

from alembic import context

from flytekitplugins.authagent.hub.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
