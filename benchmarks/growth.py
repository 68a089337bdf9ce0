"""Growth: what storing, claiming and sweeping cost with a thousand rows behind them, and with a million."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from sqlalchemy import Connection, text

from benchmarks.processor_time import Meter
from benchmarks.stage import Stage
from tests.end_to_end.house import KEY_ID, event
from worker import inbox, rescue
from worker.database import Database, migrate, open_database
from worker.reconciliation.claims import Claim, claim_for_event
from worker.settings import Settings

#: Of the rows there are, so many are open, and not due for long: what waits does not grow with what is done.
OPEN = 1000

SWEPT = 300


@dataclass(frozen=True)
class Size:
    """How many rows, and how often each step is taken."""

    rows: tuple[int, ...] = (1_000, 1_000_000)
    steps: int = 2000
    sweeps: int = 20


QUICK = Size(rows=(1500, 3000), steps=20, sweeps=2)


@dataclass
class Step:
    """One step at one number of rows."""

    name: str
    rows: int
    seconds: list[float] = field(default_factory=list)
    postgres_us: float = 0.0

    @property
    def median_ms(self) -> float:
        return statistics.median(self.seconds) * 1000

    @contextmanager
    def measured(self, stage: Stage) -> Iterator[Callable[[], None]]:
        """Meters PostgreSQL; what it gives marks the end of each turn."""
        last = [time.perf_counter()]

        def turn() -> None:
            now = time.perf_counter()
            self.seconds.append(now - last[0])
            last[0] = now

        with Meter({"PostgreSQL": stage.postgres.pids}) as meter:
            yield turn
        self.postgres_us = meter.microseconds_each("PostgreSQL", len(self.seconds))


def measure(stage: Stage, size: Size, tell: Callable[[str], None]) -> list[Step]:
    """Take every step at every number of rows.

    Args:
        stage: where.
        size: how many.
        tell: told each figure as it comes.
    """
    steps: list[Step] = []
    for rows in size.rows:
        url = stage.postgres.new_database()
        migrate(url)
        settings = Settings(_env_file=None, database_url=url)
        database = open_database(settings, threads=1, seconds=120)
        with database.session() as connection:
            _fill(connection.execution_options(isolation_level="AUTOCOMMIT"), rows)
        for step in (_ingest, _claim, _sweep_nothing, _sweep_due):
            steps.append(step(stage, database, settings, size, rows))
            tell(f"{steps[-1].name}, {rows} rows: {steps[-1].median_ms:.2f} ms, {steps[-1].postgres_us:.0f} us")
        database.close()
        stage.postgres.drop_database(url)
    return steps


def _ingest(stage: Stage, database: Database, settings: Settings, size: Size, rows: int) -> Step:
    bodies = [event(f"{10**11 + number}_0") for number in range(size.steps)]
    step = Step("store an event", rows)
    with step.measured(stage) as turn:
        for body in bodies:
            _keep(database, body, settings)
            turn()
    return step


def _keep(database: Database, body: bytes, settings: Settings) -> list[int]:
    return inbox.keep(
        database, body, KEY_ID, key_merchant_id=None, merchant_ids=None, ring_seconds=settings.lease_seconds * 60
    ).due


def _claim(stage: Stage, database: Database, settings: Settings, size: Size, rows: int) -> Step:
    """The claims of the events just stored, each of a payment like no other."""
    with database.reading() as connection:
        newest = "SELECT event_key FROM webhook_events ORDER BY event_key DESC LIMIT :count"
        keys = list(connection.execute(text(newest), {"count": size.steps}).scalars())
    step = Step("claim its payment", rows)
    with step.measured(stage) as turn:
        for key in keys:
            with database.transaction() as connection:
                claim = claim_for_event(connection, key, frozenset({"sandbox"}), settings)
            turn()
            assert isinstance(claim, Claim)
            assert claim.event_keys == (key,)
    return step


def _sweep_nothing(stage: Stage, database: Database, settings: Settings, size: Size, rows: int) -> Step:
    step = Step("sweep, nothing due", rows)
    with step.measured(stage) as turn:
        for _ in range(size.sweeps * 10):
            found = rescue.sweep(database, SWEPT)
            turn()
            assert len(found) == 0
    return step


def _sweep_due(stage: Stage, database: Database, settings: Settings, size: Size, rows: int) -> Step:
    """Each sweep finds its fill of both tables; they come due between two sweeps, outside of what is measured."""
    step = Step(f"sweep, {SWEPT} + {SWEPT} due", rows)
    used = 0.0
    for _ in range(size.sweeps):
        with database.transaction() as connection:
            for table in ("webhook_events", "payments"):
                connection.execute(text(f"UPDATE {table} SET due_at = now(), rings = 0 WHERE due_at IS NOT NULL"))
        one = Step(step.name, rows)
        with one.measured(stage) as turn:
            found = rescue.sweep(database, SWEPT)
            turn()
        assert len(found) == 2 * SWEPT
        step.seconds += one.seconds
        used += one.postgres_us
    step.postgres_us = used / size.sweeps
    return step


def _fill(connection: Connection, rows: int) -> None:
    """Rows as they are after so many events, each of its own payment; the newest are still open."""
    body = event("1_0").decode()
    filled = {"rows": rows, "open": OPEN, "body": body, "snapshot": '{"id": "1_0", "status": "CAPTURED"}'}
    for statement in (_EVENTS, _PAYMENTS, "VACUUM ANALYZE", "CHECKPOINT"):
        connection.execute(text(statement), filled if ":rows" in statement else {})


_EVENTS = """
INSERT INTO webhook_events (body, body_sha256, position, merchant_id, event_id, type, payment_id, key_id, received_at,
    deliveries, due_at, done_at, outcome, claims, rings)
SELECT convert_to(:body, 'utf8'), sha256(convert_to(n::text, 'utf8')), 0, 'sandbox', gen_random_uuid()::text,
    'payment.captured', n::text, 'key', now(), 1,
    CASE WHEN n > :rows - :open THEN now() + interval '1 day' END,
    CASE WHEN n <= :rows - :open THEN now() END,
    CASE WHEN n <= :rows - :open THEN 'reconciled' END, 0, 0
FROM generate_series(1, :rows) AS n
"""
_PAYMENTS = """
INSERT INTO payments (merchant_id, payment_id, merchant_reference, state, status, status_code, currency,
    amount_authorised, amount_captured, amount_capture_pending, amount_refunded, amount_refund_pending,
    amount_cancelled, snapshot, refreshed_at, changed_at, wanted, applied, claims, failures, rings, due_at)
SELECT 'sandbox', n::text, 'order-' || n, 'captured', 'CAPTURED', 9, 'EUR', 1000, 1000, 0, 0, 0, 0,
    CAST(:snapshot AS jsonb), now(), now(), 1, 1, 0, 0, 0,
    CASE WHEN n > :rows - :open THEN now() + interval '1 day' END
FROM generate_series(1, :rows) AS n
"""
