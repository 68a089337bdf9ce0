"""Any system can ask payhook for something: from Python and from Node, over each broker, with and without an answer."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import text

from tests.end_to_end.callers import Caller, node_caller, python_caller
from tests.end_to_end.conftest import Start
from tests.end_to_end.house import House
from tests.servers.postgres_server import PostgresServer
from tests.servers.process_tree import wait_for
from tests.servers.rabbitmq_server import RabbitmqServer
from tests.servers.redis_server import RedisServer
from worker.celery_app import OPERATIONS_QUEUE

pytestmark = pytest.mark.timeout(180)  # the first test waits for every server

#: What a capture, a refund and a cancellation after them come to.
OVER = ["succeeded", "succeeded", "refused"]

#: Where results are kept that only Python can read.
RPC = "rpc://"


@dataclass(frozen=True)
class Counter:
    """Where requests are taken: a broker, a result backend or none, and a worker behind them."""

    broker_url: str
    result_backend: str | None

    def env(self, caller: Caller, queue: str | None) -> dict[str, str]:
        """What a caller is told."""
        backend = None if self.result_backend == RPC and caller.name == "node" else self.result_backend
        told = {"BROKER_URL": self.broker_url, "RESULT_BACKEND": backend, "QUEUE": queue}
        return {name: value for name, value in told.items() if value is not None}


@pytest.fixture(scope="module")
def house(start_for_all: Start, postgres_server: PostgresServer) -> House:
    """A platform and a database; the workers come and go."""
    postgres_server.revive()
    return House(start_for_all, postgres_server.new_database(), broker_url="")


@pytest.fixture(
    scope="module", params=["rabbitmq", "rabbitmq-with-rpc", "rabbitmq-with-redis", "redis", "redis-with-redis"]
)
def counter(
    request: pytest.FixtureRequest, house: House, rabbitmq_server: RabbitmqServer, redis_server: RedisServer
) -> Iterator[Counter]:
    """Each broker with each result backend in turn, and one worker at a time."""
    broker, _, backend = request.param.partition("-with-")
    rabbitmq_server.revive()
    redis_server.revive()
    counter = Counter(
        rabbitmq_server.new_vhost() if broker == "rabbitmq" else redis_server.new_database(),
        {"": None, "rpc": RPC, "redis": redis_server.new_database()}[backend],
    )
    house.broker_url = counter.broker_url
    answers = {"PAYHOOK_RESULT_BACKEND": counter.result_backend} if counter.result_backend else {}
    house.more = {"PAYHOOK_GAP_SECONDS": "0.3", **answers}
    worker = house.work(f"work-{request.param}", concurrency=1)
    yield counter
    worker.kill()


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Caller:
    """A system in Python."""
    return python_caller(tmp_path_factory.mktemp("python"))


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Caller:
    """A system in JavaScript."""
    return node_caller(tmp_path_factory.mktemp("node"))


@pytest.fixture(params=["python", "node"])
def caller(request: pytest.FixtureRequest) -> Caller:
    """Each of the two in turn."""
    caller: Caller = request.getfixturevalue(request.param)
    return caller


def test_any_system_can_have_money_moved(start: Start, house: House, counter: Counter, caller: Caller) -> None:
    """Sent to no particular queue, to the right one, or to both, a request is carried out once; its answer is the
    operation, if answers are kept where the caller can read."""
    (payment_id,) = house.sandbox.create_payments(1, webhooks=False)
    capture = {"payment_id": payment_id, "request_id": f"{payment_id}/capture", "source": caller.name, "amount": 1000}
    refund = {**capture, "request_id": f"{payment_id}/refund", "amount": 400, "currency": "EUR", "reason": "returned"}
    cancel = {"payment_id": payment_id.partition("_")[0], "request_id": f"{payment_id}/cancel", "source": caller.name}
    unnamed, named = counter.env(caller, queue=None), counter.env(caller, OPERATIONS_QUEUE)

    first = caller.ask(start, "payhook.capture", capture, unnamed)
    kept = wait_for(lambda: asked_for(house, payment_id), 30)
    again = caller.ask(start, "payhook.capture", capture, named)
    caller.ask(start, "payhook.refund", refund, named)
    caller.ask(start, "payhook.cancel", cancel, named)
    over = wait_for(lambda: [one["state"] for one in asked_for(house, payment_id)] == OVER, 60)
    last = caller.ask(start, "payhook.cancel", cancel, unnamed) if "RESULT_BACKEND" in named else None

    assert kept
    assert over, asked_for(house, payment_id)
    captured, refunded, cancelled = asked_for(house, payment_id)
    truth = house.sandbox.truth_of(payment_id)
    assert (truth["amount_captured"], truth["amount_refunded"], truth["amount_cancelled"]) == (1000, 400, 0)
    assert refunded["amount"] == 400
    if "RESULT_BACKEND" in named:
        assert first["operation_key"] == again["operation_key"] == captured["operation_key"]
        assert (last["state"], last["reason"]) == ("refused", cancelled["reason"])
    else:
        assert (first, again) == (None, None)


def asked_for(house: House, payment_id: str) -> list[dict[str, Any]]:
    """What became of the requests for a payment: its capture, refund and cancellation."""
    query = (
        "SELECT * FROM operations WHERE request_id LIKE :id"
        " ORDER BY array_position(ARRAY['capture', 'refund', 'cancel']::varchar[], kind)"
    )
    with house.engine.connect() as connection:
        return [dict(row) for row in connection.execute(text(query), {"id": f"{payment_id}/%"}).mappings()]


def test_the_python_caller_has_celery_and_nothing_of_ours(python: Caller) -> None:
    """Its environment finds Celery, and neither payhook nor what else payhook needs."""
    look = "import importlib.util as u, sys; print([name for name in sys.argv[1:] if u.find_spec(name)])"
    names = ["celery", "redis", "worker", "ingress", "sandbox", "sqlalchemy", "flask", "onlinepayments", "structlog"]

    found = subprocess.run([*python.command[:2], "-c", look, *names], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "['celery', 'redis']"
