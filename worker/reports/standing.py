"""Where the whole installation stands: what waits and since when, what needs a person, what the platform is asked.

Each question lives on a partial index, so that the answers come in milliseconds however many rows are done.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, func, select

from worker.database import now, seconds_from_now
from worker.lifecycle import OperationState, PaymentState
from worker.models import BUDGET_FACT, CIRCUIT_FACT, JOB_FACT, SWEEP_FACT, Fact, Operation, Payment, WebhookEvent
from worker.reports.foremost import unacknowledged
from worker.traffic.budget import share_left

#: The periodic job that watches for webhooks that no longer come.
WEBHOOKS_JOB = f"{JOB_FACT}webhooks"
#: The one that compares a sample of the payments at rest with the platform.
DRIFT_JOB = f"{JOB_FACT}drift"
#: Where a job's fact says that its last run failed.
FAILED = "failed"


@dataclass(frozen=True)
class Backlog:
    """What waits to be looked at."""

    events: int  # received and not done
    oldest_seconds: float  # since the oldest of them was received
    payments: int  # with hints unanswered and not parked
    overdue_seconds: float  # since the payment that is due longest fell due; a sweep takes the oldest first


@dataclass(frozen=True)
class Open:
    """Operations in one state that have not ended."""

    count: int
    oldest_seconds: float  # since the oldest of them was asked for


@dataclass(frozen=True)
class Circuit:
    """A merchant whose platform is not asked for now."""

    merchant_id: str
    why: str
    since: datetime
    next_try: datetime


@dataclass(frozen=True)
class Silence:
    """A merchant's webhooks, and whether they are missed."""

    merchant_id: str
    last_at: datetime | None  # when its last genuine event came
    usual_seconds: float  # its longest pause of the last week
    missed_since: datetime | None  # None: nothing is missed
    moved: int  # payments that moved meanwhile, and no event told of it


@dataclass(frozen=True)
class Drift:
    """What the last whole sample of payments at rest came to."""

    at: datetime  # when its last payment was compared
    compared: int
    different: int  # each is brought in line, and told in journal and log


@dataclass(frozen=True)
class FailingJob:
    """A periodic job whose last run failed."""

    name: str
    since: datetime  # when the first of its runs failed that have all failed since
    error: str  # its kind, and the line of code; never its text
    where: str


@dataclass(frozen=True)
class Standing:
    """Everything that is worth watching of an installation."""

    backlog: Backlog
    operations: Mapping[OperationState, Open]  # of the states that are not final; review is for a person
    parked: int  # payments that are looked at no more, with the reason in their problem
    troubled: int  # payments with a problem, the parked ones among them
    quarantined: int  # events
    anomalies: int  # operations whose end the platform contradicts, and nobody has seen to it
    expiring: int  # authorisations that end within the notice, or have ended, and are still open
    sweep_seconds_ago: float | None
    circuits: tuple[Circuit, ...]  # the open ones
    slowed: Mapping[str, float]  # merchants asked more slowly since a 429: the share of the budget that is left
    silences: tuple[Silence, ...]
    drift: Drift | None = None  # None: no sample has been compared yet
    failing_jobs: tuple[FailingJob, ...] = ()


def standing(connection: Connection, *, notice_seconds: float) -> Standing:
    """Where the installation stands now.

    Args:
        connection: to read with.
        notice_seconds: an authorisation that ends within this is expiring.
    """
    facts = {row.name: row for row in connection.execute(select(Fact.name, Fact.value, Fact.due_at))}
    at = connection.execute(select(now())).scalar_one()
    troubled = Payment.problem.is_not(None)
    expiring = Payment.expires_at <= seconds_from_now(notice_seconds)
    return Standing(
        backlog=backlog(connection),
        operations=_open_operations(connection),
        parked=_count(connection, select(func.count()).where(troubled, Payment.due_at.is_(None))),
        troubled=_count(connection, select(func.count()).where(troubled)),
        quarantined=_count(connection, select(func.count()).where(WebhookEvent.outcome == "quarantined")),
        anomalies=_count(connection, select(func.count()).select_from(Operation).where(unacknowledged())),
        expiring=_count(connection, select(func.count()).where(Payment.state == PaymentState.AUTHORISED, expiring)),
        sweep_seconds_ago=_seconds_since(facts.get(SWEEP_FACT), at),
        circuits=tuple(_circuits(facts)),
        slowed=_slowed(facts, at),
        silences=tuple(_silences(facts)),
        drift=_drift(facts.get(DRIFT_JOB)),
        failing_jobs=tuple(_failing_jobs(facts)),
    )


def backlog(connection: Connection) -> Backlog:
    """What waits, and for how long."""
    waiting = WebhookEvent.due_at.is_not(None)
    count, oldest, at = connection.execute(
        select(func.count(), func.min(WebhookEvent.received_at), now()).where(waiting)
    ).one()
    wanted = _count(
        connection, select(func.count()).where(Payment.due_at.is_not(None), Payment.wanted > Payment.applied)
    )
    overdue = connection.execute(select(func.min(Payment.due_at)).where(Payment.due_at.is_not(None))).scalar_one()
    return Backlog(count, _age(oldest, at), wanted, max(_age(overdue, at), 0.0))


@dataclass(frozen=True)
class Trouble:
    """What keeps no webhook out, and somebody should know: what readiness tells beside the backlog."""

    circuits: tuple[Circuit, ...]  # the open ones
    silences: tuple[Silence, ...]
    review: int  # operations that wait for a person


def trouble(connection: Connection) -> Trouble:
    """A part of `standing` that costs little however large the tables are: facts, and one small index."""
    named = Fact.name.startswith(CIRCUIT_FACT) | (Fact.name == WEBHOOKS_JOB)
    facts = {row.name: row for row in connection.execute(select(Fact.name, Fact.value, Fact.due_at).where(named))}
    review = _open_operations(connection, OperationState.REVIEW).get(OperationState.REVIEW)
    return Trouble(tuple(_circuits(facts)), tuple(_silences(facts)), review.count if review else 0)


def seconds_since_sweep(connection: Connection) -> float | None:
    """How long ago a sweep last ran anywhere, None when none ever did."""
    row = connection.execute(
        select(Fact.name, Fact.value, now().label("at")).where(Fact.name == SWEEP_FACT)
    ).one_or_none()
    return None if row is None else _seconds_since(row, row.at)


def _seconds_since(fact: Any, at: datetime) -> float | None:
    if fact is None or not fact.value:
        return None
    return _age(datetime.fromisoformat(fact.value["at"]), at)


def _open_operations(connection: Connection, *states: OperationState) -> dict[OperationState, Open]:
    """Of these states, or of all that are not final."""
    ended = ("succeeded", "refused", "withdrawn")  # as the partial index has it
    chosen = select(Operation.state, func.count(), func.min(Operation.created_at), now())
    chosen = chosen.where(Operation.state.not_in(ended)).group_by(Operation.state)
    rows = connection.execute(chosen.where(Operation.state.in_(states)) if states else chosen)
    return {OperationState(state): Open(count, _age(oldest, at)) for state, count, oldest, at in rows}


def _circuits(facts: Mapping[str, Any]) -> list[Circuit]:
    return [
        Circuit(name.removeprefix(CIRCUIT_FACT), row.value["why"], _time(row.value["since"]), row.due_at)
        for name, row in sorted(facts.items())
        if name.startswith(CIRCUIT_FACT) and row.due_at is not None
    ]


def _slowed(facts: Mapping[str, Any], at: datetime) -> dict[str, float]:
    left = {
        name.removeprefix(BUDGET_FACT): share_left(row.value or {}, at.timestamp())
        for name, row in facts.items()
        if name.startswith(BUDGET_FACT)
    }
    return {merchant_id: share for merchant_id, share in left.items() if share < 1}


def _silences(facts: Mapping[str, Any]) -> list[Silence]:
    watched = facts.get(WEBHOOKS_JOB)
    merchants = (watched.value or {}).get("merchants", {}) if watched is not None else {}
    return [
        Silence(
            merchant_id,
            _time(seen["last"]) if seen["last"] else None,
            seen["usual_seconds"],
            _time(seen["missed_since"]) if seen["missed_since"] else None,
            seen["moved"],
        )
        for merchant_id, seen in sorted(merchants.items())
    ]


def _drift(job: Any) -> Drift | None:
    last = (job.value or {}).get("last") if job is not None else None
    return None if last is None else Drift(_time(last["at"]), last["compared"], last["different"])


def _failing_jobs(facts: Mapping[str, Any]) -> list[FailingJob]:
    return [
        FailingJob(name.removeprefix(JOB_FACT), _time(failed["since"]), failed["error"], failed["where"])
        for name, row in sorted(facts.items())
        if name.startswith(JOB_FACT) and (failed := (row.value or {}).get(FAILED))
    ]


def _count(connection: Connection, question: Select[Any]) -> int:
    return int(connection.execute(question).scalar_one())


def _age(since: datetime | None, at: datetime) -> float:
    return (at - since).total_seconds() if since else 0.0


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
