"""All payments there are, and the truth about their money: every change goes through here."""

import re
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from sandbox import events, triggers
from sandbox.cards import Card
from sandbox.due_queue import DueQueue
from sandbox.events import Event
from sandbox.payments import (
    AUTHORISATIONS,
    AUTHORISED,
    CREATED,
    MOVES,
    UNDECIDED,
    Operation,
    Order,
    Outcome,
    Payment,
    Visit,
    Wish,
)
from sandbox.refusals import Refused, invalid_value, unknown_payment
from sandbox.rendering import truth_json
from sandbox.settings import Declinable, Dials, Settings
from sandbox.vault import Vault

SHORT_ID = re.compile(r"(\d{10})(?:_(\d{1,3}))?", re.ASCII)
LONG_ID = re.compile(r"900000(\d{10})(\d{3})", re.ASCII)


def number_of(payment_id: str) -> str:
    """The ten digits in any form of a payment's id; what has another form stays as it is."""
    match = SHORT_ID.fullmatch(payment_id) or LONG_ID.fullmatch(payment_id)
    return match[1] if match else payment_id


class Ledger:
    """``lock`` guards all of it; whoever needs several steps as one takes it around them."""

    def __init__(self, dials: Dials, publish: Callable[[Event], None]):
        self.lock = threading.RLock()
        self.vault = Vault()
        self.payouts: defaultdict[str, dict[str, Any]] = defaultdict(dict)  # by merchant, then id
        self._dials = dials
        self._publish = publish
        self._payments: dict[int, Payment] = {}
        self._calls: Counter[str] = Counter()
        self._calls_by_payment: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._later: DueQueue[Callable[[], None]] = DueQueue()
        self._settler = threading.Thread(target=self._do_what_is_due, name="sandbox-settler", daemon=True)
        # From the clock, so that a sandbox started anew does not give out the numbers of the one before.
        self._next_number = 3_000_000_000 + int(time.time() * 100) % 600_000_000 * 10

    def start(self) -> None:
        self._settler.start()

    def close(self) -> None:
        self._later.close()

    @property
    def settings(self) -> Settings:
        return self._dials.now

    def declines(self, what: Declinable) -> bool:
        return self._dials.declines(what)

    def reason_to_decline(self, order: Order, card: Card) -> str | None:
        """The error code, if this payment is to be declined."""
        if self._dials.declines("payment"):
            return triggers.INSUFFICIENT_FUNDS
        by_amount = triggers.decline_by_amount(order) if self._dials.now.amount_triggers else None
        return by_amount or triggers.decline_by_card(card)

    def create(
        self,
        order: Order,
        *,
        webhooks: bool = True,
        authorisation: int = AUTHORISED,
        declined_with: str | None = None,
        visit: Visit | None = None,
    ) -> Payment:
        """A payment whose authorisation has got this far. One only CREATED is not told of: nobody has paid yet."""
        with self.lock:
            settings = self._dials.now
            number = self.next_number()
            payment = Payment(
                number,
                order,
                ordinal=len(self._payments),
                visit=visit,
                declined_with=declined_with,
                long_ids=settings.long_ids,
            )
            payment.authorise(authorisation, sale_is_listed=settings.sale_lists_capture)
            self._payments[number] = payment
            if webhooks and authorisation != CREATED:
                self._announce(events.of_creation(payment))
            return payment

    def next_number(self) -> int:
        with self.lock:
            number = self._next_number
            self._next_number += 1
            return number

    def authorise(self, payment: Payment, code: int, declined_with: str | None = None) -> None:
        """The authorisation gets further; once it is decided, it stays so."""
        with self.lock:
            before = payment.authorisation
            if before not in UNDECIDED or before == code:
                message = f"the authorisation cannot become {code}: it is {before}"
                raise Refused(400, "ACTION_NOT_ALLOWED_ON_TRANSACTION", "50001127", message)
            if code not in AUTHORISATIONS:
                raise invalid_value("status_code", f"one of {AUTHORISATIONS} is expected")
            payment.declined_with = declined_with
            payment.authorise(code, sale_is_listed=self._dials.now.sale_lists_capture)
            first = before == CREATED
            self._announce(events.of_creation(payment) if first else events.of_authorisation(payment))

    def create_many(self, order: Order, count: int, *, webhooks: bool, authorisation: int = AUTHORISED) -> list[str]:
        """Several alike; with more than one, their references are numbered."""
        ids = []
        for position in range(1, count + 1):
            reference = order.merchant_reference
            if reference is not None and count > 1:
                reference = f"{reference}-{position}"
            each = replace(order, merchant_reference=reference)
            ids.append(self.create(each, webhooks=webhooks, authorisation=authorisation).id)
        return ids

    def all(self) -> list[Payment]:
        return list(self._payments.values())

    def restore(self, payments: Iterable[Payment]) -> None:
        """These and no others; what is pending settles after the settling time. Counts of calls start anew."""
        with self.lock:
            self._later.clear()
            self.forget_calls()
            self._payments = {payment.number: payment for payment in payments}
            self._next_number = max(self._next_number, 1 + max(self._payments, default=0))
            for payment in self._payments.values():
                for operation in payment.operations:
                    if operation.code == MOVES[operation.kind].pending:
                        self._settle_later(payment, operation)

    def find(self, payment_id: str, merchant_id: str | None = None) -> Payment:
        """By any id of its family, by the bare number, or by the long format."""
        payment, operation_number = None, 0
        if match := SHORT_ID.fullmatch(payment_id) or LONG_ID.fullmatch(payment_id):
            payment = self._payments.get(int(match[1]))
            operation_number = int(match[2] or 0)
        if payment is None or merchant_id not in (None, payment.order.merchant_id):
            raise unknown_payment(payment_id)
        if operation_number and all(o.number != operation_number for o in payment.operations):
            raise unknown_payment(payment_id)
        return payment

    def find_operation(self, operation_id: str) -> tuple[Payment, Operation]:
        payment = self.find(operation_id)
        for operation in payment.operations:
            if payment.id_of(operation) == operation_id:
                return payment, operation
        raise unknown_payment(operation_id)

    def begin(self, payment: Payment, wish: Wish) -> Operation:
        """Accept an operation; its outcome follows by itself after the settling time."""
        with self.lock:
            operation = payment.begin(wish)
            self._announce(events.of_operation(payment, operation))
            self._settle_later(payment, operation)
            return operation

    def _settle_later(self, payment: Payment, operation: Operation) -> None:
        outcome = self._outcome(payment, operation)

        def settle() -> None:
            if operation.code == MOVES[operation.kind].pending:  # else the portal was quicker
                self.settle(payment, operation, outcome)

        self.later(self._dials.now.settle_seconds, settle)

    def _outcome(self, payment: Payment, operation: Operation) -> Outcome:
        if self._dials.refuses(operation.kind):
            return "refused"
        return triggers.outcome_of(payment, operation) if self._dials.now.amount_triggers else "done"

    def later(self, seconds: float, what: Callable[[], None]) -> None:
        """Have something done under the lock when its time has come."""
        self._later.put(what, seconds)

    def decline(self, payment: Payment, wish: Wish) -> Operation:
        """The acquirer says no at once: the operation is over before its caller hears of it."""
        with self.lock:
            operation = payment.begin(wish)
            self.settle(payment, operation, "refused")
            return operation

    def settle(self, payment: Payment, operation: Operation, outcome: Outcome) -> None:
        with self.lock:
            payment.settle(operation, outcome)
            self._announce(events.of_operation(payment, operation))

    def send_test(self, merchant_id: str, url: str) -> None:
        self._announce([events.of_test(merchant_id, url)])

    def emit(self, payment: Payment, name: str | None, count: int) -> list[str]:
        """Tell the present state once more, each time in a new envelope."""
        with self.lock:
            told = [events.of_present(payment, name) for _ in range(count)]
            self._announce(told)
            return [event.id for event in told]

    def _announce(self, told: list[Event]) -> None:
        for event in told:  # under the lock: events are queued in the order of the changes they tell of
            self._publish(event)

    def _do_what_is_due(self) -> None:
        while (what := self._later.take()) is not None:
            try:
                with self.lock:
                    what()
            finally:
                self._later.done()

    @property
    def settling(self) -> int:
        return self._later.unfinished

    def count_call(self, call: str, number: str) -> None:
        with self.lock:
            self._calls[call] += 1
            if number:
                self._calls_by_payment[number][call] += 1

    def place_of(self, number: str) -> int | None:
        """How many payments came before this one: what it suffers is drawn from that, its number is from the clock."""
        payment = self._payments.get(int(number)) if number.isdecimal() else None
        return None if payment is None else payment.ordinal

    def calls(self) -> dict[str, Any]:
        with self.lock:
            by_payment = {number: dict(counts) for number, counts in self._calls_by_payment.items()}
            return {"total": self._calls.total(), "by_call": dict(self._calls), "by_payment": by_payment}

    def forget_calls(self) -> None:
        with self.lock:
            self._calls.clear()
            self._calls_by_payment.clear()

    def truth(self, merchant_id: str | None = None, payment_id: str | None = None) -> list[dict[str, Any]]:
        """Each payment as of one moment; not all as of the same, or a long list would stop every other call."""
        with self.lock:
            payments = list(self._payments.values()) if payment_id is None else [self.find(payment_id)]
        rows = []
        for payment in payments:
            if merchant_id in (None, payment.order.merchant_id):
                with self.lock:
                    rows.append(truth_json(payment))
        return rows
