"""The timeline of a payment and of an event: everything that touched it, in order of time."""

import time

import pytest

from tests.worker.conftest import MERCHANT, Deliver, FakePlatform, Paper, moved, view_of
from tests.worker.till import PAYMENT, Till
from worker import reconciliation, reports
from worker.database import Database
from worker.gateways.gateway import Refused
from worker.lifecycle import MovementKind
from worker.reports import Line, timeline


def of_payment(database: Database) -> list[Line]:
    with database.reading() as connection:
        return list(reports.timeline_of_payment(connection, reports.payment(connection, PAYMENT)).lines)


def test_everything_that_touched_a_payment_is_in_its_timeline(
    database: Database, platform: FakePlatform, till: Till, deliver: Deliver, paper: Paper
) -> None:
    """Its events, its changes, its operations, each request that left and its answer, and movements of others too."""
    deliver("1111111111")
    (event_key,) = deliver(PAYMENT, "payment.pending_capture")
    till.reconciler.event(event_key)
    key = till.sent(MovementKind.CAPTURE, 400)
    platform.truth[PAYMENT] = view_of(
        PAYMENT, *platform.truth[PAYMENT].movements, moved(f"{PAYMENT}_9", MovementKind.CAPTURE, 100)
    )
    till.look()

    told = of_payment(database)

    assert sorted((line.what, line.state, line.key) for line in told if line.subject != "operation") == [
        ("event done", "reconciled", str(event_key)),
        ("event received", "waiting", str(event_key)),
        ("movement", "done", f"{PAYMENT}_9"),
        ("movement", "pending", f"{PAYMENT}_1"),
        ("payment", "authorised", PAYMENT),
    ]
    steps = [(line.what, line.state) for line in told if line.subject == "operation"]
    assert sorted(steps) == sorted(
        [
            ("operation", "requested"),
            ("operation", "planned"),
            ("operation", "sending"),
            ("sent", "sending"),
            ("answered", "done"),
            ("operation", "accepted"),
        ]
    )
    assert [line.at for line in told] == sorted(line.at for line in told)
    assert {line.key for line in told if line.what == "event received"} == {str(event_key)}
    details = {line.key: line.detail for line in told if line.what == "movement"}
    assert details == {
        f"{PAYMENT}_1": f"capture of 400 EUR, operation {key}",
        f"{PAYMENT}_9": "capture of 100 EUR, foreign",
    }


def test_a_request_that_left_and_was_not_answered_is_only_sent(
    database: Database, platform: FakePlatform, till: Till
) -> None:
    """An attempt without an end may have moved money, and its line says no more than that it left."""
    key = int(till.asked(MovementKind.CAPTURE, 400).operation_key)

    def killed() -> None:
        raise KeyboardInterrupt

    platform.on_the_way = killed
    with pytest.raises(KeyboardInterrupt):
        till.step(key)

    assert [line.what for line in of_payment(database) if line.what in ("sent", "answered")] == ["sent"]


def test_a_refused_request_to_reconcile_is_in_the_timeline_of_its_payment(database: Database, till: Till) -> None:
    """Whoever asks why nothing came of it finds the reason there."""
    till.look()
    with pytest.raises(reconciliation.CannotAccept):
        reconciliation.request(
            database, frozenset([MERCHANT]), gap_seconds=1, payment_id=f"{PAYMENT}_0", merchant_id="nobody"
        )

    (line,) = [line for line in of_payment(database) if line.what == "request"]
    assert (line.state, line.detail) == ("refused", "reconcile: merchant_id is not one of ours (task)")


def test_what_became_of_an_event_is_in_its_timeline(
    database: Database, platform: FakePlatform, till: Till, deliver: Deliver
) -> None:
    """Its coming, its end with the problem, and what its payment did since."""
    (earlier,) = deliver(PAYMENT)
    till.reconciler.event(earlier)
    time.sleep(0.002)  # SQLite's clock has milliseconds: what was done before is told from what is done since
    (event_key,) = deliver(PAYMENT)
    platform.errors.append(Refused("HTTP 400"))
    Paper(database).pass_time()
    till.reconciler.event(event_key)

    with database.reading() as connection:
        told = reports.timeline_of_event(connection, reports.event(connection, event_key)).lines

    assert told[0].what == "event received"
    assert sorted((line.what, line.state) for line in told) == [
        ("event quarantined", "quarantined"),
        ("event received", "waiting"),
        ("payment", "authorised"),
    ]
    assert any("its payment is parked" in line.detail for line in told if line.what == "event quarantined")
    assert any(line.detail.startswith("parked: the platform refuses the request") for line in told)
    assert {line.key for line in told if line.subject == "event"} == {str(event_key)}


def test_of_a_payment_with_very_many_events_the_newest_are_told(
    database: Database, till: Till, deliver: Deliver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And that there were more."""
    monkeypatch.setattr(timeline, "MOST", 3)
    keys = deliver(PAYMENT, *["payment.captured"] * 5)
    till.look()

    with database.reading() as connection:
        told = reports.timeline_of_payment(connection, reports.payment(connection, PAYMENT))

    assert told.is_cut
    assert {line.key for line in told.lines if line.what == "event received"} == {str(key) for key in keys[2:]}
