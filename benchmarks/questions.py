"""What an operator asks of the database, by the command or the place that asks it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, text

from worker import reports
from worker.lifecycle import OperationState
from worker.reports import foremost
from worker.reports.events import WantedEvents, event, events
from worker.reports.happening import Happening
from worker.reports.operations import Wanted, operations, story
from worker.reports.payments import WantedPayments, payment, payments
from worker.reports.standing import standing
from worker.reports.timeline import timeline_of_event, timeline_of_payment


@dataclass(frozen=True)
class Sample:
    """One of the many, to be asked about: in the midst of what is stored."""

    merchant_id: str
    payment_id: str
    reference: str
    source: str
    request_id: str
    operation_key: int
    event_key: int
    since: datetime  # within the last of what was stored
    long_ago: datetime  # before most of it

    @classmethod
    def of(cls, connection: Connection) -> "Sample":
        """The payment of an operation that has ended, somewhere among them."""
        row = connection.execute(text(_HALFWAY)).one()
        today = datetime.now(UTC)
        return cls(**row._mapping, since=today - timedelta(days=1), long_ago=today - timedelta(days=600))


#: An authorisation that ends within this is expiring: the setting's default.
NOTICE_SECONDS = 172800.0

_HALFWAY = """
SELECT operations.merchant_id, operations.payment_id, merchant_reference AS reference, source, request_id,
    operation_key, (SELECT min(event_key) FROM webhook_events WHERE payment_id = operations.payment_id) AS event_key
FROM operations JOIN payments USING (payment_key)
WHERE operations.state = 'succeeded' AND operation_key >= (SELECT max(operation_key) / 2 FROM operations)
ORDER BY operation_key LIMIT 1
"""

Question = Callable[[Connection, Sample], object]

#: The commands by which lists are asked for, and what each may be narrowed by.
_LISTS: Mapping[str, Mapping[str, Callable[[Sample], dict[str, object]]]] = {
    "events": {
        "": lambda _: {},
        "--state waiting": lambda _: {"states": ("waiting",)},
        "--state reconciled": lambda _: {"states": ("reconciled",)},
        "--state ignored": lambda _: {"states": ("ignored",)},
        "--state quarantined": lambda _: {"states": ("quarantined",)},
        "--stuck": lambda _: {"stuck": True},
        "--merchant": lambda _: {"merchant_id": "other"},
        "--payment-id": lambda sample: {"payment_id": sample.payment_id},
        "--reference": lambda sample: {"reference": sample.reference},
        "--since yesterday": lambda sample: {"since": sample.since},
        "--since long ago --state quarantined": lambda sample: {"since": sample.long_ago, "states": ("quarantined",)},
        "in the midst": lambda sample: {"before": sample.event_key},
    },
    "payments": {
        "": lambda _: {},
        "--state authorised": lambda _: {"states": ("authorised",)},
        "--state captured": lambda _: {"states": ("captured",)},
        "--state pending": lambda _: {"states": ("pending",)},
        "--stuck": lambda _: {"stuck": True},
        "--merchant": lambda _: {"merchant_id": "other"},
        "--payment-id": lambda sample: {"payment_id": sample.payment_id},
        "--reference": lambda sample: {"reference": sample.reference},
        "--since yesterday": lambda sample: {"since": sample.since},
        "--since long ago --state pending": lambda sample: {"since": sample.long_ago, "states": ("pending",)},
    },
    "operations": {
        "": lambda _: {},
        "--state review": lambda _: {"states": ("review",)},
        "--state succeeded": lambda _: {"states": ("succeeded",)},
        "--state refused": lambda _: {"states": ("refused",)},
        "--stuck": lambda _: {"stuck": True},
        "--anomalies": lambda _: {"anomalies": True},
        "--merchant": lambda _: {"merchant_id": "other"},
        "--payment-id": lambda sample: {"payment_id": sample.payment_id},
        "--reference": lambda sample: {"reference": sample.reference},
        "--request-id": lambda sample: {
            "merchant_id": sample.merchant_id,
            "source": sample.source,
            "request_id": sample.request_id,
        },
        "--since yesterday": lambda sample: {"since": sample.since},
    },
}

_ASKED: Mapping[str, Callable[[Connection, dict[str, object]], object]] = {
    "events": lambda connection, wanted: events(connection, WantedEvents(**wanted)),  # type: ignore[arg-type]
    "payments": lambda connection, wanted: payments(connection, WantedPayments(**wanted)),  # type: ignore[arg-type]
    "operations": lambda connection, wanted: operations(connection, Wanted(**wanted)),  # type: ignore[arg-type]
}


def _list(of: str, wanted: Callable[[Sample], dict[str, object]]) -> Question:
    return lambda connection, sample: _ASKED[of](connection, wanted(sample))


def _show_payment(connection: Connection, sample: Sample) -> object:
    return timeline_of_payment(connection, payment(connection, sample.payment_id))


def _show_event(connection: Connection, sample: Sample) -> object:
    return timeline_of_event(connection, event(connection, sample.event_key))


#: What the doctor asks beside where everything stands: of each kind of trouble the row to begin with.
_FOREMOST: Mapping[str, Question] = {
    "overdue": lambda connection, _: foremost.seconds_overdue(connection),
    "unknown outcome": lambda connection, _: foremost.operation_in(connection, OperationState.UNKNOWN),
    "review": lambda connection, _: foremost.operation_in(connection, OperationState.REVIEW),
    "anomalies": lambda connection, _: foremost.anomaly(connection),
    "expiring": lambda connection, _: foremost.expiring_payment(connection, notice_seconds=NOTICE_SECONDS),
    "parked": lambda connection, _: foremost.parked_payment(connection),
    "quarantined": lambda connection, _: foremost.quarantined_event(connection),
}

#: All that is asked of the database.
QUESTIONS: Mapping[str, Question] = {
    "standing: readiness, metrics, doctor": lambda connection, _: standing(connection, notice_seconds=NOTICE_SECONDS),
    "backlog": lambda connection, _: reports.backlog(connection),
    **{f"doctor: {of}": ask for of, ask in _FOREMOST.items()},
    **{
        f"{of} list {narrowed}".strip(): _list(of, wanted)
        for of, asked in _LISTS.items()
        for narrowed, wanted in asked.items()
    },
    "events show": _show_event,
    "payments show": _show_payment,
    "operations show": lambda connection, sample: story(connection, sample.operation_key),
    "tail": lambda connection, sample: Happening(sample.since).read(connection),
}
