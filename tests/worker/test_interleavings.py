"""Every order in which two workers' transactions can follow one another, with deaths and lost time among them.

The steps are the product's own transactions on SQLite. A state reached in two ways is walked on from once: nothing
that a step does depends on how its state came about.
"""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import update

from tests.worker.conftest import MERCHANT, FakePlatform, Paper, deliver_to, settings_of, view_of
from worker.database import Database, seconds_from_now
from worker.models import Payment, WebhookEvent
from worker.reconciliation import Reconciler, records
from worker.reconciliation.claims import Busy, Claim, claim_for_event, claim_payment
from worker.rescue import sweep

OURS = frozenset([MERCHANT])
PAYMENT = "3254564310"

#: What the platform says of the payment before the first event, after it, after the second, after the third.
CODES = (0, 51, 5, 9)

#: No lease or gap ends by itself while the worlds are walked through: time passes in steps of its own.
SETTINGS = settings_of(gap_seconds=3600, lease_seconds=86400)

TABLES: tuple[Any, ...] = (WebhookEvent.__table__, Payment.__table__)
COLUMNS = [", ".join(column.name for column in table.columns) for table in TABLES]


@dataclass(frozen=True)
class Worker:
    """One worker's ring, as far as it has come."""

    ring: tuple[str, int]  # "event" and how many-eth, or "payment" and its key
    claim: Claim | None = None
    seen: int | None = None  # the platform's code when it looked

    def known_as(self, wanted: int, token: str | None) -> tuple[object, ...]:
        assert self.claim is not None
        return (self.claim.token == token, wanted > self.claim.payment.wanted, self.claim.event_keys, self.seen)


@dataclass(frozen=True)
class World:
    """Everything that the next step may depend on."""

    stored: int  # events so far; the platform's truth changes with each, just before it is stored
    rung: frozenset[int]  # events whose ring has been taken up
    workers: tuple[Worker, ...]  # under way
    due: frozenset[int]  # payments to be rung for, because a look asked for it
    deaths: int
    lapses: int
    rows: tuple[tuple[Any, ...], ...]


class Model:
    """Walks through the worlds, putting the database into each before a step."""

    def __init__(self, database: Database, *, events: int, deaths: int, lapses: int) -> None:
        self.database = database
        self.paper = Paper(database)
        self.file = sqlite3.connect(str(database.engine.url.database), isolation_level=None)
        self.file.execute("PRAGMA synchronous=OFF")
        self.events, self.mishaps = events, (deaths, lapses)
        self.platform = FakePlatform()
        self.reconciler = Reconciler(database, {MERCHANT: self.platform}, SETTINGS)
        deliver = deliver_to(database)
        self.keys = [deliver(PAYMENT)[0] for _ in range(events)]
        self.stored_events = self._read()[0]
        self.walked: set[tuple[object, ...]] = set()
        self.ended: set[tuple[object, ...]] = set()
        self.steps = 0

    def walk(self) -> None:
        waiting = [World(0, frozenset(), (), frozenset(), *self.mishaps, ((), ()))]
        while waiting:
            world = waiting.pop()
            known_as = self._known_as(world)
            if known_as in self.walked:
                continue
            self.walked.add(known_as)
            self._check_done(world)
            waiting += self._following(world)
            if world.stored == self.events and not world.workers:
                self._check_end(world, known_as)

    def _following(self, world: World) -> Iterator[World]:
        if world.stored < self.events:
            yield self._after(world, self._store, world.stored)
        if len(world.workers) < 2:
            for number in sorted(set(range(world.stored)) - world.rung):
                begun = replace(world, rung=world.rung | {number})
                yield self._after(begun, self._claim, Worker(("event", number)))
            for key in sorted(world.due):
                yield self._after(replace(world, due=world.due - {key}), self._claim_later, Worker(("payment", key)))
        for place, worker in enumerate(world.workers):
            others = replace(world, workers=world.workers[:place] + world.workers[place + 1 :])
            if worker.seen is None:
                yield replace(others, workers=(*others.workers, replace(worker, seen=CODES[world.stored])))
            else:
                yield self._after(others, self._write, worker)
            if world.deaths:
                yield replace(others, deaths=world.deaths - 1)
        if world.lapses and world.rows[1]:
            yield self._after(replace(world, lapses=world.lapses - 1), self._lapse, None)

    # The steps: each is one transaction, and what the worker then knows

    def _after(self, world: World, step: Any, argument: Any) -> World:
        self.steps += 1
        self._put(world.rows)
        changed: World = step(world, argument)
        return replace(changed, rows=self._read())

    def _store(self, world: World, number: int) -> World:
        self._put(world.rows, more=(self.stored_events[number],))
        return replace(world, stored=number + 1)

    def _claim(self, world: World, worker: Worker) -> World:
        kind, which = worker.ring
        with self.database.transaction() as connection:
            if kind == "event":
                answer = claim_for_event(connection, self.keys[which], OURS, SETTINGS)
            else:
                answer = claim_payment(connection, which, SETTINGS)
        if isinstance(answer, Claim):
            return replace(world, workers=(*world.workers, replace(worker, claim=answer)))
        if isinstance(answer, Busy) and answer.seconds is not None:
            return replace(world, due=world.due | {answer.payment.payment_key})
        return world

    def _claim_later(self, world: World, worker: Worker) -> World:
        """A ring that waited for the gap's end: unless another has claimed meanwhile, it is over by now."""
        with self.database.transaction() as connection:
            over = seconds_from_now(-1.0)
            connection.execute(update(Payment).where(Payment.claim_token.is_(None)).values(claimed_until=over))
        return self._claim(world, worker)

    def _write(self, world: World, worker: Worker) -> World:
        assert worker.claim is not None
        assert worker.seen is not None
        try:
            with self.database.transaction() as connection:
                seconds = records.replace(connection, worker.claim, view_of(PAYMENT, code=worker.seen), SETTINGS)
        except records.LostClaim:
            return world
        return world if seconds is None else replace(world, due=world.due | {worker.claim.payment.payment_key})

    def _lapse(self, world: World, _: None) -> World:
        """Time passes, and with it whatever lease, gap or poll there is; a sweep rings for what is due by then."""
        self.paper.pass_time()
        due = sweep(self.database, SETTINGS.sweep_limit)
        return replace(world, due=world.due | set(due.payment_keys + due.payments_alone))

    # The end: all that is left is rows and the sweep

    def _check_done(self, world: World) -> None:
        """Whatever has happened: a record that says it has answered every event is the platform's truth."""
        events, payments = self._told(world)
        if payments and not any(event["outcome"] is None for event in events):
            (payment,) = payments
            if payment["wanted"] == payment["applied"]:
                assert payment["status_code"] == CODES[world.stored], world

    def _check_end(self, world: World, known_as: tuple[object, ...]) -> None:
        self._put(world.rows)
        if len(world.rung) == self.events and not world.due and (world.deaths, world.lapses) == self.mishaps:
            self._assert_true(world, "nothing died and every ring was heard")
        if known_as[-3:] in self.ended:
            return
        self.ended.add(known_as[-3:])
        self.platform.truth[PAYMENT] = view_of(PAYMENT, code=CODES[world.stored])
        self.platform.looks.clear()
        for _ in range(4):
            self.paper.pass_time()
            due = sweep(self.database, SETTINGS.sweep_limit)
            follows = [self.reconciler.event(key) for key in due.event_keys + due.events_alone]
            follows += [self.reconciler.payment(key) for key in due.payment_keys + due.payments_alone]
            if not any(follows):
                break
        self._assert_true(world, "after the sweeps")

    def _assert_true(self, world: World, when: str) -> None:
        (payment,), events = self.paper.payments(), self.paper.events()
        story = f"{when}: {world}"
        assert [event.outcome for event in events] == ["reconciled"] * self.events, story
        assert payment.status_code == CODES[self.events], story
        assert payment.wanted == payment.applied, story
        assert payment.claim_token is None, story

    # The database as a value

    def _read(self) -> tuple[tuple[Any, ...], ...]:
        with self.database.reading() as connection:
            return tuple(
                tuple(
                    tuple(row) for row in connection.exec_driver_sql(f"SELECT {columns} FROM {table.name} ORDER BY 1")
                )
                for table, columns in zip(TABLES, COLUMNS, strict=True)
            )

    def _told(self, world: World) -> list[list[dict[str, Any]]]:
        return [
            [dict(zip(columns.split(", "), row, strict=True)) for row in rows]
            for columns, rows in zip(COLUMNS, world.rows, strict=True)
        ]

    def _put(self, rows: tuple[tuple[Any, ...], ...], more: tuple[Any, ...] = ()) -> None:
        self.file.execute("BEGIN IMMEDIATE")
        self.file.execute("DELETE FROM journal")
        for table, columns, content in zip(TABLES, COLUMNS, (rows[0] + more, rows[1]), strict=True):
            self.file.execute(f"DELETE FROM {table.name}")
            holes = ", ".join("?" * len(table.columns))
            self.file.executemany(f"INSERT INTO {table.name} ({columns}) VALUES ({holes})", content)
        self.file.execute("COMMIT")

    def _known_as(self, world: World) -> tuple[object, ...]:
        """A world told without its clock and its random tokens: times are past, to come, or none."""
        events, payments = self._told(world)
        wanted = payments[0]["wanted"] if payments else 0
        token = payments[0]["claim_token"] if payments else None
        present = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}"

        def when(at: str | None) -> str:
            return "never" if at is None else "past" if at <= present else "to come"

        told_events = tuple(
            (event["event_key"], event["outcome"], min(event["claims"], 2), when(event["due_at"])) for event in events
        )
        told_payments = tuple(
            (
                payment["wanted"] > payment["applied"],
                payment["status_code"],
                payment["claims"],
                token is not None,
                when(payment["claimed_until"]),
                when(payment["due_at"]),
            )
            for payment in payments
        )
        workers = tuple(sorted(repr(worker.known_as(wanted, token)) for worker in world.workers))
        lost = (world.stored, world.rung, world.due, world.deaths, world.lapses)
        return (*lost, told_events, told_payments, workers)


@pytest.mark.parametrize(
    ("events", "deaths", "lapses", "fewest_worlds"),
    [(2, 1, 2, 1500), (3, 1, 0, 100)],
)
def test_no_order_of_steps_loses_a_hint(
    sqlite: Database, events: int, deaths: int, lapses: int, fewest_worlds: int
) -> None:
    """Events stored, claims, looks and writes of two workers in every order, deaths after any step and leases that
    end under a worker's feet: in the end every event is done and the record is the platform's last truth."""
    model = Model(sqlite, events=events, deaths=deaths, lapses=lapses)

    model.walk()

    assert len(model.walked) >= fewest_worlds
