"""Lines about the work: what waits for longer than it should, and what needs a person."""

from collections.abc import Callable
from functools import partial
from typing import Any

from sqlalchemy import Connection, Row

from ingress.doctor.installation import Installation
from ingress.doctor.lines import Finding, Line, failed, ok, warning
from worker.lifecycle import OperationState
from worker.reports import foremost
from worker.reports.standing import Open

#: What waits longer says that no worker keeps up, in seconds.
LATE_SECONDS = 120.0

NOTHING = Open(0, 0.0)


def lines(of: Installation) -> list[Line]:
    told: dict[str, Callable[[Installation], Finding]] = {
        "events": events,
        "payments": payments,
        "operations": operations,
        "jobs": jobs,
        "unknown outcome": unknown_operations,
        "review": review,
        "anomalies": anomalies,
        "expiring": expiring,
        "parked": parked,
        "quarantined": quarantined,
    }
    return [Line(name, partial(tell, of)) for name, tell in told.items()]


def events(of: Installation) -> Finding:
    """Received and not done."""
    backlog = of.standing().backlog
    told = f"{backlog.events} wait" + (f", the oldest for {_span(backlog.oldest_seconds)}" if backlog.events else "")
    return ok(told) if backlog.oldest_seconds <= LATE_SECONDS else failed(told, _more_workers(of))


def payments(of: Installation) -> Finding:
    """To be looked at."""
    backlog = of.standing().backlog
    told = f"{backlog.payments} to be looked at for what was heard of them"
    if backlog.overdue_seconds <= LATE_SECONDS:
        return ok(told)
    return failed(f"{told}; one has been due for {_span(backlog.overdue_seconds)}", _more_workers(of))


def operations(of: Installation) -> Finding:
    """To be accepted, sent or confirmed."""
    standing = of.standing()
    requested = standing.operations.get(OperationState.REQUESTED, NOTHING)
    overdue = _read(of, foremost.seconds_overdue)["operations"]
    told = f"{sum(one.count for one in standing.operations.values())} have not ended"
    if requested.oldest_seconds > LATE_SECONDS:
        why = f"{told}; one was asked for {_span(requested.oldest_seconds)} ago and is neither accepted nor refused"
        return failed(why, _more_workers(of))
    if overdue > LATE_SECONDS:
        return failed(f"{told}; one has been due for {_span(overdue)}", _more_workers(of))
    return ok(told)


def jobs(of: Installation) -> Finding:
    """Periodic jobs: none is overdue, and none fails."""
    overdue = _read(of, foremost.seconds_overdue)["jobs"]
    if overdue > LATE_SECONDS:
        return failed(f"one has been due for {_span(overdue)}", _more_workers(of))
    failing = of.standing().failing_jobs
    if not failing:
        return ok("none is overdue or fails")
    told = (
        f"{job.name} has failed since {job.since:%Y-%m-%d %H:%M} UTC, {job.error} at {job.where}" for job in failing
    )
    return failed("; ".join(told), "mend that; each is tried again within a minute")


def unknown_operations(of: Installation) -> Finding:
    """Sent, and the answer lost. It is looked up by itself: minutes, or an hour where the platform lists nothing."""
    found = of.standing().operations.get(OperationState.UNKNOWN, NOTHING)
    if found.oldest_seconds <= LATE_SECONDS:
        return ok(f"{found.count} operations" if found.count else "none")
    first = _read(of, lambda connection: foremost.operation_in(connection, OperationState.UNKNOWN))
    key = "KEY" if first is None else first.operation_key
    return warning(
        f"of {found.count} operations it is not known whether they were made, the oldest asked for "
        f"{_span(found.oldest_seconds)} ago",
        f"let a worker look until it knows: `{_worker(of)}`; what it has found: `payhook operations show {key}`",
    )


def review(of: Installation) -> Finding:
    """Operations that only a person can settle."""
    found = of.standing().operations.get(OperationState.REVIEW, NOTHING)
    if not found.count:
        return ok("none")
    first = _read(of, lambda connection: foremost.operation_in(connection, OperationState.REVIEW))
    key = "KEY" if first is None else first.operation_key
    return warning(
        f"{found.count} operations wait for a person, the oldest asked for {_span(found.oldest_seconds)} ago",
        f"read `payhook operations show {key}`, look into the portal, then "
        f"`payhook operations resolve {key} --as succeeded|refused|resend --reason WHY`",
    )


def anomalies(of: Installation) -> Finding:
    """Operations whose end the platform contradicts."""
    count = of.standing().anomalies
    if not count:
        return ok("none")
    first = _read(of, foremost.anomaly)
    key, what = ("KEY", "") if first is None else (first.operation_key, f": {first.anomaly}")
    return warning(
        f"{count} operations ended otherwise than the platform shows, the newest {key}{what}",
        f"put right what followed from it, then `payhook operations acknowledge {key} --reason WHAT`",
    )


def expiring(of: Installation) -> Finding:
    """Authorisations that end with something left to capture."""
    count, notice = of.standing().expiring, of.settings.expiry_notice_seconds
    if not count:
        return ok(f"none within {_span(notice)}")
    first = _read(of, lambda connection: foremost.expiring_payment(connection, notice_seconds=notice))
    payment, told = _as_commands_take(first), ""
    if first is not None:
        told = f", the first {first.payment_id} of {first.merchant_id} at {first.expires_at:%Y-%m-%d %H:%M} UTC"
    return warning(
        f"{count} authorisations end within {_span(notice)}, or have ended{told}",
        f"capture it, `payhook operations capture {payment}`, or give it back, `payhook operations cancel {payment}`",
    )


def parked(of: Installation) -> Finding:
    """Payments that are looked at no more."""
    count = of.standing().parked
    if not count:
        return ok("none")
    first = _read(of, foremost.parked_payment)
    told = ""
    if first is not None:
        told = f", the newest {first.payment_id} of {first.merchant_id}: {first.problem}"
    return warning(
        f"{count} payments are looked at no more{told}",
        f"mend that, then `payhook payments reconcile {_as_commands_take(first)}`",
    )


def quarantined(of: Installation) -> Finding:
    """Events that were kept and not understood, or are of merchants that are not ours."""
    count = of.standing().quarantined
    if not count:
        return ok("none")
    first = _read(of, foremost.quarantined_event)
    key, told = ("KEY", "") if first is None else (first.event_key, f", the newest {first.event_key}: {first.problem}")
    return warning(f"{count} events were set aside{told}", f"mend that, then `payhook events replay {key} --yes`")


def _as_commands_take(payment: Row[Any] | None) -> str:
    return "PAYMENT_ID" if payment is None else f"{payment.payment_id} --merchant {payment.merchant_id}"


def _read(of: Installation, question: Callable[[Connection], Any]) -> Any:
    with of.reading() as connection:
        return question(connection)


def _worker(of: Installation) -> str:
    return "payhook up" if of.settings.embedded_broker else "payhook work"


def _more_workers(of: Installation) -> str:
    if of.settings.embedded_broker:
        return "let it run: `payhook up`"
    return "start a worker, or one more: `payhook work`"


def _span(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
