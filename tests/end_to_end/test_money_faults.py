"""Every way a call that moves money can go wrong, and the end that each must have."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.end_to_end.conftest import Start
from tests.end_to_end.house import House
from tests.end_to_end.shop import Shop
from tests.proof import money
from tests.proof.fixtures import Proof
from tests.servers.process_tree import wait_for

SETTINGS = {
    "PAYHOOK_CALL_SECONDS": "2",
    # A key that replays a 5xx for good is given up only after two looks so far apart.
    "PAYHOOK_SETTLING_SECONDS": "2",
    # The longest pause of an operation that is unknown: else the kept 500s below would take a minute.
    "PAYHOOK_POLL_MOVING_SECONDS": "[2, 4]",
    # Each 429 halves it, and what is measured is no queue for what is left.
    "PAYHOOK_BUDGET_PER_SECOND": "10000",
}
CALLS = {"capture": "capture_payment", "refund": "refund_payment", "cancel": "cancel_payment"}

Parts = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """A fault, and what the operation comes to: for each kind that is not named, it succeeds."""

    name: str
    fault: Parts
    ends: dict[str, str]


def row(name: str, *, ends: str = "succeeded", ends_of: dict[str, str] | None = None, **fault: Any) -> Row:
    return Row(name, fault, {**dict.fromkeys(CALLS, ends), **(ends_of or {})})


def error(status: int, code: str, id: str) -> Parts:
    """An answer of the platform's own, with this error in it."""
    errors = [{"errorCode": code, "id": id, "httpStatusCode": status, "category": "PAYMENT_PLATFORM_ERROR"}]
    return {"status": status, "body": json.dumps({"errorId": "0b6c3f1e-fault", "errors": errors})}


NOTHING: Parts = {"effect": False, "keeps": "nothing"}

TABLE = [
    # No answer, or half of one: money may have moved.
    row("time-out after the effect", like="hang"),
    row("time-out before the effect", like="hang_before_effect"),
    row("reset after the effect", like="reset"),
    row("reset before the effect", like="reset_before_effect"),
    *(row(f"cut off at byte {byte}", like="truncated", at_byte=byte) for byte in (0, 1, 12, 100, 160, 200, 300)),
    row("a byte a second", like="drip"),
    # The platform's own trouble, and that of whoever stands before it.
    *(row(f"{status} with the effect", status=status) for status in (500, 502, 503, 504)),
    *(row(f"{status} without effect", status=status, **NOTHING) for status in (500, 502, 503, 504)),
    row("500 with the effect, its key forgotten", like="error_with_effect_forgotten"),
    row("500 with the effect, replayed", like="error_with_effect_stored"),
    # A key that only ever replays its 500: a capture gets another key, of what pays out a person is asked.
    row("500 without effect, replayed", like="error_stored", ends_of={"refund": "review", "cancel": "review"}),
    row("504 in HTML with the effect", like="gateway_timeout"),
    row("504, and the effect two seconds later", like="late_effect"),
    # Not now.
    row("409 in progress, by its id", like="in_progress"),
    row("409 in progress, by its code", **error(409, "30001002", "SOMETHING_NEW"), **NOTHING),
    row("429", like="too_many_requests"),
    # No: believed, once a look has shown that nothing was done.
    row("409 for another reason", ends="refused", **error(409, "50001409", "DUPLICATE_REQUEST"), **NOTHING),
    row("409 for another reason, and done", **error(409, "50001409", "DUPLICATE_REQUEST")),
    row("400 not allowed", ends="refused", **error(400, "50001127", "ACTION_NOT_ALLOWED_ON_TRANSACTION"), **NOTHING),
    row("400 not allowed, and done", **error(400, "50001127", "ACTION_NOT_ALLOWED_ON_TRANSACTION")),
    row("400 invalid", ends="refused", **error(400, "50001111", "INVALID_VALUE"), **NOTHING),
    row("402", ends="refused", like="payment_required"),
    # Credentials are refused before anything is done; a person mends them, and it goes on.
    row("403", status=403, **NOTHING),
    # A success that is none, or says nothing.
    row("302", like="redirect"),
    row("HTML with 200, and the effect", like="html"),
    row("HTML with 200, and no effect", like="html", **NOTHING),
    *(row(f"empty {status} with the effect", like="empty", status=status) for status in (200, 201)),
    row("empty 201 without effect", like="empty", status=201, **NOTHING),
    row("{} with 201, and the effect", like="empty_object", status=201),
    row("{} with 201, and no effect", like="empty_object", status=201, **NOTHING),
    row("malformed timestamp", like="malformed_timestamp"),
]


@dataclass(frozen=True)
class Case:
    """A row of the table for one kind of operation, on a payment of its own."""

    row: Row
    kind: str
    times: int
    payment_id: str

    @property
    def told(self) -> str:
        """In words, which are its request's id."""
        return f"{self.kind}, {self.row.name}, {self.times} times"


def cases(house: House, *, every: bool) -> Iterator[Case]:
    """Every fault for every kind of operation, once, twice or three times in a row; or each of the three."""
    for place, fault in enumerate(TABLE):
        for kind_place, kind in enumerate(CALLS):
            for times in (1, 2, 3) if every else (1 + (place + kind_place) % 3,):
                (payment_id,) = house.sandbox.create_payments(sale=kind == "refund", webhooks=False)
                yield Case(fault, kind, times, payment_id)


@pytest.mark.timeout(600)
@pytest.mark.proof("G2", "G3", "G4", alone=False)  # its bound is half a minute, of which it takes a fifth
def test_however_a_call_goes_wrong_its_operation_comes_to_the_right_end(
    start: Start, postgres_url: str, rabbitmq_url: str, proof: Proof
) -> None:
    """Each fault up to three times in a row, for captures, refunds and cancellations, all at once: each operation ends
    as the table says, once at most, and 30 s after the last fault nothing is unsettled."""
    house = House(start, postgres_url, rabbitmq_url, more=SETTINGS)
    house.serve()
    house.work()
    house.sandbox.settings(webhooks={"urls": [house.webhook_url]}, retry_seconds=[0.5, 1, 2, 4])
    table, shop = list(cases(house, every=proof.full)), Shop(rabbitmq_url)
    for case in table:
        number = case.payment_id.partition("_")[0]
        house.sandbox.fail(**case.row.fault, call=CALLS[case.kind], payment_id=number, times=case.times)

    for case in table:
        shop.ask(case.kind, case.payment_id, case.told, amount=400)
    took = seconds_after_the_last_fault(house, len(table))
    in_line = wait_for(lambda: house.differences() == [], 30)

    operations, ledger = house.operations(), house.sandbox.ledger()
    ends = house.ended()
    wrong = [
        f"{case.told}: {ends.get(case.told)}"
        for case in table
        if ends.get(case.told, ("open",))[0] != case.row.ends[case.kind]
    ]
    proof.injected("calls that move money and go wrong", faults(house), len(table))
    proof.figure("faults, each for a capture, a refund and a cancellation", len(TABLE))
    proof.figure("operations that came to another end than the table's", len(wrong), 0)
    proof.figure("seconds from the last fault until nothing is unsettled", f"{took:.1f}", "≤ 30")
    assert wrong == []
    assert money.moved_twice(operations, ledger) == []
    assert money.untrue(operations, ledger) == []
    assert money.unended(operations) == []
    assert took <= 30
    assert in_line, house.differences()


def seconds_after_the_last_fault(house: House, asked: int) -> float:
    """Wait until everything asked for has ended; how long before that the last fault was."""
    seen, at, began = 0, time.monotonic(), time.monotonic()
    while len(house.ended()) < asked and time.monotonic() < began + 150:
        if (now_seen := faults(house)) > seen:
            seen, at = now_seen, time.monotonic()
        time.sleep(0.2)
    return time.monotonic() - at


def faults(house: House) -> int:
    """How many calls have gone wrong so far."""
    return sum(rule["applied"] for rule in house.sandbox.faults())
