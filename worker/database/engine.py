"""Engines as we want them: SQLite durable with one writer at a time, PostgreSQL on connections that stay alive."""

from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL

#: psycopg waits at least this long for a connection whatever it is told.
CONNECT_SECONDS = 2

#: A transaction that a stopped process (SIGSTOP, a paused machine) left open gives its locks back after this.
IDLE_TRANSACTION_SECONDS = 5

#: A connection older than this is opened anew, so that none is kept that something in between has long dropped.
RECYCLE_SECONDS = 600


def new_engine(url: URL, connections: int, seconds: float) -> Engine:
    """An engine whose pool is no larger than what uses it.

    Args:
        url: SQLite or PostgreSQL.
        connections: the pool's size.
        seconds: how long a transaction may take in all; no single wait is longer.
    """
    # No statement carries its values into a log or a traceback: bodies and secrets are among them.
    common: dict[str, Any] = {"hide_parameters": True}
    if url.get_backend_name() == "sqlite":
        # Half for the queue in the process, half for writers of other processes.
        timeout = {"timeout": seconds / 2, "check_same_thread": False, "isolation_level": None}
        engine = create_engine(url, connect_args=timeout, pool_size=connections, max_overflow=0, **common)
        event.listen(engine, "connect", _prepare_sqlite, insert=True)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    options = f"-c timezone=utc -c idle_in_transaction_session_timeout={IDLE_TRANSACTION_SECONDS}s"
    return create_engine(
        url.set(drivername="postgresql+psycopg"),
        connect_args={
            "connect_timeout": CONNECT_SECONDS,
            "options": options,
            "application_name": "payhook",
            # A firewall that forgets an idle connection says nothing; asked now and then, it does not forget.
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
        },
        pool_recycle=RECYCLE_SECONDS,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=seconds,
        pool_use_lifo=True,
        **common,
    )


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    # A deferred transaction that reads and then writes fails at once when another wrote in between, whatever its
    # busy time-out; writers take the lock at their start.
    reading = connection.get_execution_options().get("reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")
