"""The suite of key stores fails stores that do wrong, and is there for whoever writes one."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import MultiFernet

from ingress.key_stores import (
    FileKeyStore,
    InMemoryKeyStore,
    KeyStoreUnavailable,
    WebhookKey,
    database,
    directory,
    file,
    trusted_file,
)
from tests.ingress.key_stores.test_every_store import documented

REPOSITORY = Path(__file__).parents[3]
SUITE = REPOSITORY / "tests" / "ingress" / "key_stores" / "test_every_store.py"

pytest_plugins = ["pytester"]

Patch = pytest.MonkeyPatch
Mutation = Callable[[Patch], None]


def nobody_looks_at_permissions(patch: Patch) -> None:
    patch.setattr(trusted_file, "_refuse_untrusted", lambda *_: None)


def nobody_looks_at_the_folder(patch: Patch) -> None:
    patch.setattr(directory, "_owners", lambda *_: None)


def a_row_is_not_bound_to_its_id(patch: Patch) -> None:
    bound = database._unsealed

    def unbound(fernet: MultiFernet, key_id: str, sealed: bytes) -> str | None:
        return bound(fernet, "theirs", sealed) or bound(fernet, key_id, sealed)

    patch.setattr(database, "_unsealed", unbound)


def a_row_need_not_be_encrypted(patch: Patch) -> None:
    sealed_one = database._unsealed

    def trusting(fernet: MultiFernet, key_id: str, sealed: bytes) -> str | None:
        secret = sealed_one(fernet, key_id, sealed)
        return secret or (str(json.loads(sealed)["secret"]) if sealed.startswith(b"{") else None)

    patch.setattr(database, "_unsealed", trusting)


def instances_share_one_dictionary(patch: Patch) -> None:
    shared: dict[str, WebhookKey] = {}

    def share(store: InMemoryKeyStore, keys: dict[str, WebhookKey]) -> None:
        shared.update(keys)
        store._keys = shared

    patch.setattr(InMemoryKeyStore, "__init__", share)


def keys_have_no_end(patch: Patch) -> None:
    patch.setattr(WebhookKey, "expired", lambda _: False)


def a_store_that_loses_ends(store: Any) -> Mutation:
    def mutate(patch: Patch) -> None:
        load = store.load
        patch.setattr(
            store, "load", lambda self: {id_: replace(key, not_after=None) for id_, key in load(self).items()}
        )

    return mutate


def a_failure_is_no_keys(patch: Patch) -> None:
    load = FileKeyStore.load

    def forgiving(store: FileKeyStore) -> Any:
        try:
            return load(store)
        except Exception:
            return {}

    patch.setattr(FileKeyStore, "load", forgiving)


def the_first_load_is_kept(patch: Patch) -> None:
    load = FileKeyStore.load
    kept: list[Any] = []

    def remembering(store: FileKeyStore) -> Any:
        if not kept:
            kept.append(load(store))
        return kept[0]

    patch.setattr(FileKeyStore, "load", remembering)


def a_failure_quotes_what_was_read(patch: Patch) -> None:
    read = file._read_json

    def quoting(path: Path) -> Any:
        try:
            return read(path)
        except KeyStoreUnavailable as error:
            raise KeyStoreUnavailable(f"{error}: {path.read_text()}") from None

    patch.setattr(file, "_read_json", quoting)


GUARD, LIMITS = "forged_key", "expired_key_is_refused"

#: Which store is made wrong, how, and the test that must notice.
MUTANTS: dict[str, tuple[str, Mutation, str]] = {
    "memory: shared dictionary": ("TestMemory", instances_share_one_dictionary, "stores_share_no_keys"),
    "memory: no expiry": ("TestMemory", keys_have_no_end, LIMITS),
    "memory: ends are lost": ("TestMemory", a_store_that_loses_ends(InMemoryKeyStore), "its_end_and_its_merchant"),
    "file: no permission check": ("TestJsonFile", nobody_looks_at_permissions, GUARD),
    "file: no expiry": ("TestJsonFile", keys_have_no_end, LIMITS),
    "file: ends are lost": ("TestJsonFile", a_store_that_loses_ends(FileKeyStore), LIMITS),
    "file: a failure is no keys": ("TestJsonFile", a_failure_is_no_keys, "keeps_its_known_keys"),
    "file: never read again": ("TestJsonFile", the_first_load_is_kept, "removed_key_stops"),
    "file: a failure quotes secrets": ("TestJsonFile", a_failure_quotes_what_was_read, "no_text_of_a_failure"),
    "directory: no permission check": ("TestDirectory", nobody_looks_at_permissions, GUARD),
    "directory: no check of the folder": ("TestDirectory", nobody_looks_at_the_folder, GUARD),
    "directory: never read again": ("TestDirectory", the_first_load_is_kept, "new_key_is_found"),
    "database: no binding": ("TestDatabase", a_row_is_not_bound_to_its_id, GUARD),
    "database: no encryption": ("TestDatabase", a_row_need_not_be_encrypted, GUARD),
    "database: no expiry": ("TestDatabase", keys_have_no_end, LIMITS),
}


class Mutated:
    """A plugin that makes the code wrong while the suite's tests run."""

    def __init__(self, mutate: Mutation):
        self._mutate = mutate

    @pytest.fixture(autouse=True)
    def mutated(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._mutate(monkeypatch)


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_store_that_does_wrong_fails_the_suite(pytester: pytest.Pytester, mutant: str) -> None:
    """The very suite that our stores pass, over the same store with one control taken out."""
    store, mutate, test = MUTANTS[mutant]
    repository = ["-c", f"{REPOSITORY}/pyproject.toml", "--rootdir", str(REPOSITORY), "-p", "no:cacheprovider"]

    ran = pytester.inline_run(
        *repository, f"{SUITE}::{store}", "-k", f"{test} and not postgresql", plugins=[Mutated(mutate)]
    )

    _, skipped, failed = ran.countoutcomes()
    assert skipped == 0
    assert failed >= 1


AUTHORS_TEST = """
import pytest
from ingress.key_stores import KeyStore
from ingress.key_stores.conformance import KeyLimitsConformance, KeyStoreConformance


class Mine(KeyStore):
    held = {}

    def __init__(self, keys):
        self.held.update(keys)

    def load(self):
        return self.held


class TestMine(KeyStoreConformance, KeyLimitsConformance):
    @pytest.fixture
    def store_with(self):
        return Mine
"""


def run_pytest(folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("PAYHOOK_", "PYTEST_"))}
    command: list[str | Path] = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", folder]
    return subprocess.run(command, cwd=folder, env={**ours, **more}, capture_output=True, text=True)


def test_the_author_of_a_store_has_the_suite_by_inheriting(tmp_path: Path) -> None:
    """Elsewhere, with nothing but payhook and pytest installed; the mistake is told with the values that differ."""
    (tmp_path / "test_mine.py").write_text(AUTHORS_TEST)

    ended = run_pytest(tmp_path)

    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "TestMine::test_stores_share_no_keys" in ended.stdout
    assert re.search(r"^E +(AssertionError: )?assert \(.*WebhookKey\(", ended.stdout, re.MULTILINE)
    assert " passed" in ended.stdout


AUTHORS_VAULT = """
import pytest
from tests.ingress.key_stores.test_every_store import vault


@pytest.fixture
def my_vault(vault):
    return vault
"""


def test_the_documented_test_of_the_documented_store_passes(tmp_path: Path) -> None:
    """As both stand in the documentation, over a vault that answers."""
    (tmp_path / "my_keys.py").write_text(documented("KeyStore"))
    (tmp_path / "test_my_keys.py").write_text(documented("KeyStoreConformance"))
    (tmp_path / "conftest.py").write_text(AUTHORS_VAULT)

    ended = run_pytest(tmp_path, PYTHONPATH=f"{REPOSITORY}{os.pathsep}{tmp_path}")

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert re.search(r"[5-9] passed", ended.stdout)


def test_payhook_runs_without_pytest() -> None:
    """The suite is for those who have it: nothing that runs imports it."""
    probe = "import sys, ingress.cli, worker.tasks, ingress.key_stores; sys.exit('pytest' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", probe], cwd="/", env={}).returncode == 0
    assert "\npytest==" not in (REPOSITORY / "requirements.lock").read_text()
