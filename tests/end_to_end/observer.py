"""Reads the records again and again while things happen to them, as a dashboard would."""

import threading
from types import TracebackType
from typing import Any, Self

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from tests.end_to_end.house import House
from tests.proof.checks import READ
from tests.proof.history import History

PAUSE_SECONDS = 0.5
PAYMENTS = text("SELECT payment_id, applied, amount_captured FROM payments")
CONNECTIONS = text("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'payhook'")


class Observer(threading.Thread):
    """Notes in the history which records have changed since the last look, and how many connections there are."""

    def __init__(self, house: House, history: History):
        super().__init__(name="observer", daemon=True)
        self._house, self._history = house, history
        self._ending = threading.Event()
        self._known: dict[str, tuple[Any, ...]] = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ending.set()
        self.join()

    def run(self) -> None:
        while not self._ending.wait(PAUSE_SECONDS):
            self._history.note("observer", "invoke", READ, "payments")
            try:
                told = self._read()
            except SQLAlchemyError as error:
                self._history.note("observer", "info", READ, "payments", type(error).__name__)
            else:
                self._history.note("observer", "ok", READ, "payments", told)

    def _read(self) -> dict[str, Any]:
        with self._house.engine.connect() as connection:
            rows = [tuple(row) for row in connection.execute(PAYMENTS)]
            connections = connection.execute(CONNECTIONS).scalar_one()
        changed = [row for row in rows if self._known.get(row[0]) != row]
        self._known |= {row[0]: row for row in changed}
        return {"payments": changed, "connections": connections}
