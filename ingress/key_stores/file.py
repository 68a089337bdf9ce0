"""Keys in files: one JSON file, or a directory with a file per key, as Kubernetes and Docker mount secrets."""

import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ingress.key_stores.directory import keys_of_directory
from ingress.key_stores.key_store import (
    MAX_FILE_BYTES,
    KeyRefused,
    KeyStore,
    KeyStoreUnavailable,
    WebhookKey,
    new_key,
    sooner,
    state_of,
)
from ingress.key_stores.trusted_file import PRIVATE, read_trusted

FIELDS = {"secret", "not_after", "merchant_id", "retired_at"}


class FileKeyStore(KeyStore):
    """A JSON file ``{"id": "secret"}``, or a directory with one file per key, named by its id.

    Args:
        path: read again at every load, so that keys are changed by changing the file.
    """

    def __init__(self, path: Path):
        self._path = path

    def load(self) -> Mapping[str, WebhookKey]:
        if self._path.is_dir():
            return keys_of_directory(self._path)
        return _keys_of(self._path, _read_json(self._path))


def add_key(path: Path, key_id: str, key: WebhookKey) -> bool:
    """Write one more key into a JSON file, which is made if missing; False when it is there already, just so.

    Raises:
        KeyRefused: the id is taken by another key.
        KeyStoreUnavailable: the file cannot be read or written.
    """
    with _alone(path) as path:
        content = _read_json(path) if path.exists() else {}
        there = _keys_of(path, content).get(key_id)
        if there is not None:
            if there != key:
                raise KeyRefused(f"{key_id} is in {path} already, with another secret or other limits; remove it first")
            return False
        content[key_id] = _entry(key)
        _rewrite(path, content)
        return True


def remove_key(path: Path, key_id: str) -> bool:
    """Take a key out of a JSON file; False when it was not in it."""
    with _alone(path) as path:
        content = _read_json(path)
        _keys_of(path, content)  # a file that is wrong is mended by hand, not rewritten
        if content.pop(key_id, None) is None:
            return False
        _rewrite(path, content)
        return True


def retire_key(path: Path, key_id: str, after: timedelta) -> datetime | None:
    """Let a key of a JSON file end ``after`` from now, unless it ends sooner anyway; when that is, None without one."""
    at = datetime.now(UTC).replace(microsecond=0)
    with _alone(path) as path:
        content = _read_json(path)
        key = _keys_of(path, content).get(key_id)
        if key is None:
            return None
        end = sooner(key.not_after, at + after)
        retired_at = _retired_at(content[key_id])
        if retired_at is None or end != key.not_after:
            limits = {"not_after": end.isoformat(), "retired_at": (retired_at or at).isoformat()}
            content[key_id] = {**_as_object(content[key_id]), **limits}
            _rewrite(path, content)
        return end


def list_keys(path: Path) -> list[dict[str, Any]]:
    """The keys of a JSON file, with the columns of the ``webhook_keys`` table and ``state``; without secrets."""
    at, content = datetime.now(UTC), _read_json(path)
    rows = []
    for key_id, key in sorted(_keys_of(path, content).items()):
        retired_at = _retired_at(content[key_id])
        rows.append(
            {
                "key_id": key_id,
                "merchant_id": key.merchant_id,
                "created_at": None,
                "retired_at": retired_at,
                "not_after": key.not_after,
                "last_used_at": None,
                "state": state_of(retired_at, key.not_after, at),
            }
        )
    return rows


def _read_json(path: Path) -> dict[str, Any]:
    content = read_trusted(path, closed=PRIVATE)
    parsed: Any = None
    with suppress(ValueError, RecursionError):  # UnicodeDecodeError and JSONDecodeError carry the whole content
        parsed = json.loads(content, object_pairs_hook=_once)
    if not isinstance(parsed, dict):
        raise KeyStoreUnavailable(f'{path} is not JSON of the form {{"id": "secret", …}} with each id once')
    return parsed


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError
    return found


def _keys_of(path: Path, content: Mapping[str, Any]) -> dict[str, WebhookKey]:
    keys = {}
    for number, (key_id, entry) in enumerate(content.items(), start=1):
        try:
            keys[key_id] = _key_of(key_id, entry)
        except ValueError as error:
            raise KeyStoreUnavailable(f"{path}: key {number}: {error}") from None
    return keys


def _key_of(key_id: str, entry: Any) -> WebhookKey:
    if not isinstance(entry, dict):
        return new_key(key_id, entry)
    if not entry.keys() <= FIELDS:  # a misspelt not_after would be a key that never ends
        raise ValueError("it has a field other than secret, not_after, merchant_id and retired_at")
    merchant_id = entry.get("merchant_id")
    if merchant_id is not None and (not isinstance(merchant_id, str) or not merchant_id):
        raise ValueError("its merchant_id is not a text")
    _time(entry, "retired_at")
    return new_key(key_id, entry.get("secret"), not_after=_time(entry, "not_after"), merchant_id=merchant_id)


def _time(entry: Mapping[str, Any], name: str) -> datetime | None:
    if entry.get(name) is None:
        return None
    try:
        time = datetime.fromisoformat(entry[name])
    except (TypeError, ValueError):
        raise ValueError(f"its {name} is not a time; for example 2030-01-31T12:00:00Z") from None
    if time.tzinfo is None:
        raise ValueError(f"its {name} has no zone; for example 2030-01-31T12:00:00Z")
    return time


def _retired_at(entry: Any) -> datetime | None:
    return _time(_as_object(entry), "retired_at")  # for people: what verifies is told by not_after alone


def _as_object(entry: Any) -> dict[str, Any]:
    return entry if isinstance(entry, dict) else {"secret": entry}


def _entry(key: WebhookKey) -> Any:
    entry = {"secret": key.secret.get_secret_value()}
    if key.not_after is not None:
        entry["not_after"] = key.not_after.isoformat()
    if key.merchant_id is not None:
        entry["merchant_id"] = key.merchant_id
    return entry if len(entry) > 1 else key.secret.get_secret_value()


@contextmanager
def _alone(path: Path) -> Iterator[Path]:
    """Keep other commands from changing the file between our reading and writing it; a symlink is followed."""
    path = path.resolve()
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise KeyStoreUnavailable(f"{path.parent} cannot be opened ({type(error).__name__})") from None
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield path
        os.fsync(folder)
    finally:
        os.close(folder)


def _rewrite(path: Path, content: Mapping[str, Any]) -> None:
    """Whole or not at all: a reader sees the old file or the new one."""
    text = json.dumps(content, indent=2) + "\n"
    if len(text) > MAX_FILE_BYTES:
        raise KeyRefused(f"{path} would be over {MAX_FILE_BYTES // 1024} KiB, too large to be read; remove a key first")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
            if path.exists():  # root's hand must not take the file from the user who serves
                os.fchown(file.fileno(), path.stat().st_uid, path.stat().st_gid)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise KeyStoreUnavailable(f"{path} cannot be written ({type(error).__name__}); nothing was changed") from None
