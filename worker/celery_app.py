"""The Celery app: broker, queues and delivery guarantees."""

from typing import Any

from celery import Celery
from kombu import Connection, Exchange, Queue

from worker.settings import Settings

EVENTS_QUEUE = "payhook.events"
OPERATIONS_QUEUE = "payhook.operations"

#: A caller who named no queue lands here.
CELERYS_OWN_QUEUE = "celery"

#: What is asked for by others, and our own rings for it.
MONEY_TASKS = ("payhook.capture", "payhook.refund", "payhook.cancel", OPERATIONS_QUEUE)

#: Idle time between looks into the in-process broker; its default of a second would be every event's latency.
MEMORY_POLL_SECONDS = 0.01

#: A broker that accepts and never answers would hold a thread for over 20 s; the sweep has the rows.
BROKER_SECONDS = 1

#: How long a leaving worker may finish what it holds, before its rows are left to their leases.
LEAVE_SECONDS = 30


def make_app(settings: Settings) -> Celery:
    """The app of these settings, without tasks; ``worker.tasks`` adds them.

    Args:
        settings: broker and result backend.
    """
    app = Celery("payhook", set_as_current=True)
    app.conf.update(
        broker_url=settings.broker_url.get_secret_value(),
        result_backend=settings.result_backend.get_secret_value() if settings.result_backend else None,
        task_ignore_result=settings.result_backend is None,
        # JSON both ways: a pickle in the queue would be code run by whoever can write to the broker.
        accept_content=["json"],
        task_serializer="json",
        result_serializer="json",
        result_accept_content=["json"],
        # Declared without arguments, so that any client in any language may declare them too: one declared as a
        # quorum queue answers a plain client with 406.
        task_queues=[_queue(EVENTS_QUEUE), _queue(OPERATIONS_QUEUE), _queue(CELERYS_OWN_QUEUE)],
        task_default_queue=CELERYS_OWN_QUEUE,
        task_routes={
            **{name: {"queue": OPERATIONS_QUEUE} for name in MONEY_TASKS},
            "payhook.*": {"queue": EVENTS_QUEUE},
        },
        # A message is let go only after its keys were handed over; a lost process's messages come again.
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_acks_on_failure=True,
        task_acks_on_timeout=True,
        # 6.0 turns this on: a broken connection would then kill running tasks in the middle of a commit.
        worker_cancel_long_running_tasks_on_connection_loss=False,
        # No soft time limits: raised inside a COMMIT they leave it unknown whether it happened.
        task_soft_time_limit=None,
        worker_prefetch_multiplier=4,
        # A killed worker's connection lives on until the broker notices: exclusive, its queue would keep the next
        # worker of that name from starting.
        control_queue_exclusive=False,
        worker_soft_shutdown_timeout=LEAVE_SECONDS,
        worker_enable_soft_shutdown_on_idle=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # the broker will be back; the rows wait
        broker_transport_options=_transport(settings),
        task_publish_retry=False,
        enable_utc=True,
        timezone="UTC",
    )
    return app


def publishing_connection(app: Celery) -> Connection:
    """A connection for ringing: confirmed by the broker, and given up after about a second.

    Without confirms a frozen RabbitMQ takes messages and loses them (three of three, measured); with them and no
    time-outs a send waits for ever.
    """
    connection: Connection = app.connection_for_write(
        connect_timeout=BROKER_SECONDS, transport_options=_publishing(app.conf.broker_url)
    )
    return connection


def _queue(name: str) -> Queue:
    return Queue(name, Exchange(name), routing_key=name, durable=True)  # as a client that only names it declares it


def _transport(settings: Settings) -> dict[str, Any]:
    if settings.embedded_broker:
        return {"polling_interval": MEMORY_POLL_SECONDS}
    if settings.broker_url.get_secret_value().startswith("redis"):
        return {"socket_timeout": 5, "socket_connect_timeout": BROKER_SECONDS, "health_check_interval": 10}
    return {"confirm_publish": True}


def _publishing(broker_url: str) -> dict[str, Any]:
    if broker_url.startswith("memory"):
        return {"polling_interval": MEMORY_POLL_SECONDS}
    once = {"max_retries": 0, "interval_start": 0}
    if broker_url.startswith("redis"):
        return {"socket_timeout": BROKER_SECONDS, "socket_connect_timeout": BROKER_SECONDS, **once}
    timeouts = dict.fromkeys(("confirm_timeout", "read_timeout", "write_timeout"), BROKER_SECONDS)
    return {"confirm_publish": True, **timeouts, **once}
