"""Which revision the schema is of, and which one this version of payhook was written for."""

import os
from functools import cache
from importlib.resources import files
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from worker.database.errors import WrongRevision

#: PostgreSQL's code for a table that is not there.
UNDEFINED_TABLE = "42P01"


@cache
def head_revision() -> str:
    """The newest revision of the migrations that came with this version."""
    head = ScriptDirectory(str(migrations_folder())).get_current_head()
    assert head is not None
    return head


def migrations_folder() -> os.PathLike[str]:
    """Where the migrations are: beside the packages, in a checkout as in the wheel."""
    folder = files("migrations")
    assert isinstance(folder, os.PathLike)
    return folder


def migrate(url: str, revision: str = "head") -> None:
    """Run every migration that is missing, from wherever the package is installed.

    Args:
        url: the database.
        revision: where to stop.

    Raises:
        DatabaseUnavailable: no answer.
        WrongRevision: the database is of a revision that this version has never heard of.
    """
    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    config.attributes["url"] = url
    try:
        command.upgrade(config, revision)
    except CommandError:
        raise WrongRevision(
            "the database is at a revision that this version of payhook does not know: "
            "run the newer version that made it, or restore an older dump"
        ) from None


def revision_of(dbapi_connection: Any) -> str | None:
    cursor = dbapi_connection.cursor()
    try:
        cursor.execute("SELECT version_num FROM alembic_version")
        row = cursor.fetchone()
    except Exception as error:
        if getattr(error, "sqlstate", None) != UNDEFINED_TABLE and "no such table" not in str(error):
            raise  # anything but a missing table is the database's trouble
        row = None
    finally:
        cursor.close()
        if not getattr(dbapi_connection, "closed", False):
            dbapi_connection.rollback()
    return None if row is None else str(row[0])
