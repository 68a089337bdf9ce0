"""The doorbell: gathered, bounded, never waited for, and alive in a forked child."""

import json
import os
import time
import uuid
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import pytest
from celery import Celery
from kombu.transport.virtual.base import Empty

from tests.servers.ports import free_port
from worker import doorbell as module
from worker.doorbell import BACK_OFF_SECONDS, EVENTS, MOST_KEYS, PAYMENTS, Doorbell

#: What a call of the doorbell may take at most; a send to a broker takes longer.
CALL_SECONDS = 0.005

Message = tuple[str, dict[str, list[int]]]


def app_on(broker_url: str) -> Celery:
    """An app with a queue that no other test reads."""
    app = Celery("doorbell", broker=broker_url, set_as_current=False)
    app.conf.update(
        task_default_queue=f"bells-{uuid.uuid4().hex}",
        task_serializer="json",
        broker_transport_options={"polling_interval": 0.001},
    )
    return app


class Listener:
    """The other end of an in-memory broker."""

    def __init__(self, app: Celery) -> None:
        self._queue = app.conf.task_default_queue
        self._connection = app.connection_for_read()
        self._channel: Any = self._connection.default_channel
        with app.amqp.Producer(self._connection) as producer:
            producer.maybe_declare(app.amqp.queues[self._queue])

    def heard(self) -> list[Message]:
        """The messages there are by now: the task and its arguments."""
        messages: list[Message] = []
        while True:
            try:
                message = self._channel.basic_get(self._queue, no_ack=True)
            except Empty:
                message = None
            if message is None:
                return messages
            _, arguments, _ = json.loads(message.body)
            messages.append((message.headers["task"], arguments))

    def hears(self, count: int, seconds: float = 5.0) -> list[Message]:
        """Wait for so many messages, or for the time to be over."""
        messages, deadline = self.heard(), time.monotonic() + seconds
        while len(messages) < count and time.monotonic() < deadline:
            time.sleep(0.002)
            messages += self.heard()
        return messages

    def close(self) -> None:
        self._connection.release()


@pytest.fixture
def app() -> Celery:
    return app_on("memory://")


@pytest.fixture
def listener(app: Celery) -> Iterator[Listener]:
    listener = Listener(app)
    yield listener
    listener.close()


@pytest.fixture
def doorbell(app: Celery) -> Doorbell:
    return Doorbell(app)


@pytest.fixture
def deaf() -> Doorbell:
    """A doorbell whose broker is not there."""
    return Doorbell(app_on(f"amqp://127.0.0.1:{free_port()}"))


def duration(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def test_a_ring_is_a_message_of_row_keys(doorbell: Doorbell, listener: Listener) -> None:
    """A task's name and keys by the task's own name for them; nothing else travels."""
    doorbell.ring(EVENTS, [7])
    doorbell.ring(PAYMENTS, [8])

    assert sorted(listener.hears(2)) == [
        ("payhook.events", {"event_keys": [7]}),
        ("payhook.payments", {"payment_keys": [8]}),
    ]


def test_rings_are_gathered_into_messages_of_fifty(doorbell: Doorbell, listener: Listener) -> None:
    """A burst costs few messages; each key is in one of them once, however often it was rung for."""
    for _ in range(3):
        for key in range(1, 121):
            doorbell.ring(EVENTS, [key])

    assert doorbell.flush(5)
    messages = listener.heard()
    keys = [key for _, arguments in messages for key in arguments["event_keys"]]
    assert all(len(arguments["event_keys"]) <= MOST_KEYS for _, arguments in messages)
    assert set(keys) == set(range(1, 121))
    assert len(messages) <= 12  # 3 when the machine is idle; the burst may span a few gatherings


def test_a_batch_of_one_call_is_sent_as_few_messages(doorbell: Doorbell, listener: Listener) -> None:
    """What is rung for together travels together."""
    doorbell.ring(PAYMENTS, range(1, 102))

    assert [len(arguments["payment_keys"]) for _, arguments in listener.hears(3)] == [50, 50, 1]


def test_what_is_rung_alone_travels_alone(doorbell: Doorbell, listener: Listener) -> None:
    """It may be what killed its last worker: no neighbour shares its message."""
    doorbell.ring(EVENTS, [1, 2, 3])
    doorbell.ring(EVENTS, [4, 5], alone=True)

    assert doorbell.flush(5)
    messages = sorted(arguments["event_keys"] for _, arguments in listener.hears(3))
    assert messages == [[1, 2, 3], [4], [5]]


def test_a_row_rung_alone_stays_alone(doorbell: Doorbell, listener: Listener) -> None:
    """Another ring for it within the gathering does not bring it back among the others."""
    doorbell.ring(EVENTS, [4], alone=True)
    doorbell.ring(EVENTS, [3, 4, 5])

    assert doorbell.flush(5)
    assert [4] in [arguments["event_keys"] for _, arguments in listener.heard()]


def test_a_later_ring_comes_at_its_time(doorbell: Doorbell, listener: Listener) -> None:
    """Not before, and not much after."""
    start = time.monotonic()
    doorbell.ring_later(PAYMENTS, 7, 0.15)

    assert listener.hears(1) == [(PAYMENTS, {"payment_keys": [7]})]
    assert 0.15 <= time.monotonic() - start < 3


@pytest.mark.parametrize("waits", [(0.1, 30.0), (30.0, 0.1)])
def test_of_two_later_rings_the_earlier_stays(
    doorbell: Doorbell, listener: Listener, waits: tuple[float, float]
) -> None:
    """One payment is rung for once, at the earlier time, whichever was asked for first."""
    for seconds in waits:
        doorbell.ring_later(PAYMENTS, 7, seconds)

    assert len(listener.hears(1, seconds=2.0)) == 1


def test_the_earlier_ring_takes_the_later_ones_place(doorbell: Doorbell, listener: Listener) -> None:
    """What was to come later does not come as well; afterwards the row can be rung for again."""
    doorbell.ring_later(PAYMENTS, 7, 0.15)
    doorbell.ring_later(PAYMENTS, 7, 0.02)
    time.sleep(0.4)
    assert len(listener.heard()) == 1

    doorbell.ring_later(PAYMENTS, 7, 0.02)

    assert len(listener.hears(1)) == 1


def test_a_dead_broker_is_never_waited_for(deaf: Doorbell) -> None:
    """Every call returns at once while the broker refuses; what cannot be delivered is dropped and counted."""
    calls = []
    for key in range(1, 301):
        calls.append(duration(lambda key=key: deaf.ring(EVENTS, [key])))  # type: ignore[misc]
        calls.append(duration(lambda key=key: deaf.ring_later(PAYMENTS, key, 0.01)))  # type: ignore[misc]
        if key % 20 == 0:
            time.sleep(0.02)
    deadline = time.monotonic() + 10
    while not deaf.dropped and time.monotonic() < deadline:
        time.sleep(0.01)

    assert median(calls) < CALL_SECONDS
    assert sorted(calls)[int(len(calls) * 0.98)] < CALL_SECONDS  # the rest is the machine's
    assert max(calls) < BACK_OFF_SECONDS / 2
    assert 0 < deaf.dropped <= 600
    assert deaf.state()["ok"] is False


def test_what_waits_is_bounded(deaf: Doorbell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond so many, rings are dropped and counted: the sweep has the rows."""
    monkeypatch.setattr(module, "MOST_WAITING", 100)
    monkeypatch.setattr(module, "GATHER_SECONDS", 60.0)  # nothing leaves while we count

    deaf.ring(EVENTS, range(1, 251))
    for key in range(1, 251):
        deaf.ring_later(PAYMENTS, key, 60.0)

    assert deaf.state()["waiting"] == 100
    assert deaf.dropped == 300


def test_a_broker_that_comes_back_is_rung_through_again(
    app: Celery, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failure the next rings, a moment later, go out over a new connection."""
    monkeypatch.setattr(module, "BACK_OFF_SECONDS", 0.05)
    doorbell, whole = Doorbell(app), module.publishing_connection

    def broken(_: Celery) -> Any:
        raise ConnectionRefusedError

    monkeypatch.setattr(module, "publishing_connection", broken)
    doorbell.ring(EVENTS, [1])
    deadline = time.monotonic() + 5
    while doorbell.state()["ok"] and time.monotonic() < deadline:
        time.sleep(0.005)
    assert (doorbell.state()["ok"], doorbell.dropped) == (False, 1)
    monkeypatch.setattr(module, "publishing_connection", whole)

    doorbell.ring(EVENTS, [2])

    assert listener.hears(1) == [(EVENTS, {"event_keys": [2]})]
    assert doorbell.flush(5)
    assert doorbell.state()["ok"] is True


def test_flush_waits_until_everything_has_left(doorbell: Doorbell, listener: Listener) -> None:
    """A leaving process rings for what it has; what is to be rung for later is not waited for."""
    doorbell.ring_later(PAYMENTS, 7, 60.0)
    doorbell.ring(EVENTS, range(1, 201))

    assert doorbell.flush(5)

    assert sum(len(arguments["event_keys"]) for _, arguments in listener.heard()) == 200


def test_flush_gives_up_on_a_broker_that_hangs(deaf: Doorbell, monkeypatch: pytest.MonkeyPatch) -> None:
    """So long at most, and it says so."""
    monkeypatch.setattr(module, "GATHER_SECONDS", 60.0)
    deaf.ring(EVENTS, [1])

    start = time.monotonic()

    assert not deaf.flush(0.1)
    assert time.monotonic() - start < 5


def test_a_doorbell_never_rung_has_nothing_to_flush(doorbell: Doorbell) -> None:
    """A process that leaves before its first ring does not wait."""
    assert doorbell.flush(0.0)


def test_a_forked_child_rings_for_itself(app: Celery, doorbell: Doorbell, listener: Listener) -> None:
    """The parent's thread, connection and waiting rings stay the parent's; the child makes its own."""
    doorbell.ring(EVENTS, [1])
    assert doorbell.flush(5)
    listener.heard()
    doorbell.ring_later(PAYMENTS, 99, 0.1)
    reader, writer = os.pipe()

    child = os.fork()
    if child == 0:  # nothing of the test may run on in the child, whatever happens
        try:
            doorbell.ring(EVENTS, [2, 3])
            doorbell.flush(5)
            time.sleep(0.3)
            os.write(writer, json.dumps(Listener(app).heard()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as told:
        heard_by_child = json.load(told)
    os.waitpid(child, 0)

    assert heard_by_child == [["payhook.events", {"event_keys": [2, 3]}]]
    assert listener.hears(1) == [(PAYMENTS, {"payment_keys": [99]})]


def test_a_fork_while_a_ring_is_made_leaves_no_lock_behind(doorbell: Doorbell) -> None:
    """Another thread may hold the parent's lock at that moment; the child has one of its own."""
    doorbell._change.acquire()
    child = os.fork()
    if child == 0:
        doorbell.ring(EVENTS, [1])
        os._exit(7 if doorbell.flush(5) else 8)
    doorbell._change.release()

    deadline, ended = time.monotonic() + 10, (0, 0)
    while ended == (0, 0) and time.monotonic() < deadline:
        ended = os.waitpid(child, os.WNOHANG)
        time.sleep(0.01)
    if ended == (0, 0):
        os.kill(child, 9)
        os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(ended[1]) == 7
