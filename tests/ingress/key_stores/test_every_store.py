"""Payhook's own stores, and the one that the documentation shows, conform."""

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import delete, select, text, update

from ingress.key_stores import FileKeyStore, InMemoryKeyStore, KeyStore, WebhookKey
from ingress.key_stores.conformance import (
    FORGED,
    ChangingKeysConformance,
    GuardedKeysConformance,
    KeyLimitsConformance,
    KeyStoreConformance,
    StoreWith,
)
from tests.ingress.key_stores.conftest import Table
from worker.models import WebhookKey as Row

DOCUMENTATION = Path(__file__).parents[3] / "docs" / "key-stores.md"

Keys = Mapping[str, WebhookKey]
Change = Callable[[Keys], None]
Damage = Callable[[], None]


def secrets_of(keys: Keys) -> dict[str, str]:
    return {key_id: key.secret.get_secret_value() for key_id, key in keys.items()}


class TestMemory(KeyStoreConformance, KeyLimitsConformance):
    """Given at the start, and never changed."""

    @pytest.fixture
    def store_with(self) -> StoreWith:
        return InMemoryKeyStore


class TestJsonFile(KeyStoreConformance, KeyLimitsConformance, ChangingKeysConformance, GuardedKeysConformance):
    """A file that is replaced, as deployment tools do; others may neither write nor read it."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "keys.json"

    @pytest.fixture
    def change(self, path: Path) -> Change:
        def write(keys: Keys) -> None:
            entries = {
                key_id: {
                    "secret": key.secret.get_secret_value(),
                    "merchant_id": key.merchant_id,
                    "not_after": key.not_after and key.not_after.isoformat(),
                }
                for key_id, key in keys.items()
            }
            new = path.with_name("new")
            new.touch(0o600)
            new.write_text(json.dumps(entries))
            new.replace(path)

        return write

    @pytest.fixture
    def store_with(self, path: Path, change: Change) -> StoreWith:
        def make(keys: Keys) -> KeyStore:
            change(keys)
            return FileKeyStore(path)

        return make

    @pytest.fixture(params=["open to others", "half written", "too large", "gone"])
    def fail(self, request: pytest.FixtureRequest, path: Path) -> Damage:
        damages: dict[str, Callable[[], object]] = {
            "open to others": lambda: path.chmod(0o644),
            "half written": lambda: path.write_text(path.read_text()[:-20]),
            "too large": lambda: path.write_text(path.read_text() + " " * 65_536),
            "gone": path.unlink,
        }
        return lambda: (damages[request.param](), None)[1]

    @pytest.fixture(params=[0o602, 0o620, 0o604, 0o640], ids=oct)
    def tamper(self, request: pytest.FixtureRequest, path: Path, change: Change) -> Damage:
        def forge() -> None:
            path.write_text(path.read_text().replace("genuine", FORGED))
            path.chmod(request.param)

        return forge


class TestDirectory(KeyStoreConformance, ChangingKeysConformance, GuardedKeysConformance):
    """A file for each key, as they are mounted; it holds secrets only."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        (tmp_path / "keys").mkdir()
        return tmp_path / "keys"

    @pytest.fixture
    def change(self, path: Path) -> Change:
        def write(keys: Keys) -> None:
            for file in path.iterdir():
                file.unlink()
            for key_id, secret in secrets_of(keys).items():
                (path / key_id).write_text(secret + "\n")
                (path / key_id).chmod(0o644)

        return write

    @pytest.fixture
    def store_with(self, path: Path, change: Change) -> StoreWith:
        def make(keys: Keys) -> KeyStore:
            change(keys)
            return FileKeyStore(path)

        return make

    @pytest.fixture
    def fail(self, path: Path) -> Damage:
        return lambda: (path / "empty").touch()

    @pytest.fixture(params=["file for all to write", "file for the group to write", "folder for all to write"])
    def tamper(self, request: pytest.FixtureRequest, path: Path) -> Damage:
        def forge() -> None:
            (path / "mine").write_text(FORGED)
            if request.param == "folder for all to write":
                path.chmod(0o777)
            else:
                (path / "mine").chmod(0o646 if request.param == "file for all to write" else 0o664)

        return forge


class TestDatabase(KeyStoreConformance, KeyLimitsConformance, ChangingKeysConformance, GuardedKeysConformance):
    """Rows that one who can write to the table, and has no encryption key, cannot make anything of."""

    @pytest.fixture
    def change(self, either_table: Table) -> Change:
        def write(keys: Keys) -> None:
            with either_table.database.transaction() as connection:
                connection.execute(delete(Row))
            for key_id, key in keys.items():
                either_table.put(key_id, key)

        return write

    @pytest.fixture
    def store_with(self, either_table: Table, change: Change) -> StoreWith:
        def make(keys: Keys) -> KeyStore:
            change(keys)
            return either_table.store

        return make

    @pytest.fixture
    def fail(self, either_table: Table) -> Damage:
        def rename() -> None:
            with either_table.database.transaction() as connection:
                connection.execute(text("ALTER TABLE webhook_keys RENAME TO elsewhere"))

        return rename

    @pytest.fixture(params=["another row's", "plain", "made with another key"])
    def tamper(self, request: pytest.FixtureRequest, either_table: Table) -> Damage:
        return partial(forge_row, either_table, request.param)


def forge_row(table: Table, how: str) -> None:
    with table.database.transaction() as connection:
        theirs = connection.execute(select(Row.encrypted_secret).where(Row.key_id == "theirs")).scalar_one()
        plain = json.dumps({"key_id": "mine", "secret": FORGED}).encode()
        forged = {
            "another row's": theirs,
            "plain": plain,
            "made with another key": Fernet(Fernet.generate_key()).encrypt(plain),
        }
        connection.execute(update(Row).where(Row.key_id == "mine").values(encrypted_secret=forged[how]))


class Vault:
    """Answers with the keys it was given, as the documentation's store wants to be answered."""

    def __init__(self) -> None:
        self.keys: dict[str, str] | None = {}

    def keep(self, secrets: dict[str, str]) -> None:
        self.keys = secrets

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        request.send_response(503 if self.keys is None else 200)
        request.end_headers()
        request.wfile.write(json.dumps(self.keys).encode())


@pytest.fixture
def vault(monkeypatch: pytest.MonkeyPatch) -> Iterator[Vault]:
    """A vault that listens, and whose address is where the documentation's store looks for it."""
    vault = Vault()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            vault.answer(self)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("VAULT_URL", f"http://127.0.0.1:{server.server_port}/keys")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield vault
    server.shutdown()
    server.server_close()


def documented(class_: str) -> str:
    """The example of the documentation in which a class is inherited from, as it stands there."""
    examples = re.findall(r"```python\n(.*?)```", DOCUMENTATION.read_text(encoding="utf-8"), re.DOTALL)
    (example,) = [example for example in examples if f"({class_})" in example]
    return str(example)


def test_the_documented_example_is_ten_lines() -> None:
    """To write a store is to write one method."""
    assert len([line for line in documented("KeyStore").splitlines() if line.strip()]) <= 10


class TestDocumentedExample(KeyStoreConformance, ChangingKeysConformance):
    """One's own store, in ten lines."""

    @pytest.fixture
    def change(self, vault: Vault) -> Change:
        def hold(keys: Keys) -> None:
            vault.keep(secrets_of(keys))

        return hold

    @pytest.fixture
    def store_with(self, change: Change) -> StoreWith:
        module = ModuleType("my_keys")
        exec(documented("KeyStore"), module.__dict__)

        def make(keys: Keys) -> KeyStore:
            change(keys)
            store: KeyStore = module.VaultKeys()
            return store

        return make

    @pytest.fixture
    def fail(self, vault: Vault) -> Damage:
        def seal() -> None:
            vault.keys = None

        return seal
