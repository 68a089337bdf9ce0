"""Read-only questions, for readiness, metrics, the doctor and the command line."""

from worker.reports.operations import Wanted, operation, operations, plain, story
from worker.reports.standing import Backlog, Standing, backlog, seconds_since_sweep, standing

__all__ = [
    "Backlog",
    "Standing",
    "Wanted",
    "backlog",
    "operation",
    "operations",
    "plain",
    "seconds_since_sweep",
    "standing",
    "story",
]
