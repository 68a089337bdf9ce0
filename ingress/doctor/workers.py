"""Lines about the broker and who listens to it: a message there and back, the workers, their queues, the sweep."""

import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from celery import Celery
from kombu import Queue

from ingress.doctor.installation import Installation
from ingress.doctor.lines import Finding, Line, NotAsked, Once, failed, ok
from worker.celery_app import CELERYS_OWN_QUEUE, EVENTS_QUEUE, OPERATIONS_QUEUE, make_app, publishing_connection
from worker.settings import PREFIX

SETTING = f"{PREFIX}BROKER_URL"

#: A message comes back within milliseconds, or something is wrong.
RETURN_SECONDS = 1.0

#: Answers of workers are gathered until none came for so long. Where one is missing they are asked a second time, with
#: more patience: on a busy machine the first may take that long.
GATHER_SECONDS = (0.3, 1.0)

#: A sweep leaves its sign every `PAYHOOK_SWEEP_SECONDS`; so many without one, and no fewer seconds, say that none runs.
MISSED_SWEEPS, MISSED_SECONDS = 4, 30.0

QUEUES = (EVENTS_QUEUE, OPERATIONS_QUEUE, CELERYS_OWN_QUEUE)


def lines(of: Installation) -> list[Line]:
    app = make_app(of.settings)
    consumers = Once(lambda: _consumers(of, app))
    return [
        Line("broker", lambda: broker(of, app), late=failed(f"{of.broker_address} does not answer", _remedy(of))),
        Line("workers", lambda: workers(of, consumers)),
        Line("queues", lambda: queues(of, consumers)),
        Line("sweep", lambda: sweep(of)),
    ]


def broker(of: Installation, app: Celery) -> Finding:
    """Whether a message goes there and comes back, on a queue of its own."""
    of.insist_on("broker_url")
    if of.settings.embedded_broker:
        return ok("memory://: messages never leave `payhook up`")
    began, message = time.monotonic(), uuid.uuid4().hex
    try:
        with publishing_connection(app) as connection, connection.channel() as channel:
            queue = Queue(f"payhook.doctor.{message}", exclusive=True, auto_delete=True, durable=False)(channel)
            queue.declare()
            connection.Producer().publish({"doctor": message}, routing_key=queue.name, serializer="json", retry=False)
            returned = _returned(queue, began + RETURN_SECONDS)
            queue.delete()
            kind = _kind(connection)
    except Exception as error:  # kombu, the drivers and the sockets each raise their own
        inner = type(error.__cause__ or error).__name__
        return failed(f"{of.broker_address} does not take a message ({inner})", _remedy(of))
    if returned != {"doctor": message}:
        return failed(f"{of.broker_address} took a message and did not give it back", _remedy(of))
    return ok(f"{kind} at {of.broker_address}: there and back in {(time.monotonic() - began) * 1000:.0f} ms")


def workers(of: Installation, consumers: Once[Mapping[str, frozenset[str]]]) -> Finding:
    """Which workers answer."""
    if of.settings.embedded_broker:
        return _embedded(of)
    answered = consumers()
    if not answered:
        return failed(f"none answered within {GATHER_SECONDS[1]:g} s", "start one: `payhook work`")
    return ok(f"{len(answered)} answered: {', '.join(sorted(answered))}")


def queues(of: Installation, consumers: Once[Mapping[str, frozenset[str]]]) -> Finding:
    """Whether each queue has somebody who consumes it."""
    if of.settings.embedded_broker:
        return _embedded(of)
    consumed: frozenset[str] = frozenset().union(*consumers().values())
    left = [name for name in QUEUES if name not in consumed]
    if left:
        return failed(f"nobody consumes {', '.join(left)}", "start a worker for all of them: `payhook work`")
    return ok(f"{', '.join(QUEUES)} are consumed")


def sweep(of: Installation) -> Finding:
    """Whether anybody looks for what is due."""
    ago = of.standing().sweep_seconds_ago
    start = f"start one: `{'payhook up' if of.settings.embedded_broker else 'payhook work'}`"
    if ago is None:
        return failed("no worker ever swept this database", start)
    most = max(MISSED_SWEEPS * of.settings.sweep_seconds, MISSED_SECONDS)
    if ago > most:
        return failed(f"the last was {ago:.0f} s ago: no worker runs, or none reaches the database", start)
    return ok(f"{ago:.0f} s ago")


def _embedded(of: Installation) -> Finding:
    """The only worker is in `payhook up`, which no message of ours reaches: its sweep tells for it."""
    found = sweep(of)
    why = f"memory://: `payhook up` is the only one; its sweep: {found.why}"
    return Finding(found.state, why, found.what_to_do)


def _consumers(of: Installation, app: Celery) -> Mapping[str, frozenset[str]]:
    """The queues of each worker that answers."""
    of.insist_on("broker_url")
    found: dict[str, frozenset[str]] = {}
    try:
        with publishing_connection(app) as connection:
            for seconds in GATHER_SECONDS:
                answers: Any = app.control.inspect(timeout=seconds, connection=connection).active_queues()
                found |= {name: frozenset(str(one["name"]) for one in told) for name, told in (answers or {}).items()}
                if frozenset(QUEUES) <= frozenset().union(*found.values()):
                    break
    except Exception:  # as above
        raise NotAsked("the broker does not answer", "broker") from None
    return found


def _returned(queue: Any, deadline: float) -> Any:
    while time.monotonic() < deadline:
        message = queue.get(no_ack=True)
        if message is not None:
            return message.decode()
        time.sleep(0.005)
    return None


def _kind(connection: Any) -> str:
    if connection.transport.driver_type == "redis":
        return "Redis"
    properties = {}
    with suppress(AttributeError):
        properties = connection.connection.server_properties
    return f"{properties.get('product', 'AMQP')} {properties.get('version', '')}".strip()


def _remedy(of: Installation) -> str:
    kind = "Redis" if of.broker_address.startswith("redis") else "RabbitMQ"
    return f"start {kind} at {of.broker_address}, or correct {SETTING}"
