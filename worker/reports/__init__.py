"""Read-only questions, for readiness, metrics, the doctor and the command line."""

from worker.reports.events import EVENT_STATES, WantedEvents, body_of_event, event, event_keys, events
from worker.reports.happening import Happening
from worker.reports.lines import Line
from worker.reports.operations import Wanted, operation, operations, plain, story
from worker.reports.pages import UNHEARD_RINGS
from worker.reports.payments import WantedPayments, payment, payment_by_key, payments
from worker.reports.standing import Backlog, Open, Standing, backlog, seconds_since_sweep, standing
from worker.reports.timeline import Timeline, timeline_of_event, timeline_of_payment

__all__ = [
    "EVENT_STATES",
    "UNHEARD_RINGS",
    "Backlog",
    "Happening",
    "Line",
    "Open",
    "Standing",
    "Timeline",
    "Wanted",
    "WantedEvents",
    "WantedPayments",
    "backlog",
    "body_of_event",
    "event",
    "event_keys",
    "events",
    "operation",
    "operations",
    "payment",
    "payment_by_key",
    "payments",
    "plain",
    "seconds_since_sweep",
    "standing",
    "story",
    "timeline_of_event",
    "timeline_of_payment",
]
