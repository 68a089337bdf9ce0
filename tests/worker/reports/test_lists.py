"""Lists that answer: which rows each filter finds, the newest first, a page at a time."""

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import pytest
from sqlalchemy import insert, select

from tests.worker.till import Till
from worker import reports, rescue
from worker.database import Database, now
from worker.lifecycle import MovementKind
from worker.models import Payment, WebhookEvent
from worker.reports import Wanted, WantedEvents, WantedPayments
from worker.reports.pages import LONGEST_WAIT_SECONDS, last_key_before

numbers = count(1)


def present(database: Database) -> datetime:
    with database.reading() as connection:
        at: datetime = connection.execute(select(now())).scalar_one()
    return at


def receive(database: Database, state: str = "reconciled", minutes_ago: float = 0, **given: Any) -> int:
    """An event of some age; its key."""
    at = present(database)
    digest = hashlib.sha256(str(next(numbers)).encode()).digest()
    received = at - timedelta(minutes=minutes_ago)
    ended = {"due_at": at} if state == "waiting" else {"done_at": at, "outcome": state}
    row = {"merchant_id": "acme", "payment_id": "1", "body": b"{}", "received_at": received, **ended, **given}
    with database.transaction() as connection:
        statement = insert(WebhookEvent).values(body_sha256=digest, key_id="k", **row).returning(WebhookEvent.event_key)
        return int(connection.execute(statement).scalar_one())


def know(database: Database, payment_id: str, state: str = "captured", minutes_ago: float = 0, **given: Any) -> int:
    """A payment that changed some time ago; its key."""
    changed = present(database) - timedelta(minutes=minutes_ago)
    row = {"merchant_id": "acme", "payment_id": payment_id, "state": state, "changed_at": changed, **given}
    with database.transaction() as connection:
        return int(connection.execute(insert(Payment).values(**row).returning(Payment.payment_key)).scalar_one())


def events(database: Database, **wanted: Any) -> list[int]:
    with database.reading() as connection:
        return [row["event_key"] for row in reports.events(connection, WantedEvents(**wanted))]


def payments(database: Database, **wanted: Any) -> list[int]:
    with database.reading() as connection:
        return [row["payment_key"] for row in reports.payments(connection, WantedPayments(**wanted))]


def operations(database: Database, **wanted: Any) -> list[int]:
    with database.reading() as connection:
        return [row["operation_key"] for row in reports.operations(connection, Wanted(**wanted))]


@pytest.mark.parametrize("states", [[], *([state] for state in reports.EVENT_STATES), ["waiting", "ignored"]])
def test_events_are_listed_by_what_became_of_them(database: Database, states: Sequence[str]) -> None:
    """Those that wait are told from those that are done; the newest come first."""
    keys = {state: receive(database, state) for state in reports.EVENT_STATES}

    found = events(database, states=tuple(states))

    assert found == sorted((keys[state] for state in states or keys), reverse=True)


def test_a_list_of_events_has_every_column_but_the_body(database: Database) -> None:
    """A body is personal data, and a page of them megabytes."""
    receive(database)

    with database.reading() as connection:
        (row,) = reports.events(connection, WantedEvents())

    assert set(row) == {column.name for column in WebhookEvent.__table__.columns} - {"body"}


def test_events_are_listed_by_payment_reference_merchant_and_time(database: Database) -> None:
    """Each filter narrows further; two merchants may have a payment of one id."""
    know(database, "1", merchant_reference="order-1")
    know(database, "2", merchant_reference="order-2")
    know(database, "1", merchant_id="other")
    old = receive(database, minutes_ago=30)
    second = receive(database, payment_id="2")
    others = receive(database, merchant_id="other")
    nobodys = receive(database, "ignored", payment_id=None, merchant_id=None)

    assert events(database, payment_id="1") == [others, old]
    assert events(database, payment_id="1", merchant_id="acme") == [old]
    assert events(database, merchant_id="acme") == [second, old]
    assert events(database, reference="order-1") == [old]
    assert events(database, reference="order-3") == []
    assert events(database, since=present(database) - timedelta(minutes=20)) == [nobodys, others, second]
    assert events(database, since=present(database) - timedelta(minutes=20), payment_id="1") == [others]


def test_events_that_need_somebody_are_quarantined_or_open_for_long(database: Database) -> None:
    """An event that has just come, and one that is done, need nobody."""
    late = receive(database, "waiting", minutes_ago=3)
    receive(database, "waiting")
    receive(database, "reconciled", minutes_ago=90)
    aside = receive(database, "quarantined")

    assert events(database, stuck=True) == [aside, late]
    assert events(database, stuck=True, states=("waiting",)) == [late]
    assert events(database, stuck=True, states=("reconciled",)) == []


def test_a_page_goes_on_where_the_last_one_ended(database: Database) -> None:
    """Every row is on one page, and on one only, whatever comes in meanwhile."""
    keys = [receive(database, ("waiting", "ignored")[number % 2]) for number in range(7)]

    seen, before = [], None
    while page := events(database, limit=3, before=before, states=("waiting", "ignored")):
        seen += page
        before = page[-1]
        receive(database, "waiting")

    assert seen == keys[::-1]


def test_payments_are_listed_by_state_id_reference_merchant_and_time(database: Database) -> None:
    """The list has every column but the snapshot, which is for `show`."""
    first = know(database, "1", "authorised", merchant_reference="order-1", minutes_ago=30)
    second = know(database, "2", "captured", snapshot={"id": "2"})
    others = know(database, "1", "refunded", merchant_id="other")

    assert payments(database) == [others, second, first]
    assert payments(database, limit=1) == [others]
    assert payments(database, before=second) == [first]
    assert payments(database, states=("authorised", "captured")) == [second, first]
    assert payments(database, payment_id="1") == [others, first]
    assert payments(database, payment_id="1", merchant_id="acme") == [first]
    assert payments(database, reference="order-1") == [first]
    assert payments(database, merchant_id="other") == [others]
    assert payments(database, since=present(database) - timedelta(minutes=20)) == [others, second]
    with database.reading() as connection:
        row = reports.payments(connection, WantedPayments(limit=1))[0]
    assert set(row) == {column.name for column in Payment.__table__.columns} - {"snapshot"}


def test_payments_that_need_somebody_have_a_problem_or_are_due_and_not_looked_at(database: Database) -> None:
    """Rung for again and again without a claim, or claimed again and again without an end; not merely due."""
    at = present(database)
    know(database, "1", due_at=at)
    know(database, "2", due_at=at + timedelta(hours=1), rings=1)
    parked = know(database, "3", problem="the platform does not know this payment")
    unheard = know(database, "4", due_at=at + timedelta(minutes=4), rings=5)
    lost = know(database, "5", due_at=at + timedelta(minutes=1), claims=3)

    assert payments(database, stuck=True) == [lost, unheard, parked]
    assert payments(database, stuck=True, payment_id="3") == [parked]


def test_the_wait_that_stuck_payments_are_told_by_is_the_sweeps_longest() -> None:
    """Or those that are rung for in vain would be beyond what is read."""
    assert max(rescue.RING_AGAIN_SECONDS) == LONGEST_WAIT_SECONDS
    assert len(rescue.RING_AGAIN_SECONDS) > reports.UNHEARD_RINGS


def test_a_payment_is_found_by_its_id_and_told_apart_by_its_merchant(database: Database) -> None:
    """Also of a merchant that is in no settings any more."""
    know(database, "1")
    know(database, "2", merchant_id="other")
    know(database, "1", merchant_id="other")

    with database.reading() as connection:
        assert reports.payment(connection, "2")["merchant_id"] == "other"
        assert reports.payment(connection, "1", "other")["merchant_id"] == "other"
        with pytest.raises(LookupError, match="known of acme, other"):
            reports.payment(connection, "1")
        with pytest.raises(LookupError, match="there is no payment 2 of acme"):
            reports.payment(connection, "2", "acme")


def test_operations_are_listed_by_the_payments_reference_and_by_what_needs_somebody(
    database: Database, till: Till
) -> None:
    """What is new, what is done and what waits for the platform need nobody; what is open for unusually long does."""
    keys = [till.ask(MovementKind.CAPTURE, 10, payment_id=str(1000 + number)) for number in range(5)]
    review, late, new, done, settling = keys
    for key in keys:
        till.look(str(999 + key - keys[0] + 1))
    till.change(review, state="review")
    till.change(late, state="requested", created_at=present(database) - timedelta(minutes=11))
    till.change(done, state="succeeded", created_at=present(database) - timedelta(days=5))
    till.change(settling, state="accepted", created_at=present(database) - timedelta(days=1))

    assert operations(database, stuck=True) == [late, review]
    assert operations(database, stuck=True, states=("review",)) == [review]
    assert operations(database, payment_id="1002") == [new]
    assert operations(database, reference="order-1", limit=2) == [settling, done]
    assert operations(database, reference="order-1", payment_id="1001", before=new) == [late]
    assert operations(database, reference="order-2") == []


def test_the_place_of_a_time_is_found_without_an_index(database: Database) -> None:
    """Also where keys are missing, with an empty table, and for times before and after all rows."""
    with database.reading() as connection:
        assert last_key_before(connection, WebhookEvent.event_key, WebhookEvent.received_at, present(database)) == 0
    keys = [receive(database, minutes_ago=60 - 3 * number) for number in range(20)]
    with database.transaction() as connection:
        connection.execute(WebhookEvent.__table__.delete().where(WebhookEvent.event_key.in_(keys[5:9])))

    def place(minutes_ago: float) -> int:
        since = present(database) - timedelta(minutes=minutes_ago)
        with database.reading() as connection:
            return last_key_before(connection, WebhookEvent.event_key, WebhookEvent.received_at, since)

    assert place(100) == 0 or place(100) < keys[0]
    assert keys[3] <= place(60 - 3 * 4.5) <= keys[4]
    assert keys[4] <= place(60 - 3 * 7) < keys[9]
    assert place(-100) == keys[-1]
    assert place(60 - 3 * 10 + 0.5) < keys[10]  # half a minute after the time: a key may be older than its row
