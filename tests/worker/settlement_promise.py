"""The models in which nothing may go wrong, and those that lie outside of what is promised."""

from dataclasses import dataclass, replace
from functools import cached_property

from tests.worker.settlement_model import (
    CRASHES,
    DELAYED,
    ERROR,
    ERROR_DONE,
    FORGOTTEN_KEY,
    HOUR,
    KEPT_ERROR,
    KEPT_ERROR_DONE,
    KEPT_ERROR_LATE,
    LATE,
    LOST_AFTER,
    LOST_BEFORE,
    NOT_SENT,
    OK,
    REFUSED,
    RUNNING,
    RUNNING_NO,
    STUCK,
    UNKEPT_REFUSAL,
    UNUSABLE,
    Crash,
    Found,
    Model,
    explore,
    later,
)
from worker.lifecycle import MovementKind

FAULTS = (
    OK,
    REFUSED,
    NOT_SENT,
    LOST_BEFORE,
    LOST_AFTER,
    ERROR,
    ERROR_DONE,
    UNUSABLE,
    KEPT_ERROR,
    KEPT_ERROR_DONE,
    KEPT_ERROR_LATE,
    RUNNING,
    RUNNING_NO,
    DELAYED,
)
FEWER = (OK, REFUSED, LOST_AFTER, KEPT_ERROR_LATE, RUNNING)

#: Nothing, longer than the settling time, longer than any key is honoured.
GAPS = (0.0, 2 * HOUR, 25 * HOUR)
RESTORED = (*CRASHES, Crash.RESTORED)

ALONE = Model(3, FAULTS, CRASHES, GAPS)
SIBLINGS = Model(4, FEWER, (Crash.NONE, Crash.BEFORE_POST), (0, 25 * HOUR), operations=2, portal=True)

UNKEPT_AND_LAG = replace(ALONE, faults=(OK, NOT_SENT, LOST_AFTER, KEPT_ERROR, FORGOTTEN_KEY), lag=LATE, room=1)


@dataclass(frozen=True)
class Promised:
    """A model in which nothing goes wrong, and the depth that it is run at in `make test`."""

    name: str
    model: Model
    small: int

    def sized(self, *, full: bool) -> Model:
        return self.model if full else replace(self.model, depth=self.small)


PROMISED = (
    Promised("a capture alone", ALONE, 3),
    Promised("a refund alone", replace(ALONE, kind=MovementKind.REFUND), 3),
    Promised("room for one", replace(ALONE, room=1), 2),
    Promised("lists lag", replace(ALONE, lag=LATE), 2),
    Promised("no references", replace(ALONE, echoes=False), 2),
    Promised("no references, lists lag, room for one", replace(ALONE, echoes=False, lag=LATE, room=1), 2),
    Promised("a running request is not allowed", replace(ALONE, busy=True), 2),
    Promised(
        "a running request is not allowed, no references, lists lag, room for one",
        replace(ALONE, busy=True, lag=LATE, echoes=False, room=1),
        2,
    ),
    Promised("a dump is restored", replace(ALONE, crashes=RESTORED), 2),
    Promised(
        "a dump is restored, no references, lists lag, room for one",
        replace(ALONE, crashes=RESTORED, lag=LATE, echoes=False, room=1),
        2,
    ),
    Promised(
        "a key is not kept",
        replace(ALONE, faults=(*(fault for fault in FAULTS if fault is not DELAYED), FORGOTTEN_KEY)),
        3,
    ),
    Promised("a key is not kept, lists lag, no refusals, room for one", UNKEPT_AND_LAG, 2),
    Promised("around the end of the key's time", replace(ALONE, gaps=(0.0, 22.99 * HOUR, 23.5 * HOUR)), 2),
    Promised("one hangs for two days", replace(ALONE, depth=2, faults=(*FAULTS, STUCK)), 1),
    Promised("deeper, fewer faults", replace(ALONE, depth=4, faults=(*FEWER, KEPT_ERROR, LOST_BEFORE)), 3),
    Promised("captures, a sibling and the portal", SIBLINGS, 4),
    Promised("captures, a sibling and the portal, room for all", replace(SIBLINGS, room=3), 4),
    Promised("refunds, a sibling and the portal", replace(SIBLINGS, kind=MovementKind.REFUND), 4),
    Promised(
        "captures, a sibling and the portal, no references, lists lag",
        replace(SIBLINGS, echoes=False, lag=LATE, room=3),
        3,
    ),
    Promised(
        "captures, a sibling and the portal, a running request is not allowed, lists lag",
        replace(SIBLINGS, busy=True, lag=LATE),
        3,
    ),
)


@dataclass(frozen=True)
class Assumption:
    """What the platform must be like for the promise to hold, and a model in which it is not."""

    sentence: str
    without: Model

    @cached_property
    def found(self) -> Found:
        """What goes wrong there."""
        return explore(self.without)


ASSUMPTIONS = (
    Assumption(
        "what a request does, it has done within the settling time",
        replace(ALONE, depth=2, faults=tuple(later(fault, 2 * HOUR) for fault in FAULTS)),
    ),
    Assumption(
        "the same with a sibling and the portal, captures",
        replace(SIBLINGS, faults=tuple(later(fault, 2 * HOUR) for fault in FEWER), room=3),
    ),
    Assumption(
        "the lists show a movement within the settling time",
        replace(ALONE, depth=2, lag=2 * HOUR),
    ),
    Assumption(
        "a key is honoured for longer than it is trusted",
        replace(ALONE, depth=2, key_seconds=1 * HOUR),
    ),
    Assumption(
        "an effect whose key is not kept is listed at once",
        replace(ALONE, depth=2, faults=(OK, REFUSED, NOT_SENT, FORGOTTEN_KEY), lag=LATE),
    ),
    Assumption(
        "it carries our reference",
        replace(ALONE, depth=2, faults=(OK, REFUSED, NOT_SENT, FORGOTTEN_KEY), echoes=False),
    ),
    Assumption(
        "no other request of the operation is on its way when a key is not kept",
        replace(ALONE, depth=2, faults=(OK, DELAYED, FORGOTTEN_KEY)),
    ),
    Assumption(
        "a refusal is kept under its key",
        replace(ALONE, depth=2, faults=(OK, DELAYED, UNKEPT_REFUSAL)),
    ),
    Assumption(
        "whether there is room is told by the movements listed, not by the payment's status",
        replace(UNKEPT_AND_LAG, depth=2, standing=True),
    ),
    Assumption(
        "after a restore, a running request is told to be in progress",
        replace(ALONE, depth=2, crashes=RESTORED, busy=True),
    ),
    Assumption(
        "after a restore, every effect's key is kept",
        replace(ALONE, depth=2, crashes=RESTORED, faults=(OK, FORGOTTEN_KEY)),
    ),
)
