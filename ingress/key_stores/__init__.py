"""The family of key stores: pick one by the setting ``KEY_STORE``."""

import importlib
from pathlib import Path

from ingress.key_stores.database import DatabaseKeyStore
from ingress.key_stores.encryption import encryption_keys
from ingress.key_stores.file import FileKeyStore
from ingress.key_stores.in_memory import InMemoryKeyStore, keys_of_setting
from ingress.key_stores.key_ring import KeyRing, KeyRingState
from ingress.key_stores.key_store import KeyRefused, KeyStore, KeyStoreUnavailable, WebhookKey, new_key
from worker.database import Database
from worker.settings import PREFIX, Settings, SettingsError

NAME = f"{PREFIX}KEY_STORE"
RIGHT = "it is memory:, file:PATH, database: or package.module:factory"


def open_key_store(settings: Settings, database: Database) -> KeyStore:
    """The store that the settings name.

    Args:
        settings: which store, and what it needs.
        database: used by the ``database:`` store only.

    Raises:
        SettingsError: no such store, or it lacks something.
    """
    kind, rest = kind_of_store(settings)
    if kind == "memory":
        return InMemoryKeyStore(keys_of_setting(settings))
    if kind == "database":
        return DatabaseKeyStore(database, encryption_keys(settings, create=False))
    if kind == "file":
        return FileKeyStore(Path(rest))
    return _store_of_factory(kind, rest)


def kind_of_store(settings: Settings) -> tuple[str, str]:
    """What stands before and after the colon of the setting, which fit each other."""
    kind, colon, rest = settings.key_store.partition(":")
    if not kind or not colon or (rest == "") != (kind in ("memory", "database")):
        raise SettingsError(f"{NAME} is wrong: {RIGHT}")
    return kind, rest


def _store_of_factory(module: str, name: str) -> KeyStore:
    try:
        factory = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        problem = f"{module}:{name} cannot be imported ({type(error).__name__})"
        raise SettingsError(f"{NAME}: {problem}; {RIGHT}") from error
    store = factory() if callable(factory) else None
    if not isinstance(store, KeyStore):
        raise SettingsError(f"{NAME}: {module}:{name} must be a function without arguments that returns a KeyStore")
    return store


__all__ = [
    "DatabaseKeyStore",
    "FileKeyStore",
    "InMemoryKeyStore",
    "KeyRefused",
    "KeyRing",
    "KeyRingState",
    "KeyStore",
    "KeyStoreUnavailable",
    "WebhookKey",
    "encryption_keys",
    "kind_of_store",
    "new_key",
    "open_key_store",
]
