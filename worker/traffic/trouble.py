"""Whose trouble a look without an answer is: the payment's own, when its platform answers for others meanwhile."""

import threading
import time
from collections import OrderedDict

from worker.traffic.circuit import FAILING_PAYMENTS

#: Longer than the back-off of a payment that fails: whoever else is asked about is so between two of its looks.
MEANWHILE_SECONDS = 120.0

#: So many others must have had an answer meanwhile: a platform that comes and goes answers for one or the other.
ANSWERED_PAYMENTS = 5


class Troubles:
    """What lately became of looks at a few payments of each merchant, for one process."""

    def __init__(self) -> None:
        self._answered: dict[str, OrderedDict[int, float]] = {}
        self._failing: dict[str, OrderedDict[int, float]] = {}
        self._lock = threading.Lock()

    def answered(self, merchant_id: str, subject: int) -> None:
        """A payment was answered for."""
        with self._lock:
            self._failing.get(merchant_id, OrderedDict()).pop(subject, None)
            _note(self._answered.setdefault(merchant_id, OrderedDict()), subject, ANSWERED_PAYMENTS)

    def failed(self, merchant_id: str, subject: int) -> bool:
        """A payment was not answered for; whether that is its own trouble.

        It is when enough others are answered for, and few others fail: a part of the platform may be away.
        """
        with self._lock:
            failing = self._failing.setdefault(merchant_id, OrderedDict())
            _note(failing, subject, FAILING_PAYMENTS)
            answered = _others(self._answered.get(merchant_id, OrderedDict()), subject)
            return answered >= ANSWERED_PAYMENTS and _others(failing, subject) < FAILING_PAYMENTS


def _note(lately: OrderedDict[int, float], subject: int, most: int) -> None:
    """As many as are asked about, and one more: the subject itself is not among the others."""
    lately[subject] = time.monotonic()
    lately.move_to_end(subject)
    if len(lately) > most + 1:
        lately.popitem(last=False)


def _others(lately: OrderedDict[int, float], subject: int) -> int:
    since = time.monotonic() - MEANWHILE_SECONDS
    return sum(at >= since for one, at in lately.items() if one != subject)
