"""A database of each kind with payhook's schema, a platform that is told what to answer, and events that arrive."""

import json
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count, pairwise
from pathlib import Path
from typing import Any, Protocol

import psycopg
import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy import Row, event, select, update
from sqlalchemy.engine import make_url

from tests.servers.postgres_server import PostgresServer
from worker import inbox, tracing
from worker.database import Database, migrate, now, seconds_from_now
from worker.gateways.gateway import Contact, Gateway, Movement, Order, PaymentView
from worker.lifecycle import MovementKind, MovementState, payment_state
from worker.models import Base, JournalEntry, Payment, WebhookEvent
from worker.reconciliation import Reconciler
from worker.settings import Settings

MERCHANT = "acme"

#: What somebody else's trace is told by, in the W3C's form.
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

#: Threads that a test may let use the database at once.
CONNECTIONS = 20


def view_of(
    payment_id: str,
    *movements: Movement,
    code: int = 5,
    amount: int = 1000,
    acquired: int | None = None,
    reference: str | None = "order-1",
) -> PaymentView:
    """A look at a payment of ten euros, authorised unless said otherwise."""
    return PaymentView(
        merchant_id=MERCHANT,
        payment_id=payment_id,
        state=payment_state(code, None),
        status=f"STATUS_{code}",
        status_code=code,
        status_category=None,
        currency="EUR",
        amount=amount,
        acquired=acquired,
        merchant_reference=reference,
        movements=movements,
        snapshot={"id": payment_id, "statusOutput": {"statusCode": code}, "merchantReference": reference},
    )


def moved(operation_id: str, kind: MovementKind, amount: int, state: MovementState = MovementState.DONE) -> Movement:
    """A movement as the platform lists it."""
    return Movement(operation_id, kind, state, amount, "EUR", state.upper(), 9, f"ref-{operation_id}")


class FakeDoorbell:
    """Writes down what was rung for, whether or not rings get through."""

    def __init__(self, *, ok: bool = True) -> None:
        self._ok = ok
        self.now: list[tuple[str, list[int], bool]] = []
        self.later: list[tuple[str, int, float]] = []

    def state(self) -> dict[str, Any]:
        return {"ok": self._ok}

    def ring(self, task: str, keys: list[int], *, alone: bool = False) -> None:
        if keys:
            self.now.append((task, list(keys), alone))

    def ring_later(self, task: str, key: int, seconds: float) -> None:
        self.later.append((task, key, seconds))

    def flush(self, seconds: float) -> bool:
        return True


class FakePlatform(Gateway):
    """Payments as the platform knows them; it counts looks, and can be slow, held up, or unwilling.

    A look tells what was true when it began: whatever happens while it is under way is not in the answer. An order
    makes a pending movement, the same one however often its key is sent.
    """

    def __init__(self, merchant_id: str = MERCHANT) -> None:
        self.merchant_id = merchant_id
        self.host = "platform.test"
        self.truth: dict[str, PaymentView] = {}
        self.looks: list[tuple[str, float]] = []
        self.errors: deque[Exception] = deque()  # each is raised by one look
        self.sent: list[Order] = []
        self.refusals: deque[Exception] = deque()  # each is raised by one sending, before anything is done
        self.lost: deque[Exception] = deque()  # each is raised by one sending, after it was done
        self.done: dict[str, Movement] = {}  # by idempotence key
        self.slow = 0.0
        self.during: Callable[[], object] | None = None  # called in the midst of the next look
        self.on_the_way: Callable[[], object] | None = None  # called when the next order has left, before it is done
        self.most_at_once = 0
        self._under_way = 0
        self._lock = threading.Lock()

    def look(self, payment_id: str, *, seconds: float) -> PaymentView:
        with self._lock:
            self.looks.append((payment_id, time.monotonic()))
            self._under_way += 1
            self.most_at_once = max(self.most_at_once, self._under_way)
            view = self.truth.get(payment_id) or view_of(payment_id)
            error = self.errors.popleft() if self.errors else None
            during, self.during = self.during, None
        try:
            if self.slow:
                time.sleep(self.slow)
            if during is not None:
                during()
            if error is not None:
                raise error
        finally:
            with self._lock:
                self._under_way -= 1
        return view

    def compose(
        self,
        kind: MovementKind,
        amount: int,
        currency: str,
        *,
        is_final: bool,
        reference: str,
        group_reference: str | None = None,
        reason: str | None = None,
    ) -> bytes:
        asked = {"kind": kind, "amount": amount, "currency": currency, "is_final": is_final, "reference": reference}
        return json.dumps({**asked, "group_reference": group_reference, "reason": reason}).encode()

    def send(self, order: Order, *, seconds: float) -> Movement:
        on_the_way, self.on_the_way = self.on_the_way, None
        if on_the_way is not None:
            on_the_way()
        with self._lock:
            self.sent.append(order)
            if self.refusals:
                raise self.refusals.popleft()
            movement = self.done.get(order.idempotence_key) or self._move(order)
            if self.lost:
                raise self.lost.popleft()
            return movement

    def _move(self, order: Order) -> Movement:
        view = self.truth.get(order.payment_id) or view_of(order.payment_id)
        operation_id = f"{order.payment_id}_{len(view.movements) + 1}"
        code = {MovementKind.CAPTURE: 91, MovementKind.REFUND: 81, MovementKind.CANCEL: 61}[order.kind]
        pending = MovementState.PENDING
        movement = Movement(
            operation_id, order.kind, pending, order.amount, order.currency, f"STATUS_{code}", code, order.reference
        )
        self.truth[order.payment_id] = replace(view, movements=(*view.movements, movement))
        self.done[order.idempotence_key] = movement
        return movement

    def contact(self, *, seconds: float) -> Contact:
        return Contact(None, 0.0)

    def is_webhook_key(self, key_id: str, signature_of_nothing: str, *, seconds: float) -> bool:
        return True

    def close(self) -> None:
        """Nothing is open."""

    def looks_at(self, payment_id: str) -> int:
        return sum(seen == payment_id for seen, _ in self.looks)

    def shortest_gap(self) -> float:
        """The least time between the beginnings of two looks at one payment."""
        times: dict[str, list[float]] = {}
        for payment_id, at in self.looks:
            times.setdefault(payment_id, []).append(at)
        gaps = [later - sooner for one in times.values() for sooner, later in pairwise(one)]
        return min(gaps, default=float("inf"))


class Paper:
    """What a test reads of the record, and how it moves time: by the rows' own times, for no clock is scaled."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def payment(self, payment_id: str, merchant_id: str = MERCHANT) -> Row[Any]:
        chosen = select(Payment.__table__).where(Payment.payment_id == payment_id, Payment.merchant_id == merchant_id)
        with self.database.reading() as connection:
            return connection.execute(chosen).one()

    def payments(self) -> list[Row[Any]]:
        with self.database.reading() as connection:
            return list(connection.execute(select(Payment.__table__).order_by(Payment.payment_key)))

    def event(self, event_key: int) -> Row[Any]:
        with self.database.reading() as connection:
            return connection.execute(select(WebhookEvent.__table__).where(WebhookEvent.event_key == event_key)).one()

    def events(self) -> list[Row[Any]]:
        with self.database.reading() as connection:
            return list(connection.execute(select(WebhookEvent.__table__).order_by(WebhookEvent.event_key)))

    def open_events(self) -> list[int]:
        return [event.event_key for event in self.events() if event.done_at is None]

    def journal(self) -> list[tuple[str | None, str | None, str]]:
        entries = select(JournalEntry.from_state, JournalEntry.to_state, JournalEntry.why)
        with self.database.reading() as connection:
            return [tuple(row) for row in connection.execute(entries.order_by(JournalEntry.journal_key))]

    def due_in(self, row: Row[Any]) -> float | None:
        """Seconds until a row is due, None for never."""
        return self._left(row.due_at)

    def closed_for(self, payment: Row[Any]) -> float | None:
        """Seconds until anybody may claim a payment, None when anybody may."""
        return self._left(payment.claimed_until)

    def pass_time(self) -> None:
        """As if the longest lease, gap and back-off were over and everything due had become so."""
        past = seconds_from_now(-1.0)
        with self.database.transaction() as connection:
            connection.execute(update(Payment).where(Payment.claimed_until.is_not(None)).values(claimed_until=past))
            for table in (Payment, WebhookEvent):
                connection.execute(update(table).where(table.due_at.is_not(None)).values(due_at=past))

    def open_the_gate(self) -> None:
        """As if the payments' gaps, back-offs and leases were over, and nothing else had changed."""
        with self.database.transaction() as connection:
            connection.execute(
                update(Payment).where(Payment.claimed_until.is_not(None)).values(claimed_until=seconds_from_now(-1.0))
            )

    def change_payment(self, payment_key: int, **values: Any) -> None:
        with self.database.transaction() as connection:
            connection.execute(update(Payment).where(Payment.payment_key == payment_key).values(**values))

    def _left(self, at: Any) -> float | None:
        if at is None:
            return None
        with self.database.reading() as connection:
            present = connection.execute(select(now())).scalar_one()
        return float((at - present).total_seconds())


class Deliver(Protocol):
    """Stores the bodies of events of one payment as the ingress does; the keys of the rows to be rung for."""

    def __call__(self, payment_id: str, *types: str, merchant_id: str = MERCHANT) -> list[int]: ...


def body_of(
    payment_id: str, type_: str = "payment.pending_capture", *, number: int, merchant_id: str = MERCHANT
) -> bytes:
    """A body as the platform sends it; its number makes it unlike any other."""
    content = {
        "apiVersion": "v1",
        "id": f"event-{number}",
        "created": "2026-01-02T03:04:05.0000000+01:00",
        "merchantId": merchant_id,
        "type": type_,
        "payment": {"id": f"{payment_id}_0"},
    }
    return json.dumps(content).encode()


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the schema in it, to be copied."""
    path = tmp_path_factory.mktemp("migrated") / "payhook.db"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def migrated_postgres_url(postgres_server: PostgresServer) -> str:
    """One PostgreSQL database with the schema in it, emptied between tests: faster than one for each."""
    postgres_server.revive()
    url = postgres_server.new_database()
    migrate(url)
    # No power fails here, and every other commit would wait for the disk.
    _on_postgres(url, f"ALTER DATABASE {make_url(url).database} SET synchronous_commit = off")
    return url


@pytest.fixture
def sqlite_url(migrated_file: Path, tmp_path: Path) -> str:
    shutil.copy(migrated_file, tmp_path / "payhook.db")
    return f"sqlite:///{tmp_path / 'payhook.db'}"


@pytest.fixture
def emptied_postgres_url(migrated_postgres_url: str, postgres_server: PostgresServer) -> str:
    postgres_server.revive()
    tables = reversed(Base.metadata.sorted_tables)
    _on_postgres(migrated_postgres_url, "; ".join(f"DELETE FROM {table.name}" for table in tables))
    return migrated_postgres_url


def _on_postgres(url: str, statements: str) -> None:
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(statements.encode())


def opened(url: str) -> Database:
    """A database as a process opens it, but for waiting for the disk: no power fails here."""
    database = Database(url, connections=CONNECTIONS, seconds=5, revision=None)
    if database.is_sqlite:
        event.listen(database.engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
    return database


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.servers)])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """A database of each kind in turn, with the schema and nothing else in it."""
    name = "sqlite_url" if request.param == "sqlite" else "emptied_postgres_url"
    database = opened(request.getfixturevalue(name))
    yield database
    database.close()


@pytest.fixture
def postgres(emptied_postgres_url: str) -> Iterator[Database]:
    """PostgreSQL alone, for what SQLite's one writer cannot show."""
    database = opened(emptied_postgres_url)
    yield database
    database.close()


@pytest.fixture
def sqlite(sqlite_url: str) -> Iterator[Database]:
    """SQLite alone, for what is the same on both and takes many turns."""
    database = opened(sqlite_url)
    yield database
    database.close()


def settings_of(**given: Any) -> Settings:
    """Settings of one merchant, or of those in a file, whatever the environment says; the gap is short, leases long."""
    given = {"gap_seconds": 0.3, **given}
    one = {} if "merchants_file" in given else {"merchant_id": MERCHANT, "api_key_id": "key", "api_secret": "secret"}
    return Settings(_env_file=None, **{**one, **given})


@pytest.fixture
def settings() -> Settings:
    return settings_of()


@pytest.fixture
def platform() -> FakePlatform:
    return FakePlatform()


@pytest.fixture
def reconciler(database: Database, platform: FakePlatform, settings: Settings) -> Reconciler:
    return Reconciler(database, {MERCHANT: platform}, settings)


@pytest.fixture
def paper(database: Database) -> Paper:
    return Paper(database)


@pytest.fixture
def record_of(paper: Paper) -> Callable[[str], Row[Any]]:
    """The row of a payment, by its id."""
    return paper.payment


@pytest.fixture
def deliver(database: Database) -> Deliver:
    return deliver_to(database)


def deliver_to(database: Database) -> Deliver:
    numbers = count(1)

    def deliver(payment_id: str, *types: str, merchant_id: str = MERCHANT) -> list[int]:
        keys = []
        for type_ in types or ("payment.pending_capture",):
            body = body_of(payment_id, type_, number=next(numbers), merchant_id=merchant_id)
            kept = inbox.keep(database, body, "key-1", key_merchant_id=None, merchant_ids=None, ring_seconds=5.0)
            keys += kept.due
        return keys

    return deliver


@pytest.fixture
def till(database: Database, platform: FakePlatform, settings: Settings) -> Any:
    """A process that moves money, with one merchant and no policy."""
    from tests.worker.till import Till

    return Till(database, platform, settings)


@pytest.fixture
def exported() -> Iterator[InMemorySpanExporter]:
    """What is traced while the test runs."""
    exporter, provider = InMemorySpanExporter(), tracing.new_provider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.use(provider)
    yield exporter
    tracing.use(None)
