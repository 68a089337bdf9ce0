"""A Redis server of the tests' own, which keeps nothing on disk."""

import shutil
from itertools import cycle

import redis

from tests.servers.server import INSTALL, Server

DATABASES = 1024


class RedisServer(Server):
    """One server; each test takes a numbered database of it."""

    name = "redis"

    def __init__(self) -> None:
        self._numbers = cycle(range(1, DATABASES))
        super().__init__()

    @property
    def url(self) -> str:
        """Where the server is: its database 0."""
        return self._url_of(0)

    def prepare(self) -> None:
        pass

    def command(self) -> list[str]:
        program = shutil.which("redis-server", path="/usr/bin:/usr/local/bin")
        if program is None:
            raise RuntimeError(f"no Redis here; {INSTALL}")
        return [
            program,
            *("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder)),
            *("--databases", str(DATABASES), "--save", "", "--appendonly", "no"),
        ]

    def ask(self) -> object:
        with redis.Redis.from_url(self.url, socket_timeout=2) as client:
            return client.ping()

    def new_database(self) -> str:
        """Empty the next database; its URL."""
        url = self._url_of(next(self._numbers))
        self.drop_database(url)
        return url

    def drop_database(self, url: str) -> None:
        """Remove everything in a database."""
        with redis.Redis.from_url(url, socket_timeout=10) as client:
            client.flushdb()

    def _url_of(self, number: int) -> str:
        return f"redis://127.0.0.1:{self.port}/{number}"
