"""The database: engine, transactions with a deadline, the one clock, and which revision of the schema is wanted."""

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Connection, PoolProxiedConnection, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from worker.database.dialects import UtcTime, insert_into, least, now, seconds_from_now
from worker.database.engine import new_engine
from worker.database.errors import ConnectionBroke, DatabaseUnavailable, WrongRevision
from worker.database.revision import head_revision, migrate, migrations_folder, revision_of
from worker.database.watchdog import Watch, watchdog
from worker.metrics import DATABASE_FAILURES
from worker.settings import Settings

#: Between two tries of a database that hangs.
PROBE_SECONDS = 0.2


class Database:
    """One process's way to the database.

    Every transaction has a deadline kept by our own clock. While the database is known to hang, callers are refused at
    once, so that neither threads nor queues grow, and a thread of our own tries until it answers again.

    Args:
        url: the SQLAlchemy URL.
        connections: as many as there are threads that use it.
        seconds: how long a transaction may take, connecting included.
        revision: the schema revision to insist on; None when migrating.
    """

    def __init__(self, url: str, *, connections: int, seconds: float, revision: str | None):
        self._seconds = seconds
        self._revision = revision
        self._hangs = False
        self._probing = threading.Lock()
        self._guard = threading.local()
        self._write_lock = _write_locks.setdefault(url, threading.Lock())
        self.engine = new_engine(make_url(url), connections, seconds)
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        # One statement: PostgreSQL commits it by itself, in one round trip instead of three.
        single = {"reading": True} if self.is_sqlite else {"isolation_level": "AUTOCOMMIT"}
        self._single = self.engine.execution_options(**single)
        event.listen(self.engine.pool, "connect", self._connected, insert=True)
        event.listen(self.engine.pool, "checkout", self._checked_out)
        for gone in ("checkin", "close"):  # another thread's by now: not to be shut down for our deadline
            event.listen(self.engine.pool, gone, lambda *_: self._attach(None))
        event.listen(self.engine.pool, "connect", self._check_revision)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Statements that are committed together, or not at all.

        Raises:
            DatabaseUnavailable: no answer in time; the transaction may or may not have been committed.
        """
        with self._in_time(writing=True), self.engine.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def statement(self) -> Iterator[Connection]:
        """One statement that commits itself.

        Raises:
            DatabaseUnavailable: no answer in time; the statement may or may not have been carried out.
        """
        with self._in_time(writing=True), self._committing() as connection:
            yield connection

    def run(self, sql: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """One statement in the driver's own words, which commits itself. PostgreSQL only.

        For the hot path: with SQLAlchemy between, the same statement costs three times the processor time.

        Returns:
            The rows.

        Raises:
            DatabaseUnavailable: no answer in time; the statement may or may not have been carried out.
        """
        with self._in_time(writing=True):
            pooled = None
            try:
                pooled = self.engine.raw_connection()
                driver: Any = pooled.driver_connection
                driver.autocommit = True
                rows: list[tuple[Any, ...]] = driver.execute(sql, parameters).fetchall()
                driver.autocommit = False
            except BaseException as error:
                raise self._thrown_away(pooled, error) from None
            pooled.close()
            return rows

    def _thrown_away(self, pooled: PoolProxiedConnection | None, error: BaseException) -> BaseException:
        """Give up a connection that may be broken, or in a mode in which transactions are none; the error to raise,
        the driver's own as SQLAlchemy's."""
        dialect: Any = self.engine.dialect
        instance: Any = DBAPIError.instance
        failed, broke = dialect.loaded_dbapi.Error, False
        if pooled is not None:
            broke = dialect.is_disconnect(error, pooled.driver_connection, None)
            pooled.invalidate()
        if not isinstance(error, failed):
            return error
        wrapped: DBAPIError = instance(
            None, None, error, failed, hide_parameters=True, connection_invalidated=broke, dialect=dialect
        )
        return wrapped

    def _committing(self) -> contextlib.AbstractContextManager[Connection]:
        return self.engine.begin() if self.is_sqlite else self._single.connect()

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """Statements that change nothing; on SQLite they wait for no writer."""
        with self._in_time(writing=False), self._single.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def session(self) -> Iterator[Connection]:
        """A connection that begins and commits as its user says: for migrations.

        Raises:
            DatabaseUnavailable: no answer in time.
        """
        with self._in_time(writing=True), self.engine.connect() as connection:
            yield connection

    def check(self) -> None:
        """Connect once, which checks the revision too.

        Raises:
            WrongRevision: another revision; the message names the command that helps.
            DatabaseUnavailable: no answer.
        """
        with self.reading() as connection:
            connection.exec_driver_sql("SELECT 1")

    def close(self) -> None:
        """Close the pooled connections."""
        self.engine.dispose()

    def forget(self) -> None:
        """Let go of connections that belong to the parent process, without closing them under it."""
        self.engine.dispose(close=False)
        self._hangs, self._probing = False, threading.Lock()  # whoever was probing stayed behind
        self._write_lock = threading.Lock()  # the parent may have held it

    @contextlib.contextmanager
    def _in_time(self, *, writing: bool) -> Iterator[None]:
        if self._hangs and (writing or not self.is_sqlite):  # SQLite's readers wait for no writer
            _HANGS.inc()
            raise DatabaseUnavailable("the database does not answer")
        try:
            with _told_apart(), self._writing(writing), self._watched():
                yield
        except DatabaseUnavailable as error:
            hung = isinstance(error.__cause__, _Hung)
            (_NO_ANSWER if hung else _FAILED).inc()
            if hung:
                self._begin_probing()
            raise

    def _begin_probing(self) -> None:
        with self._probing:
            if not self._hangs:
                threading.Thread(target=self._probe, name="database-probe", daemon=True).start()
                self._hangs = True  # not before: with nobody to probe, it would hang for ever

    def _probe(self) -> None:
        """Try until it answers. No caller pays for a probe: one that had queued behind the hang would be late twice."""
        while True:
            time.sleep(PROBE_SECONDS)
            with contextlib.suppress(Exception):  # whatever it is: as long as it is not well, it is tried again
                with _told_apart(), self._writing(True), self._watched(), self._committing() as connection:
                    connection.exec_driver_sql("SELECT 1")
                self._hangs = False
                return

    @contextlib.contextmanager
    def _writing(self, writing: bool) -> Iterator[None]:
        # SQLite has one writer at a time and its waiters poll: queueing in the process first took p99 from over
        # 230 ms to under 65 ms (16 threads).
        if not (writing and self.is_sqlite):
            yield
            return
        if not self._write_lock.acquire(timeout=self._seconds / 2):
            raise DatabaseUnavailable("another write is taking too long") from _Hung()
        try:
            yield
        finally:
            self._write_lock.release()

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        if self.is_sqlite:  # bounded by its busy time-out
            try:
                yield
            except OperationalError as error:
                raise _Hung() if "locked" in str(error.orig) else error from None
            return
        watch = Watch(time.monotonic() + self._seconds)
        self._guard.watch = watch
        watchdog().add(watch)
        try:
            yield
        except (DBAPIError, PoolTimeout) as error:
            raise _Hung() if watch.barked or time.monotonic() > watch.deadline - 0.5 else error from None
        finally:
            self._guard.watch = None
            watchdog().remove(watch)

    def _attach(self, connection: Any) -> None:
        watch: Watch | None = getattr(self._guard, "watch", None)
        if watch is not None:
            watch.fd = None if connection is None else connection.fileno()

    def _connected(self, dbapi_connection: Any, _record: Any) -> None:
        if not self.is_sqlite:
            self._attach(dbapi_connection)

    def _checked_out(self, dbapi_connection: Any, _record: Any, _proxy: Any) -> None:
        if not self.is_sqlite:
            self._attach(dbapi_connection)

    def _check_revision(self, dbapi_connection: Any, _record: Any) -> None:
        if self._revision is None:
            return
        found = revision_of(dbapi_connection)
        if found != self._revision:
            raise WrongRevision(
                f"the database is at revision {found or 'none'}, this version of payhook needs {self._revision}: "
                "run `payhook migrate`" + ("" if found is None else " with the version that is to run")
            )
        self._revision = None  # checked once: later connections need not ask again


# Asked for here: to ask for a label while another thread forks could leave its lock locked in the child.
_HANGS, _NO_ANSWER, _FAILED = (DATABASE_FAILURES.labels(reason) for reason in ("hangs", "no_answer", "failed"))

#: SQLite's one writer at a time, whichever of a process's objects it writes through.
_write_locks: dict[str, threading.Lock] = {}


def open_database(settings: Settings, *, threads: int, seconds: float) -> Database:
    """The database of the settings, at the revision this version was written for.

    Args:
        settings: where it is.
        threads: how many threads will use it.
        seconds: how long a transaction may take.
    """
    url = settings.database_url.get_secret_value()
    return Database(url, connections=threads, seconds=seconds, revision=head_revision())


class _Hung(Exception):
    """The deadline passed."""


@contextlib.contextmanager
def _told_apart() -> Iterator[None]:
    """The driver's many errors of an unreachable database as ours; errors of the statement itself pass."""
    try:
        yield
    except (_Hung, PoolTimeout, OperationalError, InterfaceError, InternalError) as error:
        # InternalError: a server that was made read-only, for instance by a failover.
        kind = ConnectionBroke if getattr(error, "connection_invalidated", False) else DatabaseUnavailable
        raise kind(f"the database does not answer ({_code_of(error)})") from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise ConnectionBroke(f"the connection broke ({_code_of(error)})") from error
        raise


def _code_of(error: Exception) -> str:
    """What the driver says: its code, or the first line of its words. Connection troubles name hosts, never values."""
    if isinstance(error, _Hung):
        return "no answer in time"
    origin = getattr(error, "orig", None) or error
    code = getattr(origin, "sqlstate", None)
    return str(code or (str(origin).splitlines() or [type(origin).__name__])[0][:200])


__all__ = [
    "ConnectionBroke",
    "Database",
    "DatabaseUnavailable",
    "UtcTime",
    "WrongRevision",
    "head_revision",
    "insert_into",
    "least",
    "migrate",
    "migrations_folder",
    "now",
    "open_database",
    "seconds_from_now",
]
