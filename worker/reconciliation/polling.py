"""When a payment is looked at next, with nobody asking: a table of states, and the back-offs of looks that failed."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from worker.lifecycle import PaymentState
from worker.settings import Settings

DAY = 86400.0

#: Untouched for so long, a payment the shopper abandoned is looked at daily; then a person may look, no longer we.
ABANDONED_DAILY = 7 * DAY
ABANDONED = 30 * DAY

#: After thirty days a captured payment is left to webhooks and to people.
CAPTURED_WATCHED = 30 * DAY

#: A webhook can outrun the platform's own replicas: an unknown payment is tried again after these, then parked.
UNKNOWN_RETRIES = (30.0, 120.0, 600.0, 3600.0)

#: So many of those looks, and requests for the payment are refused: whoever asks for money knows of the payment longer
#: than the platform's replicas lag.
REQUESTS_WAIT_FOR = 2

#: Failures of an outage, or of which it is not known whose trouble they are, are counted so far: the back-off has long
#: been the longest.
OUTAGE_FAILURES = 10

#: A payment that fails while others are answered for is parked after so many failures: ten of them, in six minutes and
#: more, were its own beyond doubt.
OWN_FAILURES = 20

#: A snapshot that lacks a movement we had linked is an old one: another look after this, an anomaly after so many.
STALE_RETRY = 30.0
STALE_LOOKS = 3


@dataclass(frozen=True)
class Tier:
    """A row of the table: which payments, and how long after a look the next one comes."""

    name: str
    fits: Callable[[PaymentState, bool, float], bool]  # of state, whether something is under way, and age
    seconds: Callable[[float, Settings], float]  # of the age


def _ageing(age: float, settings: Settings) -> float:
    """As long as it has stood still: 15 s, 15 s, 30 s, 1 min, 2 min, … 15 min with the usual settings."""
    shortest, longest = settings.poll_moving_seconds
    return min(max(age, shortest), longest)


UNFINISHED = (PaymentState.CREATED, PaymentState.PENDING)

#: The first that fits. What fits none is at rest, and costs nothing.
TIERS = (
    Tier("moving", lambda _state, moving, _age: moving, _ageing),
    Tier("unfinished", lambda state, _moving, age: state in UNFINISHED and age <= ABANDONED_DAILY, _ageing),
    Tier("abandoned", lambda state, _moving, age: state in UNFINISHED and age <= ABANDONED, lambda *_: DAY),
    Tier(
        "authorised",
        lambda state, _moving, _age: state is PaymentState.AUTHORISED,
        lambda _age, settings: settings.poll_authorised_seconds,
    ),
    Tier(
        "captured",
        lambda state, _moving, age: state is PaymentState.CAPTURED and age < CAPTURED_WATCHED,
        lambda _age, settings: settings.poll_captured_seconds,
    ),
)


def next_look(state: PaymentState, *, moving: bool, age: float, settings: Settings) -> float | None:
    """Seconds until a payment is looked at again, None for never.

    Args:
        state: where it stands.
        moving: whether a capture, refund or cancellation is under way.
        age: seconds since anything of it last changed.
        settings: the intervals.
    """
    tier = next((tier for tier in TIERS if tier.fits(state, moving, age)), None)
    return None if tier is None else _early(tier.seconds(age, settings))


def retry(failures: int, settings: Settings) -> float:
    """Seconds until a payment whose look failed so many times in a row is tried again; the gap holds here too."""
    return max(_early(min(2.0 ** min(failures - 1, 16), settings.retry_max_seconds)), settings.gap_seconds)


def counted(failures: int, *, own: bool) -> int:
    """How many looks in a row have failed, with one more; an outage, however long, takes no payment near its end."""
    return min(failures + 1, OWN_FAILURES) if own else max(failures, min(failures + 1, OUTAGE_FAILURES))


def unknown_retry(failures: int) -> float | None:
    """The same for a payment the platform does not know; None when it is to be parked."""
    return _early(UNKNOWN_RETRIES[failures - 1]) if failures <= len(UNKNOWN_RETRIES) else None


def _early(seconds: float) -> float:
    """Up to a fifth earlier, so that what began together does not stay together; never later than promised."""
    return seconds * random.uniform(0.8, 1.0)  # noqa: S311 - spreads load, guards nothing
