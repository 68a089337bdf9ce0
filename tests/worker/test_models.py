"""The rules that the database itself keeps, whoever writes to it: each is broken on purpose, and refused."""

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from typing import Any

import pytest
from sqlalchemy import Table, insert, select, update
from sqlalchemy.exc import IntegrityError

from tests.servers.postgres_server import PostgresServer
from worker.database import Database, migrate, now
from worker.models import (
    Attempt,
    Base,
    Fact,
    JournalEntry,
    Movement,
    Operation,
    Payment,
    WebhookEvent,
    WebhookKey,
)

numbers = count(1)

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.servers)])
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A migrated database of each kind in turn; every row in it is unlike the others."""
    url = f"sqlite:///{tmp_path_factory.mktemp('models') / 'payhook.db'}"
    if request.param == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres_server")
        server.revive()
        url = server.new_database()
    migrate(url)
    database = Database(url, connections=2, seconds=10, revision=None)
    yield database
    database.close()


def event(**changes: Any) -> dict[str, Any]:
    digest = hashlib.sha256(str(next(numbers)).encode()).digest()
    return {"body": b"{}", "body_sha256": digest, "key_id": "k", "received_at": AT, "due_at": AT, **changes}


def payment(**changes: Any) -> dict[str, Any]:
    return {"merchant_id": "acme", "payment_id": str(next(numbers)), "state": "authorised", **changes}


def operation(**changes: Any) -> dict[str, Any]:
    number = next(numbers)
    return {
        "operation_uuid": f"uuid-{number}",
        "merchant_id": "acme",
        "payment_id": "3254564310_0",
        "kind": "capture",
        "amount": 1000,
        "currency": "EUR",
        "source": "shop",
        "request_id": f"request-{number}",
        "request_sha256": b"x" * 32,
        "idempotence_key": f"key-{number}",
        "state": "planned",
        "created_at": AT,
        **changes,
    }


def movement(**changes: Any) -> dict[str, Any]:
    return {
        "merchant_id": "acme",
        "platform_operation_id": f"{next(numbers)}_1",
        "kind": "capture",
        "state": "done",
        "amount": 1000,
        "currency": "EUR",
        "first_seen_at": AT,
        "last_seen_at": AT,
        **changes,
    }


def attempt(**changes: Any) -> dict[str, Any]:
    return {"generation": 0, "idempotence_key": "key", "claim_token": "token", "started_at": AT, **changes}


def key(**changes: Any) -> dict[str, Any]:
    return {"key_id": f"key-{next(numbers)}", "encrypted_secret": b"x", "created_at": AT, **changes}


def entry(**changes: Any) -> dict[str, Any]:
    return {"at": AT, "actor": "test", "subject": "payment", "subject_id": "1", "why": "because", **changes}


def store(database: Database, model: type[Base], **row: Any) -> int:
    """Add a row; its key."""
    table = model.__table__
    assert isinstance(table, Table)
    with database.transaction() as connection:
        return int(connection.execute(insert(model).values(**row).returning(*table.primary_key)).scalar_one())


def refuse(database: Database, model: type[Base], **row: Any) -> None:
    with pytest.raises(IntegrityError):
        store(database, model, **row)


def test_the_tables_are_those_of_the_design() -> None:
    """These eight, and no other."""
    assert set(Base.metadata.tables) == {
        "webhook_events",
        "payments",
        "operations",
        "attempts",
        "movements",
        "journal",
        "webhook_keys",
        "facts",
    }


def test_a_body_is_kept_once(database: Database) -> None:
    """The same bytes at the same place are refused; at another place of an array they are another event."""
    row = event()
    store(database, WebhookEvent, **row)

    refuse(database, WebhookEvent, **row)

    assert store(database, WebhookEvent, **{**row, "position": 1})


def test_an_event_is_unique_by_its_body_only(database: Database) -> None:
    """The same event id under another body is another row."""
    store(database, WebhookEvent, **event(event_id="same"))

    assert store(database, WebhookEvent, **event(event_id="same"))


@pytest.mark.parametrize("missing", ["body_sha256", "key_id", "received_at"])
def test_an_event_has_its_digest_its_key_and_its_time(database: Database, missing: str) -> None:
    """None of them can be left out."""
    refuse(database, WebhookEvent, **event(**{missing: None}))


@pytest.mark.parametrize(
    ("done_at", "outcome"), [(AT, None), (None, "ignored"), (AT, "lost"), (AT, ""), (None, "reconciled")]
)
def test_an_event_is_done_with_an_outcome_or_neither(
    database: Database, done_at: datetime | None, outcome: str | None
) -> None:
    """And the outcome is one of three words."""
    refuse(database, WebhookEvent, **event(done_at=done_at, outcome=outcome))


@pytest.mark.parametrize("outcome", ["reconciled", "ignored", "quarantined"])
def test_an_event_ends_in_one_of_three_ways(database: Database, outcome: str) -> None:
    """Nothing else is an end."""
    assert store(database, WebhookEvent, **event(done_at=AT, outcome=outcome, due_at=None))


def test_a_payment_has_one_row(database: Database) -> None:
    """By merchant and payment id: two merchants may have the same one."""
    row = payment()
    store(database, Payment, **row)

    refuse(database, Payment, **row)

    assert store(database, Payment, **{**row, "merchant_id": "other"})


@pytest.mark.parametrize("missing", ["merchant_id", "payment_id", "state"])
def test_a_payment_is_known_by_merchant_and_id_and_stands_somewhere(database: Database, missing: str) -> None:
    """None of them can be left out."""
    refuse(database, Payment, **payment(**{missing: None}))


def test_a_new_payment_owes_nothing(database: Database) -> None:
    """Hints, claims, failures and amounts begin at nought."""
    payment_key = store(database, Payment, **payment())

    with database.reading() as connection:
        row = connection.execute(select(Payment.__table__).where(Payment.payment_key == payment_key)).one()
    assert (row.wanted, row.applied, row.claims, row.failures, row.rings) == (0, 0, 0, 0, 0)
    assert [getattr(row, name) for name in row._fields if name.startswith("amount_")] == [0] * 6


@pytest.mark.parametrize("name", ["amount_authorised", "amount_captured", "amount_refunded", "wanted", "applied"])
def test_sums_have_room(database: Database, name: str) -> None:
    """64 bits: the largest amount of the platform fits many times over."""
    payment_key = store(database, Payment, **payment(**{name: 2**63 - 1}))

    with database.reading() as connection:
        column = Payment.__table__.c[name]
        assert connection.execute(select(column).where(Payment.payment_key == payment_key)).scalar() == 2**63 - 1


def test_a_request_is_one_operation(database: Database) -> None:
    """The same source and request id again are refused; another source may use the same id."""
    row = operation()
    again = {"operation_uuid": "other", "idempotence_key": "other-key"}
    store(database, Operation, **row)

    refuse(database, Operation, **{**row, **again})

    assert store(database, Operation, **{**row, **again, "source": "cli"})


@pytest.mark.parametrize("field", ["idempotence_key", "operation_uuid"])
def test_no_two_operations_share_what_the_platform_tells_them_by(database: Database, field: str) -> None:
    """Neither the idempotence key nor our reference: a shared one would be a lost operation."""
    row = operation()
    store(database, Operation, **row)

    refuse(database, Operation, **operation(**{field: row[field]}))


@pytest.mark.parametrize("amount", [0, -1, -(2**63)])
@pytest.mark.parametrize("state", ["requested", "planned", "refused"])
def test_an_operation_moves_more_than_nothing(database: Database, state: str, amount: int) -> None:
    """An amount that is not positive is refused in every state."""
    refuse(database, Operation, **operation(amount=amount, state=state))


OPEN = ["planned", "sending", "accepted", "succeeded", "unknown", "withdrawn", "review"]


@pytest.mark.parametrize("missing", ["amount", "currency"])
@pytest.mark.parametrize("state", OPEN)
def test_an_operation_that_may_be_sent_has_amount_and_currency(database: Database, state: str, missing: str) -> None:
    """They are explicit once it is promised."""
    refuse(database, Operation, **operation(**{missing: None, "state": state}))


@pytest.mark.parametrize("state", ["requested", "refused"])
def test_an_operation_that_was_only_asked_for_may_leave_them_out(database: Database, state: str) -> None:
    """The remainder is not known yet, or never will be."""
    assert store(database, Operation, **operation(amount=None, currency=None, state=state))


@pytest.mark.parametrize(("field", "value"), [("kind", "charge"), ("state", "sent"), ("state", ""), ("kind", None)])
def test_an_operation_is_of_a_known_kind_and_state(database: Database, field: str, value: str | None) -> None:
    """Three kinds, nine states."""
    refuse(database, Operation, **operation(**{field: value}))


@pytest.mark.parametrize("second", ["sending", "unknown"])
@pytest.mark.parametrize("first", ["sending", "unknown"])
def test_a_payment_has_at_most_one_operation_in_flight(database: Database, first: str, second: str) -> None:
    """Whether it is made so or becomes so; another payment's is none of its business."""
    one, other = (store(database, Payment, **payment()) for _ in range(2))
    store(database, Operation, **operation(payment_key=one, state=first))
    waiting = store(database, Operation, **operation(payment_key=one))

    refuse(database, Operation, **operation(payment_key=one, state=second))
    with pytest.raises(IntegrityError), database.transaction() as connection:
        connection.execute(update(Operation).where(Operation.operation_key == waiting).values(state=second))

    assert store(database, Operation, **operation(payment_key=other, state=second))


def test_an_operation_that_has_ended_makes_room_for_the_next(database: Database) -> None:
    """Only those in flight exclude each other."""
    payment_key = store(database, Payment, **payment())
    first = store(database, Operation, **operation(payment_key=payment_key, state="sending"))
    for state in ("planned", "accepted", "succeeded", "refused", "withdrawn", "review"):
        store(database, Operation, **operation(payment_key=payment_key, state=state))

    with database.transaction() as connection:
        connection.execute(update(Operation).where(Operation.operation_key == first).values(state="accepted"))

    assert store(database, Operation, **operation(payment_key=payment_key, state="sending"))


def test_an_operation_belongs_to_a_payment_that_is_there(database: Database) -> None:
    """Or to none yet."""
    refuse(database, Operation, **operation(payment_key=10**9))

    assert store(database, Operation, **operation(payment_key=None, state="requested"))


def test_an_attempt_belongs_to_an_operation_that_is_there(database: Database) -> None:
    """What may have been sent is never without what it was sent for."""
    refuse(database, Attempt, **attempt(operation_key=10**9))
    refuse(database, Attempt, **attempt(operation_key=None))

    operation_key = store(database, Operation, **operation())
    assert store(database, Attempt, **attempt(operation_key=operation_key))


def test_a_movement_is_kept_once(database: Database) -> None:
    """By merchant and the platform's id of it."""
    payment_key = store(database, Payment, **payment())
    row = movement(payment_key=payment_key)
    store(database, Movement, **row)

    refuse(database, Movement, **row)

    assert store(database, Movement, **{**row, "merchant_id": "other"})


def test_one_operation_explains_one_movement(database: Database) -> None:
    """Two movements of one operation would be money moved twice."""
    payment_key = store(database, Payment, **payment())
    operation_key = store(database, Operation, **operation(payment_key=payment_key))
    store(database, Movement, **movement(payment_key=payment_key, operation_key=operation_key))

    refuse(database, Movement, **movement(payment_key=payment_key, operation_key=operation_key))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", "charge"),
        ("state", "lost"),
        ("payment_key", 10**9),
        ("operation_key", 10**9),
        ("payment_key", None),
        ("amount", None),
        ("currency", None),
    ],
)
def test_a_movement_is_of_a_known_kind_state_and_payment(database: Database, field: str, value: Any) -> None:
    """And has an amount with its currency."""
    payment_key = store(database, Payment, **payment())

    refuse(database, Movement, **{**movement(payment_key=payment_key), field: value})


@pytest.mark.parametrize("amount", [0, -5])
def test_an_odd_amount_of_the_platform_is_kept(database: Database, amount: int) -> None:
    """What the platform lists is what it lists: refusing it would poison the payment."""
    payment_key = store(database, Payment, **payment())

    assert store(database, Movement, **movement(payment_key=payment_key, amount=amount))


def test_a_webhook_key_has_one_row(database: Database) -> None:
    """By its id, whoever's it is."""
    row = key()
    store(database, WebhookKey, **row)

    refuse(database, WebhookKey, **{**row, "merchant_id": "other"})
    refuse(database, WebhookKey, **key(encrypted_secret=None))


def test_a_fact_has_one_row(database: Database) -> None:
    """By its name."""
    store(database, Fact, name=f"fact-{next(numbers)}", value={"n": [1, None, "ü"]})
    store(database, Fact, name="circuit")

    refuse(database, Fact, name="circuit")
    refuse(database, Fact, name=None)


@pytest.mark.parametrize("missing", ["at", "actor", "subject", "subject_id", "why"])
def test_the_journal_says_who_when_what_and_why(database: Database, missing: str) -> None:
    """An entry without one of them is none."""
    refuse(database, JournalEntry, **entry(**{missing: None}))

    assert store(database, JournalEntry, **entry())


def test_rows_are_numbered_by_the_database(database: Database) -> None:
    """Keys rise from row to row in every table."""
    first, second = store(database, JournalEntry, **entry()), store(database, JournalEntry, **entry())

    assert second > first > 0


@pytest.mark.parametrize("table", ["webhook_events", "payments", "operations", "facts"])
def test_what_is_due_is_found_by_one_small_index(table: str) -> None:
    """Only rows with work ahead are in it."""
    [index] = [index for index in Base.metadata.tables[table].indexes if index.name == f"ix_{table}_due"]

    for dialect in ("postgresql", "sqlite"):
        assert str(index.dialect_options[dialect]["where"]) == "due_at IS NOT NULL"


def test_a_row_that_is_not_due_costs_the_search_nothing(database: Database) -> None:
    """The plan of the claim's question uses the partial index."""
    query = (
        "SELECT event_key FROM webhook_events WHERE due_at IS NOT NULL AND merchant_id = 'acme' AND payment_id = '1'"
    )
    with database.reading() as connection:
        if not database.is_sqlite:
            connection.exec_driver_sql("SET enable_seqscan = off")
        explain = "EXPLAIN QUERY PLAN " if database.is_sqlite else "EXPLAIN "
        plan = " ".join(str(row) for row in connection.exec_driver_sql(explain + query))

    assert "ix_webhook_events_due" in plan


def test_importing_the_schema_opens_nothing() -> None:
    """Its times are the database's own clock, and reading it needs no setting."""
    import subprocess
    import sys

    probe = "import sys, worker.models; print(sorted({'celery', 'kombu', 'flask', 'psycopg'} & set(sys.modules)))"
    ended = subprocess.run(
        [sys.executable, "-c", probe], env={"PAYHOOK_DATABASE_URL": "nonsense"}, capture_output=True, text=True
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "[]\n", "")
    assert now() is not None
