"""Runs migrations against the database of the settings, or one handed over by `payhook migrate` and the tests."""

import sys

from alembic import context
from sqlalchemy import Connection

from worker.database import Database
from worker.models import Base
from worker.settings import SettingsError, load_settings

#: A migration waits for locks, and may rewrite a table: it is given time no request would get.
MIGRATION_SECONDS = 3600


def migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=True,  # SQLite alters tables by copying them
        compare_type=True,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def url_of_the_settings() -> str:
    try:
        return load_settings().database_url.get_secret_value()
    except SettingsError as error:
        sys.exit(str(error))


url = context.config.attributes.get("url") or url_of_the_settings()

if context.is_offline_mode():
    context.configure(url=url, target_metadata=Base.metadata, literal_binds=True, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()
else:
    database = Database(url, connections=1, seconds=MIGRATION_SECONDS, revision=None)
    try:
        with database.session() as connection:
            migrate(connection)
    finally:
        database.close()
