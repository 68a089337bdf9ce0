"""Webhooks that no longer come: told from a quiet night by payments that move, no sooner and no later than usual."""

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from tests.worker.conftest import MERCHANT, settings_of
from worker.database import Database, now
from worker.models import Fact, Payment, WebhookEvent
from worker.reports.standing import Silence, standing
from worker.settings import Settings
from worker.traffic import Traffic
from worker.upkeep import Done, Tools, Upkeep, enrol, webhooks

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0

#: A merchant's events come so often, unless a test says otherwise: its webhooks are missed after twice that.
USUAL = 20 * MINUTE


class Watch:
    """The job as it runs again and again, and what it is to see; time passes by making all of it older."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._tools = Tools(database, {}, settings, Traffic(database, settings))
        self._database = database
        self._numbers = count(1)
        self.state: Mapping[str, Any] = {}

    def events(self, *seconds_ago: float, merchant_id: str = MERCHANT) -> None:
        """Events came, each so long ago."""
        at = self._at()
        rows = [
            {
                "body_sha256": hashlib.sha256(str(next(self._numbers)).encode()).digest(),
                "merchant_id": merchant_id,
                "key_id": "key-1",
                "received_at": at - timedelta(seconds=seconds),
                "done_at": at,
                "outcome": "reconciled",
            }
            for seconds in seconds_ago
        ]
        with self._database.transaction() as connection:
            connection.execute(insert(WebhookEvent), rows)

    def usual_events(self, *, until: float, every: float = USUAL, merchant_id: str = MERCHANT) -> None:
        """Events came at a steady pace, the last of them so long ago."""
        self.events(*(until + every * number for number in range(10, -1, -1)), merchant_id=merchant_id)

    def movement(self, seconds_ago: float, merchant_id: str = MERCHANT) -> None:
        """A payment was seen to have moved."""
        values = {"payment_id": str(next(self._numbers)), "state": "captured", "merchant_id": merchant_id}
        changed_at = self._at() - timedelta(seconds=seconds_ago)
        with self._database.transaction() as connection:
            connection.execute(insert(Payment).values(**values, changed_at=changed_at))

    def pass_time(self, seconds: float) -> None:
        """As if everything had been so much longer ago."""
        with self._database.transaction() as connection:
            for column in (WebhookEvent.received_at, Payment.changed_at):
                rows = connection.execute(select(*column.class_.__table__.primary_key, column)).all()
                for key, at in rows:
                    (primary,) = column.class_.__table__.primary_key
                    older = {column.key: at - timedelta(seconds=seconds)}
                    connection.execute(update(column.class_).where(primary == key).values(older))
        for one in self.state.get("merchants", {}).values():
            for name in ("last", "missed_since"):
                if one[name] is not None:
                    one[name] = (datetime.fromisoformat(one[name]) - timedelta(seconds=seconds)).isoformat()

    def run(self) -> Done:
        """One run, given what the last has left."""
        done = webhooks.run_once(self._tools, self.state)
        self.state = json.loads(json.dumps(done.state))  # as it is kept
        return done

    def missed(self) -> set[str]:
        """Whose webhooks are missed after one more run."""
        self.run()
        return {name for name, one in self.state["merchants"].items() if one["missed_since"] is not None}

    def _at(self) -> datetime:
        with self._database.reading() as connection:
            at: datetime = connection.execute(select(now())).scalar_one()
        return at


@pytest.fixture
def watch(database: Database, settings: Settings) -> Watch:
    return Watch(database, settings)


@pytest.mark.parametrize(
    ("usual", "patience"),
    [
        pytest.param(20 * MINUTE, 40 * MINUTE, id="twice the usual pause"),
        pytest.param(1.0, 15 * MINUTE, id="no sooner than the shortest, however busy it is"),
        pytest.param(14 * HOUR, 28 * HOUR, id="a shop that sleeps at night"),
        pytest.param(20 * HOUR, 36 * HOUR, id="no later than the longest, however seldom events are"),
    ],
)
def test_a_merchant_that_falls_silent_is_missed_after_twice_its_usual_pause(
    watch: Watch, usual: float, patience: float
) -> None:
    """Its payments move and no event tells of it: a minute before that time nothing is said, a minute after it is."""
    watch.usual_events(until=patience - MINUTE, every=usual)
    watch.movement(seconds_ago=MINUTE)

    before = watch.missed()
    watch.pass_time(2 * MINUTE)
    after = watch.missed()

    assert (before, after) == (set(), {MERCHANT})


def test_the_settings_say_how_long_is_waited(database: Database) -> None:
    """The shortest and the longest wait are the operator's."""
    watch = Watch(database, settings_of(webhook_gap_seconds=(2 * HOUR, 3 * HOUR)))
    watch.usual_events(until=2 * HOUR - MINUTE, every=MINUTE)
    watch.movement(seconds_ago=HOUR)

    before = watch.missed()
    watch.pass_time(2 * MINUTE)
    after = watch.missed()

    assert (before, after) == (set(), {MERCHANT})


def test_a_quiet_night_is_no_gap(watch: Watch) -> None:
    """No payment moved: there was nothing to tell."""
    watch.movement(seconds_ago=10 * HOUR)
    watch.usual_events(until=10 * HOUR - MINUTE)

    assert watch.missed() == set()


def test_a_change_that_is_seen_before_its_event_comes_is_not_missed(watch: Watch) -> None:
    """Nor one that was seen some minutes after it, for its look was late: the last event told of it."""
    watch.usual_events(until=10 * HOUR)
    watch.movement(seconds_ago=10 * HOUR - 4 * MINUTE)

    assert watch.missed() == set()


def test_only_the_merchant_whose_webhooks_stopped_is_missed(database: Database, tmp_path: Path) -> None:
    """One of two: another's events are no sign of life, and another's movements none of a gap."""
    merchants = "".join(
        f'[[merchant]]\nid = "{name}"\napi_key_id = "key"\napi_secret = "secret"\n' for name in ("dead", "idle", "well")
    )
    (tmp_path / "merchants.toml").write_text(merchants)
    watch = Watch(database, settings_of(merchants_file=tmp_path / "merchants.toml"))
    for merchant_id, until in (("dead", 2 * HOUR), ("idle", 2 * HOUR), ("well", MINUTE)):
        watch.usual_events(until=until, merchant_id=merchant_id)
    for merchant_id in ("dead", "well"):
        watch.movement(seconds_ago=MINUTE, merchant_id=merchant_id)

    assert watch.missed() == {"dead"}


def test_a_merchant_that_is_not_ours_is_not_watched(watch: Watch) -> None:
    """Events of strangers are kept, and nobody waits for the next."""
    watch.usual_events(until=2 * HOUR, merchant_id="stranger")
    watch.movement(seconds_ago=MINUTE, merchant_id="stranger")

    assert watch.missed() == set()
    assert list(watch.state["merchants"]) == [MERCHANT]


def test_a_merchant_that_never_had_an_event_is_missed(watch: Watch) -> None:
    """A webhook that was never set up: since its payments first moved, which later runs do not forget."""
    watch.movement(seconds_ago=14 * MINUTE)
    before = watch.missed()
    watch.pass_time(2 * MINUTE)

    after = watch.missed()
    since = watch.state["merchants"][MERCHANT]["missed_since"]
    watch.pass_time(40 * HOUR)
    watch.movement(seconds_ago=HOUR)
    moved_on = (datetime.fromisoformat(since) - timedelta(hours=40)).isoformat()

    assert (before, after) == (set(), {MERCHANT})
    assert watch.missed() == {MERCHANT}
    assert watch.state["merchants"][MERCHANT]["missed_since"] == moved_on


def test_nothing_is_missed_of_a_merchant_of_whom_nothing_is_known(watch: Watch) -> None:
    """No event and no payment: a new installation."""
    assert watch.missed() == set()


def test_an_event_ends_it(watch: Watch) -> None:
    """The first event that comes again; it is said once that they are missed, however often the job runs."""
    watch.usual_events(until=2 * HOUR)
    watch.movement(seconds_ago=HOUR)
    assert watch.missed() == {MERCHANT}

    watch.events(MINUTE)

    assert watch.missed() == set()


def test_it_is_said_once(watch: Watch, capsys: pytest.CaptureFixture[str]) -> None:
    """One line for one gap: the job runs every minute, and a dead endpoint is dead for days."""
    watch.usual_events(until=2 * HOUR)
    watch.movement(seconds_ago=HOUR)

    for _ in range(3):
        watch.run()
        watch.pass_time(MINUTE)
        watch.movement(seconds_ago=1)

    assert "".join(capsys.readouterr()).count("webhooks.missed") == 1


def test_a_pause_that_was_a_gap_is_not_usual(watch: Watch) -> None:
    """A dead endpoint of ten hours does not make the next one be noticed after twenty."""
    watch.usual_events(until=10 * HOUR)
    watch.movement(seconds_ago=HOUR)
    assert watch.missed() == {MERCHANT}
    watch.events(MINUTE)
    assert watch.missed() == set()

    watch.pass_time(2 * USUAL)
    watch.movement(seconds_ago=MINUTE)

    assert watch.missed() == {MERCHANT}
    assert watch.state["merchants"][MERCHANT]["usual_seconds"] == pytest.approx(USUAL, abs=2)


def test_a_quiet_night_is_usual_from_then_on(watch: Watch) -> None:
    """Nothing was missed in it: the shop sleeps, and the next night is not reported."""
    watch.usual_events(until=10 * HOUR)
    assert watch.missed() == set()
    watch.events(MINUTE)
    watch.run()

    watch.pass_time(15 * HOUR)
    watch.movement(seconds_ago=MINUTE)

    assert watch.missed() == set()
    assert watch.state["merchants"][MERCHANT]["usual_seconds"] == pytest.approx(10 * HOUR, abs=2 * MINUTE)


def test_what_was_usual_is_forgotten_after_a_week(watch: Watch) -> None:
    """The slow days before a campaign do not count for ever."""
    watch.events(12 * DAY, 11 * DAY, 10 * DAY)
    watch.usual_events(until=HOUR)
    watch.movement(seconds_ago=MINUTE)

    watch.run()

    usual = watch.state["merchants"][MERCHANT]["usual_seconds"]
    assert usual == pytest.approx(10 * DAY - HOUR - 10 * USUAL, abs=2)  # the pause that ended today

    watch.pass_time(8 * DAY)
    watch.state["merchants"][MERCHANT]["pauses"] = {
        (datetime.fromisoformat(day) - timedelta(days=8)).date().isoformat(): pause
        for day, pause in watch.state["merchants"][MERCHANT]["pauses"].items()
    }
    watch.run()

    assert watch.state["merchants"][MERCHANT]["usual_seconds"] == 0


def test_a_long_way_is_gone_in_batches(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each run reads so many events, goes on where the last one was, at once while there are more; nothing is said
    before all are read, for the newest of them may have come just now."""
    monkeypatch.setattr(webhooks, "MOST_EVENTS", 10)
    watch.state = {"last_key": 0}
    watch.events(*(6 * HOUR - 15 * MINUTE * number for number in range(24)), MINUTE)
    watch.movement(seconds_ago=30)

    runs = [watch.run() for _ in range(3)]

    assert [done.seconds for done in runs] == [0.0, 0.0, webhooks.EVERY_SECONDS]
    assert [done.counts["missed"] for done in runs] == [0, 0, 0]
    assert watch.state["merchants"][MERCHANT]["usual_seconds"] == pytest.approx(15 * MINUTE, abs=60)


def test_an_old_database_is_not_read_from_its_beginning(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first run learns what is usual from the latest events."""
    monkeypatch.setattr(webhooks, "MOST_EVENTS", 10)
    watch.events(30 * HOUR, 20 * HOUR, *(10 * MINUTE * number for number in range(10, 0, -1)))

    watch.run()

    assert watch.state["merchants"][MERCHANT]["usual_seconds"] == pytest.approx(10 * MINUTE, abs=2)


def test_what_stands_says_whose_webhooks_are_missed(watch: Watch, database: Database, settings: Settings) -> None:
    """Readiness, metrics and doctor read what the job has left in its fact."""
    watch.usual_events(until=2 * HOUR)
    watch.movement(seconds_ago=HOUR)
    with database.transaction() as connection:
        enrol(connection)
        key = connection.execute(select(Fact.fact_key).where(Fact.name == "job:webhooks")).scalar_one()

    Upkeep(Tools(database, {}, settings, Traffic(database, settings))).job(key)

    with database.reading() as connection:
        (silence,) = standing(connection, notice_seconds=1.0).silences
        at = connection.execute(select(now())).scalar_one()
    last_at = at - timedelta(hours=2)
    assert silence == Silence(MERCHANT, silence.last_at, silence.usual_seconds, silence.last_at, moved=1)
    assert abs(silence.last_at - last_at) < timedelta(seconds=30)  # type: ignore[operator]
    assert silence.usual_seconds == pytest.approx(USUAL, abs=2)
