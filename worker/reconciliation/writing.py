"""What came of a call, written down: tried again while the claim lasts, for it may be the only copy."""

import time
from collections.abc import Callable
from typing import TypeVar

import structlog
from sqlalchemy import Connection

from worker import tracing
from worker.database import Database, DatabaseUnavailable

log = structlog.get_logger("payhook.reconciliation")

Written = TypeVar("Written")

#: Between tries of a write, in seconds; what a restarting database takes at most is left to the lease.
WRITE_PAUSES = (0.1, 0.5, 1.0, 2.0, 4.0)


def write_insistently(
    database: Database, write: Callable[[Connection], Written], seconds_left: Callable[[], float], **whose: int
) -> Written:
    """Write in a transaction. A server that was restarted meanwhile leaves dead connections behind: tried again while
    the claim lasts, which is safe for a write that asks for the claim's token.

    Args:
        database: where to.
        write: the statements.
        seconds_left: what is left of the claim's time.
        whose: the row's key, for the log.
    """
    for pause in WRITE_PAUSES:
        try:
            with tracing.span("write"), database.transaction() as connection:
                return write(connection)
        except DatabaseUnavailable as error:
            if seconds_left() < pause:
                raise
            log.warning("write.tried_again", told=str(error), **whose)
            time.sleep(pause)
    with database.transaction() as connection:
        return write(connection)
