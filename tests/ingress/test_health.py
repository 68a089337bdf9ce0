"""GET /health: the process is up, it can take webhooks, and what else is worth knowing."""

import hashlib
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, text
from werkzeug.test import TestResponse

from ingress.health import LATE_SECONDS
from tests.ingress.conftest import KEY_ID, SECRET, House, OpenHouse, event_body
from tests.servers.ports import free_port
from tests.servers.postgres_server import PostgresServer
from tests.servers.process_tree import wait_for
from worker.database import migrate, now
from worker.models import CIRCUIT_FACT, SWEEP_FACT, Fact, Operation, WebhookEvent
from worker.reports.standing import WEBHOOKS_JOB
from worker.settings import Settings

numbers = count(1)

REPORTED = ("broker", "backlog", "sweep", "circuits", "webhooks", "review")


@pytest.fixture
def nowhere() -> str:
    """The URL of a database that is not there."""
    return f"postgresql+psycopg://payhook@127.0.0.1:{free_port()}/payhook"


def ready(house: House) -> TestResponse:
    """The answer once the keys had a moment to be read."""
    wait_for(lambda: house.desk.keys_readable()["ok"] or house.desk.keys_readable()["told"], 10)
    return house.client.get("/health/ready")


def sweep(house: House) -> None:
    swept(house, 0)


def swept(house: House, seconds_ago: float) -> None:
    with house.desk.database.transaction() as connection:
        at = connection.execute(select(now())).scalar_one() - timedelta(seconds=seconds_ago)
        connection.execute(insert(Fact).values(name=SWEEP_FACT, value={"at": at.isoformat()}))


def received(house: House, seconds_ago: float) -> None:
    with house.desk.database.transaction() as connection:
        at = connection.execute(select(now())).scalar_one()
        digest = hashlib.sha256(str(next(numbers)).encode()).digest()
        received_at = at - timedelta(seconds=seconds_ago)
        connection.execute(
            insert(WebhookEvent).values(body_sha256=digest, key_id="k", received_at=received_at, due_at=at)
        )


def test_the_process_is_up(house: House) -> None:
    """As long as it answers at all."""
    answer = house.client.get("/health/live")

    assert (answer.status_code, answer.json) == (200, {"status": "ok"})


def test_the_process_is_up_without_its_database(open_house: OpenHouse, nowhere: str) -> None:
    """Starting it anew would not help."""
    assert open_house(database_url=nowhere).client.get("/health/live").status_code == 200


def test_it_is_ready_when_everything_is_well(house: House) -> None:
    """Database, keys, broker, backlog and sweep are each told by name."""
    sweep(house)

    answer = ready(house)

    assert answer.status_code == 200
    assert answer.json is not None
    assert answer.json["status"] == "ok"
    assert set(answer.json["checks"]) == {"database", "key_store", *REPORTED}
    assert all(check["ok"] for check in answer.json["checks"].values())


Damage = Callable[[House], None]

DEGRADED: dict[str, tuple[str, Damage]] = {
    "nobody ever swept": ("sweep", lambda house: None),
    "nobody swept for long": ("sweep", lambda house: swept(house, LATE_SECONDS + 10)),
    "the broker does not take rings": (
        "broker",
        lambda house: (sweep(house), setattr(house.doorbell, "delivering", False))[0],
    ),
    "an event has waited for long": (
        "backlog",
        lambda house: (sweep(house), received(house, LATE_SECONDS + 10))[0],
    ),
}


@pytest.mark.parametrize("what", DEGRADED)
def test_what_does_not_keep_webhooks_out_is_told_and_no_more(house: House, what: str) -> None:
    """200 all the same, so that no webhook is turned away for it; the status says degraded, and which check is why."""
    check, damage = DEGRADED[what]
    damage(house)

    answer = ready(house)

    assert answer.status_code == 200
    assert answer.json is not None
    assert answer.json["status"] == "degraded"
    assert [name for name, told in answer.json["checks"].items() if not told["ok"]] == [check]


def test_the_backlog_is_counted(house: House) -> None:
    """Events that wait, and how long the oldest has waited."""
    sweep(house)
    received(house, 30)
    received(house, 5)

    answer = ready(house)

    assert answer.json is not None
    backlog = answer.json["checks"]["backlog"]
    assert (backlog["ok"], backlog["events"], backlog["payments"]) == (True, 2, 0)
    assert backlog["oldest_seconds"] == pytest.approx(30, abs=5)


def fact(house: House, name: str, value: dict[str, Any], *, due: bool) -> None:
    """As the workers leave it."""
    with house.desk.database.transaction() as connection:
        connection.execute(insert(Fact).values(name=name, value=value, due_at=now() if due else None))


def test_what_the_workers_met_with_is_told_of_each_merchant(house: House) -> None:
    """Whose circuit is open and why, whose webhooks are missed, how many operations wait for a person; all of it is
    for people, so the answer is 200."""
    sweep(house)
    since = "2026-01-23T09:51:27+00:00"
    silence = {"last": since, "usual_seconds": 60.0, "moved": 3}
    watched = {"acme": {**silence, "missed_since": since}, "other": {**silence, "missed_since": None}}
    fact(house, f"{CIRCUIT_FACT}acme", {"why": "403", "since": since}, due=True)
    fact(house, f"{CIRCUIT_FACT}other", {"why": "403", "since": since}, due=False)
    fact(house, WEBHOOKS_JOB, {"merchants": watched}, due=True)
    asked_for(house, "review")

    answer = ready(house)

    assert (answer.status_code, answer.json and answer.json["status"]) == (200, "degraded")
    assert answer.json is not None
    assert {name: answer.json["checks"][name] for name in ("circuits", "webhooks", "review")} == {
        "circuits": {"ok": False, "open": {"acme": {"since": since, "why": "403"}}},
        "webhooks": {"ok": False, "missed": {"acme": {"since": since}}},
        "review": {"ok": False, "operations": 1},
    }


def asked_for(house: House, state: str) -> None:
    """An operation in a state."""
    number = next(numbers)
    with house.desk.database.transaction() as connection:
        connection.execute(
            insert(Operation).values(
                operation_uuid=str(number), payment_id="3254564310", kind="refund", amount=100, currency="EUR",
                source="shop", request_id=str(number), request_sha256=b"", state=state, created_at=now(),
            )
        )  # fmt: skip


def not_ready(answer: TestResponse) -> list[str]:
    assert answer.status_code == 503
    assert answer.json is not None
    assert answer.json["status"] == "unavailable"
    return [name for name, told in answer.json["checks"].items() if not told["ok"]]


def test_it_is_not_ready_without_its_database(open_house: OpenHouse, nowhere: str) -> None:
    """503, and what it cannot know then is not said to be well."""
    assert set(not_ready(ready(open_house(database_url=nowhere)))) == {"database", *REPORTED} - {"broker"}


def test_it_is_not_ready_before_its_database_is_migrated(
    open_house: OpenHouse, tmp_path: Path, settings_of: Callable[..., Settings]
) -> None:
    """An application that came up before its database checks the revision at its first connection."""
    from ingress import assemble
    from ingress.desk import open_desk
    from tests.ingress.conftest import HeardRings
    from worker.database import WrongRevision

    house = open_house()
    settings = settings_of(database_url=f"sqlite:///{tmp_path / 'other.db'}")
    desk = open_desk(settings, HeardRings())  # type: ignore[arg-type]
    with pytest.raises(WrongRevision, match="payhook migrate"):
        assemble(settings, desk)
    house.client.application.extensions["payhook"] = desk

    answer = house.client.get("/health/ready")
    desk.ring.close()
    desk.database.close()

    assert "database" in not_ready(answer)
    assert "run `payhook migrate`" in answer.text


def test_it_is_not_ready_without_its_keys(open_house: OpenHouse, tmp_path: Path) -> None:
    """A webhook could not be told from a forgery."""
    house = open_house(key_store=f"file:{tmp_path / 'nowhere.json'}")
    sweep(house)

    assert not_ready(ready(house)) == ["key_store"]


def test_it_is_not_ready_while_its_keys_cannot_be_read_again(open_house: OpenHouse, tmp_path: Path) -> None:
    """Known ones go on verifying; readiness says that the store is gone, and until when they do."""
    keys = tmp_path / "keys.json"
    keys.touch(0o600)
    keys.write_text(f'{{"{KEY_ID}": "{SECRET}"}}')
    house = open_house(key_store=f"file:{keys}", key_refresh_seconds=0.1)
    sweep(house)
    assert ready(house).status_code == 200

    keys.unlink()
    wait_for(lambda: house.desk.keys_readable()["told"], 10)

    answer = house.client.get("/health/ready")
    assert not_ready(answer) == ["key_store"]
    assert answer.json is not None
    told = answer.json["checks"]["key_store"]
    assert (told["keys"], told["told"]) == (1, "KeyStoreUnavailable")
    until = datetime.fromisoformat(told["known_keys_verify_until"])
    assert abs(until - datetime.now(UTC) - timedelta(hours=24)) < timedelta(minutes=1)
    assert house.post(event_body()).status_code == 204


def test_it_is_ready_again_by_itself(open_house: OpenHouse, postgres_url: str, postgres_server: PostgresServer) -> None:
    """When the database died and came back, nothing needs to be started anew."""
    migrate(postgres_url)
    house = open_house(database_url=postgres_url)
    sweep(house)
    before = ready(house)

    postgres_server.kill()
    begin = time.monotonic()
    while_down = house.client.get("/health/ready")
    took = time.monotonic() - begin
    postgres_server.start()
    well = wait_for(lambda: house.client.get("/health/ready").status_code == 200, 10)

    assert before.status_code == 200
    assert "database" in not_ready(while_down)
    assert took < 6
    assert well


def test_no_answer_of_health_tells_a_secret(open_house: OpenHouse) -> None:
    """Neither in what is well nor in what is not."""
    url = f"postgresql+psycopg://payhook:canary-3a@127.0.0.1:{free_port()}/payhook"
    house = open_house(database_url=url, webhook_keys="id=canary-4b")

    texts = [house.client.get(f"/health/{what}").text for what in ("live", "ready")]

    assert [word for word in ("canary-3a", "canary-4b") for text_ in texts if word in text_] == []


@pytest.mark.parametrize("path", ["/health/live", "/health/ready"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_health_is_only_asked(house: House, path: str, method: str) -> None:
    """405 for anything that would change something."""
    assert house.client.open(path, method=method).status_code == 405


def test_a_probe_may_leave_out_the_answers_body(house: House) -> None:
    """HEAD has the status of GET."""
    assert house.client.head("/health/live").status_code == 200


def test_a_broken_schema_is_a_503(house: House) -> None:
    """Whatever the question breaks on, the answer is that it is not ready."""
    with house.desk.database.transaction() as connection:
        connection.execute(text("DROP TABLE facts"))

    answer: Any = ready(house)

    assert answer.status_code in (200, 503)
    assert "ok" not in answer.text.split('"status"')[1][:8]
