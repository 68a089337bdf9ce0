"""Every setting in force, where it came from, and what of it may be shown."""

import os
from pathlib import Path

import pytest

from worker.settings import SettingsError, load_settings, setting_names
from worker.settings.inventory import Inventory, address, take_inventory

SECRET = "canary-of-a-setting"


@pytest.fixture(autouse=True)
def nothing_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.upper().startswith("PAYHOOK_")]:
        monkeypatch.delenv(name)


def taken(monkeypatch: pytest.MonkeyPatch, **given: str) -> Inventory:
    for name, value in given.items():
        monkeypatch.setenv(f"PAYHOOK_{name}", value)
    inventory = take_inventory()
    assert SECRET not in repr(inventory)
    return inventory


def test_nothing_given_is_all_defaults() -> None:
    """Every setting is there, and nothing is wrong."""
    inventory = take_inventory()

    assert [f"{entry.name}" for entry in inventory.entries] == [
        name for name in setting_names() if not name.endswith("_FILE") or name == "PAYHOOK_MERCHANTS_FILE"
    ]
    assert {entry.origin for entry in inventory.entries} == {"default"}
    assert inventory.problems == ()


def test_the_environment_goes_before_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As it does for a process at its start."""
    (tmp_path / ".env").write_text("PAYHOOK_GAP_SECONDS=3\npayhook_sweep_seconds=7\n")

    inventory = taken(monkeypatch, GAP_SECONDS="4")

    told = {entry.name: (entry.value, entry.origin) for entry in inventory.entries}
    assert told["PAYHOOK_GAP_SECONDS"] == ("4.0", "environment")
    assert told["PAYHOOK_SWEEP_SECONDS"] == ("7.0", ".env")
    assert inventory.settings.model_dump() == load_settings().model_dump()


WRONG: dict[str, tuple[dict[str, str], set[str], str]] = {
    "a value": ({"GAP_SECONDS": SECRET}, {"GAP_SECONDS"}, "PAYHOOK_GAP_SECONDS: Input should be a valid number"),
    "not JSON": ({"CIRCUIT_SECONDS": SECRET}, {"CIRCUIT_SECONDS"}, "PAYHOOK_CIRCUIT_SECONDS: not JSON"),
    "an unknown name": ({"GAP_SECOND": SECRET}, {"GAP_SECOND"}, "did you mean PAYHOOK_GAP_SECONDS?"),
    "no such file": ({"API_SECRET_FILE": "nowhere"}, {"API_SECRET"}, "PAYHOOK_API_SECRET_FILE: nowhere cannot be read"),
    "both of a pair": (
        {"API_SECRET": SECRET, "API_SECRET_FILE": "there"},
        {"API_SECRET"},
        "PAYHOOK_API_SECRET and PAYHOOK_API_SECRET_FILE are both set",
    ),
    "times that do not fit": (
        {"LEASE_SECONDS": "1"},
        {"LEASE_SECONDS", "CALL_SECONDS", "CLAIM_SECONDS"},
        "CALL_SECONDS ≤ CLAIM_SECONDS < LEASE_SECONDS must hold",
    ),
    "a broker of another kind": ({"BROKER_URL": f"sqs://{SECRET}"}, {"BROKER_URL"}, "a broker of another kind"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_named_and_hides_no_other(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """The process would not start; the other settings are read all the same."""
    given, wrong, problem = WRONG[what]

    inventory = taken(monkeypatch, MERCHANT_ID="acme", **given)

    named = {entry.name.removeprefix("PAYHOOK_"): entry for entry in inventory.entries if entry.problem}
    assert set(named) == wrong
    assert all(problem in str(entry.problem) and entry.value == "not usable" for entry in named.values())
    assert any(problem in told for told in inventory.problems)
    assert inventory.settings.merchant_id == "acme"
    with pytest.raises(SettingsError):
        load_settings()


def test_an_env_file_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    """Of no setting in particular."""
    (tmp_path / ".env").write_bytes(b"\xff\xfe")

    assert take_inventory().problems == (".env is not UTF-8 text",)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:////var/lib/payhook.db", "sqlite:////var/lib/payhook.db"),
        (f"postgresql+psycopg://me:{SECRET}@host:5432/shop", "postgresql+psycopg://host:5432/shop"),
        (f"postgresql+psycopg://host/shop?password={SECRET}", "postgresql+psycopg://host/shop"),
        (f"redis://:{SECRET}@host:6379/1", "redis://host:6379/1"),
        (f"amqp://me:{SECRET}@one//;amqp://me:{SECRET}@two//", "amqp://…"),
        (f"amqp://me:1/{SECRET}@host//", "amqp://…"),
        (f"amqp://me:1#{SECRET}@host//", "amqp://…"),
        (f"amqp://me:1?{SECRET}@host//", "amqp://…"),
        (f"amqp://me:{SECRET}@x@host//", "amqp://…"),
        (f"amqp://host:{SECRET}/", "amqp://…"),
        (SECRET, "set"),
    ],
)
def test_of_an_address_only_the_place_is_shown(url: str, shown: str) -> None:
    """Whatever is odd about how it is written, no part of a password passes for a place."""
    assert address(url) == shown
