"""The setting KEY_STORE picks a store, a user's own among them; the documentation shows how to write one."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from ingress.key_stores import (
    DatabaseKeyStore,
    FileKeyStore,
    InMemoryKeyStore,
    KeyStore,
    encryption_keys,
    open_key_store,
)
from tests.ingress.key_stores.test_every_store import documented
from worker.database import Database
from worker.settings import Settings, SettingsError


@pytest.fixture
def opened(tmp_path: Path) -> Callable[[str], KeyStore]:
    """Opens the store of a setting, beside a SQLite file."""
    url = f"sqlite:///{tmp_path / 'payhook.db'}"

    def open_one(key_store: str) -> KeyStore:
        settings = Settings(
            _env_file=None,  # type: ignore[call-arg]
            database_url=SecretStr(url),
            key_store=key_store,
            webhook_keys=SecretStr("a=b"),
        )
        encryption_keys(settings, create=True)
        return open_key_store(settings, Database(url, connections=1, seconds=1, revision=None))

    return open_one


def test_the_setting_picks_the_store(opened: Callable[[str], KeyStore], tmp_path: Path) -> None:
    """Nothing is read yet: a store that is away must not keep the process from starting."""
    assert type(opened("memory:")) is InMemoryKeyStore
    assert type(opened("database:")) is DatabaseKeyStore
    assert type(opened(f"file:{tmp_path}/missing.json")) is FileKeyStore


@pytest.mark.parametrize("value", ["", "memory", ":", ":x", "file:", "memory:x", "database:x", "payhook", "mymodule:"])
def test_a_wrong_setting_says_what_would_be_right(opened: Callable[[str], KeyStore], value: str) -> None:
    """Every form is named."""
    with pytest.raises(SettingsError, match=r"memory:, file:PATH, database: or package\.module:factory"):
        opened(value)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("no.such.module:factory", "cannot be imported"),
        ("json:no_such_name", "cannot be imported"),
        (".relative:factory", "cannot be imported"),
        ("files:/etc/keys.json", "cannot be imported"),
        ("json:__name__", "must be a function"),
        ("builtins:dict", "must be a function"),
    ],
)
def test_a_wrong_factory_is_told(opened: Callable[[str], KeyStore], value: str, told: str) -> None:
    """A name that leads nowhere, to no function, or to a function of something else stops the start."""
    with pytest.raises(SettingsError, match=told):
        opened(value)


def test_the_documented_example_is_named_by_the_setting(
    opened: Callable[[str], KeyStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One's own store, in a module that Python finds; `test_every_store.py` runs it."""
    (tmp_path / "my_keys.py").write_text(documented("KeyStore"))
    monkeypatch.syspath_prepend(tmp_path)

    store = opened("my_keys:VaultKeys")

    sys.modules.pop("my_keys")
    assert type(store).__name__ == "VaultKeys"
