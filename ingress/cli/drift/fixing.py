"""What `payhook drift --fix` does: differing payments are looked at again by the workers, and compared once more."""

import time

from ingress.cli import actor
from ingress.cli.drift.screen import Screen, name_of, told
from ingress.cli.rings import ring
from worker.database import Database
from worker.doorbell import PAYMENTS
from worker.drift import Compared, Comparer, Verdict, mend, unanswered
from worker.settings import Settings

#: Between two looks at what the workers have done, and for how long to wait for one that does anything.
LOOK_SECONDS = 0.25
PATIENCE_SECONDS = 30.0


def bring_in_line(chosen: Settings, database: Database, comparer: Comparer, screen: Screen) -> int:
    """Have the payments that were found to differ looked at again, and say of each what came of it.

    Returns:
        How many are in line now.
    """
    different = {one.payment.payment_key: one for one in screen.different}
    hints: dict[int, int] = {}
    for payment_key, one in different.items():
        with database.transaction() as connection:
            hints[payment_key] = mend(connection, one, chosen.gap_seconds, actor=actor())
    ring(chosen, PAYMENTS, hints)
    waiting = _wait(database, hints)
    fixed = 0
    for again in comparer.compare([key for key in hints if key not in waiting]):
        fixed += again.verdict is Verdict.EQUAL
        screen.say(f"{name_of(again)}: {_came_of(again)}")
    for payment_key in sorted(waiting):
        screen.say(f"{name_of(different[payment_key])}: due; no worker has looked at it yet (does one run?)")
    return fixed


def _wait(database: Database, hints: dict[int, int]) -> set[int]:
    """Wait until the workers have looked at the payments, as long as they get on with it; those still due."""
    waiting, moved_at = set(hints), time.monotonic()
    try:
        while waiting and time.monotonic() - moved_at < PATIENCE_SECONDS:
            time.sleep(LOOK_SECONDS)
            with database.reading() as connection:
                left = unanswered(connection, {key: hints[key] for key in waiting})
            if left < waiting:
                moved_at = time.monotonic()
            waiting = left
    except KeyboardInterrupt:
        pass
    return waiting


def _came_of(again: Compared) -> str:
    if again.verdict is Verdict.EQUAL:
        return "in line now"
    if again.verdict is Verdict.DIFFERENT:
        return f"differs still: {'; '.join(told(one) for one in again.differences)}"
    if again.verdict is Verdict.IN_MOTION:
        return "moves; compare it once more"
    return f"could not be compared: {again.why}"
