"""What an operator asks of the database, by the command or the place that asks it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, text

from worker import reports
from worker.reports.operations import Wanted, operations, story
from worker.reports.standing import standing


@dataclass(frozen=True)
class Sample:
    """One of the many, to be asked about: in the midst of what is stored."""

    merchant_id: str
    payment_id: str
    source: str
    request_id: str
    operation_key: int
    since: datetime

    @classmethod
    def of(cls, connection: Connection) -> "Sample":
        """The payment of an operation that has ended, somewhere among them."""
        chosen = "SELECT * FROM operations WHERE state = 'succeeded'"
        halfway = " AND operation_key >= (SELECT max(operation_key) / 2 FROM operations) ORDER BY operation_key LIMIT 1"
        row = connection.execute(text(chosen + halfway)).one()
        asked = (row.merchant_id, row.payment_id, row.source, row.request_id, row.operation_key)
        return cls(*asked, datetime.now(UTC) - timedelta(days=1))


Question = Callable[[Connection, Sample], object]


def _listed(**wanted: object) -> Question:
    return lambda connection, _: operations(connection, Wanted(**wanted))  # type: ignore[arg-type]


#: What is asked of the database, by what it is for.
QUESTIONS: Mapping[str, Question] = {
    "standing: readiness, metrics, doctor": lambda connection, _: standing(connection, notice_seconds=172800.0),
    "backlog": lambda connection, _: reports.backlog(connection),
    "operations list": _listed(),
    "operations list --state review": _listed(states=("review",)),
    "operations list --state succeeded": _listed(states=("succeeded",)),
    "operations list --anomalies": _listed(anomalies=True),
    "operations list --merchant": _listed(merchant_id="other"),
    "operations list --request-id": lambda connection, sample: operations(
        connection, Wanted(merchant_id=sample.merchant_id, source=sample.source, request_id=sample.request_id)
    ),
    "operations show": lambda connection, sample: story(connection, sample.operation_key),
}
