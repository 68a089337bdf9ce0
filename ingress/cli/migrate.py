"""`payhook migrate`: bring the schema to the revision this version was written for."""

import click

from ingress.cli import settings
from worker import database, logs


@click.command()
def migrate() -> None:
    """Bring the database's schema to this version's revision. Neither merchant nor broker is needed."""
    chosen = settings()
    logs.set_up(chosen)
    database.migrate(chosen.database_url.get_secret_value())
    click.echo(f"the database is at revision {database.head_revision()}")
