"""What the platform says happened beside what payhook holds: which promises were kept."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from signal import SIGKILL
from typing import Any

from sqlalchemy import select

from worker.database import Database
from worker.lifecycle import payment_state
from worker.models import Operation, Payment, WebhookEvent

Json = dict[str, Any]

ACKNOWLEDGED = 204
TURNED_AWAY = 401

AMOUNTS = (
    "amount_authorised",
    "amount_captured",
    "amount_capture_pending",
    "amount_refunded",
    "amount_refund_pending",
    "amount_cancelled",
)


@dataclass(frozen=True)
class Fake:
    """A webhook that is not the platform's, and how it was answered."""

    what: str
    event_id: str
    status: int


@dataclass(frozen=True)
class Outage:
    """One kill of payhook; times in seconds since the demo began."""

    killed_at: float
    exit_code: int
    open_events: int  # acknowledged and stored, and not yet reconciled
    started_at: float | None = None


@dataclass(frozen=True)
class Claim:
    """Something the demo says of payhook, what was found, and whether it is so."""

    said: str
    found: str
    holds: bool
    against: tuple[str, ...] = ()  # what speaks against it, one by one


@dataclass(frozen=True)
class Record:
    """What payhook's database holds, as of one moment."""

    events: Sequence[Json] = ()
    payments: Sequence[Json] = ()
    operations: Sequence[Json] = ()


@dataclass(frozen=True)
class Look:
    """Both sides. The platform's is read first: payhook is not blamed for what came in between."""

    ledger: Sequence[Json]
    deliveries: Json
    record: Record

    @cached_property
    def sent(self) -> set[str]:
        return {line["event_id"] for line in self.deliveries["deliveries"]}

    @cached_property
    def acknowledged(self) -> set[str]:
        return {line["event_id"] for line in self.deliveries["deliveries"] if line["status"] == ACKNOWLEDGED}

    @cached_property
    def stored(self) -> set[str]:
        return {row["event_id"] for row in self.record.events}

    @cached_property
    def reconciled(self) -> set[str]:
        return {row["event_id"] for row in self.record.events if row["done_at"] and row["outcome"] == "reconciled"}

    @property
    def duplicates(self) -> int:
        return sum(row["deliveries"] - 1 for row in self.record.events)

    @property
    def failed_attempts(self) -> int:
        return sum(1 for line in self.deliveries["deliveries"] if line["status"] != ACKNOWLEDGED)

    @property
    def left(self) -> int:
        """What the platform has not brought to an end: operations without outcome, events to send or given up."""
        return sum(self.deliveries[name] for name in ("settling", "queued", "given_up"))

    @cached_property
    def differences(self) -> dict[str, str]:
        """By payment, where payhook's row is another than the platform's."""
        ours = {row["payment_id"]: row for row in self.record.payments}
        theirs = {row["payment_id"]: row for row in self.ledger}
        found = dict.fromkeys(ours.keys() - theirs.keys(), "the platform knows no such payment")
        for payment_id, truth in theirs.items():
            told = "; ".join(_differing(ours.get(payment_id), truth))
            if told:
                found[payment_id] = told
        return found

    @property
    def equal(self) -> int:
        return sum(1 for row in self.ledger if row["payment_id"] not in self.differences)


def read_record(database: Database) -> Record:
    """Read beside the running payhook, which is not disturbed by it."""
    event, payment, operation = WebhookEvent, Payment, Operation
    events = select(event.event_id, event.deliveries, event.done_at, event.outcome)
    payments = select(payment.payment_id, payment.state, *(getattr(payment, name) for name in AMOUNTS))
    operations = select(operation.operation_uuid, operation.kind, operation.amount, operation.state)
    asked_for = (events, payments, operations)
    with database.reading() as connection:
        return Record(*([dict(row) for row in connection.execute(one).mappings()] for one in asked_for))


def claims(look: Look, fakes: Sequence[Fake], outage: Outage, asked: Sequence[int | None], orders: int) -> list[Claim]:
    """Everything the demo says of payhook; it has shown what it should when all of it holds.

    Args:
        look: both sides, at the end.
        fakes: the webhooks that were not the platform's.
        outage: the kill.
        asked: how each of the commands has ended that asked for the same capture, None while it has not.
        orders: how many payments were to be made.
    """
    total, sent = len(look.acknowledged), len(look.sent)
    states = Counter(row["state"] for row in look.record.payments)
    return [
        Claim(
            "Every webhook was acknowledged in the end",
            f"{total} of {sent}, {look.left} left to send",
            0 < total == sent and not look.left,
        ),
        _kept("What was acknowledged is stored", look.acknowledged, look.stored),
        _kept("What is stored is reconciled", look.acknowledged | look.stored, look.reconciled),
        Claim(
            "What came again was stored once",
            f"{look.duplicates} duplicates counted",
            len(look.stored) == len(look.record.events) and look.duplicates > 0,
        ),
        *(_turned_away(fake, look) for fake in fakes),
        _killed(look, outage),
        _made_once(look, asked),
        Claim(
            "Every payment is as the platform has it",
            f"{look.equal} of {orders}: " + ", ".join(f"{count} {state}" for state, count in sorted(states.items())),
            look.equal == orders == len(look.ledger) and not look.differences,
            tuple(f"payment {payment_id}: {told}" for payment_id, told in sorted(look.differences.items())),
        ),
    ]


def _kept(said: str, promised: set[str], kept: set[str]) -> Claim:
    missing = sorted(promised - kept)
    found = f"{len(promised & kept)} of {len(promised)} events"
    return Claim(said, found, bool(promised) and not missing, tuple(f"event {event_id}" for event_id in missing))


def _turned_away(fake: Fake, look: Look) -> Claim:
    has_row = fake.event_id in look.stored
    found = f"{fake.status}, {'a row' if has_row else 'no row'}"
    return Claim(f"{fake.what} is turned away", found, fake.status == TURNED_AWAY and not has_row)


def _killed(look: Look, outage: Outage) -> Claim:
    again = "not again" if outage.started_at is None else f"{outage.started_at:.1f} s"
    return Claim(
        "Killed at work, and started again",
        f"{outage.killed_at:.1f} s, {again}; {outage.open_events} events open, {look.failed_attempts} attempts failed",
        outage.exit_code == -SIGKILL
        and outage.started_at is not None
        and (outage.open_events > 0 or look.failed_attempts > 0),
    )


def _made_once(look: Look, asked: Sequence[int | None]) -> Claim:
    ours = {row["operation_uuid"]: row["state"] for row in look.record.operations}
    made = [
        (one["amount"], payment["amount_captured"])
        for payment in look.ledger
        for one in payment["operations"]
        if one["kind"] == "capture" and one["reference"] in ours
    ]
    return Claim(
        "What was asked for twice was made once",
        f"{len(ours)} operation, {', '.join(ours.values()) or 'none'}; {len(made)} capture at the platform",
        set(asked) == {0} and list(ours.values()) == ["succeeded"] and len(made) == 1 and made[0][0] == made[0][1],
    )


def _differing(ours: Json | None, truth: Json) -> Iterator[str]:
    if ours is None:
        yield "payhook has no row"
        return
    expected = {"state": payment_state(truth["status_code"], None).value} | {name: truth[name] for name in AMOUNTS}
    for name, value in expected.items():
        if ours[name] != value:
            yield f"{name} is {ours[name]}, the platform says {value}"
