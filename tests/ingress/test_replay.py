"""Who records genuine webhooks and sends them again gains nothing: no row, no look at the platform, no money."""

import pytest
from sqlalchemy import func, select

from tests.ingress.conftest import House, event_body, signed
from tests.worker.conftest import FakePlatform, settings_of
from worker.models import Base
from worker.reconciliation import Reconciler

REPLAYS = 10


@pytest.fixture
def platform() -> FakePlatform:
    return FakePlatform()


@pytest.fixture
def recorded(house: House, platform: FakePlatform) -> list[bytes]:
    """Genuine webhooks of long ago: stored, reconciled, done."""
    bodies = [event_body(payment={"id": f"{3254564310 + number % 10}_1"}) for number in range(50)]
    for body in bodies:
        house.post(body)
    reconcile(house, platform)
    assert [row.outcome for row in house.rows()] == ["reconciled"] * len(bodies)
    house.doorbell.rung.clear()
    return bodies


def reconcile(house: House, platform: FakePlatform) -> None:
    """Answer every ring there was, as a worker does."""
    reconciler = Reconciler(house.desk.database, {platform.merchant_id: platform}, settings_of(gap_seconds=0.001))
    for event_key in house.doorbell.rung:
        reconciler.event(event_key)


def rows_of_every_table(house: House) -> dict[str, int]:
    with house.desk.database.reading() as connection:
        return {
            table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in Base.metadata.sorted_tables
        }


def test_old_webhooks_again_and_again_cost_a_count_each(
    house: House, platform: FakePlatform, recorded: list[bytes]
) -> None:
    """Answered 204, as the platform's own redeliveries are; counted, and nothing else in any table, nobody rung."""
    before, looks = rows_of_every_table(house), len(platform.looks)

    statuses = [house.post(body).status_code for _ in range(REPLAYS) for body in recorded]
    reconcile(house, platform)

    assert statuses == [204] * (REPLAYS * len(recorded))
    assert house.doorbell.rung == []
    assert len(platform.looks) == looks
    assert rows_of_every_table(house) == before
    assert {row.deliveries for row in house.rows()} == {1 + REPLAYS}


def test_one_that_is_still_open_is_looked_at_once(house: House, platform: FakePlatform) -> None:
    """Rung for again, since its first ring may be lost; the first to be answered does the work of all."""
    body = event_body()

    for _ in range(100):
        house.post(body)
    reconcile(house, platform)

    assert len(house.rows()) == 1
    assert len(platform.looks) == 1


def test_with_a_bit_changed_it_is_no_replay_but_a_forgery(house: House, recorded: list[bytes]) -> None:
    """So nobody makes another body of a recorded one."""
    before = rows_of_every_table(house)

    statuses = {house.post(body + b" ", signed(body)).status_code for body in recorded}

    assert statuses == {401}
    assert rows_of_every_table(house) == before
