"""Keys of the setting WEBHOOK_KEYS."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from ingress.key_stores import InMemoryKeyStore
from ingress.key_stores.conformance import key
from ingress.key_stores.in_memory import keys_of_setting
from worker.settings import Settings, SettingsError, load_settings

CANARY = "canary"


def given(text: str | None) -> Settings:
    return Settings(_env_file=None, webhook_keys=text and SecretStr(text))  # type: ignore[call-arg]


def test_entries_are_split_at_commas_and_at_the_first_equals_sign() -> None:
    """A secret may hold equals signs, as base64 does; white space before an id is let pass."""
    keys = keys_of_setting(given("a=s3cret==, b.2=x=y"))

    assert {key_id: key.secret.get_secret_value() for key_id, key in keys.items()} == {"a": "s3cret==", "b.2": "x=y"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "is missing"),
        ("  ", "is missing"),
        ("canary", "entry 1 is not id=secret"),
        ("a=x,canary", "entry 2 is not id=secret"),
        ("a=x,", "entry 2 is not id=secret"),
        ("a=", "entry 1: its secret is blank"),
        ("a=  ", "entry 1: its secret is blank"),
        ("a=canary ,b=x", "white space around it"),
        ("a=can\nary", "line end"),
        ("=canary", "entry 1: its id is not"),
        ("can/ary=canary", "entry 1: its id is not"),
        ("a=canary,b=x,a=y", "entry 3 has the id of an earlier one"),
    ],
)
def test_a_wrong_entry_is_named_by_its_place(text: str | None, told: str) -> None:
    """The message says which entry is wrong and how, and shows nothing of any."""
    with pytest.raises(SettingsError, match=told) as failure:
        keys_of_setting(given(text))

    assert CANARY not in str(failure.value)


def test_the_keys_can_stand_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which the environment names, so that no other process of the user reads them there."""
    (tmp_path / "keys").write_text("a=one,b=two\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PAYHOOK_WEBHOOK_KEYS_FILE", str(tmp_path / "keys"))

    assert keys_of_setting(load_settings()) == {"a": key("one"), "b": key("two")}


def test_instances_share_nothing() -> None:
    """Neither with each other, nor with the dictionary they were made of."""
    given_ones = {"mine": key("one")}
    mine, theirs = InMemoryKeyStore(given_ones), InMemoryKeyStore({"theirs": key("two")})
    given_ones["later"] = key("three")

    assert mine.load() == {"mine": key("one")}
    assert theirs.load() == {"theirs": key("two")}
