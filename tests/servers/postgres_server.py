"""A PostgreSQL server of the tests' own."""

import os
from itertools import count
from pathlib import Path
from signal import SIGINT

import psycopg
from sqlalchemy.engine import make_url

from tests.servers.server import INSTALL, Server

MAX_CONNECTIONS = 200
USER = "payhook"


class PostgresServer(Server):
    """One cluster; each test takes a fresh database of it."""

    name = "postgres"
    stop_signal = SIGINT  # "fast": the default waits for the clients to leave

    def __init__(self) -> None:
        # PostgreSQL refuses to run as root; Debian's package has made this user for it.
        self.user = "postgres" if os.geteuid() == 0 else None
        self._numbers = count(1)
        super().__init__()

    @property
    def url(self) -> str:
        """Where the cluster's own database is, for SQLAlchemy."""
        return self._url_of("postgres")

    def prepare(self) -> None:
        data = str(self.folder / "data")
        # Nothing is lost if the machine falls before the tests begin; from then on fsync is on.
        self.run(
            _program("initdb"), "--pgdata", data, "--username", USER, "--auth=trust", "--encoding=UTF8", "--no-sync"
        )

    def command(self) -> list[str]:
        # Left by a postmaster that was killed; by now its number may be another's, and then PostgreSQL would not start.
        (self.folder / "data" / "postmaster.pid").unlink(missing_ok=True)
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "max_connections": MAX_CONNECTIONS,
            "fsync": "on",
            "log_min_messages": "warning",
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        return [_program("postgres"), "-D", str(self.folder / "data"), *options]

    def ask(self) -> object:
        return self._execute("select 1")

    def new_database(self) -> str:
        """Make an empty database; its URL, for SQLAlchemy."""
        name = f"test_{next(self._numbers)}"
        self._execute(f"create database {name}")
        return self._url_of(name)

    def drop_database(self, url: str) -> None:
        """Remove a database, whoever is still connected to it."""
        self._execute(f"drop database {make_url(url).database} with (force)")

    def dump(self, url: str, file: Path) -> None:
        """Back a database up into a file, with PostgreSQL's own program, while it is in use."""
        inside = self.folder / file.name
        self.run(_program("pg_dump"), "--format=custom", f"--file={inside}", *self._where(url))
        file.write_bytes(inside.read_bytes())

    def restore(self, url: str, file: Path) -> None:
        """Put what a dump holds in the place of a database."""
        inside = self.folder / file.name
        inside.write_bytes(file.read_bytes())
        self.drop_database(url)
        self._execute(f"create database {make_url(url).database}")
        self.run(_program("pg_restore"), "--exit-on-error", "--no-owner", *self._where(url), str(inside))

    def _where(self, url: str) -> list[str]:
        return ["--host=127.0.0.1", f"--port={self.port}", f"--username={USER}", f"--dbname={make_url(url).database}"]

    def _execute(self, statement: str) -> object:
        conninfo = f"host=127.0.0.1 port={self.port} user={USER} dbname=postgres connect_timeout=2"
        with psycopg.connect(conninfo, autocommit=True) as connection:
            return connection.execute(statement.encode())

    def _url_of(self, database: str) -> str:
        return f"postgresql+psycopg://{USER}@127.0.0.1:{self.port}/{database}"


def _program(name: str) -> str:
    # Not the search path: what it finds there may be a wrapper around the machine's own cluster.
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: float(path.parts[4]))
    if not found:
        raise RuntimeError(f"no PostgreSQL here; {INSTALL}")
    return str(found[-1])
