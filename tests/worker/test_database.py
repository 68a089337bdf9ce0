"""Transactions that end in time or say so, on both databases; one clock; one revision of the schema."""

import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Float, bindparam, delete, insert, select, text
from sqlalchemy.exc import IntegrityError, StatementError

from tests.servers.ports import free_port
from tests.servers.postgres_server import PostgresServer
from worker.database import (
    Database,
    DatabaseUnavailable,
    WrongRevision,
    head_revision,
    least,
    migrate,
    now,
    open_database,
    seconds_from_now,
)
from worker.models import Fact, JournalEntry
from worker.settings import Settings

CANARY = "canary-5be1"

#: What a caller may wait for, and how much later than that it may be told on a busy machine. A new connection to
#: PostgreSQL is never given up before two seconds have passed.
SECONDS = 1.0
CONNECTING_SECONDS = 2.0
LATER = 0.5

THREADS = 8

Opened = Callable[..., Database]


@pytest.fixture
def open_at() -> Iterator[Opened]:
    """Opens the database of a URL, without migrating it."""
    opened: list[Database] = []

    def open_one(url: str, seconds: float = SECONDS, revision: str | None = None) -> Database:
        opened.append(Database(url, connections=THREADS + 2, seconds=seconds, revision=revision or head_revision()))
        return opened[-1]

    yield open_one
    for database in opened:
        database.close()


@pytest.fixture(scope="module")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One SQLite database with the schema, for every test that leaves the schema as it is."""
    url = f"sqlite:///{tmp_path_factory.mktemp('database') / 'payhook.db'}"
    migrate(url)
    return url


@pytest.fixture(scope="module")
def migrated_postgres(postgres_server: PostgresServer) -> str:
    """One PostgreSQL database with the schema."""
    postgres_server.revive()
    url = postgres_server.new_database()
    migrate(url)
    return url


def emptied(database: Database) -> Database:
    with database.transaction() as connection:
        connection.execute(delete(Fact))
        connection.execute(delete(JournalEntry))
    return database


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.servers)])
def database(request: pytest.FixtureRequest, open_at: Opened) -> Database:
    """A migrated database of each kind in turn."""
    if request.param == "postgresql":
        return request.getfixturevalue("postgres")  # type: ignore[no-any-return]
    return emptied(open_at(request.getfixturevalue("migrated_sqlite")))


@pytest.fixture
def postgres(migrated_postgres: str, postgres_server: PostgresServer, open_at: Opened) -> Iterator[Database]:
    """A migrated PostgreSQL, and a server that answers again afterwards."""
    postgres_server.revive()
    yield emptied(open_at(migrated_postgres))
    postgres_server.revive()


@pytest.fixture
def sqlite_file(tmp_path: Path) -> Path:
    """A migrated SQLite file."""
    path = tmp_path / "payhook.db"
    migrate(f"sqlite:///{path}")
    return path


def write(database: Database, name: str) -> None:
    with database.transaction() as connection:
        connection.execute(insert(Fact).values(name=name))


def read(database: Database) -> set[str]:
    with database.reading() as connection:
        return set(connection.execute(select(Fact.name)).scalars())


def answer(action: Callable[[], Any]) -> tuple[float, str]:
    """How long it took, and what came of it: ``ok`` or the kind of error."""
    begin = time.monotonic()
    try:
        action()
    except DatabaseUnavailable:
        return time.monotonic() - begin, "unavailable"
    except Exception as error:
        return time.monotonic() - begin, type(error).__name__
    return time.monotonic() - begin, "ok"


def all_at_once(action: Callable[[], Any], threads: int = THREADS) -> list[tuple[float, str]]:
    """The answers of so many threads that ask in the same moment."""
    together = threading.Barrier(threads)

    def ask(_: int) -> tuple[float, str]:
        together.wait()
        return answer(action)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(ask, range(threads)))


# Times


@pytest.mark.parametrize(
    "given",
    [
        datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC),
        datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        datetime(2026, 7, 2, 5, 4, 5, 1000, tzinfo=timezone(timedelta(hours=2))),
        datetime(1999, 12, 31, 23, 59, 59, 999000, tzinfo=timezone(timedelta(hours=-11, minutes=-30))),
    ],
)
def test_a_time_comes_back_in_utc_whatever_its_zone_was(database: Database, given: datetime) -> None:
    """Aware in, aware UTC out, and the same moment."""
    with database.transaction() as connection:
        connection.execute(insert(Fact).values(name="x", due_at=given))
    with database.reading() as connection:
        [back] = connection.execute(select(Fact.due_at)).scalars()

    assert back == given
    assert back.utcoffset() == timedelta(0)


def test_a_time_without_a_zone_is_refused(database: Database) -> None:
    """Whose midnight it is cannot be told."""
    naive = datetime(2026, 1, 2)

    with pytest.raises(StatementError, match="a time without a zone"), database.transaction() as connection:
        connection.execute(insert(Fact).values(name="x", due_at=naive))


def test_the_clock_goes_on_by_less_than_a_second(database: Database) -> None:
    """It is near ours, aware, never goes back, and tells moments of one second apart."""
    seen = []
    for _ in range(30):
        with database.reading() as connection:
            seen.append(connection.execute(select(now())).scalar_one())
        time.sleep(0.005)

    assert seen == sorted(seen)
    assert len(set(seen)) > 10
    assert all(at.utcoffset() == timedelta(0) for at in seen)
    assert abs((datetime.now(UTC) - seen[-1]).total_seconds()) < 5


@pytest.mark.parametrize("seconds", [0.0, 0.25, 5.0, 90.5, 86400.0, -30.0, 0.00001])
def test_so_many_seconds_from_now_is_so_much_later(database: Database, seconds: float) -> None:
    """Parts of seconds and the past included."""
    later = seconds_from_now(bindparam("s", type_=Float))
    with database.reading() as connection:
        at, then = connection.execute(select(now(), later), {"s": seconds}).one()

    assert (then - at).total_seconds() == pytest.approx(seconds, abs=0.002)


def test_no_seconds_from_now_is_never(database: Database) -> None:
    """NULL in, NULL out."""
    with database.reading() as connection:
        assert connection.execute(select(seconds_from_now(bindparam("s", type_=Float))), {"s": None}).scalar() is None


def test_times_compare_by_when_they_are(database: Database) -> None:
    """Those of the clock with those that were given, before as after."""
    with database.transaction() as connection:
        at = connection.execute(select(now())).scalar_one()
        for number, seconds in enumerate((-3600, -0.5, 0.5, 3600)):
            connection.execute(insert(Fact).values(name=str(number), due_at=at + timedelta(seconds=seconds)))
        connection.execute(insert(Fact).values(name="clock", due_at=now()))
        past = connection.execute(select(Fact.name).where(Fact.due_at <= at).order_by(Fact.name)).scalars().all()
        in_order = connection.execute(select(Fact.name).order_by(Fact.due_at)).scalars().all()

    assert [name for name in past if name != "clock"] == ["0", "1"]
    assert [name for name in in_order if name != "clock"] == ["0", "1", "2", "3"]


def test_sqlites_times_are_texts_of_one_form(sqlite_file: Path, open_at: Opened) -> None:
    """One that was given and one of the clock have the same length, so that they compare as texts."""
    with open_at(f"sqlite:///{sqlite_file}").transaction() as connection:
        connection.execute(insert(Fact).values(name="given", due_at=datetime(2026, 1, 2, tzinfo=UTC)))
        connection.execute(insert(Fact).values(name="clock", due_at=now()))
        texts = connection.execute(text("SELECT CAST(due_at AS TEXT) FROM facts ORDER BY name")).scalars().all()

    assert texts[1] == "2026-01-02 00:00:00.000"
    assert len(texts[0]) == len(texts[1])


def test_the_least_of_several_is_the_earliest(database: Database) -> None:
    """Both databases have a word for it, and not the same one."""
    with database.reading() as connection:
        least_of = select(least(bindparam("a"), bindparam("b"), bindparam("c")))
        assert connection.execute(least_of, {"a": 3, "b": 1, "c": 2}).scalar() == 1


# Transactions


def test_a_transaction_is_kept_whole(database: Database) -> None:
    """What it wrote is there for others when it has ended."""
    with database.transaction() as connection:
        connection.execute(insert(Fact).values(name="one"))
        connection.execute(insert(Fact).values(name="two"))

    assert read(database) == {"one", "two"}


def test_a_transaction_that_fails_leaves_nothing(database: Database) -> None:
    """The error passes as it is."""
    twice = insert(Fact).values(name="two")

    def work() -> None:
        with database.transaction() as connection:
            connection.execute(insert(Fact).values(name="one"))
            connection.execute(twice)
            connection.execute(twice)

    with pytest.raises(IntegrityError):
        work()

    assert read(database) == set()


def test_a_transaction_is_seen_by_nobody_before_it_ends(database: Database) -> None:
    """Readers are neither stopped by a writer nor shown what it has not committed."""
    write(database, "before")

    with database.transaction() as connection:
        connection.execute(insert(Fact).values(name="within"))
        with ThreadPoolExecutor(1) as other:
            took, seen = other.submit(lambda: (time.monotonic(), read(database))).result()
        waited = time.monotonic() - took

    assert seen == {"before"}
    assert waited < 1
    assert read(database) == {"before", "within"}


def test_a_statement_commits_itself(database: Database) -> None:
    """Others see it at once."""
    with database.statement() as connection:
        connection.execute(insert(Fact).values(name="one"))

    assert read(database) == {"one"}


def test_what_a_constraint_refuses_is_no_trouble_of_the_database(database: Database) -> None:
    """The caller decides what a refusal means; the database goes on answering."""
    write(database, "one")

    with pytest.raises(IntegrityError):
        write(database, "one")

    assert read(database) == {"one"}


def test_no_value_of_a_statement_is_in_the_text_of_an_error(database: Database) -> None:
    """Bodies and secrets are among them, and errors go into logs."""
    with pytest.raises((StatementError, DatabaseUnavailable)) as told, database.transaction() as connection:
        connection.execute(text("INSERT INTO nowhere (a) VALUES (:value)"), {"value": CANARY})

    error: BaseException | None = told.value
    while error is not None:
        assert CANARY not in str(error) + repr(error)
        error = error.__cause__


@pytest.mark.xfail(strict=True, reason="PostgreSQL quotes the row in the DETAIL of its own message")
def test_no_value_of_a_row_is_in_the_text_of_a_refusal(postgres: Database) -> None:
    """Neither in that of a doubled value nor in that of a missing one."""
    write(postgres, CANARY)

    with pytest.raises(IntegrityError) as doubled:
        write(postgres, CANARY)
    with pytest.raises(IntegrityError) as missing, postgres.transaction() as connection:
        connection.execute(text("INSERT INTO journal (actor) VALUES (:value)"), {"value": CANARY})

    assert [CANARY in str(told.value) for told in (doubled, missing)] == [False, False]


# SQLite


def test_sqlite_is_set_up_to_lose_nothing(sqlite_file: Path, open_at: Opened) -> None:
    """A write-ahead log, flushed at each commit, and foreign keys that hold."""
    with open_at(f"sqlite:///{sqlite_file}").reading() as connection:
        pragmas = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]

    assert pragmas == ["wal", 2, 1]


def test_a_transaction_that_reads_before_it_writes_is_not_failed_by_another_writer(
    sqlite_file: Path, open_at: Opened
) -> None:
    """Writers take the lock at their start: one that took it later would fail at once, its snapshot being old."""
    # By two names, so that they are as far apart as two processes: one name shares one lock in the process.
    databases = [open_at(f"sqlite:///{path}", 20) for path in (sqlite_file, f"{sqlite_file.parent}/./payhook.db")]
    with databases[0].transaction() as connection:
        connection.execute(insert(Fact).values(name="count", value={"n": 0}))
    turns = 40

    def count_up(database: Database) -> None:
        for _ in range(turns):
            with database.transaction() as connection:
                value = connection.execute(select(Fact.value).where(Fact.name == "count")).scalar_one()
                time.sleep(0.0005)
                connection.execute(text("UPDATE facts SET value = :v"), {"v": f'{{"n": {value["n"] + 1}}}'})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count_up, databases * 2))

    with databases[0].reading() as connection:
        assert connection.execute(select(Fact.value)).scalar_one() == {"n": 4 * turns}


HOLD = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def held(sqlite_file: Path) -> Iterator[Path]:
    """A SQLite file whose write lock another process holds for ten seconds."""
    holder = subprocess.Popen([sys.executable, "-c", HOLD, sqlite_file, "10"], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    yield sqlite_file
    holder.kill()
    holder.wait()
    holder.stdout.close()


def test_a_lock_that_another_process_holds_is_given_up_in_time(held: Path, open_at: Opened) -> None:
    """A writer waits for it as long as it was told, a reader not at all; afterwards writing works again."""
    database = open_at(f"sqlite:///{held}", 1.0)

    reading = answer(lambda: read(database))
    writing = answer(lambda: write(database, "one"))

    assert reading[1] == "ok"
    assert reading[0] < LATER
    assert writing[1] == "unavailable"
    assert 0.3 < writing[0] < 1 + LATER


def test_who_queues_behind_a_waiting_writer_gives_up_in_time_too(held: Path, open_at: Opened) -> None:
    """Whether it waits for its own process or for another one, a writer waits once."""
    database = open_at(f"sqlite:///{held}", 1.0)

    def late(number: int) -> tuple[float, str]:
        time.sleep(number * 0.2)
        return answer(lambda: write(database, str(number)))

    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(late, range(5)))

    assert {what for _, what in answers} == {"unavailable"}
    assert max(took for took, _ in answers) < 1 + LATER


def test_writers_of_one_process_take_turns(sqlite_file: Path, open_at: Opened) -> None:
    """None fails, however many there are."""
    database = open_at(f"sqlite:///{sqlite_file}", 20)
    names = [str(number) for number in range(40)]

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda name: write(database, name), names))

    assert read(database) == set(names)


# PostgreSQL that hangs, dies and comes back


def warm_up(database: Database) -> None:
    """Open as many connections as there are threads."""
    together = threading.Barrier(THREADS)

    def hold(_: int) -> None:
        with database.reading() as connection:
            connection.exec_driver_sql("SELECT 1")
            together.wait()

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(hold, range(THREADS)))


WAYS = {
    "transaction": lambda database: database.transaction(),
    "statement": lambda database: database.statement(),
    "reading": lambda database: database.reading(),
}


@pytest.mark.parametrize(
    ("way", "connected"), [("transaction", True), ("statement", True), ("reading", True), ("statement", False)]
)
def test_a_database_that_hangs_is_given_up_in_time(
    postgres: Database,
    migrated_postgres: str,
    postgres_server: PostgresServer,
    open_at: Opened,
    way: str,
    connected: bool,
) -> None:
    """Each of eight threads is told within its deadline, those that follow at once; it works again by itself."""
    seconds = SECONDS if connected else CONNECTING_SECONDS
    database = open_at(migrated_postgres, seconds)

    def ask() -> None:
        with WAYS[way](database) as connection:
            connection.exec_driver_sql("SELECT 1")

    if connected:
        warm_up(database)
    postgres_server.freeze()
    too_late = threading.Timer(8, postgres_server.thaw)  # who has no deadline is told apart, and does not hang for ever
    too_late.start()

    first = all_at_once(ask)
    next_ones = [answer(ask) for _ in range(20)]
    too_late.cancel()
    postgres_server.thaw()
    begin = time.monotonic()
    while answer(ask)[1] != "ok" and time.monotonic() - begin < 10:
        time.sleep(0.05)
    recovered = time.monotonic() - begin

    assert {what for _, what in first} == {"unavailable"}
    assert max(took for took, _ in first) < seconds + LATER
    assert {what for _, what in next_ones} == {"unavailable"}
    assert max(took for took, _ in next_ones) < LATER
    assert recovered < CONNECTING_SECONDS + 1
    assert {what for _, what in all_at_once(ask)} == {"ok"}


def test_a_database_that_hangs_between_statements_is_given_up_in_time(
    postgres: Database, postgres_server: PostgresServer
) -> None:
    """The deadline is the transaction's, not a statement's."""

    def work() -> None:
        with postgres.transaction() as connection:
            connection.exec_driver_sql("SELECT 1")
            postgres_server.freeze()
            connection.exec_driver_sql("SELECT 1")

    took, what = answer(work)
    postgres_server.thaw()

    assert what == "unavailable"
    assert took < SECONDS + LATER


def test_a_query_that_takes_too_long_is_given_up(postgres: Database) -> None:
    """A server that answers everything else may still be too slow for one."""

    def sleep() -> None:
        with postgres.reading() as connection:
            connection.exec_driver_sql("SELECT pg_sleep(30)")

    took, what = answer(sleep)

    assert what == "unavailable"
    assert took < SECONDS + LATER


def test_a_row_locked_for_too_long_is_given_up(postgres: Database, open_at: Opened, migrated_postgres: str) -> None:
    """Waiting for another's lock has the same deadline, and the lock's holder is not harmed."""
    write(postgres, "row")
    other = open_at(migrated_postgres, 20)

    with other.transaction() as holder:
        holder.execute(text("UPDATE facts SET value = '1'"))

        def touch() -> None:
            with postgres.transaction() as connection:
                connection.execute(text("UPDATE facts SET value = '2'"))

        took, what = answer(touch)

    with other.reading() as connection:
        assert connection.execute(select(Fact.value)).scalar_one() == 1
    assert what == "unavailable"
    assert took < SECONDS + LATER


def test_a_database_that_died_is_unavailable_and_then_works_again(
    postgres: Database, postgres_server: PostgresServer
) -> None:
    """Connections that broke are replaced; nothing is started anew, and what was committed is there."""
    warm_up(postgres)
    write(postgres, "before")

    postgres_server.kill()
    while_down = [answer(lambda: read(postgres)) for _ in range(THREADS + 4)]
    postgres_server.start()
    begin = time.monotonic()
    while answer(lambda: read(postgres))[1] != "ok" and time.monotonic() - begin < 10:
        time.sleep(0.05)

    assert {what for _, what in while_down} == {"unavailable"}
    assert max(took for took, _ in while_down) < CONNECTING_SECONDS + LATER
    assert time.monotonic() - begin < 5
    assert read(postgres) == {"before"}


def test_a_database_that_was_restarted_between_two_uses_is_reached_again(
    postgres: Database, postgres_server: PostgresServer
) -> None:
    """At most the connections that broke are told of; the database is never given up for good."""
    warm_up(postgres)

    postgres_server.restart()
    answers = [answer(lambda: read(postgres))[1] for _ in range(THREADS + 4)]

    assert answers[-1] == "ok"
    assert set(answers) <= {"ok", "unavailable"}


# Which revision


def test_a_database_without_the_schema_is_refused_with_the_command_that_helps(
    database_url: str, open_at: Opened
) -> None:
    """Nothing was migrated yet."""
    with pytest.raises(WrongRevision) as told:
        open_at(database_url).check()

    assert str(told.value) == (
        f"the database is at revision none, this version of payhook needs {head_revision()}: run `payhook migrate`"
    )


def test_a_database_of_another_revision_is_refused_with_the_command_that_helps(
    database_url: str, open_at: Opened
) -> None:
    """Of an older version or of a newer one."""
    migrate(database_url)
    with open_at(database_url).transaction() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'zzzz'"))

    with pytest.raises(WrongRevision) as told:
        open_at(database_url).check()

    assert str(told.value) == (
        f"the database is at revision zzzz, this version of payhook needs {head_revision()}: "
        "run `payhook migrate` with the version that is to run"
    )


@pytest.mark.parametrize("way", WAYS)
def test_every_way_in_checks_the_revision(database_url: str, open_at: Opened, way: str) -> None:
    """The first connection does, whatever it is for; and again as long as it is wrong."""
    database = open_at(database_url)

    for _ in range(2):
        with pytest.raises(WrongRevision), WAYS[way](database) as connection:
            connection.exec_driver_sql("SELECT 1")
    migrate(database_url)
    with WAYS[way](database) as connection:
        connection.exec_driver_sql("SELECT 1")


def test_the_revision_is_asked_for_once(database: Database) -> None:
    """Later connections are not slowed down by it."""
    asked = []
    warm_up(database)

    with database.reading() as connection:
        raw = connection.connection.dbapi_connection
        if database.is_sqlite:
            raw.set_trace_callback(asked.append)  # type: ignore[union-attr]
        connection.exec_driver_sql("SELECT 1")

    assert [statement for statement in asked if "alembic_version" in statement] == []


def test_an_unreachable_database_is_no_error_until_it_is_used(open_at: Opened) -> None:
    """A process starts without it, and checks the revision when it is there."""
    nowhere = open_at(f"postgresql+psycopg://payhook@127.0.0.1:{free_port()}/payhook")

    with pytest.raises(DatabaseUnavailable) as told:
        nowhere.check()

    assert not isinstance(told.value, WrongRevision)
    assert str(told.value).startswith("the database does not answer (")
    assert "\n" not in str(told.value)


def test_a_folder_that_is_not_there_is_an_unreachable_database(tmp_path: Path, open_at: Opened) -> None:
    """SQLite makes files, not folders."""
    database = open_at(f"sqlite:///{tmp_path}/nowhere/payhook.db")

    with pytest.raises(DatabaseUnavailable):
        database.check()


def test_a_file_that_is_no_database_is_told(tmp_path: Path, open_at: Opened) -> None:
    """Whatever it is, it is not ours."""
    (tmp_path / "payhook.db").write_bytes(b"not a database at all" * 100)

    with pytest.raises(Exception, match="database"):
        open_at(f"sqlite:///{tmp_path / 'payhook.db'}").check()


def test_the_database_of_the_settings_is_opened(sqlite_file: Path) -> None:
    """At this version's revision."""
    settings = Settings(_env_file=None, database_url=f"sqlite:///{sqlite_file}")  # type: ignore[call-arg,arg-type]
    database = open_database(settings, threads=1, seconds=SECONDS)

    database.check()
    database.close()

    with sqlite3.connect(sqlite_file) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(head_revision(),)]


def test_connections_of_a_parent_process_are_let_go_of_unharmed(database: Database) -> None:
    """After a fork the child forgets them: whoever holds one goes on, and the next to ask opens its own."""
    with database.engine.connect() as held:
        held.exec_driver_sql("SELECT 1")

        database.forget()

        held.exec_driver_sql("SELECT 1")
        held.rollback()
        write(database, "one")
    assert read(database) == {"one"}
