"""From a message to a row: what is asked for is checked, kept once, and refused with a reason if it makes no sense."""

import threading
from typing import Any

import pytest
from sqlalchemy import select

from tests.worker.conftest import MERCHANT
from worker.database import Database
from worker.lifecycle import MovementKind
from worker.models import JournalEntry, Operation, Payment
from worker.operations import CannotAccept, request
from worker.operations.requests import LARGEST_AMOUNT, read

CAPTURE, REFUND, CANCEL = MovementKind.CAPTURE, MovementKind.REFUND, MovementKind.CANCEL

GIVEN: dict[str, Any] = {"payment_id": "3254564310_0", "request_id": "r-1", "source": "shop", "amount": 400}


def ask(database: Database, kind: MovementKind = CAPTURE, *, ours: tuple[str, ...] = (MERCHANT,), **given: Any) -> Any:
    """Ask for what is usual but for what is given; None leaves an argument out."""
    words = {name: value for name, value in {**GIVEN, **given}.items() if value is not None}
    return request(database, kind, words, frozenset(ours), unnamed="message-1")


def rows(database: Database, table: Any) -> list[Any]:
    with database.reading() as connection:
        return list(connection.execute(select(table.__table__)))


@pytest.mark.parametrize("kind", [CAPTURE, REFUND, CANCEL])
def test_a_request_is_a_row_that_is_due(database: Database, kind: MovementKind) -> None:
    """With the payment it is about, which is made known by it and not hinted at: the request will look at it itself."""
    operation = ask(database, kind, currency="EUR", is_final=True, reference="order 7")

    (payment,) = rows(database, Payment)
    (line,) = rows(database, JournalEntry)
    assert (operation.state, operation.kind, operation.amount, operation.currency) == ("requested", kind, 400, "EUR")
    assert (operation.merchant_id, operation.payment_id, operation.is_final) == (MERCHANT, "3254564310_0", True)
    assert (operation.source, operation.request_id, operation.terms) == ("shop", "r-1", {"reference": "order 7"})
    assert operation.due_at is not None
    assert operation.idempotence_key is None
    assert (payment.payment_key, payment.payment_id) == (operation.payment_key, "3254564310")
    assert (payment.has_operations, payment.wanted, payment.due_at) == (True, 0, None)
    assert (line.actor, line.from_state, line.to_state) == ("shop", None, "requested")


def test_a_payment_that_is_known_is_marked_and_else_untouched(database: Database) -> None:
    """From now on a look at it asks for operations."""
    first = ask(database)
    with database.transaction() as connection:
        connection.exec_driver_sql("UPDATE payments SET has_operations = false, state = 'authorised', wanted = 7")

    second = ask(database, request_id="r-2")

    (payment,) = rows(database, Payment)
    assert first.payment_key == second.payment_key == payment.payment_key
    assert (payment.has_operations, payment.state, payment.wanted) == (True, "authorised", 7)


@pytest.mark.parametrize(
    "again", [{}, {"payment_id": "3254564310"}, {"payment_id": "9000003254564310000"}, {"merchant_id": MERCHANT}]
)
def test_the_same_request_again_is_the_operation_there_is(database: Database, again: dict[str, Any]) -> None:
    """Whatever the payment's id is spelt like; nothing is written a second time."""
    first = ask(database)

    second = ask(database, **again)

    assert second.operation_key == first.operation_key
    assert len(rows(database, Operation)) == len(rows(database, JournalEntry)) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"amount": 401},
        {"amount": None},
        {"currency": "EUR"},
        {"is_final": True},
        {"reference": "order 7"},
        {"payment_id": "1111111111"},
        {"kind": REFUND},
    ],
)
def test_the_same_id_with_other_content_is_refused_and_nothing_changes(
    database: Database, other: dict[str, Any]
) -> None:
    """But for a journal line, which says so: neither operation nor payment is made or touched."""
    first = ask(database)
    before = rows(database, Operation), rows(database, Payment)

    with pytest.raises(CannotAccept, match=f"used for another request, operation {first.operation_key}; nothing"):
        ask(database, **other)

    line = rows(database, JournalEntry)[-1]
    assert (rows(database, Operation), rows(database, Payment)) == before
    assert (line.subject, line.subject_id, line.to_state) == ("request", "shop/r-1", "refused")


@pytest.mark.parametrize("other", [{"source": "erp"}, {"request_id": "r-2"}, {"merchant_id": "other"}])
def test_another_name_is_another_operation(database: Database, other: dict[str, Any]) -> None:
    """Merchant, source and request id together make the name."""
    ours = (MERCHANT, "other")
    first = ask(database, ours=ours, merchant_id=MERCHANT)

    second = ask(database, ours=ours, **{"merchant_id": MERCHANT, **other})

    assert second.operation_key != first.operation_key
    assert second.operation_uuid != first.operation_uuid
    assert second.state == "requested"


def test_the_same_request_from_many_at_once_is_one_operation(postgres: Database) -> None:
    """A message delivered to several workers: the constraint decides."""
    start, keys = threading.Barrier(6), []

    def deliver() -> None:
        start.wait(10)
        keys.append(ask(postgres).operation_key)

    threads = [threading.Thread(target=deliver) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(keys) == 6
    assert len(set(keys)) == 1


def test_an_operations_name_comes_from_the_requests_words(database: Database) -> None:
    """The same after an old backup was restored: what the platform lists under it is found again."""
    first = ask(database)
    with database.transaction() as connection:
        connection.exec_driver_sql("DELETE FROM operations")

    second = ask(database)

    assert second.operation_uuid == first.operation_uuid


MALFORMED: list[tuple[dict[str, Any], str]] = [
    ({"request_id": None}, "request_id is missing"),
    ({"request_id": ""}, "request_id is missing"),
    ({"request_id": 7}, "request_id is missing"),
    ({"request_id": "r" * 129}, "request_id is missing"),
    ({"request_id": "r\n1"}, "request_id is missing"),
    ({"request_id": " r"}, "request_id is missing"),
    ({"source": None}, "source is missing"),
    ({"source": "my shop"}, "source is missing"),
    ({"source": "s" * 65}, "source is missing"),
    ({"source": "policy:manual"}, "only payhook's own policies may"),
    ({"merchant_id": "stranger"}, "merchant_id is not one of ours"),
    ({"merchant_id": ["acme"]}, "merchant_id is not one of ours"),
    ({"amount": 0}, "amount is not a whole number above 0"),
    ({"amount": -400}, "amount is not a whole number above 0"),
    ({"amount": 4.0}, "amount is not a whole number above 0"),
    ({"amount": "400"}, "amount is not a whole number above 0"),
    ({"amount": True}, "amount is not a whole number above 0"),
    ({"amount": LARGEST_AMOUNT + 1}, "amount is not a whole number above 0"),
    ({"currency": "eur"}, "currency is not three capital letters"),
    ({"currency": "EURO"}, "currency is not three capital letters"),
    ({"currency": 978}, "currency is not three capital letters"),
    ({"is_final": "yes"}, "is_final is neither true nor false"),
    ({"is_final": 1}, "is_final is neither true nor false"),
    ({"reference": "r" * 41}, "reference is not text of 1 to 40"),
    ({"reference": "a\nb"}, "reference is not text of 1 to 40"),
    ({"reference": {}}, "reference is not text of 1 to 40"),
    ({"reason": "broken"}, "unknown arguments: reason; a capture knows"),
    ({"on_captured": "refund"}, "unknown arguments: on_captured; a capture knows"),
    ({"amuont": 400, "4111 1111": 1}, "unknown arguments: ?, amuont; a capture knows"),
]


@pytest.mark.parametrize(("given", "reason"), MALFORMED, ids=[str(given)[:40] for given, _ in MALFORMED])
def test_what_makes_no_sense_is_kept_refused(database: Database, given: dict[str, Any], reason: str) -> None:
    """With its reason, at rest, and without making a payment known; the same message again is the same row."""
    operation = ask(database, **given)
    again = ask(database, **given)

    assert (operation.state, operation.payment_key, operation.due_at) == ("refused", None, None)
    assert reason in operation.reason
    assert operation.terms is None
    assert again.operation_key == operation.operation_key
    assert rows(database, Payment) == []
    assert len(rows(database, JournalEntry)) == 1


def test_everything_that_is_wrong_is_said_at_once(database: Database) -> None:
    """One answer, not one for each try."""
    operation = ask(database, amount=-1, currency="€", source="my shop")

    assert operation.reason.count(";") == 2


@pytest.mark.parametrize(
    ("kind", "given", "reason"),
    [
        (REFUND, {"reason": "r" * 257}, "reason is not text"),
        (CANCEL, {"on_captured": "maybe"}, "on_captured is neither"),
        (CANCEL, {"on_captured": ["refund"]}, "on_captured is neither"),
        (CANCEL, {"reason": "broken"}, "unknown arguments: reason"),
        (REFUND, {"on_captured": "refund"}, "unknown arguments: on_captured"),
    ],
)
def test_each_kind_has_its_own_arguments(
    database: Database, kind: MovementKind, given: dict[str, Any], reason: str
) -> None:
    """A refund gives reasons, a cancellation says what to do when it comes too late."""
    operation = ask(database, kind, **given)

    assert operation.state == "refused"
    assert reason in operation.reason


def test_a_request_without_an_id_goes_by_its_message(database: Database) -> None:
    """Kept all the same, once for each message."""
    words = {"payment_id": "3254564310", "source": "shop"}

    first, again = (request(database, CAPTURE, words, {MERCHANT}, unnamed="message-1") for _ in range(2))
    other = request(database, CAPTURE, words, {MERCHANT}, unnamed="message-2")

    assert (first.state, first.request_id) == ("refused", "unnamed:message-1")
    assert again.operation_key == first.operation_key != other.operation_key


@pytest.mark.parametrize("merchant_id", [None, "stranger"])
def test_with_several_merchants_one_must_be_named(database: Database, merchant_id: str | None) -> None:
    """And be ours; what names none is one row however often it comes, though NULL equals nothing."""
    ours = (MERCHANT, "other")

    first, again = (ask(database, ours=ours, merchant_id=merchant_id) for _ in range(2))

    said = "merchant_id is missing, and there are several" if merchant_id is None else "merchant_id is not one of ours"
    assert first.state == "refused"
    assert said in first.reason
    assert first.merchant_id == merchant_id
    assert again.operation_key == first.operation_key


@pytest.mark.parametrize(
    "payment_id",
    [None, "", "abc", 3254564310, "3254564310_", "../v1", "1" * 21, "\uff13254564310", {"id": 1}, "1\n"],
)
def test_what_names_no_payment_is_kept_in_the_journal(database: Database, payment_id: Any) -> None:
    """There is nothing to keep an operation with; who reads the result is told as well."""
    words = {**GIVEN, "payment_id": payment_id}

    with pytest.raises(CannotAccept, match="payment_id is not a payment's id"):
        request(database, CAPTURE, words, {MERCHANT}, unnamed="message-1")

    (line,) = rows(database, JournalEntry)
    assert (line.subject, line.to_state, line.actor) == ("request", "refused", "task")
    assert line.why.startswith("capture: payment_id is not")
    assert line.subject_id.isascii()
    assert line.subject_id.isprintable()
    assert rows(database, Operation) == rows(database, Payment) == []


def test_a_policys_name_is_kept_for_policies(database: Database) -> None:
    """A request from outside that takes it is refused, and does not stand where the policy's own will."""
    given = {**GIVEN, "source": "policy:capture-when-authorised", "request_id": "3254564310:capture:1"}

    outsider = request(database, CAPTURE, given, {MERCHANT}, unnamed="m")

    assert (outsider.state, outsider.source) == ("refused", "unnamed")
    assert read(CAPTURE, given, {MERCHANT}, unnamed="m", ours=True).source == given["source"]
    assert read(CAPTURE, given, {MERCHANT}, unnamed="m", ours=True).problem is None
