"""Our record of payments compared with the platform's, and what differs brought in line."""

from worker.drift.choosing import Chosen, Wanted, at_rest, choose
from worker.drift.comparing import Compared, Comparer, Verdict, counted
from worker.drift.differences import Difference
from worker.drift.mending import mend, unanswered

__all__ = [
    "Chosen",
    "Compared",
    "Comparer",
    "Difference",
    "Verdict",
    "Wanted",
    "at_rest",
    "choose",
    "counted",
    "mend",
    "unanswered",
]
