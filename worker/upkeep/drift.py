"""A sample of the payments at rest, compared with the platform now and then: nobody looks at them any more, so nobody
would see if our record of one were wrong.

A sample is taken in slices, one a run. What differs is brought in line, and a person is told.
"""

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import structlog
from sqlalchemy import select

from worker.database import now
from worker.drift import Compared, Comparer, Verdict, at_rest, counted, mend
from worker.upkeep.job import Done, Tools

log = structlog.get_logger("payhook.upkeep")

#: Payments compared in one run, and after how many seconds it begins no other: well within the job's lease.
SLICE = 20
RUN_SECONDS = 120.0

#: Until the next slice; and until it is tried again when nothing of one could be compared: a circuit is open.
SLICE_SECONDS = 1.0
SHUT_SECONDS = 600.0


def run_once(tools: Tools, state: Mapping[str, Any]) -> Done:
    """Compare the next slice of the sample, or draw a new sample when the last one is done.

    The state: ``keys`` still to be compared, the ``verdicts`` on the others so far, and ``last``, what the last whole
    sample came to.
    """
    keys = state.get("keys") or _sample(tools)
    compared, left = _compare(tools, keys[:SLICE])
    left = keys[SLICE:] + left
    different = [one for one in compared if one.verdict is Verdict.DIFFERENT]
    for one in different:
        _mend(tools, one)
    verdicts = Counter(state.get("verdicts", {})) + Counter(one.verdict.value for one in compared)
    counts, mended = counted(verdicts), tuple(one.payment.payment_key for one in different)
    if left:
        seconds = SLICE_SECONDS if compared else SHUT_SECONDS
        kept = {"keys": left, "verdicts": dict(verdicts), "last": state.get("last")}
        return Done(seconds, counts, kept, mended)
    return Done(tools.settings.drift_seconds, counts, {"last": {"at": _now(tools), **counts}}, mended)


def _sample(tools: Tools) -> list[int]:
    with tools.database.reading() as connection:
        return at_rest(connection, tools.gateways.keys(), tools.settings.drift_sample)


def _compare(tools: Tools, payment_keys: list[int]) -> tuple[list[Compared], list[int]]:
    """What was compared, and the keys of those that could not be yet."""
    comparer = Comparer(tools.database, tools.gateways, tools.settings, tools.traffic)
    ends = time.monotonic() + RUN_SECONDS
    compared: list[Compared] = []
    left: list[int] = []
    for payment_key in payment_keys:
        if time.monotonic() > ends:
            left.append(payment_key)
            continue
        for one in comparer.compare([payment_key]):
            if one.verdict is Verdict.NOT_ASKED:
                left.append(payment_key)
            else:
                compared.append(one)
    return compared, left


def _mend(tools: Tools, one: Compared) -> None:
    what = [difference.what for difference in one.differences]
    log.error("drift.found", payment_key=one.payment.payment_key, what=what)
    with tools.database.transaction() as connection:
        mend(connection, one, tools.settings.gap_seconds)


def _now(tools: Tools) -> str:
    with tools.database.reading() as connection:
        return str(connection.execute(select(now())).scalar_one().isoformat())
