"""Events worked on once more: never blocked by their own record, understood again, and their history kept."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from tests.worker.conftest import MERCHANT, Deliver, FakePlatform, Paper, body_of, settings_of
from worker import inbox
from worker.database import Database, now
from worker.gateways.gateway import Refused
from worker.inbox import NOT_OURS, OTHERS_KEY, Hint
from worker.models import JournalEntry, WebhookEvent, WebhookKey
from worker.reconciliation import Reconciler
from worker.reconciliation.claims import MOST_CLAIMS
from worker.replay import ERASED, KEY_GONE, Admission, Replayed, judge, key_merchants, replay
from worker.traffic import Traffic
from worker.upkeep import understanding
from worker.upkeep.job import Tools

PAYMENT = "3254564310"
OURS = Admission(frozenset([MERCHANT]), {"key-1": None})


def again(database: Database, *event_keys: int, admission: Admission = OURS) -> Replayed:
    return replay(database, event_keys, admission, gap_seconds=0, why="replayed", actor="cli:ann")


def history(database: Database) -> list[tuple[Any, ...]]:
    """The journal's lines of events."""
    columns = (JournalEntry.subject_id, JournalEntry.actor, JournalEntry.from_state, JournalEntry.to_state)
    chosen = select(*columns, JournalEntry.why).where(JournalEntry.subject == "event")
    with database.reading() as connection:
        return [tuple(row) for row in connection.execute(chosen.order_by(JournalEntry.journal_key))]


def change(database: Database, event_key: int, **values: Any) -> None:
    with database.transaction() as connection:
        connection.execute(update(WebhookEvent).where(WebhookEvent.event_key == event_key).values(**values))


Keep = Callable[..., list[int]]


@pytest.fixture
def keep(database: Database) -> Keep:
    """Keeps a body as the ingress does."""

    def keep(body: bytes, **given: Any) -> list[int]:
        rules = {"key_merchant_id": None, "merchant_ids": frozenset([MERCHANT]), **given}
        inbox.keep(database, body, "key-1", ring_seconds=5.0, **rules)
        return [row.event_key for row in Paper(database).events()]

    return keep


@pytest.fixture
def not_understood(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A version that understands nothing; undo it for one that does."""
    unread = [Hint(outcome="quarantined", problem="cannot be understood: KeyError")]
    monkeypatch.setattr(inbox, "understand", lambda body: unread)
    return monkeypatch


def test_a_parked_payment_is_looked_at_again(
    database: Database, deliver: Deliver, reconciler: Reconciler, platform: FakePlatform, paper: Paper
) -> None:
    """Its event's outcome, problem and counts begin anew, as do its own; what had become of it is in the journal."""
    (key,) = deliver(PAYMENT)
    platform.errors.append(Refused("HTTP 400"))
    reconciler.event(key)
    problem = paper.event(key).problem
    assert (paper.event(key).outcome, paper.payment(PAYMENT).due_at) == ("quarantined", None)
    change(database, key, claims=9, rings=7)
    paper.open_the_gate()

    replayed = again(database, key)

    event, payment = paper.event(key), paper.payment(PAYMENT)
    assert (event.outcome, event.done_at, event.problem, event.claims, event.rings) == (None, None, None, 0, 0)
    assert paper.due_in(event) == pytest.approx(0, abs=2)
    assert (payment.failures, payment.claims, payment.wanted > payment.applied) == (0, 0, True)
    assert paper.due_in(payment) == pytest.approx(0, abs=2)
    assert (replayed.due, replayed.payment_keys) == (1, (payment.payment_key,))
    assert history(database) == [
        (str(key), "cli:ann", "quarantined", "waiting", f"replayed; it was quarantined: {problem}")
    ]
    reconciler.payment(payment.payment_key)
    assert (paper.event(key).outcome, paper.payment(PAYMENT).problem) == ("reconciled", None)


def test_an_event_whose_claims_are_used_up_is_not_blocked_by_them(
    database: Database, deliver: Deliver, reconciler: Reconciler, paper: Paper
) -> None:
    """Neither its own count nor its payment's stands in its way."""
    (key,) = deliver(PAYMENT)
    reconciler.event(key)
    paper.change_payment(paper.payment(PAYMENT).payment_key, claims=MOST_CLAIMS, due_at=None)
    paper.open_the_gate()

    (payment_key,) = again(database, key).payment_keys
    reconciler.payment(payment_key)

    assert paper.event(key).outcome == "reconciled"
    assert paper.payment(PAYMENT).claims == 0


def test_a_reconciled_event_may_be_replayed_and_so_may_one_that_waits(
    database: Database, deliver: Deliver, reconciler: Reconciler, paper: Paper
) -> None:
    """Whatever became of it, the platform has the final say again; two events of a payment are one look."""
    first, second = deliver(PAYMENT, "payment.captured", "payment.refunded")
    (waiting,) = deliver("1111111111")
    reconciler.event(first)
    paper.open_the_gate()

    replayed = again(database, first, second, waiting)

    assert (replayed.due, len(replayed.payment_keys)) == (3, 2)
    assert paper.open_events() == [first, second, waiting]
    assert [line[2:4] for line in history(database)] == [
        ("reconciled", "waiting"),
        ("reconciled", "waiting"),
        ("waiting", "waiting"),
    ]


def test_while_a_payment_is_looked_at_its_claim_is_left_alone(
    database: Database, deliver: Deliver, reconciler: Reconciler, platform: FakePlatform, paper: Paper
) -> None:
    """The look that is under way cannot answer the replayed event: another follows."""
    (key,) = deliver(PAYMENT)
    reconciler.event(key)
    paper.open_the_gate()
    (second,) = deliver(PAYMENT)
    platform.during = lambda: again(database, key)

    follow = reconciler.event(second)

    assert follow is not None
    assert follow.seconds is not None
    assert paper.open_events() == [key]
    paper.open_the_gate()
    reconciler.payment(follow.payment_key)
    assert paper.open_events() == []


def test_an_event_of_a_merchant_that_is_ours_by_now_is_admitted(database: Database, keep: Keep, paper: Paper) -> None:
    """By the rules of the ingress, and for the merchants of today; one that is still nobody's is left as it is."""
    (key,) = keep(body_of(PAYMENT, number=1, merchant_id="new"))
    assert paper.event(key).problem == NOT_OURS

    before = again(database, key)
    after = again(database, key, admission=Admission(frozenset([MERCHANT, "new"]), {}))

    assert [one.refused for one in before.verdicts] == [NOT_OURS]
    assert after.due == 1
    assert paper.payment(PAYMENT, "new").wanted == 1


def test_a_key_still_speaks_for_its_own_merchant_only(database: Database, keep: Keep, paper: Paper) -> None:
    """Not for another's because somebody replays it, nor because the key was removed meanwhile."""
    (key,) = keep(body_of(PAYMENT, number=1), key_merchant_id="other")
    assert paper.event(key).problem == OTHERS_KEY

    refused = [
        again(database, key, admission=Admission(frozenset([MERCHANT]), keys)).verdicts[0].refused
        for keys in ({"key-1": "other"}, {})
    ]

    assert refused == [OTHERS_KEY, KEY_GONE]
    assert again(database, key, admission=Admission(frozenset([MERCHANT]), {"key-1": MERCHANT})).due == 1


def test_what_could_not_be_understood_is_understood_again(
    database: Database, keep: Keep, paper: Paper, not_understood: pytest.MonkeyPatch
) -> None:
    """Its columns say then what it is about."""
    (key,) = keep(body_of(PAYMENT, "payment.captured", number=1))
    assert again(database, key).due == 0

    not_understood.undo()
    assert again(database, key).due == 1

    event = paper.event(key)
    assert (event.merchant_id, event.payment_id, event.type, event.event_id) == (
        MERCHANT,
        PAYMENT,
        "payment.captured",
        "event-1",
    )


def test_an_array_that_is_understood_by_now_gets_its_rows(
    database: Database, keep: Keep, paper: Paper, not_understood: pytest.MonkeyPatch
) -> None:
    """As if it had been understood from the first; to replay it once more adds none."""
    bodies = [body_of(str(1000 + number), number=number) for number in range(3)]
    (key,) = keep(json.dumps([json.loads(body) for body in bodies]).encode())
    not_understood.undo()

    again(database, key)
    again(database, key)

    events = paper.events()
    assert [(event.position, event.payment_id) for event in events] == [(0, "1000"), (1, "1001"), (2, "1002")]
    assert len(paper.open_events()) == 3
    assert {event.received_at for event in events} == {events[0].received_at}


def test_an_event_of_an_array_is_understood_from_the_body_they_share(
    database: Database, keep: Keep, paper: Paper
) -> None:
    """Its bytes are kept once, with the first."""
    others = [json.loads(body_of(PAYMENT, number=number, merchant_id="new")) for number in range(2)]
    _first, second = keep(json.dumps(others).encode())

    with database.reading() as connection:
        (verdict,) = judge(connection, [second], Admission(["new"], {}))

    assert (verdict.refused, verdict.hint.event_id, verdict.unread) == (None, "event-1", ())


def test_a_body_that_is_erased_is_missed_only_where_nothing_else_names_the_payment(
    database: Database, keep: Keep, deliver: Deliver, reconciler: Reconciler
) -> None:
    """What names a payment of ours is looked at without it."""
    (unread,) = keep(b"not JSON")
    (known,) = deliver(PAYMENT)
    reconciler.event(known)
    for key in (unread, known):
        change(database, key, body=None)

    replayed = again(database, unread, known)

    assert [one.refused for one in replayed.verdicts] == [ERASED, None]


def test_what_nothing_can_follow_from_is_not_made_due(database: Database, keep: Keep, paper: Paper) -> None:
    """The platform's test event stays ignored, and its row and the journal as they were."""
    (key,) = keep(body_of("9999", "payment.test", number=1))
    before = paper.event(key)

    (verdict,) = again(database, key).verdicts

    assert verdict.refused == "the platform's test event"
    assert (paper.event(key), history(database), paper.payments()) == (before, [], [])


def test_of_what_is_still_set_aside_it_is_noted_why_by_now(
    database: Database, keep: Keep, paper: Paper, not_understood: pytest.MonkeyPatch
) -> None:
    """A test event that was not understood is ignored now, and the journal says what it was."""
    (key,) = keep(body_of("9999", "payment.test", number=1))
    not_understood.undo()

    again(database, key)

    assert (paper.event(key).outcome, paper.event(key).problem) == ("ignored", "the platform's test event")
    assert [line[2:4] for line in history(database)] == [("quarantined", "ignored")]


def test_to_judge_changes_nothing(database: Database, deliver: Deliver, reconciler: Reconciler, paper: Paper) -> None:
    """A dry run; keys that are not there are left out."""
    (key,) = deliver(PAYMENT)
    reconciler.event(key)
    before = (paper.events(), paper.payments(), history(database))

    with database.reading() as connection:
        verdicts = judge(connection, [key, 999_999], OURS)

    assert [(one.event_key, one.former, one.refused) for one in verdicts] == [(key, "reconciled", None)]
    assert (paper.events(), paper.payments(), history(database)) == before


def test_the_merchants_of_keys_in_the_database_are_known(database: Database) -> None:
    """So a worker, which has no key store, applies the ingress's rule."""
    with database.transaction() as connection:
        for key_id, merchant_id in (("a", None), ("b", "acme")):
            values = {"key_id": key_id, "merchant_id": merchant_id, "encrypted_secret": b"x", "created_at": now()}
            connection.execute(insert(WebhookKey).values(**values))

    with database.reading() as connection:
        assert key_merchants(connection) == {"a": None, "b": "acme"}


def test_a_new_version_understands_again_what_the_last_one_could_not(
    database: Database,
    keep: Keep,
    paper: Paper,
    platform: FakePlatform,
    not_understood: pytest.MonkeyPatch,
) -> None:
    """In batches, once for each version; what was quarantined for another reason is left to people."""
    tools = Tools(database, {MERCHANT: platform}, settings_of(), Traffic(database, settings_of()))
    keys = []
    for number in range(5):
        keys = keep(body_of(str(1000 + number), number=number))
    not_understood.undo()
    strangers = keep(body_of(PAYMENT, number=9, merchant_id="new"))[-1]
    not_understood.setattr(understanding, "BATCH", 2)

    state: Any = {"version": "0.0.1"}
    runs = []
    while not runs or runs[-1].seconds < understanding.LOOK_SECONDS:
        runs.append(understanding.run_once(tools, state))
        state = runs[-1].state

    assert [run.counts.get("due") for run in runs] == [2, 2, 1, None]
    assert sum(len(run.payment_keys) for run in runs) == 5
    assert paper.open_events() == keys
    assert paper.event(strangers).outcome == "quarantined"
    assert {line[1] for line in history(database)} == {"payhook"}
    with database.transaction() as connection:
        connection.execute(update(WebhookEvent).values(payment_id=None, outcome="quarantined", done_at=now()))
    assert understanding.run_once(tools, state).counts == {}


def test_an_upgrade_in_the_midst_of_it_begins_anew(
    database: Database, keep: Keep, paper: Paper, platform: FakePlatform, not_understood: pytest.MonkeyPatch
) -> None:
    """What the version before went past may be understood by this one."""
    tools = Tools(database, {MERCHANT: platform}, settings_of(), Traffic(database, settings_of()))
    keys = keep(body_of(PAYMENT, number=1))
    not_understood.undo()

    understanding.run_once(tools, {"version": "0.0.1", "for": "0.0.2", "after": keys[-1]})

    assert paper.open_events() == keys
