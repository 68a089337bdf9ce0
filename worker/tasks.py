"""Celery's way in: one call each, no decisions."""

import os
import sys
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, TypeVar

import structlog
from celery import Celery, Task
from celery.app.task import Context
from celery.signals import (
    setup_logging,
    worker_init,
    worker_process_init,
    worker_process_shutdown,
    worker_ready,
    worker_shutdown,
)
from sqlalchemy import Row
from sqlalchemy.exc import DBAPIError

from worker import exposition, gateways, logs, metrics, operations, reconciliation, reports, sending, tracing, upkeep
from worker.celery_app import LEAVE_SECONDS, make_app
from worker.crew import Crew
from worker.database import Database, DatabaseUnavailable, WrongRevision, open_database
from worker.doorbell import EVENTS, OPERATIONS, PAYMENTS, UPKEEP, Doorbell
from worker.gateways.gateway import Gateway
from worker.lifecycle import MovementKind, OperationState
from worker.operations import CannotAccept
from worker.policies import policies_of
from worker.reconciliation import Reconciler
from worker.sending import Sender
from worker.settings import Settings, SettingsError, load_settings
from worker.settings.sources import tell_settings
from worker.sweep import Sweep
from worker.traffic import Traffic

log = structlog.get_logger("payhook.tasks")

#: A worker's transaction may take longer than an answer to a webhook; a frozen database must still free the thread.
TRANSACTION_SECONDS = 10

#: A row's thread spends its time waiting for the platform, not in a transaction: few connections serve them all.
CONNECTIONS = 8

#: A caller who reads the result waits for a look at the payment for so long at most, and a child of the worker with it.
RESULT_SECONDS, LOOK_SECONDS = 10.0, 0.1

#: A request waits in place, unacknowledged, for a database that is away: from the first pause doubling to the last.
PAUSES = (0.2, 5.0)


Stored = TypeVar("Stored")


class Station:
    """What one process works with; made when first needed, so that a fork never shares a socket."""

    @cached_property
    def database(self) -> Database:
        return open_database(settings, threads=CONNECTIONS, seconds=TRANSACTION_SECONDS)

    @cached_property
    def crew(self) -> Crew:
        return Crew(settings.platform_threads)

    @cached_property
    def gateways(self) -> Mapping[str, Gateway]:
        return gateways.open_gateways(settings)

    @cached_property
    def traffic(self) -> Traffic:
        return Traffic(self.database, settings)

    @cached_property
    def reconciler(self) -> Reconciler:
        return Reconciler(self.database, self.gateways, settings, policies_of(settings), self.traffic)

    @cached_property
    def sender(self) -> Sender:
        return Sender(self.database, self.gateways, settings, self.traffic)

    @cached_property
    def upkeep(self) -> upkeep.Upkeep:
        return upkeep.Upkeep(upkeep.Tools(self.database, self.gateways, settings, self.traffic))

    def get_ready(self) -> None:
        """Make what every row needs, in one thread: several that make it at once would make it twice."""
        _ = self.crew, self.reconciler, self.sender

    def look_at_event(self, event_key: int) -> None:
        with logs.in_hand(event_key=event_key):
            _after_look(self.reconciler.event(event_key))

    def look_at_payment(self, payment_key: int) -> None:
        with logs.in_hand(payment_key=payment_key):
            _after_look(self.reconciler.payment(payment_key))

    def bring_forward(self, operation_key: int) -> None:
        with logs.in_hand(operation_key=operation_key):
            _after_step(self.sender.operation(operation_key))

    def keep_up(self, fact_key: int) -> None:
        done = self.upkeep.job(fact_key)
        if done is not None:
            doorbell.ring(PAYMENTS, done.payment_keys)


def _settings() -> Settings:
    try:
        return load_settings()
    except SettingsError as error:
        sys.exit(str(error))  # under `celery -A worker …` too, a wrong setting is a sentence, not a traceback


settings = _settings()
app: Celery = make_app(settings)
doorbell = Doorbell(app)
station = Station()


@app.task(name=EVENTS, ignore_result=True)
def look_at_events(event_keys: list[int], alone: bool = False) -> None:
    for event_key in _keys(event_keys):
        station.crew.submit(station.look_at_event, event_key, alone=alone is True)


@app.task(name=PAYMENTS, ignore_result=True)
def look_at_payments(payment_keys: list[int], alone: bool = False) -> None:
    for payment_key in _keys(payment_keys):
        station.crew.submit(station.look_at_payment, payment_key, alone=alone is True)


@app.task(name=OPERATIONS, ignore_result=True)
def bring_operations_forward(operation_keys: list[int], alone: bool = False) -> None:
    for operation_key in _keys(operation_keys):
        station.crew.submit(station.bring_forward, operation_key, alone=alone is True)


@app.task(name=UPKEEP, ignore_result=True)
def keep_up(fact_keys: list[int], alone: bool = False) -> None:
    for fact_key in _keys(fact_keys):
        station.crew.submit(station.keep_up, fact_key, alone=alone is True)


@app.task(name="payhook.reconcile")
def reconcile(payment_id: Any = None, merchant_id: Any = None, **unknown: Any) -> dict[str, Any]:
    """Make a payment known, bring it in line now, and keep watching it; its message is the only copy until then."""

    def store() -> int:
        return reconciliation.request(
            station.database,
            frozenset(settings.merchants),
            gap_seconds=settings.gap_seconds,
            payment_id=payment_id,
            merchant_id=merchant_id,
            unknown=unknown,
        )

    try:
        payment_key = _until_stored(store)
    except CannotAccept as error:
        return {"state": "refused", "reason": str(error)}
    station.crew.submit(station.look_at_payment, payment_key)
    return {"state": "accepted", "payment_key": payment_key}


@app.task(name="payhook.capture", bind=True)
def capture(self: Task[Any, Any], /, *nameless: Any, **given: Any) -> dict[str, Any]:
    """Promise and send a capture; like the two below, its message is the only copy until it is a row."""
    return _move_money(MovementKind.CAPTURE, self.request, nameless, given)


@app.task(name="payhook.refund", bind=True)
def refund(self: Task[Any, Any], /, *nameless: Any, **given: Any) -> dict[str, Any]:
    return _move_money(MovementKind.REFUND, self.request, nameless, given)


@app.task(name="payhook.cancel", bind=True)
def cancel(self: Task[Any, Any], /, *nameless: Any, **given: Any) -> dict[str, Any]:
    return _move_money(MovementKind.CANCEL, self.request, nameless, given)


def _move_money(
    kind: MovementKind, message: Context, nameless: tuple[Any, ...], given: dict[str, Any]
) -> dict[str, Any]:
    traceparent = tracing.well_formed((message.headers or {}).get("traceparent"))
    if nameless:
        given = {
            **given,
            "positional": nameless,
        }  # an argument that no request knows: refused, and kept with that reason

    def store() -> Row[Any]:
        return operations.request(
            station.database, kind, given, frozenset(settings.merchants), unnamed=message.id or "message"
        )

    try:
        with tracing.span("request", traceparent=traceparent, kind=kind.value):
            operation = _until_stored(store)
    except CannotAccept as error:
        return {"state": "refused", "reason": str(error)}
    if settings.result_backend is None:
        station.crew.submit(station.bring_forward, operation.operation_key)
        return {}
    try:
        return _promised(operation.operation_key)
    except DatabaseUnavailable:  # it is stored, and due
        return {"operation_key": operation.operation_key, "state": operation.state, "reason": None}


def _promised(operation_key: int) -> dict[str, Any]:
    """For a caller who reads the result: the operation once it is promised or refused, if that can be said soon."""
    deadline = time.monotonic() + RESULT_SECONDS
    while True:
        with station.database.reading() as connection:
            operation = reports.operation(connection, operation_key)
        if operation["state"] != OperationState.REQUESTED or time.monotonic() > deadline:
            return reports.plain(operation)
        with logs.in_hand(operation_key=operation_key):
            follow = station.sender.operation(operation_key)
        _after_step(follow)
        if follow.payment is None:  # somebody looks at it already
            time.sleep(LOOK_SECONDS)
        else:
            time.sleep(follow.payment[1])
            station.look_at_payment(follow.payment[0])


def _until_stored(store: Callable[[], Stored]) -> Stored:
    pause = PAUSES[0]
    while True:
        try:
            return store()
        except (DatabaseUnavailable, DBAPIError) as error:  # read-only, no grant, …: a person can mend each of them
            log.warning("request.waits", error=type(error).__name__)
            time.sleep(pause)
            pause = min(pause * 2, PAUSES[1])


def _after_look(follow: reconciliation.Follow | None) -> None:
    if follow is None:
        return
    if follow.seconds is not None:
        doorbell.ring_later(PAYMENTS, follow.payment_key, follow.seconds)
    doorbell.ring(OPERATIONS, follow.operation_keys)


def _after_step(follow: sending.Follow) -> None:
    for operation_key, seconds in follow.operations:
        doorbell.ring_later(OPERATIONS, operation_key, seconds)
    if follow.payment is not None:
        doorbell.ring_later(PAYMENTS, *follow.payment)


def _keys(given: Any) -> list[int]:
    """The row keys in a message. Anyone who can write to the broker can forge one: it wakes due rows, no more."""
    return [key for key in given if type(key) is int and 0 < key < 2**63] if isinstance(given, list) else []


_sweep: Sweep | None = None


@setup_logging.connect
def _log_as_we_do(**_: Any) -> None:
    logs.set_up(settings)


@worker_init.connect
def _refuse_to_work_for_nobody(**_: Any) -> None:
    tell_settings()
    try:
        policies_of(settings)  # read for its error, as the merchants are
        station.database.check()
    except (SettingsError, WrongRevision) as error:
        sys.exit(str(error))
    except DatabaseUnavailable as error:
        log.warning("database.unreachable", told=str(error))
    gateways.load()
    if settings.metrics_port is not None:
        _show_metrics(settings.metrics_host, settings.metrics_port)


def _show_metrics(host: str, port: int) -> None:
    """Those of this process and of all its children, which are not there yet."""
    metrics.share()
    try:
        exposition.show(exposition.registry_of(lambda: station.database, settings), host, port)
    except OSError as error:
        sys.exit(
            f"cannot show metrics on {host}:{port} ({error.strerror}); "
            "choose another with PAYHOOK_METRICS_HOST and PAYHOOK_METRICS_PORT"
        )


@worker_process_init.connect
def get_ready(**_: Any) -> None:
    """Make what a child's rows need before the first of them comes, which would wait for it; no server is asked."""
    station.get_ready()


@worker_ready.connect
def begin_sweeping(**_: Any) -> None:
    """Sweep from now on: a worker's main process, whichever command started it."""
    global _sweep
    _sweep = Sweep(station.database, doorbell, settings)
    _sweep.start()


@worker_shutdown.connect
@worker_process_shutdown.connect
def leave(**_: Any) -> None:
    """Finish the rows in hand, so long at most, and sweep no more."""
    if _sweep is not None:
        _sweep.leave()
    if "crew" in vars(station) and not station.crew.drain(LEAVE_SECONDS):
        log.warning("left.unfinished")  # their leases end, and the sweep rings for them
    doorbell.flush(1.0)
    tracing.flush()
    logs.flush()  # a child of Celery's ends by os._exit, which waits for nothing


def _after_fork() -> None:
    global station, _sweep
    inherited: Database | None = vars(station).get("database")
    station, _sweep = Station(), None
    if inherited is not None:
        # Kept for what it knows: the revision was checked. A child that is forked after the migration of an upgrade
        # would otherwise refuse the schema that its siblings go on with.
        inherited.forget()
        station.database = inherited


os.register_at_fork(after_in_child=_after_fork)
