"""The fixtures through which a test gets a real server, started when the first test asks for it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.canaries import Search
from tests.servers.postgres_server import PostgresServer
from tests.servers.rabbitmq_server import RabbitmqServer
from tests.servers.redis_server import RedisServer

SERVER_FIXTURES = {"postgres_server", "rabbitmq_server", "redis_server"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever asks for a server carries the mark, so that `-m "not servers"` leaves it out."""
    for item in items:
        if SERVER_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.servers)


@pytest.fixture(scope="session")
def postgres_server(canary_search: Search) -> Iterator[PostgresServer]:
    """The session's PostgreSQL; whoever kills or freezes it need not mend it, the fixtures below do."""
    with PostgresServer() as server:
        yield server
        canary_search.look(f"the log of {server.name}", server.log.read_bytes())


@pytest.fixture(scope="session")
def rabbitmq_server(canary_search: Search) -> Iterator[RabbitmqServer]:
    """The session's RabbitMQ."""
    with RabbitmqServer() as server:
        yield server
        canary_search.look(f"the log of {server.name}", server.log.read_bytes())


@pytest.fixture(scope="session")
def redis_server(canary_search: Search) -> Iterator[RedisServer]:
    """The session's Redis."""
    with RedisServer() as server:
        yield server
        canary_search.look(f"the log of {server.name}", server.log.read_bytes())


@pytest.fixture
def postgres_url(postgres_server: PostgresServer, canary_search: Search) -> Iterator[str]:
    """A fresh, empty PostgreSQL database; its URL for SQLAlchemy."""
    postgres_server.revive()
    url = postgres_server.new_database()
    yield url
    postgres_server.revive()
    canary_search.look_at_postgres(url)
    postgres_server.drop_database(url)


@pytest.fixture
def rabbitmq_url(rabbitmq_server: RabbitmqServer) -> Iterator[str]:
    """A fresh RabbitMQ vhost; its URL for Celery."""
    rabbitmq_server.revive()
    url = rabbitmq_server.new_vhost()
    yield url
    rabbitmq_server.drop_vhost(url)


@pytest.fixture
def redis_url(redis_server: RedisServer) -> Iterator[str]:
    """An empty Redis database; its URL for Celery."""
    redis_server.revive()
    url = redis_server.new_database()
    yield url
    redis_server.revive()
    redis_server.drop_database(url)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.servers)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh, empty database of each kind in turn; its URL for SQLAlchemy."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'payhook.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url
