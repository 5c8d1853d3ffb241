"""The schema of the store: brought to the newest revision when the store starts."""

from __future__ import annotations

import logging
from pathlib import Path

from sqlalchemy import Connection, text

from flytekitplugins.authagent.errors import ConfigError

HERE = Path(__file__).parent / "migrations"

_LOCK = 0x61757468_68756201
"""Of PostgreSQL's advisory locks: replicas that start at once migrate one after the other."""


def migrate(connection: Connection, where: str) -> None:
    """
    Migrate what `connection`, in its transaction, is connected to; all of it or nothing.

    Raises `ConfigError` where a newer release was here.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it has a line for each of its own plugins
    from alembic import command  # a fifth of a second, which no other command waits for
    from alembic.config import Config
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(HERE).replace("%", "%%"))
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL lock_timeout = '60s'"))
        connection.execute(text("SET LOCAL statement_timeout = '300s'"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    for head in MigrationContext.configure(connection).get_current_heads():
        if head not in known:
            raise ConfigError(
                f"the store at {where} was made by a newer release: its schema is {head}, the newest here {max(known)}",
                hint="start that release again, or restore a backup from before it",
            )
    command.upgrade(config, "head")
