"""What a scrape is answered with: what processes have counted, and where the installation stands."""

import os
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from wsgiref.simple_server import WSGIServer

import structlog
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import select

from worker import metrics, reports
from worker.database import Database, DatabaseUnavailable, head_revision, now
from worker.lifecycle import ABSORBING, OperationState
from worker.reports import Standing
from worker.settings import Settings

log = structlog.get_logger("payhook.metrics")

#: A scrape is answered within a second; with a database that does not answer, without what it would have said.
READ_SECONDS = 0.8

OPEN_STATES = tuple(state for state in OperationState if state not in ABSORBING)


@dataclass(frozen=True)
class Seen:
    """What the database told."""

    standing: Standing
    at: datetime  # by its clock
    merchant_ids: tuple[str, ...]  # ours, as far as this process knows them


#: A gauge's values, by those of its labels.
Values = Mapping[tuple[str, ...], float]


@dataclass(frozen=True)
class Gauge:
    """One thing worth watching."""

    name: str
    told: str
    values: Callable[[Seen], Values]
    labels: tuple[str, ...] = ()


class Installation(Collector):
    """Gauges of the whole installation, from SQL: every process that is asked tells the same.

    Args:
        database: asked for when something is to be read, which is after every fork.
        settings: the merchants, and when an authorisation is about to end.
    """

    def __init__(self, database: Callable[[], Database], settings: Settings):
        self._database = database
        self._notice_seconds = settings.expiry_notice_seconds
        self._merchant_ids = tuple(settings.merchants) if settings.names_merchants else ()
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="metrics")
        self._reading: Future[Seen] | None = None

    def collect(self) -> Iterable[Metric]:
        seen = self._seen()
        yield _family(REACHABLE, {(): float(seen is not None)})
        yield _family(BUILD, {(version("payhook"), head_revision()): 1.0})
        if seen is not None:
            for gauge in GAUGES:
                yield _family(gauge, gauge.values(seen))

    def _seen(self) -> Seen | None:
        """One reading at a time: scrapes that come while the database does not answer wait for the same one."""
        with self._lock:
            if self._reading is None or self._reading.done():
                self._reading = self._thread.submit(self._read)
            reading = self._reading
        try:
            return reading.result(READ_SECONDS)
        except (DatabaseUnavailable, TimeoutError):
            return None
        except Exception as error:  # what is counted is shown all the same
            log.error("metrics.failed", error=type(error).__name__)
            return None

    def _read(self) -> Seen:
        with self._database().reading() as connection:
            standing = reports.standing(connection, notice_seconds=self._notice_seconds)
            return Seen(standing, connection.execute(select(now())).scalar_one(), self._merchant_ids)


def registry_of(database: Callable[[], Database], settings: Settings) -> CollectorRegistry:
    """Everything that a process of these settings has to show.

    Args:
        database: see `Installation`.
        settings: see `Installation`.
    """
    registry = CollectorRegistry(support_collectors_without_names=True)
    registry.register(metrics.counts())
    registry.register(Installation(database, settings))
    return registry


def show(registry: CollectorRegistry, host: str, port: int) -> WSGIServer:
    """Answer scrapes from now on, on a thread of this process.

    Returns:
        The server.

    Raises:
        OSError: this address cannot be had.
    """
    server, _ = start_http_server(port, host, registry)
    os.register_at_fork(after_in_child=server.socket.close)  # held by a child, the port would outlive this process
    log.info("metrics.shown", address=f"http://{host}:{server.server_port}/metrics")
    return server


def _family(gauge: Gauge, values: Values) -> GaugeMetricFamily:
    family = GaugeMetricFamily(gauge.name, gauge.told, labels=gauge.labels)
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family


def _one(of: Callable[[Standing], float | None]) -> Callable[[Seen], Values]:
    def values(seen: Seen) -> Values:
        value = of(seen.standing)
        return {} if value is None else {(): float(value)}

    return values


def _of_states(of: Callable[[reports.Open], float]) -> Callable[[Seen], Values]:
    """Of every open state, 0 where there is none: what is missing would look like what is not known."""

    def values(seen: Seen) -> Values:
        found = seen.standing.operations
        return {(state.value,): of(found[state]) if state in found else 0.0 for state in OPEN_STATES}

    return values


def _circuits(seen: Seen) -> Values:
    opened = {circuit.merchant_id for circuit in seen.standing.circuits}
    return {(merchant_id,): float(merchant_id in opened) for merchant_id in (*seen.merchant_ids, *opened)}


def _shares(seen: Seen) -> Values:
    slowed = seen.standing.slowed
    return {(merchant_id,): slowed.get(merchant_id, 1.0) for merchant_id in (*seen.merchant_ids, *slowed)}


def _silences(seen: Seen) -> Values:
    silences = seen.standing.silences
    return {(one.merchant_id,): (seen.at - one.last_at).total_seconds() for one in silences if one.last_at is not None}


def _missed(seen: Seen) -> Values:
    return {(one.merchant_id,): float(one.missed_since is not None) for one in seen.standing.silences}


REACHABLE = Gauge("payhook_database_reachable", "1: the database told what the other gauges say.", lambda _: {})
BUILD = Gauge("payhook_build_info", "What runs.", lambda _: {}, ("version", "revision"))

GAUGES = (
    Gauge("payhook_events_waiting", "Events received and not done.", _one(lambda told: told.backlog.events)),
    Gauge(
        "payhook_events_oldest_seconds",
        "Time since the oldest waiting event was received.",
        _one(lambda told: told.backlog.oldest_seconds),
    ),
    Gauge(
        "payhook_payments_waiting", "Payments to be looked at, not parked.", _one(lambda told: told.backlog.payments)
    ),
    Gauge(
        "payhook_payments_overdue_seconds",
        "Time since the payment that is due longest fell due.",
        _one(lambda told: told.backlog.overdue_seconds),
    ),
    Gauge(
        "payhook_operations_open", "Operations that have not ended.", _of_states(lambda open: open.count), ("state",)
    ),
    Gauge(
        "payhook_operations_oldest_seconds",
        "Time since the oldest operation in the state was asked for.",
        _of_states(lambda open: open.oldest_seconds),
        ("state",),
    ),
    Gauge("payhook_payments_parked", "Payments that are looked at no more.", _one(lambda told: told.parked)),
    Gauge("payhook_payments_troubled", "Payments with a problem.", _one(lambda told: told.troubled)),
    Gauge("payhook_events_quarantined", "Events that were set aside.", _one(lambda told: told.quarantined)),
    Gauge(
        "payhook_operations_anomalies",
        "Operations whose end the platform contradicts.",
        _one(lambda told: told.anomalies),
    ),
    Gauge(
        "payhook_authorisations_expiring",
        "Authorised payments whose authorisation ends soon, or has ended.",
        _one(lambda told: told.expiring),
    ),
    Gauge("payhook_sweep_age_seconds", "Time since a sweep ran anywhere.", _one(lambda told: told.sweep_seconds_ago)),
    Gauge("payhook_circuit_open", "1: the platform is not asked for the merchant.", _circuits, ("merchant",)),
    Gauge("payhook_budget_share", "Share of its request budget that a merchant has.", _shares, ("merchant",)),
    Gauge(
        "payhook_webhooks_silence_seconds",
        "Time since a merchant's last genuine event.",
        _silences,
        ("merchant",),
    ),
    Gauge(
        "payhook_drift_different",
        "Payments of the last sample at rest that differed from the platform's.",
        _one(lambda told: told.drift.different if told.drift else None),
    ),
    Gauge("payhook_webhooks_missed", "1: webhooks of the merchant are missed.", _missed, ("merchant",)),
)
