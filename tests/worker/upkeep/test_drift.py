"""The sample of payments at rest: a wrong record is found, told, and brought in line by itself."""

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select, update
from structlog.testing import capture_logs

from tests.worker.conftest import MERCHANT, Deliver, FakePlatform, Paper, settings_of, view_of
from worker import reports
from worker.database import Database, now
from worker.drift import comparing
from worker.gateways.gateway import CredentialsRefused
from worker.models import Fact
from worker.reconciliation import Reconciler
from worker.reports.standing import Drift
from worker.settings import Settings
from worker.traffic import Traffic
from worker.upkeep import Tools, Upkeep, drift, enrol

CANCELLED = 6


class Keeper:
    """A worker that does the job when it is due."""

    def __init__(self, database: Database, platform: FakePlatform, settings: Settings):
        self.database = database
        self.upkeep = Upkeep(Tools(database, {MERCHANT: platform}, settings, Traffic(database, settings)))
        with database.transaction() as connection:
            enrol(connection)

    def fact(self) -> Any:
        with self.database.reading() as connection:
            return connection.execute(select(Fact.__table__).where(Fact.name == "job:drift")).one()

    def run(self) -> Any:
        """One run, at whatever time it is due."""
        key = self.fact().fact_key
        with self.database.transaction() as connection:
            connection.execute(update(Fact).where(Fact.fact_key == key).values(due_at=now()))
        done = self.upkeep.job(key)
        assert done is not None
        return done

    def standing(self) -> Drift | None:
        with self.database.reading() as connection:
            return reports.standing(connection, notice_seconds=1.0).drift


@pytest.fixture(autouse=True)
def _replicas_are_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "LAG_SECONDS", 0.05)


@pytest.fixture
def keeper(database: Database, platform: FakePlatform, settings: Settings) -> Keeper:
    return Keeper(database, platform, settings)


@pytest.fixture
def rest(reconciler: Reconciler, platform: FakePlatform, deliver: Deliver, paper: Paper) -> Any:
    """So many payments, cancelled and looked at: nobody looks at them any more."""

    def rest(count: int) -> list[int]:
        ids = [str(1_000_000_000 + number) for number in range(count)]
        for payment_id in ids:
            platform.truth[payment_id] = view_of(payment_id, code=CANCELLED)
            reconciler.event(deliver(payment_id)[0])
        assert all(payment.due_at is None for payment in paper.payments())
        platform.looks.clear()
        return [paper.payment(payment_id).payment_key for payment_id in ids]

    return rest


def test_a_record_that_was_tampered_with_is_found_told_and_brought_in_line(
    keeper: Keeper, rest: Any, paper: Paper, reconciler: Reconciler
) -> None:
    """With a line in the journal and one in the log that names no value; rung for, the usual look puts it right."""
    key = rest(3)[1]
    paper.change_payment(key, state="captured", amount_captured=1000)
    paper.open_the_gate()

    with capture_logs() as logs:
        done = keeper.run()

    (told,) = [line for line in logs if line["event"] == "drift.found"]
    assert (told["log_level"], told["payment_key"], told["what"]) == ("error", key, ["state", "amount_captured"])
    assert paper.journal()[-1] == (
        "captured",
        "captured",
        "drift: state was captured here, cancelled there; "
        "amount_captured was 1000 here, 0 there; it is looked at again",
    )
    assert done.payment_keys == (key,)
    reconciler.payment(key)
    payment = paper.payment("1000000001")
    assert (payment.state, payment.amount_captured, payment.due_at) == ("cancelled", 0, None)
    assert keeper.run().counts == {"compared": 3, "different": 0, "in_motion": 0, "failed": 0}


def test_a_sample_is_compared_in_slices_and_then_rests(
    database: Database, platform: FakePlatform, rest: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each payment once; what it came to is kept for whoever asks how the installation stands."""
    monkeypatch.setattr(drift, "SLICE", 4)
    keeper = Keeper(database, platform, settings_of(drift_sample=9, drift_seconds=5000))
    rest(12)
    assert keeper.standing() is None

    runs = [keeper.run() for _ in range(3)]

    assert [run.counts["compared"] for run in runs] == [4, 8, 9]
    assert [run.seconds for run in runs] == [drift.SLICE_SECONDS, drift.SLICE_SECONDS, 5000]
    assert len({payment_id for payment_id, _ in platform.looks}) == len(platform.looks) == 9
    last = keeper.standing()
    assert last is not None
    assert (last.compared, last.different) == (9, 0)
    assert set(keeper.fact().value) == {"last"}


def test_while_a_sample_is_under_way_the_last_one_is_told(
    keeper: Keeper, rest: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a sample says nothing of the whole."""
    rest(3)
    keeper.run()
    whole = keeper.standing()
    monkeypatch.setattr(drift, "SLICE", 2)

    keeper.run()

    assert whole is not None
    assert keeper.standing() == whole
    assert len(keeper.fact().value["keys"]) == 1


def test_what_cannot_be_asked_for_now_is_compared_later(keeper: Keeper, rest: Any, platform: FakePlatform) -> None:
    """A circuit is open: no payment of the sample is lost, and the job does not try again and again."""
    keys = rest(5)
    platform.errors += [CredentialsRefused("HTTP 403")] * 2

    first, second = keeper.run(), keeper.run()

    assert first.counts == {"compared": 0, "different": 0, "in_motion": 0, "failed": 2}
    assert set(keeper.fact().value["keys"]) < set(keys)
    assert len(keeper.fact().value["keys"]) == 3
    assert second.seconds == drift.SHUT_SECONDS


def test_a_run_ends_before_its_lease(
    keeper: Keeper, rest: Any, platform: FakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A platform that answers slowly makes it shorter, not longer; the rest is compared by the next run."""
    rest(5)
    monkeypatch.setattr(drift, "RUN_SECONDS", 0.1)
    platform.slow = 0.06

    done = keeper.run()

    assert 1 <= done.counts["compared"] <= 3
    assert len(keeper.fact().value["keys"]) == 5 - done.counts["compared"]


def test_a_movement_is_told_in_the_journal_with_both_sides(
    keeper: Keeper, rest: Any, platform: FakePlatform, paper: Paper
) -> None:
    """What came from outside is printable there."""
    rest(1)
    platform.truth["1000000000"] = replace(platform.truth["1000000000"], merchant_reference="order\x1b[31m 7")

    keeper.run()

    assert paper.journal()[-1][2] == (
        "drift: merchant_reference was order-1 here, order?[31m 7 there; it is looked at again"
    )


def test_an_empty_installation_has_nothing_to_compare(keeper: Keeper, settings: Settings) -> None:
    """And asks for nothing until the next sample."""
    done = keeper.run()

    assert (done.seconds, done.counts["compared"]) == (settings.drift_seconds, 0)
