"""Money asked for in a test: requests kept, payments looked at, operations brought forward, aged and read."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import DateTime, Row, select, update

from tests.worker.conftest import MERCHANT, FakePlatform
from worker import operations
from worker.database import Database, UtcTime, now
from worker.lifecycle import MovementKind
from worker.models import Attempt, JournalEntry, Movement, Operation, Payment
from worker.operations.ledger import Ledger, open_ledger
from worker.operations.requests import make_known
from worker.policies import Policy
from worker.reconciliation import Follow, Reconciler
from worker.reconciliation.claims import want
from worker.sending import Follow as Step
from worker.sending import Sender
from worker.settings import Settings
from worker.traffic import Traffic

PAYMENT = "3254564310"


class Till:
    """One process's way with operations, and what a test reads of them."""

    def __init__(
        self,
        database: Database,
        platform: FakePlatform,
        settings: Settings,
        policies: Sequence[Policy] = (),
    ):
        self.database, self.platform, self.settings = database, platform, settings
        self.traffic = Traffic(database, settings)
        self.reconciler = Reconciler(database, {MERCHANT: platform}, settings, {MERCHANT: policies}, self.traffic)
        self.sender = Sender(database, {MERCHANT: platform}, settings, self.traffic)
        self._asked = 0

    def ask(self, kind: MovementKind, amount: int | None = None, *, payment_id: str = PAYMENT, **given: Any) -> int:
        """Keep a request as the task does, nothing more; its key."""
        self._asked += 1
        given = {"source": "shop", "request_id": f"r-{self._asked}", "payment_id": payment_id, **given}
        if amount is not None:
            given["amount"] = amount
        return int(operations.request(self.database, kind, given, {MERCHANT}, unnamed="message").operation_key)

    def asked(self, kind: MovementKind, amount: int | None = None, **given: Any) -> Row[Any]:
        """Ask, and look at the payment: the operation as it is then."""
        key = self.ask(kind, amount, **given)
        self.look(given.get("payment_id", PAYMENT))
        return self.row(key)

    def sent(self, kind: MovementKind, amount: int | None = None, **given: Any) -> int:
        """Ask for something that is promised, and send it; its key."""
        key = int(self.asked(kind, amount, **given).operation_key)
        self.step(key)
        return key

    def look(self, payment_id: str = PAYMENT) -> Follow | None:
        """Look at a payment now, whatever gap or back-off there is."""
        with self.database.transaction() as connection:
            payment_key = make_known(connection, MERCHANT, payment_id)
            chosen = Payment.payment_key == payment_key
            connection.execute(update(Payment).where(chosen, Payment.claim_token.is_(None)).values(claimed_until=None))
            want(connection, payment_key)
        return self.reconciler.payment(payment_key)

    def step(self, key: int) -> Step:
        return self.sender.operation(key)

    def row(self, key: int) -> Row[Any]:
        return self._rows(Operation, Operation.operation_key == key)[0]

    def state(self, key: int) -> str:
        return str(self.row(key).state)

    def states(self) -> list[str]:
        return [one.state for one in self.operations()]

    def operations(self) -> list[Row[Any]]:
        return self._rows(Operation)

    def attempts(self, key: int) -> list[Row[Any]]:
        return self._rows(Attempt, Attempt.operation_key == key)

    def movements(self) -> list[Row[Any]]:
        return self._rows(Movement)

    def payment(self, payment_id: str = PAYMENT) -> Row[Any]:
        return self._rows(Payment, Payment.payment_id == payment_id)[0]

    def story(self, key: int) -> list[tuple[str | None, str | None, str]]:
        """An operation's journal: from, to, why."""
        rows = self._rows(JournalEntry, JournalEntry.subject == "operation", JournalEntry.subject_id == str(key))
        return [(row.from_state, row.to_state, row.why) for row in rows]

    def actors(self, key: int) -> list[str]:
        """Who wrote the lines of its journal."""
        rows = self._rows(JournalEntry, JournalEntry.subject == "operation", JournalEntry.subject_id == str(key))
        return [row.actor for row in rows]

    def due_in(self, key: int) -> float | None:
        """Seconds until an operation is due, None for never."""
        with self.database.reading() as connection:
            chosen = select(Operation.due_at, now().label("at")).where(Operation.operation_key == key)
            row = connection.execute(chosen).one()
        return None if row.due_at is None else float((row.due_at - row.at).total_seconds())

    def change(self, key: int, **values: Any) -> None:
        with self.database.transaction() as connection:
            connection.execute(update(Operation).where(Operation.operation_key == key).values(**values))

    def ledger(self, payment_id: str = PAYMENT) -> Ledger:
        with self.database.transaction() as connection:
            return open_ledger(connection, self.payment(payment_id).payment_key)

    def pass_time(self, seconds: float) -> None:
        """As if so much time had passed: every time on record is that much longer ago."""
        for table in (Payment, Movement, Operation, Attempt):
            (key,) = table.__table__.primary_key.columns
            times = [one.name for one in table.__table__.columns if isinstance(one.type, UtcTime | DateTime)]
            for row in self._rows(table):
                values: Mapping[str, Any] = {
                    name: getattr(row, name) - timedelta(seconds=seconds)
                    for name in times
                    if getattr(row, name) is not None
                }
                with self.database.transaction() as connection:
                    connection.execute(update(table).where(key == row[0]).values(**values))

    def _rows(self, table: Any, *where: Any) -> list[Row[Any]]:
        (key,) = table.__table__.primary_key.columns
        with self.database.reading() as connection:
            return list(connection.execute(select(table.__table__).where(*where).order_by(key)))
