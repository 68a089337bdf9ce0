"""Where an installation stands: every count of it, and whom it is about."""

from datetime import datetime, timedelta
from itertools import count
from typing import Any

import pytest
from sqlalchemy import insert, select

from worker import rescue
from worker.database import Database, now
from worker.lifecycle import OperationState
from worker.models import Fact, Operation, Payment, WebhookEvent
from worker.reports.standing import Circuit, Silence, Standing, standing

MERCHANT = "acme"

numbers = count(1)


class Desk:
    """Rows as they may stand, and the question."""

    def __init__(self, database: Database) -> None:
        self.database = database
        with database.reading() as connection:
            self.at: datetime = connection.execute(select(now())).scalar_one()

    def ago(self, **time: float) -> datetime:
        return self.at - timedelta(**time)

    def payment(self, **values: Any) -> None:
        self._insert(Payment, {"merchant_id": MERCHANT, "payment_id": str(next(numbers)), "state": "pending", **values})

    def event(self, **values: Any) -> None:
        digest = next(numbers).to_bytes(32, "big")
        self._insert(WebhookEvent, {"body_sha256": digest, "key_id": "key-1", "received_at": self.at, **values})

    def operation(self, state: str, **values: Any) -> None:
        number = str(next(numbers))
        fixed = {"payment_id": "1", "kind": "refund", "amount": 100, "currency": "EUR", "source": "test"}
        row = {**fixed, "operation_uuid": number, "request_id": number, "request_sha256": b"0" * 32, "state": state}
        self._insert(Operation, {**row, "merchant_id": MERCHANT, "created_at": self.at, **values})

    def fact(self, name: str, value: dict[str, Any] | None, due_at: datetime | None = None) -> None:
        self._insert(Fact, {"name": name, "value": value, "due_at": due_at})

    def standing(self, notice_seconds: float = 3600.0) -> Standing:
        with self.database.reading() as connection:
            return standing(connection, notice_seconds=notice_seconds)

    def _insert(self, table: Any, values: dict[str, Any]) -> None:
        with self.database.transaction() as connection:
            connection.execute(insert(table).values(**values))


@pytest.fixture
def desk(database: Database) -> Desk:
    return Desk(database)


def test_of_an_empty_installation_there_is_nothing_to_say(desk: Desk) -> None:
    """All is nought, and nobody has swept."""
    stands = desk.standing()

    assert (stands.backlog.events, stands.backlog.payments, stands.backlog.overdue_seconds) == (0, 0, 0.0)
    assert (stands.parked, stands.troubled, stands.quarantined, stands.anomalies, stands.expiring) == (0, 0, 0, 0, 0)
    assert (stands.operations, stands.circuits, stands.slowed, stands.silences) == ({}, (), {}, ())
    assert stands.sweep_seconds_ago is None


def test_payments_in_trouble_are_counted_and_the_parked_ones_among_them(desk: Desk) -> None:
    """Parked is what nobody looks at any more; what is tried again is only in trouble."""
    desk.payment(problem="refused", due_at=None)
    desk.payment(problem="no answer", due_at=desk.at)
    desk.payment(problem=None, due_at=None)

    stands = desk.standing()

    assert (stands.troubled, stands.parked) == (2, 1)


def test_what_is_overdue_is_told_by_the_payment_that_is_due_longest(desk: Desk) -> None:
    """A sweep takes the oldest first: its age tells whether the sweeps keep up."""
    desk.payment(due_at=desk.ago(seconds=90))
    desk.payment(due_at=desk.ago(seconds=30))
    desk.payment(due_at=desk.ago(seconds=-3600))

    assert desk.standing().backlog.overdue_seconds == pytest.approx(90, abs=10)


def test_a_payment_that_is_due_later_is_not_overdue(desk: Desk) -> None:
    """Nor is it less than nothing."""
    desk.payment(due_at=desk.ago(seconds=-3600))

    assert desk.standing().backlog.overdue_seconds == 0.0


def test_operations_that_have_not_ended_are_counted_by_state_with_the_age_of_the_oldest(desk: Desk) -> None:
    """What has ended is of no concern, but for what the platform shows against it."""
    desk.operation("review", created_at=desk.ago(hours=2))
    desk.operation("review", created_at=desk.ago(hours=1))
    desk.operation("unknown")
    desk.operation("succeeded", created_at=desk.ago(days=2))
    desk.operation("refused", anomaly="the platform shows that it was done")
    desk.operation("withdrawn")

    stands = desk.standing()

    assert {state: found.count for state, found in stands.operations.items()} == {
        OperationState.REVIEW: 2,
        OperationState.UNKNOWN: 1,
    }
    assert stands.operations[OperationState.REVIEW].oldest_seconds == pytest.approx(7200, abs=10)
    assert stands.anomalies == 1


def test_events_set_aside_are_counted(desk: Desk) -> None:
    """What was quarantined waits for a person; what was ignored does not."""
    for outcome in ("quarantined", "quarantined", "ignored", "reconciled"):
        desk.event(done_at=desk.at, outcome=outcome)

    assert desk.standing().quarantined == 2


def test_authorisations_that_end_within_the_notice_are_expiring(desk: Desk) -> None:
    """Also those that have ended; not those that are captured."""
    desk.payment(state="authorised", expires_at=desk.ago(minutes=-30))
    desk.payment(state="authorised", expires_at=desk.ago(days=3))
    desk.payment(state="authorised", expires_at=desk.ago(hours=-2))
    desk.payment(state="captured", expires_at=desk.ago(days=3))

    assert desk.standing(notice_seconds=3600).expiring == 2


def test_open_circuits_are_told_with_their_reason(desk: Desk) -> None:
    """One that has closed again is no news."""
    since, next_try = desk.ago(minutes=5), desk.ago(seconds=-10)
    value = {"why": "get_payment: HTTP 403", "since": since.isoformat(), "wait": 20, "trying": False}
    desk.fact("circuit:acme", value, due_at=next_try)
    desk.fact("circuit:other", value, due_at=None)

    assert desk.standing().circuits == (Circuit("acme", "get_payment: HTTP 403", since, next_try),)


@pytest.mark.parametrize(
    ("minutes", "left"),
    [(0, 0.25), (1, 0.5), (2, None), (60, None), (18 * 60, None), (365 * 24 * 60, None)],
)
def test_a_merchant_that_is_asked_more_slowly_is_told_until_it_is_not(
    desk: Desk, minutes: float, left: float | None
) -> None:
    """Each minute without a 429 doubles its share; a day or a year later there is nothing to say, and no error."""
    desk.fact("budget:acme", {"factor": 0.25, "slowed_at": desk.ago(minutes=minutes).timestamp()})
    desk.fact("budget:never", {"looks": desk.at.timestamp()})

    slowed = desk.standing().slowed

    assert slowed == ({} if left is None else {"acme": pytest.approx(left, rel=0.2)})


def test_webhooks_are_told_of_every_merchant(desk: Desk) -> None:
    """Missed or not, as the job has found it."""
    last, since = desk.ago(minutes=1), desk.ago(days=2)
    desk.fact(
        "job:webhooks",
        {
            "last_key": 7,
            "merchants": {
                "well": {
                    "last": last.isoformat(),
                    "pauses": {},
                    "usual_seconds": 60.0,
                    "moved": 0,
                    "missed_since": None,
                },
                "dead": {
                    "last": since.isoformat(),
                    "pauses": {},
                    "usual_seconds": 5.0,
                    "moved": 9,
                    "missed_since": since.isoformat(),
                },
                "new": {"last": None, "pauses": {}, "usual_seconds": 0.0, "moved": 0, "missed_since": None},
            },
        },
    )

    assert desk.standing().silences == (
        Silence("dead", since, 5.0, since, 9),
        Silence("new", None, 0.0, None, 0),
        Silence("well", last, 60.0, None, 0),
    )


@pytest.mark.parametrize("value", [None, {}])
def test_a_job_that_has_not_run_yet_has_found_nothing(desk: Desk, value: dict[str, Any] | None) -> None:
    """Its row is there before its first run."""
    desk.fact("job:webhooks", value, due_at=desk.at)

    assert desk.standing().silences == ()


def test_the_last_sweep_is_told(desk: Desk) -> None:
    """By whichever worker."""
    rescue.sweep(desk.database, 10)

    assert 0 <= (desk.standing().sweep_seconds_ago or -1) < 30


def test_asking_costs_the_same_few_statements_whatever_there_is(desk: Desk, statements: list[str]) -> None:
    """A scrape every few seconds must not grow with the installation."""

    def cost() -> int:
        statements.clear()
        desk.standing()
        return sum(one.startswith("SELECT") for one in statements)

    empty = cost()
    for _ in range(20):
        desk.payment(problem="no answer")
        desk.operation("review")

    assert cost() == empty <= 15
