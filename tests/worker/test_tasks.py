"""Celery's way in: which tasks there are, what their messages may do, and what becomes of a request."""

import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.servers.ports import free_port
from tests.worker.conftest import (
    MERCHANT,
    TRACEPARENT,
    Deliver,
    FakeDoorbell,
    FakePlatform,
    Paper,
    settings_of,
    view_of,
)
from worker.crew import Crew
from worker.database import Database, DatabaseUnavailable, WrongRevision
from worker.doorbell import EVENTS, PAYMENTS
from worker.reconciliation import Reconciler
from worker.settings import Settings

Run = Callable[..., Any]


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, which reads its settings when it is first imported: none of this machine's."""
    monkeypatch.chdir(tmp_path)
    from worker import tasks as module

    return module


@pytest.fixture
def doorbell(tasks: ModuleType, monkeypatch: pytest.MonkeyPatch) -> FakeDoorbell:
    doorbell = FakeDoorbell()
    monkeypatch.setattr(tasks, "doorbell", doorbell)
    return doorbell


@pytest.fixture
def station(
    tasks: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    database: Database,
    reconciler: Reconciler,
    platform: FakePlatform,
    settings: Settings,
    doorbell: FakeDoorbell,
) -> Any:
    """What a process works with: this test's database and platform."""
    station = tasks.Station()
    station.database, station.reconciler, station.crew = database, reconciler, Crew(4)
    station.gateways = {MERCHANT: platform}
    monkeypatch.setattr(tasks, "settings", settings)
    monkeypatch.setattr(tasks, "station", station)
    return station


@pytest.fixture
def run(tasks: ModuleType, station: Any) -> Run:
    """Carry out a task's message, and everything it has begun; its result."""

    def run_one(name: str, **arguments: Any) -> Any:
        result = tasks.app.tasks[name].apply(kwargs=arguments, throw=True).get()
        assert station.crew.drain(10)
        station.crew = Crew(4)
        return result

    return run_one


def test_the_tasks_have_the_names_that_others_send_to(tasks: ModuleType) -> None:
    """Names and queue are a contract."""
    registered = {name for name in tasks.app.tasks if name.startswith("payhook.")}

    money = {"payhook.capture", "payhook.refund", "payhook.cancel", "payhook.operations"}
    queues = {name: tasks.app.amqp.router.route({}, name)["queue"].name for name in registered}
    assert registered == {"payhook.events", "payhook.payments", "payhook.upkeep", "payhook.reconcile"} | money
    assert {name for name, queue in queues.items() if queue == "payhook.operations"} == money
    assert {queues[name] for name in registered - money} == {"payhook.events"}
    assert set(tasks.app.amqp.queues) == {"payhook.events", "payhook.operations", "celery"}


def test_an_events_message_looks_at_its_payments(
    run: Run, deliver: Deliver, platform: FakePlatform, paper: Paper, doorbell: FakeDoorbell
) -> None:
    """Each key is handed to the crew; nothing is rung for when nothing follows."""
    keys = [deliver(payment_id)[0] for payment_id in ("1111111111", "2222222222", "3333333333")]

    run(EVENTS, event_keys=keys)

    assert len(platform.looks) == 3
    assert paper.open_events() == []
    assert (doorbell.now, doorbell.later) == ([], [])


def test_what_follows_is_rung_for_later(
    run: Run, deliver: Deliver, platform: FakePlatform, paper: Paper, doorbell: FakeDoorbell, settings: Settings
) -> None:
    """An event in the gap: the payment is rung for at the gap's end, and its message looks."""
    run(EVENTS, event_keys=deliver("3254564310"))
    run(EVENTS, event_keys=deliver("3254564310"))

    ((task, payment_key, seconds),) = doorbell.later
    assert (task, payment_key) == (PAYMENTS, paper.payment("3254564310").payment_key)
    assert 0 <= seconds <= settings.gap_seconds
    assert len(platform.looks) == 1

    paper.open_the_gate()
    run(PAYMENTS, payment_keys=[payment_key])

    assert len(platform.looks) == 2
    assert paper.open_events() == []


#: What a forger might send in place of the keys of rows, one of which has work open.
FORGED: dict[str, Callable[[int], Any]] = {
    "nothing": lambda _: None,
    "text": str,
    "a number": lambda key: key,
    "an object": lambda key: {str(key): key},
    "an empty list": lambda _: [],
    "texts": lambda key: [str(key), "x", ""],
    "floats": lambda key: [float(key), key + 0.5, float("nan")],
    "booleans": lambda _: [True, False, None],
    "huge numbers": lambda _: [2**63, 2**64, 10**400, -1, 0],
    "lists in a list": lambda key: [[key], {"key": key}],
    "no row's key": lambda key: [key + 1, 2**63 - 1],
}


@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED)
@pytest.mark.parametrize(("task", "name"), [(EVENTS, "event_keys"), (PAYMENTS, "payment_keys")])
def test_a_forged_message_wakes_nothing(
    run: Run,
    deliver: Deliver,
    platform: FakePlatform,
    paper: Paper,
    task: str,
    name: str,
    forged: Callable[[int], Any],
) -> None:
    """Whoever can write to the broker can wake a row that has open work, no more; the task does not fail."""
    (event_key,) = deliver("3254564310")

    run(task, **{name: forged(event_key)})

    assert platform.looks == []
    assert paper.open_events() == [event_key]


def test_the_good_keys_of_a_forged_message_are_heard(run: Run, deliver: Deliver, paper: Paper) -> None:
    """One odd key among them costs the others nothing."""
    (event_key,) = deliver("3254564310")

    run(EVENTS, event_keys=["x", None, event_key, 1.5])

    assert paper.open_events() == []


def test_a_rings_row_that_breaks_costs_no_other(
    run: Run, station: Any, deliver: Deliver, paper: Paper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception out of one row is logged; the task and the rows beside it go on."""
    broken, healthy = deliver("1111111111")[0], deliver("2222222222")[0]
    whole = station.reconciler.event

    def event(event_key: int) -> Any:
        if event_key == broken:
            raise RuntimeError
        return whole(event_key)

    monkeypatch.setattr(station.reconciler, "event", event)

    run(EVENTS, event_keys=[broken, healthy])

    assert paper.open_events() == [broken]


# Requests


@pytest.mark.parametrize("asked", [{}, {"merchant_id": MERCHANT}])
def test_a_request_is_looked_into(run: Run, platform: FakePlatform, paper: Paper, asked: dict[str, str]) -> None:
    """A payment that nobody spoke of is made known, fetched now, and watched from now on."""
    platform.truth["3254564310"] = view_of("3254564310", code=9)

    result = run("payhook.reconcile", payment_id="3254564310_0", **asked)

    payment = paper.payment("3254564310")
    assert result == {"state": "accepted", "payment_key": payment.payment_key}
    assert (payment.state, payment.wanted - payment.applied) == ("captured", 0)
    assert payment.due_at is not None
    assert platform.looks_at("3254564310") == 1


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({}, "payment_id is not"),
        ({"payment_id": "../../x"}, "payment_id is not"),
        ({"payment_id": 3254564310}, "payment_id is not"),
        ({"payment_id": ["3254564310"]}, "payment_id is not"),
        ({"payment_id": "3254564310", "merchant_id": "stranger"}, "merchant_id is not one of ours"),
        ({"payment_id": "3254564310", "amount": 5}, "arguments besides"),
        ({"payment_id": "3254564310", "payment-id": "x"}, "arguments besides"),
    ],
)
def test_a_request_that_cannot_be_accepted_is_told_why(
    run: Run, platform: FakePlatform, paper: Paper, asked: dict[str, Any], reason: str
) -> None:
    """Its result is the refusal, the journal has it too, and it neither fails nor comes again."""
    result = run("payhook.reconcile", **asked)

    ((before, after, why),) = paper.journal()
    assert result["state"] == "refused"
    assert reason in result["reason"]
    assert (before, after) == (None, "refused")
    assert reason in why
    assert platform.looks == []
    assert paper.payments() == []


def test_a_request_without_merchant_is_refused_when_there_are_several(
    run: Run, tasks: ModuleType, paper: Paper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be a guess whose payment it is."""
    file = tmp_path / "merchants.toml"
    merchant = '[[merchant]]\nid = "{}"\napi_key_id = "k"\napi_secret = "s"\n'
    file.write_text("".join(merchant.format(name) for name in (MERCHANT, "other")))
    monkeypatch.setattr(tasks, "settings", settings_of(merchants_file=file))

    assert run("payhook.reconcile", payment_id="3254564310")["state"] == "refused"
    assert run("payhook.reconcile", payment_id="3254564310", merchant_id=MERCHANT)["state"] == "accepted"
    assert "there are several merchants" in paper.journal()[0][2]


def test_a_request_waits_in_place_while_the_database_is_away(
    run: Run, tasks: ModuleType, station: Any, database: Database, paper: Paper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its message is the only copy until it is a row: it is tried again, with pauses, until the commit."""
    away = Database(
        f"postgresql+psycopg://payhook@127.0.0.1:{free_port()}/payhook", connections=2, seconds=2, revision=None
    )
    pauses: list[float] = []
    monkeypatch.setattr(tasks, "PAUSES", (0.01, 0.03))

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 4:
            station.database = database

    monkeypatch.setattr(tasks, "time", _Clock(pause))
    station.database = away

    result = run("payhook.reconcile", payment_id="3254564310")
    away.close()

    assert result["state"] == "accepted"
    assert pauses == [0.01, 0.02, 0.03, 0.03]
    assert paper.payment("3254564310").state == "authorised"


# Requests for money

ASKED = {"payment_id": "3254564310_0", "request_id": "order-1", "source": "shop"}


@pytest.mark.parametrize(("kind", "code"), [("capture", 5), ("refund", 9), ("cancel", 5)])
def test_a_request_for_money_becomes_a_promise(
    run: Run, platform: FakePlatform, doorbell: FakeDoorbell, kind: str, code: int
) -> None:
    """Without a result backend nobody waits: its row is there, the payment is looked at next, then it is sent."""
    platform.truth["3254564310"] = view_of("3254564310", code=code, acquired=1000 if code == 9 else None)

    result = run(f"payhook.{kind}", **ASKED)
    ((_, payment_key, seconds),) = doorbell.later
    run("payhook.payments", payment_keys=[payment_key])
    ((rung_for, operation_keys, _),) = doorbell.now
    run("payhook.operations", operation_keys=operation_keys)

    assert (result, seconds, rung_for) == ({}, 0, "payhook.operations")
    assert [(order.kind, order.amount) for order in platform.sent] == [(kind, 1000)]


@pytest.mark.parametrize(
    ("nameless", "asked", "reason"),
    [
        ((), {}, "payment_id is not"),
        (("3254564310_0",), {"request_id": "r1", "source": "shop"}, "payment_id is not"),
        ((500,), ASKED, "unknown arguments: positional"),
    ],
)
def test_a_request_for_money_that_nobody_can_read_is_kept_with_its_reason(
    tasks: ModuleType, station: Any, paper: Paper, nameless: tuple[Any, ...], asked: dict[str, Any], reason: str
) -> None:
    """It neither fails nor comes again, and moves nothing."""
    tasks.app.tasks["payhook.capture"].apply(args=nameless, kwargs=asked, throw=True).get()

    assert station.crew.drain(10)
    ((before, after, why),) = paper.journal()
    assert (before, after) == (None, "refused")
    assert reason in why


@pytest.mark.parametrize(
    ("header", "follows"), [(TRACEPARENT, True), ("00-" + "0" * 32 + "-b7ad6b7169203331-01", False), (5, False)]
)
def test_a_request_is_in_the_trace_of_whoever_sent_its_message(
    tasks: ModuleType, station: Any, database: Database, exported: InMemorySpanExporter, header: object, follows: bool
) -> None:
    """Its header says so; one that is not well formed means nothing. The operation keeps the trace for its sending."""
    tasks.app.tasks["payhook.capture"].apply(kwargs=ASKED, headers={"traceparent": header}, throw=True).get()

    assert station.crew.drain(10)
    with database.reading() as connection:
        kept = connection.exec_driver_sql("SELECT trace FROM operations").scalar_one()
    request = next(span for span in exported.get_finished_spans() if span.name == "request")
    assert kept[3:35] == f"{request.context.trace_id:032x}"
    assert (kept[3:35] == TRACEPARENT[3:35]) is follows


def test_who_reads_the_result_gets_the_promise(run: Run, tasks: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a result backend the answer waits for the look that the promise needs; the same again is the same."""
    monkeypatch.setattr(tasks, "settings", settings_of(result_backend="rpc://"))

    first, again = run("payhook.capture", **ASKED), run("payhook.capture", **ASKED)
    other = run("payhook.capture", **{**ASKED, "amount": 5})
    too_much = run("payhook.capture", **{**ASKED, "request_id": "order-2"})

    assert (first["state"], first["amount"], first["currency"]) == ("planned", 1000, "EUR")
    assert again == first
    assert other["state"] == "refused"
    assert "nothing has changed" in other["reason"]
    assert (too_much["state"], too_much["amount"]) == ("refused", None)


def test_who_reads_the_result_is_answered_when_the_database_goes_away(
    run: Run, tasks: ModuleType, station: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request is a row by then, and due: that is the answer, and no failure."""
    monkeypatch.setattr(tasks, "settings", settings_of(result_backend="rpc://"))
    station.sender = _Unreachable()

    result = run("payhook.capture", **ASKED)

    assert result == {"operation_key": result["operation_key"], "state": "requested", "reason": None}


class _Unreachable:
    """A sender whose database has gone."""

    def operation(self, operation_key: int) -> None:
        raise DatabaseUnavailable("the database does not answer")


class _Clock:
    """The time module, with a pause of the test's own."""

    monotonic = staticmethod(time.monotonic)

    def __init__(self, sleep: Callable[[float], None]) -> None:
        self.sleep = sleep


# Processes


def test_a_child_that_is_forked_after_an_upgrade_s_migration_goes_on(
    tasks: ModuleType, monkeypatch: pytest.MonkeyPatch, sqlite_url: str
) -> None:
    """Its parent has checked the revision; a worker of the old version keeps its strength until its turn comes."""
    monkeypatch.setattr(tasks, "settings", settings_of(database_url=sqlite_url))
    parent, unchecked = tasks.Station(), tasks.Station()
    parent.database.check()
    monkeypatch.setattr(tasks, "station", parent)
    with parent.database.transaction() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9001'")

    tasks._after_fork()  # as every child of a fork calls it

    assert tasks.station is not parent
    tasks.station.database.check()
    with pytest.raises(WrongRevision):
        unchecked.database.check()
