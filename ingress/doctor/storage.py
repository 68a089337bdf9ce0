"""Lines about the database: whether it answers, of which revision it is, whether its file is whole."""

import sqlite3
import time
from urllib.parse import quote

from ingress.doctor.installation import WAIT_SECONDS, Installation
from ingress.doctor.lines import Finding, Line, NotAsked, failed, ok, warning
from worker.database import DatabaseUnavailable, WrongRevision, head_revision, open_database
from worker.settings import PREFIX

SETTING = f"{PREFIX}DATABASE_URL"

#: An answer that takes longer makes webhooks slow, in seconds.
SLOW_SECONDS = 0.5

#: How many steps of SQLite's machine pass between two looks at the clock.
STEPS = 10_000


def lines(of: Installation) -> list[Line]:
    late = failed(f"{of.database_address} does not answer (no answer in time)", _remedy(of))
    told = [Line("database", lambda: database(of), late=late), Line("revision", lambda: revision(of))]
    return [*told, Line("integrity", lambda: integrity(of))] if of.sqlite_file else told


def database(of: Installation) -> Finding:
    """Whether it answers, how fast, and what it is."""
    of.insist_on("database_url")
    if of.sqlite_file is not None and not of.sqlite_file.exists():
        return failed(f"there is no file {of.sqlite_file}", "`payhook migrate`, or correct " + SETTING)
    began = time.monotonic()
    try:
        with of.database.reading() as connection:
            if of.database.is_sqlite:
                version = f"SQLite {connection.exec_driver_sql('SELECT sqlite_version()').scalar_one()}"
                read_only = False
            else:
                shown = "SELECT current_setting('server_version'), current_setting('transaction_read_only')"
                number, mode = connection.exec_driver_sql(shown).one()
                version, read_only = f"PostgreSQL {number.split()[0]}", mode == "on"
    except DatabaseUnavailable as error:
        return failed(f"{of.database_address}: {error}", _remedy(of))
    took = time.monotonic() - began
    if read_only:
        return failed(f"{of.database_address} takes no writes: it is a standby", f"set {SETTING} to the primary server")
    told = f"{version} at {of.database_address} answered in {took * 1000:.0f} ms"
    return ok(told) if took < SLOW_SECONDS else warning(told, "see what else this server and the way to it carry")


def revision(of: Installation) -> Finding:
    """Whether the schema is the one this version was written for."""
    of.insist_on_file()
    database = open_database(of.settings, threads=1, seconds=WAIT_SECONDS)
    try:
        database.check()
    except WrongRevision as error:
        return failed(str(error), "`payhook migrate`")
    except DatabaseUnavailable:
        raise NotAsked("the database does not answer", "database") from None
    finally:
        database.close()
    return ok(f"{head_revision()}, the one of this version")


def integrity(of: Installation) -> Finding:
    """Whether the SQLite file is whole, as far as that can be said in the time there is."""
    of.insist_on_file()
    path = of.sqlite_file
    assert path is not None
    restore = f"stop payhook and put the newest backup in the place of {path}: docs/deployment.md"
    ends_at = time.monotonic() + WAIT_SECONDS
    connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=1)
    try:
        connection.set_progress_handler(lambda: time.monotonic() > ends_at, STEPS)
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            return ok(f"too large to be read in {WAIT_SECONDS:g} s; for all of it: sqlite3 {path} 'PRAGMA quick_check'")
        if error.sqlite_errorcode in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CANTOPEN):
            raise NotAsked("the file cannot be opened now", "database") from None
        return failed(f"{path} is damaged ({error.sqlite_errorname})", restore)
    finally:
        connection.close()
    return ok(f"{path} is whole") if found == "ok" else failed(f"{path} is damaged: {found.splitlines()[-1]}", restore)


def _remedy(of: Installation) -> str:
    if of.database.is_sqlite:
        return f"see that {of.sqlite_file} can be read and written by payhook's user, or correct {SETTING}"
    return f"start PostgreSQL at {of.database_address}, or correct {SETTING}"
