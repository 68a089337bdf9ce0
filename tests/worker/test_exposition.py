"""A scrape has what the database tells, or answers in time without it."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import insert, select

from worker.database import Database, migrate, now, seconds_from_now
from worker.exposition import GAUGES, OPEN_STATES, registry_of, show
from worker.models import CIRCUIT_FACT, JOB_FACT, SWEEP_FACT, Fact, Payment, WebhookEvent
from worker.settings import Settings

MERCHANT = {"merchant_id": "acme", "api_key_id": "k", "api_secret": "s"}


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A migrated database of each kind in turn."""
    migrate(database_url)
    database = Database(database_url, connections=2, seconds=5, revision=None)
    yield database
    database.close()


def settings(**given: Any) -> Settings:
    return Settings(_env_file=None, **given)


def values(registry: CollectorRegistry) -> dict[tuple[str, ...], float]:
    """Every gauge of ours, by its name and the values of its labels."""
    return {
        (one.name, *one.labels.values()): one.value
        for family in registry.collect()
        if family.type == "gauge"
        for one in family.samples
    }


def fill(database: Database) -> None:
    """An installation with a little of everything in it."""
    with database.transaction() as connection:
        at = connection.execute(select(now())).scalar_one()
        minute = timedelta(seconds=60)
        event = {"body": b"{}", "key_id": "k", "received_at": at - minute}
        connection.execute(insert(WebhookEvent).values(body_sha256=b"1" * 32, due_at=at, **event))
        set_aside = {"done_at": at, "outcome": "quarantined"}
        connection.execute(insert(WebhookEvent).values(body_sha256=b"2" * 32, **set_aside, **event))
        payment = {"merchant_id": "acme", "state": "authorised", "wanted": 1, "applied": 1}
        connection.execute(insert(Payment).values(payment_id="1", expires_at=seconds_from_now(60.0), **payment))
        connection.execute(insert(Payment).values(payment_id="2", problem="it is parked", **payment))
        away = {"why": "403", "since": at.isoformat()}
        silent = {
            "last": (at - minute).isoformat(),
            "usual_seconds": 5.0,
            "missed_since": at.isoformat(),
            "moved": 1,
        }
        connection.execute(insert(Fact).values(name=SWEEP_FACT, value={"at": (at - minute).isoformat()}))
        connection.execute(insert(Fact).values(name=f"{CIRCUIT_FACT}acme", value=away, due_at=at))
        connection.execute(insert(Fact).values(name=f"{JOB_FACT}webhooks", value={"merchants": {"acme": silent}}))
        sample = {"at": at.isoformat(), "compared": 200, "different": 3}
        connection.execute(insert(Fact).values(name=f"{JOB_FACT}drift", value={"last": sample}))


def test_the_gauges_tell_what_is_in_the_database(database: Database) -> None:
    """All of them, with the merchants of the settings and the database's own clock."""
    fill(database)

    told = values(registry_of(lambda: database, settings(**MERCHANT)))

    assert told["payhook_database_reachable",] == 1
    assert told["payhook_events_waiting",] == 1
    assert told["payhook_events_oldest_seconds",] == pytest.approx(60, abs=10)
    assert told["payhook_events_quarantined",] == 1
    assert told["payhook_payments_parked",] == 1
    assert told["payhook_payments_troubled",] == 1
    assert told["payhook_authorisations_expiring",] == 1
    assert told["payhook_sweep_age_seconds",] == pytest.approx(60, abs=10)
    assert told["payhook_circuit_open", "acme"] == 1
    assert told["payhook_budget_share", "acme"] == 1
    assert told["payhook_webhooks_silence_seconds", "acme"] == pytest.approx(60, abs=10)
    assert told["payhook_webhooks_missed", "acme"] == 1
    assert told["payhook_drift_different",] == 3
    assert {gauge.name for gauge in GAUGES} <= {name for name, *_ in told}


def test_what_is_not_there_is_zero_and_not_missing(database: Database) -> None:
    """An alert on a state, or on a merchant's circuit, ends when there is none left."""
    told = values(registry_of(lambda: database, settings(**MERCHANT)))

    assert {labels: told["payhook_operations_open", labels] for labels in OPEN_STATES} == dict.fromkeys(OPEN_STATES, 0)
    assert told["payhook_circuit_open", "acme"] == 0
    assert ("payhook_sweep_age_seconds",) not in told  # nobody has ever swept


class FrozenDatabase:
    """Takes what is asked, and does not answer before it is let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.asked = 0

    @contextmanager
    def reading(self) -> Iterator[Any]:
        self.asked += 1
        self.let_go.wait(20)
        raise ValueError("thawed")
        yield


@pytest.mark.alone
def test_scrapes_of_a_frozen_database_answer_in_time_and_ask_it_once() -> None:
    """Twenty at once: each within a second, with what was counted; one thread waits, whoever asks."""
    frozen: Any = FrozenDatabase()
    registry = registry_of(lambda: frozen, settings())
    before = set(threading.enumerate())

    with ThreadPoolExecutor(20) as pool:
        began = time.monotonic()
        told = list(pool.map(lambda _: (values(registry), time.monotonic() - began), range(20)))
    again = values(registry)
    waiting = sum(thread.name.startswith("metrics") for thread in set(threading.enumerate()) - before)
    frozen.let_go.set()

    assert max(seconds for _, seconds in told) < 1
    assert {one["payhook_database_reachable",] for one, _ in told} == {0.0}
    assert again["payhook_database_reachable",] == 0
    assert frozen.asked == 1
    assert waiting == 1


def test_a_port_in_use_is_an_error_at_once() -> None:
    """Whoever starts a worker is told, rather than its scraper."""
    registry = CollectorRegistry()
    server = show(registry, "127.0.0.1", 0)

    with pytest.raises(OSError, match="in use"):
        show(registry, "127.0.0.1", server.server_port)
    server.shutdown()
    server.server_close()
