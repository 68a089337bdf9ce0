"""The servers of the tests do what the tests of faults rely on: they start, die, freeze and come back."""

from collections.abc import Callable, Iterator

import psycopg
import pytest
import redis
from amqp.exceptions import AMQPError
from kombu import Connection
from sqlalchemy import create_engine, text

from tests.servers.postgres_server import PostgresServer
from tests.servers.rabbitmq_server import RabbitmqServer
from tests.servers.redis_server import RedisServer
from tests.servers.server import Server

HIGHEST_PORT = 32767


@pytest.fixture(params=["postgres_server", "rabbitmq_server", "redis_server"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Each of the servers in turn."""
    server: Server = request.getfixturevalue(request.param)
    yield server
    server.revive()


pytestmark = pytest.mark.servers


def test_each_server_answers(server: Server) -> None:
    """A started server answers its client, on a port that no outgoing connection can be given."""
    assert server.ask()
    assert server.port <= HIGHEST_PORT


def test_a_frozen_server_keeps_its_clients_waiting(server: Server) -> None:
    """A frozen server accepts and does not answer, so that its client gives up; thawed, it answers again."""
    server.freeze()
    with pytest.raises((psycopg.OperationalError, redis.TimeoutError, AMQPError, OSError)) as failure:
        server.ask()
    server.thaw()

    assert "time" in str(failure.value).lower()
    assert server.ask()


def test_a_killed_server_leaves_nothing_running(server: Server) -> None:
    """SIGKILL takes every process of a server, and it comes back on the same port."""
    before = server.pids()

    server.kill()

    assert len(before) >= 1
    assert server.pids() == []
    server.restart()
    assert server.ask()


def test_postgres_keeps_what_was_committed_through_a_kill(postgres_server: PostgresServer, postgres_url: str) -> None:
    """A committed row is there after the postmaster and all its children were killed."""
    engine = create_engine(postgres_url)
    with engine.begin() as connection:
        connection.execute(text("create table kept (n integer)"))
        connection.execute(text("insert into kept values (42)"))

    postgres_server.restart()
    engine.dispose()

    with engine.begin() as connection:
        assert connection.scalar(text("select n from kept")) == 42


def test_rabbitmq_keeps_a_confirmed_message_through_a_kill(rabbitmq_server: RabbitmqServer, rabbitmq_url: str) -> None:
    """A durable queue and a confirmed, persistent message are there after the node was killed."""
    with Connection(rabbitmq_url, transport_options={"confirm_publish": True}) as connection:
        connection.SimpleQueue("kept").put({"n": 42})

    rabbitmq_server.restart()

    with Connection(rabbitmq_url) as connection:
        assert connection.SimpleQueue("kept").get(timeout=10).payload == {"n": 42}


def test_redis_answers_again_after_a_kill(redis_server: RedisServer, redis_url: str) -> None:
    """A killed Redis comes back empty: no data is promised."""
    with redis.Redis.from_url(redis_url) as client:
        client.set("n", 42)

    redis_server.restart()

    with redis.Redis.from_url(redis_url) as client:
        assert client.get("n") is None


@pytest.mark.parametrize("place", ["postgres_url", "rabbitmq_url", "redis_url"])
def test_each_test_gets_a_place_of_its_own(place: str, request: pytest.FixtureRequest) -> None:
    """Two places of one server have different URLs, and neither is the server's default one."""
    url = request.getfixturevalue(place)
    server = request.getfixturevalue(place.replace("_url", "_server"))
    make: Callable[[], str] = server.new_vhost if isinstance(server, RabbitmqServer) else server.new_database

    assert len({url, make(), server.url}) == 3


def test_a_fresh_database_is_empty(database_url: str) -> None:
    """Both kinds of database start with no table."""
    tables = (
        "select count(*) from sqlite_master"
        if database_url.startswith("sqlite")
        else ("select count(*) from pg_tables where schemaname = 'public'")
    )

    with create_engine(database_url).connect() as connection:
        assert connection.scalar(text(tables)) == 0
