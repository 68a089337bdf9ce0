"""The application put together: what it needs, and the sentence it stops with when something is wrong."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from flask import Flask

from ingress import create_app
from ingress.desk import open_desk
from ingress.key_stores import WebhookKey, encryption_keys
from ingress.key_stores.database import add_key
from tests.ingress.conftest import KEY_ID, SECRET, HeardRings, House, OpenHouse, event_body, signed
from tests.servers.ports import free_port
from worker.database import open_database
from worker.settings import Settings

SettingsOf = Callable[..., Settings]


@pytest.fixture(autouse=True)
def _own_folder_and_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logs_as_they_were: None) -> None:
    """No ``.env`` and no setting of the machine the tests run on."""
    import os

    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.upper().startswith("PAYHOOK_")]:
        monkeypatch.delenv(name)


def close(app: Flask) -> None:
    app.extensions["payhook"].ring.close()
    app.extensions["payhook"].database.close()


def refusal_of(capsys: pytest.CaptureFixture[str], settings: Settings | None = None) -> str:
    """What an application that refuses says; its exit code is one after which gunicorn does not try again."""
    with pytest.raises(SystemExit) as stopped:
        create_app(settings)

    assert stopped.value.code == 3
    return capsys.readouterr().err


def test_it_is_built_from_the_environment(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`ingress:create_app()` needs no argument: any WSGI server can be given it."""
    for name, value in {"DATABASE_URL": sqlite_url, "KEY_STORE": "memory:", "WEBHOOK_KEYS": "id=secret"}.items():
        monkeypatch.setenv(f"PAYHOOK_{name}", value)

    app = create_app()

    assert app.test_client().get("/health/live").status_code == 200
    close(app)


def test_it_has_these_doors_and_no_other(house: House) -> None:
    """No static files, nothing of a framework's own."""
    rules = {
        (rule.rule, *sorted(rule.methods - {"HEAD", "OPTIONS"}))
        for rule in house.client.application.url_map.iter_rules()
    }

    assert {("/webhooks", "POST"), ("/webhooks", "GET"), ("/health/live", "GET"), ("/health/ready", "GET")} <= rules
    assert {rule for rule, *_ in rules} <= {"/webhooks", "/health/live", "/health/ready", "/metrics"}


def test_it_needs_no_merchant(house: House) -> None:
    """A process that only receives does not hold what the platform is called with."""
    assert house.desk.merchant_ids is None
    assert house.post(event_body()).status_code == 204


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"key_store": "nonsense"}, "PAYHOOK_KEY_STORE is wrong: it is memory:, file:PATH, database:"),
        ({"key_store": "memory:", "webhook_keys": None}, "PAYHOOK_WEBHOOK_KEYS is missing"),
        ({"key_store": "nowhere.at.all:store"}, "PAYHOOK_KEY_STORE: nowhere.at.all:store cannot be imported"),
        ({"key_store": "database:"}, "PAYHOOK_ENCRYPTION_KEYS is missing"),
        ({"key_store": "database:", "encryption_keys": "x"}, "PAYHOOK_ENCRYPTION_KEYS: key 1 is not a Fernet key"),
        ({"merchant_id": "acme"}, "PAYHOOK_API_KEY_ID is missing; a merchant needs its id"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    settings_of: SettingsOf, given: dict[str, Any], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The process stops with it: neither a traceback nor a later surprise."""
    said = refusal_of(capsys, settings_of(**given))

    assert said.startswith(told)
    assert said.count("\n") == 1


def test_a_wrong_setting_of_the_environment_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Read by any WSGI server."""
    monkeypatch.setenv("PAYHOOK_POLICYY", "x")

    assert refusal_of(capsys) == "PAYHOOK_POLICYY is not a setting; did you mean PAYHOOK_POLICY?\n"


def test_a_database_that_was_not_migrated_is_one_sentence(
    settings_of: SettingsOf, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It names the command."""
    said = refusal_of(capsys, settings_of(database_url=f"sqlite:///{tmp_path / 'new.db'}"))

    assert said.startswith("the database is at revision none, ")
    assert said.endswith(": run `payhook migrate`\n")


def test_it_starts_without_its_database(open_house: OpenHouse) -> None:
    """And says 503 until it is there."""
    house = open_house(database_url=f"postgresql+psycopg://payhook@127.0.0.1:{free_port()}/payhook")

    assert house.post(event_body()).status_code == 503


def test_it_starts_without_its_broker(open_house: OpenHouse) -> None:
    """Rings are dropped then, and the sweep has the rows."""
    house = open_house(broker_url=f"amqp://127.0.0.1:{free_port()}//")

    assert house.post(event_body()).status_code == 204


def test_keys_in_the_database_verify(settings_of: SettingsOf) -> None:
    """Encrypted with the key beside the database file."""
    from pydantic import SecretStr

    settings = settings_of(key_store="database:", encryption_keys=Fernet.generate_key().decode())
    database = open_database(settings, threads=1, seconds=2)
    add_key(database, encryption_keys(settings, create=False), KEY_ID, WebhookKey(SecretStr(SECRET)), actor="test")
    database.close()
    app = create_app(settings, open_desk(settings, HeardRings()))  # type: ignore[arg-type]
    body = event_body()

    answer = app.test_client().post("/webhooks", data=body, headers=signed(body))
    close(app)

    assert answer.status_code == 204


def test_parts_that_are_already_built_are_used(settings_of: SettingsOf) -> None:
    """The embedded process shares its doorbell with its worker."""
    settings, doorbell = settings_of(), HeardRings()
    desk = open_desk(settings, doorbell)  # type: ignore[arg-type]

    app = create_app(settings, desk)
    body = event_body()
    app.test_client().post("/webhooks", data=body, headers=signed(body))
    close(app)

    assert app.extensions["payhook"] is desk
    assert len(doorbell.rung) == 1


def test_a_doorbell_that_breaks_does_not_unsay_what_was_stored(open_house: OpenHouse) -> None:
    """What is committed is answered 204 even when nobody can be rung for it: no call of a doorbell raises or waits."""
    house = open_house()
    real = open_desk(house.desk.settings)
    before = threading.active_count()

    for key in range(20_000):
        real.doorbell.ring("payhook.events", [key])
    state = real.doorbell.state()
    real.ring.close()
    real.database.close()

    assert state["waiting"] <= 10_000
    assert threading.active_count() - before <= 2


def test_applications_share_nothing(open_house: OpenHouse) -> None:
    """Two of them in one process know their own keys only."""
    first, second = open_house(), open_house(webhook_keys="other=another-secret")
    body = event_body()

    assert first.post(body).status_code == 204
    assert second.post(body).status_code == 401
