"""Received events, each kept once, whatever their bodies hold."""

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Row, func, select, update
from sqlalchemy.engine import make_url

from tests.servers.postgres_server import PostgresServer
from worker.database import Database, migrate, now, seconds_from_now
from worker.inbox import MOST_EVENTS, keep, understand
from worker.models import WebhookEvent

THREADS = 64
RING_SECONDS = 5.0

numbers = count(1)

Kept = Callable[..., list[Row[Any]]]


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.servers)])
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A database of each kind in turn, the same for all tests here: no two of them use the same body."""
    url = f"sqlite:///{tmp_path_factory.mktemp('inbox') / 'payhook.db'}"
    if request.param == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres_server")
        server.revive()
        url = server.new_database()
    migrate(url)
    database = Database(url, connections=THREADS, seconds=20, revision=None)
    yield database
    database.close()


@pytest.fixture
def kept(database: Database) -> Kept:
    """Keeps a body as the ingress does; every row there is of it then."""

    def keep_one(body: bytes, *, key_merchant: str | None = None, ours: set[str] | None = None) -> list[Row[Any]]:
        keep(database, body, "key-1", key_merchant_id=key_merchant, merchant_ids=ours, ring_seconds=RING_SECONDS)
        return rows_of(database, body)

    return keep_one


def rows_of(database: Database, body: bytes) -> list[Row[Any]]:
    digest = hashlib.sha256(body).digest()
    query = select(WebhookEvent.__table__, now().label("at")).where(WebhookEvent.body_sha256 == digest)
    with database.reading() as connection:
        return list(connection.execute(query.order_by(WebhookEvent.position)))


def payload(**changes: Any) -> dict[str, Any]:
    """An event as the platform sends it, unlike any other before; a change of None leaves a field out."""
    number = next(numbers)
    whole = {
        "apiVersion": "v1",
        "id": f"0f09e8b2-0000-4000-8000-{number:012d}",
        "created": "2026-01-23T09:51:27.9529667+01:00",
        "merchantId": "acme",
        "type": "payment.captured",
        "payment": {
            "id": "3254564310_1",
            "status": "CAPTURED",
            "statusOutput": {"statusCode": 9, "statusCategory": "COMPLETED", "isRefundable": True},
            "paymentOutput": {
                "amountOfMoney": {"amount": 1500, "currencyCode": "EUR"},
                "references": {"merchantReference": "order-1"},
            },
        },
        **changes,
    }
    return {name: value for name, value in whole.items() if value is not None}


def compact(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def unique(text: str) -> bytes:
    """A body like no other: white space after JSON means nothing."""
    number = next(numbers)
    return (text + " " * (number % 89) + "\n" * (number // 89)).encode("utf-8", "surrogatepass")


def raw(**changes: str) -> str:
    """An event with fields written as they stand, where no JSON library would write them so."""
    fields = {name: json.dumps(value) for name, value in payload().items()} | changes
    return "{" + ",".join(f'"{name}":{value}' for name, value in fields.items()) + "}"


def test_a_genuine_event_waits_to_be_looked_at(kept: Kept) -> None:
    """Its exact bytes and what it says are in one row, due a few seconds ahead."""
    document = payload()
    body = compact(document)

    [row] = kept(body)

    assert row.body == body
    assert row.body_sha256 == hashlib.sha256(body).digest()
    assert (row.merchant_id, row.event_id, row.type) == ("acme", document["id"], "payment.captured")
    assert (row.payment_id, row.key_id, row.position) == ("3254564310", "key-1", 0)
    assert (row.outcome, row.done_at, row.problem) == (None, None, None)
    assert (row.deliveries, row.claims) == (1, 0)
    assert row.received_at.tzinfo is not None
    assert (row.due_at - row.received_at).total_seconds() == pytest.approx(RING_SECONDS, abs=0.01)
    assert 0 <= (row.at - row.received_at).total_seconds() < 10


# Every odd body that was tried on the SDK, each validly signed: what the SDK makes of it, and what is to become of it.
QUARANTINED = {
    "another API version": lambda: raw(apiVersion='"v0"'),
    "API version 2": lambda: raw(apiVersion='"v2"'),
    "no API version": lambda: compact({k: v for k, v in payload().items() if k != "apiVersion"}).decode(),
    "API version null": lambda: raw(apiVersion="null"),
    "API version a number": lambda: raw(apiVersion="1"),
    "an empty object": lambda: "{}",
    "white space": lambda: " \t\r\n",
    "not JSON": lambda: "webhook",
    "form data": lambda: "type=payment.captured&id=1",
    "cut short": lambda: raw()[:-20],
    "something after it": lambda: raw() + "x",
    "two objects": lambda: raw() + raw(),
    "a byte order mark": lambda: "\ufeff" + raw(),
    "null": lambda: "null",
    "false": lambda: "false",
    "zero": lambda: "0",
    "an empty string": lambda: '""',
    "a string": lambda: json.dumps(raw()),
    "payment null": lambda: raw(payment="null"),
    "payment a number": lambda: raw(payment="7"),
    "payment a list": lambda: raw(payment="[]"),
    "status output null": lambda: raw(payment='{"id":"1_0","statusOutput":null}'),
    "status output a list": lambda: raw(payment='{"id":"1_0","statusOutput":[]}'),
    "errors null": lambda: raw(payment='{"id":"1_0","statusOutput":{"errors":null}}'),
    "errors of null": lambda: raw(payment='{"id":"1_0","statusOutput":{"errors":[null]}}'),
    "a list where an object is due": lambda: raw(payment='{"id":"1_0","paymentOutput":{"amountOfMoney":[1]}}'),
    "transaction date null": lambda: raw(payment='{"id":"1_0","paymentOutput":{"transactionDate":null}}'),
    "transaction date a number": lambda: raw(payment='{"id":"1_0","paymentOutput":{"transactionDate":20260101}}'),
    "transaction date no date": lambda: raw(payment='{"id":"1_0","paymentOutput":{"transactionDate":"soon"}}'),
    "a number of 5,000 digits": lambda: raw(extra="9" * 5000),
    "nested 100,000 deep": lambda: "[" * 100_000 + "]" * 100_000,
    "an object nested 100,000 deep": lambda: '{"a":' * 100_000 + "1" + "}" * 100_000,
    "a field nested 100,000 deep": lambda: raw(extra="[" * 100_000 + "]" * 100_000),
    "no events": lambda: "[]",
    "an array cut short": lambda: "[" + raw(),
    "a payment id that is a number": lambda: raw(payment='{"id":3254564310}'),
    "a payment id that is a list": lambda: raw(payment='{"id":["3254564310"]}'),
    "a payment id with a path": lambda: raw(payment='{"id":"1_0/../../other"}'),
    "a payment id with a query": lambda: raw(payment='{"id":"1_0?x=1"}'),
    "a payment id with a line end": lambda: raw(payment='{"id":"3254564310\\n"}'),
    "a payment id with a NUL": lambda: raw(payment='{"id":"3254564310\\u0000"}'),
    "a payment id with a surrogate": lambda: raw(payment='{"id":"3254564310\\ud800"}'),
    "a payment id of other digits": lambda: raw(payment='{"id":"\\uff11\\uff12\\uff13"}'),
    "a payment id too long": lambda: raw(payment=json.dumps({"id": "1" * 5000})),
    "an empty payment id": lambda: raw(payment='{"id":""}'),
    "two payments": lambda: raw()[:-1] + ',"payment":{"id":"3254564311_0"}}',
    "two merchants": lambda: raw()[:-1] + ',"merchantId":"other"}',
    "a merchant twice, once in other letters": lambda: raw()[:-1] + ',"merchant\\u0049d":"acme"}',
    "two types": lambda: raw()[:-1] + ',"type":"payment.test"}',
    "two ids": lambda: raw()[:-1] + ',"id":"another"}',
    "two API versions": lambda: raw()[:-1] + ',"apiVersion":"v1"}',
    "a payment of two ids": lambda: raw(payment='{"id":"3254564310_0","id":"3254564311_0"}'),
    "a refund of two ids": lambda: raw(payment="{}", refund='{"id":"3254564310_0","id":"3254564311_0"}'),
    "a link of two payments": lambda: raw(payment="{}", paymentLink='{"paymentId":"1_0","paymentId":"2_0"}'),
    "no merchant": lambda: compact({k: v for k, v in payload().items() if k != "merchantId"}).decode(),
    "a merchant that is a number": lambda: raw(merchantId="20000"),
    "a merchant with a NUL": lambda: raw(merchantId='"ac\\u0000me"'),
    "a merchant with a surrogate": lambda: raw(merchantId='"acme\\udfff"'),
    "a merchant too long": lambda: raw(merchantId=json.dumps("a" * 65)),
}


@pytest.mark.parametrize("what", QUARANTINED)
def test_what_cannot_be_understood_is_kept_and_set_aside(kept: Kept, what: str) -> None:
    """It is genuine, so it is answered and kept; nothing follows from it, and the next event is stored as usual."""
    body = unique(QUARANTINED[what]())

    [row] = kept(body)
    [good] = kept(compact(payload()))

    assert (row.outcome, row.due_at) == ("quarantined", None)
    assert row.done_at is not None
    assert row.problem
    assert row.body == body
    assert (good.outcome, good.payment_id) == (None, "3254564310")


NO_TEXT = {
    "empty": lambda: b"",
    "not UTF-8": lambda: unique(raw()) + b"\xff",
    "latin-1": lambda: unique(raw()).replace(b"order-1", "ördnung".encode("latin-1")),
    "UTF-16": lambda: unique(raw()).decode().encode("utf-16"),
    "UTF-32": lambda: unique(raw()).decode().encode("utf-32"),
    "gzip": lambda: __import__("gzip").compress(unique(raw())),
    "NUL bytes": lambda: b"\0" * 1000,
    "a surrogate in UTF-8": lambda: unique(raw(id='"\ud800"')),
}


@pytest.mark.parametrize("what", NO_TEXT)
def test_bytes_that_are_no_text_are_kept_and_set_aside(kept: Kept, what: str) -> None:
    """The bytes are the record, whatever they are."""
    body = NO_TEXT[what]()

    [row] = kept(body)
    [good] = kept(compact(payload()))

    assert (row.outcome, row.due_at, row.body) == ("quarantined", None, body)
    assert good.outcome is None


TAKEN = {
    "unknown fields": lambda: raw(containsAnOperation="true", news='{"a":[1,{"b":null}]}'),
    "an empty refund beside the payment": lambda: raw(refund="{}"),
    "a doubled field that nobody reads": lambda: raw()[:-1] + ',"created":"later","created":"now"}',
    "a doubled id of something else": lambda: raw(token='{"id":"1","id":"2"}'),
    "a type that is a number": lambda: raw(type="42"),
    "a type nobody knows": lambda: raw(type='"payment.chargebacked"'),
    "a type too long": lambda: raw(type=json.dumps("payment." + "x" * 500)),
    "a type with a NUL": lambda: raw(type='"payment\\u0000captured"'),
    "an id that is a list": lambda: raw(id="[1,2]"),
    "an id with a surrogate": lambda: raw(id='"\\ud800"'),
    "an id with a NUL": lambda: raw(id='"\\u0000"'),
    "an id too long": lambda: raw(id=json.dumps("i" * 129)),
    "no id": lambda: compact({k: v for k, v in payload().items() if k != "id"}).decode(),
    "an amount that is a string": lambda: raw(
        payment='{"id":"3254564310_0","paymentOutput":{"amountOfMoney":{"amount":"12"}}}'
    ),
    "an amount that is a fraction": lambda: raw(
        payment='{"id":"3254564310_0","paymentOutput":{"amountOfMoney":{"amount":1.5}}}'
    ),
    "an amount that is NaN": lambda: raw(
        payment='{"id":"3254564310_0","paymentOutput":{"amountOfMoney":{"amount":NaN}}}'
    ),
    "an amount of 4,000 digits": lambda: raw(
        payment='{"id":"3254564310_0","paymentOutput":{"amountOfMoney":{"amount":' + "9" * 4000 + "}}}"
    ),
    "a created nobody can parse": lambda: raw(created='"once"'),
    "nested 500 deep": lambda: raw(extra="[" * 500 + "]" * 500),
    "white space around it": lambda: "\r\n\t " + raw(),
    "markup in its texts": lambda: raw(id='"<script>\'; DROP TABLE webhook_events; --"'),
    "emoji and right-to-left": lambda: raw(id='"\U0001f4b6\u202e"'),
}


@pytest.mark.parametrize("what", TAKEN)
def test_what_is_odd_but_names_a_payment_is_looked_at(kept: Kept, what: str) -> None:
    """An event is a hint: all that counts is whose payment it names. What no column can hold is left out of it."""
    [row] = kept(unique(TAKEN[what]()))
    [good] = kept(compact(payload()))

    assert (row.outcome, row.problem) == (None, None)
    assert (row.payment_id, row.merchant_id) == ("3254564310", "acme")
    assert row.due_at is not None
    assert good.outcome is None


@pytest.mark.parametrize("text", ["\0", "a\0", "\ud800", "x" * 129])
def test_what_a_column_cannot_hold_is_in_the_body_only(kept: Kept, text: str) -> None:
    """PostgreSQL takes neither NUL nor surrogates in a text: the field is NULL, the bytes are kept."""
    body = unique(raw(id=json.dumps(text), type=json.dumps(text)))

    [row] = kept(body)

    assert (row.event_id, row.type, row.body) == (None, None, body)


def test_texts_as_long_as_their_columns_are_kept_whole(kept: Kept) -> None:
    """Nothing is cut off."""
    merchant, event_id, type_ = "m" * 64, "e" * 118 + f"{next(numbers):010d}", "t" * 128

    [row] = kept(compact(payload(merchantId=merchant, id=event_id, type=type_)))

    assert (row.merchant_id, row.event_id, row.type) == (merchant, event_id, type_)


IGNORED = {
    "the platform's test event": lambda: payload(
        type="payment.test", payment={"id": "9999_9", "status": "AUTHORIZATION_REQUESTED"}
    ),
    "a test event of a real payment's id": lambda: payload(type="payment.test"),
    "the platform's test payment": lambda: payload(payment={"id": "9999_9"}),
    "an unknown type that names nothing": lambda: payload(type="account.changed", payment=None),
    "a token": lambda: payload(type="token.created", payment=None, token={"id": "529f3c67"}),
    "a payout": lambda: payload(type="payout.paid", payment=None, payout={"id": "3254564310_0"}),
    "an empty payment and an empty refund": lambda: payload(payment={}, refund={}),
}


@pytest.mark.parametrize("what", IGNORED)
def test_what_names_no_payment_of_ours_is_kept_and_done(kept: Kept, what: str) -> None:
    """It is stored and answered, and nothing is fetched for it."""
    [row] = kept(compact(IGNORED[what]()))

    assert (row.outcome, row.due_at) == ("ignored", None)
    assert row.done_at is not None


NAMING = {
    "a payment": (payload(payment={"id": "3254564310_1"}), "3254564310"),
    "an unknown type of a payment": (payload(type="payment.news"), "3254564310"),
    "the long format": (payload(payment={"id": "9000003254564310000"}), "3254564310"),
    "a refund": (
        payload(type="payment.refunded", payment=None, refund={"id": "3254564310_2", "status": "REFUNDED"}),
        "3254564310",
    ),
    "a refund asked for": (
        payload(type="refund.refund_requested", payment=None, refund={"id": "3254564310_3"}),
        "3254564310",
    ),
    "a refund beside an empty payment": (payload(payment={}, refund={"id": "3254564310_2"}), "3254564310"),
    "a payment link": (
        payload(
            type="paymentlink.paid",
            payment=None,
            paymentLink={"paymentId": "3254564311_0", "paymentLinkId": "pl-1"},
        ),
        "3254564311",
    ),
}


@pytest.mark.parametrize("what", NAMING)
def test_whatever_names_a_payment_leads_to_it(kept: Kept, what: str) -> None:
    """A refund's own id and a link's payment id fold into the payment's one spelling."""
    document, payment_id = NAMING[what]

    [row] = kept(compact(document) + unique(""))

    assert (row.payment_id, row.outcome) == (payment_id, None)


def test_a_payment_link_without_a_payment_yet_is_done(kept: Kept) -> None:
    """Nothing can be fetched for it."""
    link = {"paymentLinkId": "pl-1", "status": "ACTIVE"}

    [row] = kept(compact(payload(type="paymentlink.created", payment=None, paymentLink=link)))

    assert (row.outcome, row.payment_id) == ("ignored", None)


def test_an_event_of_a_merchant_that_is_not_ours_is_set_aside(kept: Kept) -> None:
    """It is genuine, but we have no way to ask for its payment."""
    [row] = kept(compact(payload(merchantId="stranger")), ours={"acme"})

    assert (row.outcome, row.problem, row.due_at) == ("quarantined", "of a merchant that is not ours", None)
    assert (row.merchant_id, row.payment_id) == ("stranger", "3254564310")


def test_an_event_signed_with_the_key_of_another_merchant_is_set_aside(kept: Kept) -> None:
    """One merchant's key does not speak for another, though both are ours."""
    [row] = kept(compact(payload()), key_merchant="other", ours={"acme", "other"})

    assert (row.outcome, row.problem) == ("quarantined", "signed with the key of another merchant")


def test_an_event_of_its_keys_merchant_is_taken(kept: Kept) -> None:
    """The key's merchant and the event's are the same, and ours."""
    [row] = kept(compact(payload()), key_merchant="acme", ours={"acme"})

    assert row.outcome is None


def test_a_ring_is_due_for_every_event_with_work_open(database: Database) -> None:
    """New or delivered again: until it is done, whoever delivers it gets its key."""
    body = compact([payload(), payload()])

    for _ in range(2):
        keys = keep(database, body, "key-1", key_merchant_id=None, merchant_ids=None, ring_seconds=RING_SECONDS).due
        assert sorted(keys) == [row.event_key for row in rows_of(database, body)]


@pytest.mark.parametrize("document", [{}, payload(type="payment.test"), payload(merchantId="stranger")])
def test_no_ring_is_due_for_an_event_that_is_done(database: Database, document: dict[str, Any]) -> None:
    """What was quarantined or ignored wakes nobody, now or when it is delivered again."""
    body = compact(document) + unique("")

    for _ in range(2):
        keys = keep(database, body, "key-1", key_merchant_id=None, merchant_ids={"acme"}, ring_seconds=RING_SECONDS).due
        assert keys == []


@pytest.mark.parametrize("events", [1, 2, 7, MOST_EVENTS])
def test_the_events_of_an_array_are_rows_of_one_body(kept: Kept, events: int) -> None:
    """The bytes are kept once, at the first; each has its own payment and place."""
    body = compact([payload(payment={"id": f"{4000000000 + number}_0"}) for number in range(events)])

    rows = kept(body)

    assert [row.position for row in rows] == list(range(events))
    assert [row.payment_id for row in rows] == [str(4000000000 + number) for number in range(events)]
    assert [row.body for row in rows] == [body] + [None] * (events - 1)
    assert {row.outcome for row in rows} == {None}


def test_an_array_of_too_many_events_is_one_row_set_aside(kept: Kept) -> None:
    """The platform never sends so many; they are not lost, but not acted on."""
    [row] = kept(compact([payload() for _ in range(MOST_EVENTS + 1)]))

    assert MOST_EVENTS == 1000
    assert (row.outcome, row.position) == ("quarantined", 0)


def test_one_odd_event_does_not_spoil_its_array(kept: Kept) -> None:
    """Each is understood by itself."""
    odd_ones: list[Any] = [{"apiVersion": "v0"}, None, 7, [payload()]]
    whole = compact([payload(), *odd_ones, payload(payment=None), payload()])
    twice = raw(payment='{"id":"1_0","id":"2_0"}').encode()
    body = whole.replace(b",7,", b"," + twice + b",7,")

    rows = kept(body)

    odd = ["quarantined"] * 5
    assert [row.outcome for row in rows] == [None, *odd, "ignored", None]


def test_the_same_array_again_counts_a_delivery_of_each(kept: Kept) -> None:
    """No row is added."""
    body = compact([payload(), payload()])

    first, second = kept(body), kept(body)

    assert [row.event_key for row in first] == [row.event_key for row in second]
    assert [row.deliveries for row in second] == [2, 2]


def test_the_same_body_again_is_the_same_row(kept: Kept) -> None:
    """A redelivery changes nothing but the count of deliveries, and is rung for while the row has work open."""
    body = compact(payload())

    [first], [second] = kept(body), kept(body)

    assert second.event_key == first.event_key
    assert second.deliveries == 2
    assert (second.received_at, second.due_at) == (first.received_at, first.due_at)


def test_a_body_sent_again_after_a_year_is_the_same_row(database: Database, kept: Kept) -> None:
    """Signatures carry no time, so a captured delivery stays genuine: what makes it harmless must not be forgotten."""
    body = compact(payload())
    [first] = kept(body)
    with database.transaction() as connection:
        year_ago = seconds_from_now(-365 * 86400.0)
        done = {"received_at": year_ago, "done_at": year_ago, "outcome": "reconciled", "due_at": None}
        connection.execute(update(WebhookEvent).where(WebhookEvent.event_key == first.event_key).values(done))

    [again] = kept(body)

    assert again.event_key == first.event_key
    assert (again.deliveries, again.outcome, again.due_at) == (2, "reconciled", None)


def test_the_same_event_id_with_another_body_is_another_row(kept: Kept) -> None:
    """Two partial refunds may look alike but for their bodies: a second row costs one fetch, a dropped one money."""
    document = payload()

    [first] = kept(compact(document))
    [second] = kept(compact({**document, "created": "later"}))

    assert first.event_key != second.event_key
    assert first.event_id == second.event_id


def test_a_redelivery_under_a_new_event_id_is_another_row(kept: Kept) -> None:
    """The bytes differ, and nothing else is promised to be equal."""
    document = payload()

    rows = [*kept(compact(document)), *kept(compact({**document, "id": "another"}))]

    assert len({row.event_key for row in rows}) == 2


def test_one_body_sent_by_many_at_once_is_one_row(database: Database) -> None:
    """64 threads, one row, 64 deliveries: the constraint decides, not a look before."""
    body, together = compact(payload()), threading.Barrier(THREADS)

    def send(_: int) -> list[int]:
        together.wait()
        return keep(database, body, "key-1", key_merchant_id=None, merchant_ids=None, ring_seconds=RING_SECONDS).due

    with ThreadPoolExecutor(THREADS) as pool:
        keys = list(pool.map(send, range(THREADS)))

    [row] = rows_of(database, body)
    assert row.deliveries == THREADS
    assert keys == [[row.event_key]] * THREADS


def test_arrays_that_overlap_in_time_do_not_block_each_other(database: Database) -> None:
    """Sent by 16 at once, an array's rows are counted 16 times each, and nobody waits for ever."""
    body, together = compact([payload() for _ in range(50)]), threading.Barrier(16)

    def send(_: int) -> None:
        together.wait()
        keep(database, body, "key-1", key_merchant_id=None, merchant_ids=None, ring_seconds=RING_SECONDS)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(send, range(16)))

    assert [row.deliveries for row in rows_of(database, body)] == [16] * 50


@pytest.mark.parametrize("events", [0, 1, 2, MOST_EVENTS])
def test_an_event_is_kept_by_one_statement(database: Database, statements: list[str], events: int) -> None:
    """One round trip is what a webhook's answer waits for; an array's rows are one statement too."""
    body = compact([payload() for _ in range(events)]) if events else compact(payload())
    database.check()
    statements.clear()

    keep(database, body, "key-1", key_merchant_id=None, merchant_ids=None, ring_seconds=RING_SECONDS)

    if database.is_sqlite:
        assert statements.pop(0) == "BEGIN IMMEDIATE"
    assert [statement.split()[0] for statement in statements] == ["INSERT"]


@pytest.mark.servers
def test_postgresql_sees_nothing_but_the_one_statement(postgres_server: PostgresServer, postgres_url: str) -> None:
    """Neither BEGIN nor COMMIT goes to the server: it commits a single statement by itself."""
    migrate(postgres_url)
    name = make_url(postgres_url).database
    with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"alter database {name} set log_statement = 'all'".encode())
    database = Database(postgres_url, connections=1, seconds=5, revision=None)
    database.check()
    begins = Path(postgres_server.log).stat().st_size

    keep(database, compact(payload()), "key-1", key_merchant_id=None, merchant_ids=None, ring_seconds=RING_SECONDS)
    database.close()

    said = postgres_server.log.read_bytes()[begins:].decode()
    statements = re.findall(r"(?:statement|execute [^:]*): *(\w+)", said)
    assert statements == ["INSERT"]


def test_kept_rows_are_numbered_in_the_order_they_came(database: Database, kept: Kept) -> None:
    """Keys rise, one for each event."""
    with database.reading() as connection:
        before = connection.execute(select(func.max(WebhookEvent.event_key))).scalar() or 0

    [first], [second] = kept(compact(payload())), kept(compact(payload()))

    assert before < first.event_key < second.event_key


@pytest.mark.parametrize("make", [*QUARANTINED.values(), *TAKEN.values()], ids=[*QUARANTINED, *TAKEN])
def test_understanding_a_body_never_fails(make: Callable[[], str]) -> None:
    """Whatever the SDK raises on it, from TypeError to RecursionError, the outcome is at least one hint."""
    hints = understand(make().encode("utf-8", "surrogatepass"))

    assert len(hints) == 1


def test_what_was_not_understood_does_not_show_in_what_is_said_of_it() -> None:
    """The reason names a kind of error and nothing of the body."""
    [hint] = understand(b'{"apiVersion":"v1","payment":"canary-77aa"}')

    assert hint.outcome == "quarantined"
    assert "canary" not in str(hint.problem)
