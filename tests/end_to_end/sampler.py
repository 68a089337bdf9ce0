"""Looks at the promises of money again and again while things happen to it: they hold at every commit, or never did."""

import threading
from types import TracebackType
from typing import Self

from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from tests.proof.money import OVERSPENT

PAUSE_SECONDS = 0.1


class Sampler(threading.Thread):
    """While it runs: samples the record for payments of which more is promised or moved than there is.

    Args:
        engine: our record's database, which may go away meanwhile.
    """

    def __init__(self, engine: Engine):
        super().__init__(name="sampler", daemon=True)
        self._engine = engine
        self._ending = threading.Event()
        self.samples = 0
        self.found: list[str] = []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ending.set()
        self.join()

    def run(self) -> None:
        while not self._ending.wait(PAUSE_SECONDS):
            try:
                with self._engine.connect() as connection:  # one statement, so all of it is as of one moment
                    self.found += [str(tuple(row)) for row in connection.execute(text(OVERSPENT))]
                self.samples += 1
            except SQLAlchemyError:
                continue
