"""`payhook payments` lists what we know of payments, tells what touched one, and has one looked at now."""

import threading
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import insert, select

from tests.ingress.cli.conftest import Desk, everywhere
from tests.servers.process_tree import wait_for
from tests.worker.conftest import MERCHANT, Paper, view_of
from worker.database import now
from worker.gateways.gateway import Refused, TryAgain
from worker.lifecycle import MovementKind
from worker.models import Payment

PAYMENT = "3254564310"


def known(desk: Desk, payment_id: str, **values: Any) -> None:
    with desk.database.transaction() as connection:
        row = {"merchant_id": MERCHANT, "state": "captured", "payment_id": payment_id, **values}
        connection.execute(insert(Payment).values(**row))


@everywhere
def test_a_stuck_payments_row_says_why_and_when_it_is_looked_at_next(desk: Desk) -> None:
    """Parked ones never; those with a back-off when it ends; those that nobody looks at have workers that are away."""
    with desk.database.reading() as connection:
        at = connection.execute(select(now())).scalar_one()
    known(desk, "1", problem="the platform does not know this payment")
    known(desk, "2", problem="the platform gave no answer", due_at=at + timedelta(minutes=10, seconds=30))
    known(desk, "3", rings=6, due_at=at)
    known(desk, "4", due_at=at + timedelta(hours=3, seconds=30))

    stuck = {line.split()[1]: line for line in desk.run("payments", "list", "--stuck").stdout.splitlines()[1:]}
    every = desk.run("payments", "list").stdout

    assert set(stuck) == {"1", "2", "3"}
    assert stuck["1"].split()[-8:] == ["never", *["the", "platform", "does", "not", "know", "this", "payment"]]
    assert "in 10m" in stuck["2"]
    assert "now        rung for 6 times and not looked at: are workers running?" in stuck["3"]
    assert "in 3h" in every


@everywhere
def test_payments_are_listed_by_every_filter(desk: Desk) -> None:
    """JSON has the columns of the schema but the snapshot."""
    desk.platform.truth["1000"] = view_of("1000", code=9, reference="order-9")
    for payment_id in ("1000", "1001"):
        desk.till.look(payment_id)

    def listed(*words: str) -> list[str]:
        return [row["payment_id"] for row in desk.told("payments", "list", *words)]

    assert listed() == ["1001", "1000"]
    assert listed("--state", "captured") == ["1000"]
    assert listed("--reference", "order-9") == ["1000"]
    assert listed("--payment", "1000_0") == ["1000"]
    assert listed("--merchant", "nobody") == []
    assert listed("--since", "5m", "--limit", "1") == ["1001"]
    assert listed("--stuck") == []
    (row,) = desk.told("payments", "list", "--payment", "1000")
    assert set(row) == {column.name for column in Payment.__table__.columns} - {"snapshot"}


@pytest.mark.parametrize("payment_id", [PAYMENT, f"{PAYMENT}_0", f"900000{PAYMENT}000"])
def test_a_payment_is_shown_with_everything_that_touched_it(desk: Desk, payment_id: str) -> None:
    """Whichever of the platform's formats its id is in."""
    desk.till.reconciler.event(desk.deliver(PAYMENT)[0])
    desk.till.sent(MovementKind.CAPTURE, 400)

    shown = desk.run("payments", "show", payment_id).stdout
    told = desk.told("payments", "show", payment_id)

    assert (told["payment_id"], told["snapshot"]["id"]) == (PAYMENT, PAYMENT)
    assert set(told) == {column.name for column in Payment.__table__.columns} - {"claim_token"} | {"timeline"}
    whats = [line["what"] for line in told["timeline"]]
    assert {"event received", "event done", "payment", "operation", "sent", "answered", "movement"} == set(whats)
    assert shown.count("capture of 400 EUR") >= 5
    assert "snapshot" not in shown


def test_of_several_merchants_with_one_id_one_is_to_be_named(desk: Desk) -> None:
    """The sentence says which there are; an unknown one is said too."""
    known(desk, PAYMENT)
    known(desk, PAYMENT, merchant_id="other")

    both, one, none = (
        desk.run("payments", "show", *words)
        for words in ((PAYMENT,), (PAYMENT, "--merchant", "other"), ("1", "--merchant", "other"))
    )

    assert (both.exit_code, both.stderr) == (1, f"Error: payment {PAYMENT} is known of {MERCHANT}, other\n")
    assert one.exit_code == 0
    assert (none.exit_code, none.stderr) == (1, "Error: there is no payment 1 of other\n")


@everywhere
def test_a_payment_is_asked_for_and_left_due(desk: Desk) -> None:
    """For whoever works beside the command; a park is forgotten."""
    desk.platform.errors.append(Refused("HTTP 400"))
    desk.till.look()
    assert desk.paper.payment(PAYMENT).due_at is None

    told = desk.told("payments", "reconcile", f"{PAYMENT}_0")

    row = desk.paper.payment(PAYMENT)
    assert (told["payment_id"], told["wanted"] - told["applied"], row.failures) == (PAYMENT, 2, 0)
    assert desk.paper.due_in(row) is not None
    desk.paper.open_the_gate()
    desk.till.reconciler.payment(row.payment_key)
    assert desk.paper.payment(PAYMENT).problem is None


def test_a_payment_of_nobody_is_refused(desk: Desk) -> None:
    """With the reason, which the journal has too."""
    result = desk.run("payments", "reconcile", PAYMENT, "--merchant", "nobody")

    assert (result.exit_code, result.stderr) == (1, "Error: merchant_id is not one of ours\n")
    assert desk.paper.journal() == [(None, "refused", "reconcile: merchant_id is not one of ours")]
    assert desk.run("payments", "reconcile", "../1").exit_code == 2


@pytest.mark.parametrize(("error", "code"), [(None, 0), (TryAgain("HTTP 500"), 1), (Refused("HTTP 400"), 1)])
def test_who_waits_learns_what_the_look_came_to(desk: Desk, error: Exception | None, code: int) -> None:
    """Exit code 0 when the platform has answered, 1 with the problem when it has not."""
    if error is not None:
        desk.platform.errors.append(error)
    results = []
    command = threading.Thread(
        target=lambda: results.append(desk.run("payments", "reconcile", PAYMENT, "--wait", "--json"))
    )
    command.start()
    assert wait_for(lambda: bool(Paper(desk.database).payments()), seconds=10)

    desk.till.reconciler.payment(desk.paper.payment(PAYMENT).payment_key)
    command.join(10)

    (result,) = results
    assert result.exit_code == code, result.output
    assert ('"state": "authorised"' in result.stdout) is (code == 0)
    if error is not None:
        assert f"Error: payment {PAYMENT}: " in result.stderr
        assert str(error) in result.stderr
