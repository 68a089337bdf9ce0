"""Keys in the table ``webhook_keys``, encrypted: one place for every process, changed by `payhook keys`."""

import hmac
import json
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from pydantic import SecretStr
from sqlalchemy import delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from ingress.key_stores.key_store import KeyRefused, KeyStore, KeyStoreUnavailable, WebhookKey, sooner, state_of
from worker import journal
from worker.database import Database, DatabaseUnavailable, now
from worker.models import WebhookKey as Row

log = logging.getLogger("payhook.keys")

#: What may be shown of a row: everything but the secret.
SHOWN = (
    Row.webhook_key,
    Row.key_id,
    Row.merchant_id,
    Row.created_at,
    Row.retired_at,
    Row.not_after,
    Row.last_used_at,
)

#: What becomes of a row whose secret is to be encrypted anew.
Outcome = Literal["encrypted anew", "already", "unreadable", "removed meanwhile"]


class DatabaseKeyStore(KeyStore):
    """The rows of ``webhook_keys``. One that cannot be decrypted is left out, the others keep working.

    Args:
        database: where they are; the ring's thread uses one connection of it.
        encryption: the keys that may decrypt.
    """

    def __init__(self, database: Database, encryption: Sequence[Fernet]):
        self._database = database
        self._fernet = MultiFernet(encryption)
        self._told: set[str] = set()

    def load(self) -> Mapping[str, WebhookKey]:
        query = select(Row.key_id, Row.encrypted_secret, Row.not_after, Row.merchant_id)
        try:
            with self._database.reading() as connection:
                rows = connection.execute(query).all()
        except DatabaseUnavailable as error:
            raise KeyStoreUnavailable(str(error)) from error
        keys = {}
        for key_id, sealed, not_after, merchant_id in rows:
            secret = _unsealed(self._fernet, key_id, sealed)
            if secret is not None:
                keys[key_id] = WebhookKey(SecretStr(secret), not_after, merchant_id)
        self._tell({row.key_id for row in rows} - keys.keys())
        return keys

    def note_use(self, used: Mapping[str, datetime]) -> None:
        with self._database.transaction() as connection:
            for key_id, at in sorted(used.items()):  # in order, so that two processes do not deadlock
                older = or_(Row.last_used_at.is_(None), Row.last_used_at < at)
                connection.execute(update(Row).where(Row.key_id == key_id, older).values(last_used_at=at))

    def _tell(self, unreadable: set[str]) -> None:
        for key_id in sorted(unreadable - self._told):
            log.error(
                "webhook key %s cannot be decrypted and is left out: give the encryption key it was added under too, "
                "or run `payhook keys remove %s` and add it again",
                key_id,
                key_id,
            )
        self._told = unreadable


def add_key(database: Database, encryption: Sequence[Fernet], key_id: str, key: WebhookKey, *, actor: str) -> bool:
    """Store one more key; False when it is there already, just so.

    Raises:
        KeyRefused: the id is taken by another key.
    """
    fernet = MultiFernet(encryption)
    row = {
        "key_id": key_id,
        "merchant_id": key.merchant_id,
        "encrypted_secret": _sealed(fernet, key_id, key.secret.get_secret_value()),
        "not_after": key.not_after,
    }
    try:
        with database.transaction() as connection:
            connection.execute(insert(Row).values(**row, created_at=now()))
            journal.write(connection, "key", key_id, before=None, after="active", why="added", actor=actor)
    except IntegrityError:  # the constraint decides: two commands may add the same id at once
        _refuse_unless_same(database, fernet, key_id, key)
        return False
    return True


def remove_key(database: Database, key_id: str, *, actor: str) -> bool:
    """Delete a key for good; False when there is none of that id."""
    gone = delete(Row).where(Row.key_id == key_id).returning(Row.retired_at, Row.not_after, now())
    with database.transaction() as connection:
        row = connection.execute(gone).first()
        if row is None:
            return False
        journal.write(connection, "key", key_id, before=state_of(*row), after=None, why="removed", actor=actor)
    return True


def retire_key(database: Database, key_id: str, after: timedelta, *, actor: str) -> datetime | None:
    """Let a key end ``after`` from now, unless it ends sooner anyway; when that is, None when there is no such key."""
    found = select(Row.retired_at, Row.not_after, now().label("at")).where(Row.key_id == key_id).with_for_update()
    with database.transaction() as connection:
        row = connection.execute(found).first()
        if row is None:
            return None
        end = sooner(row.not_after, row.at + after)
        if row.retired_at is None or row.not_after != end:
            values = {"retired_at": row.retired_at or row.at, "not_after": end}
            connection.execute(update(Row).where(Row.key_id == key_id).values(**values))
            before = state_of(row.retired_at, row.not_after, row.at)
            after_it = state_of(row.at, end, row.at)
            why = f"retired; verifies until {end.isoformat(timespec='seconds')}"
            journal.write(connection, "key", key_id, before=before, after=after_it, why=why, actor=actor)
    return end


def rotate_encryption(database: Database, encryption: Sequence[Fernet], *, actor: str) -> dict[str, Outcome]:
    """Encrypt every secret with the first key, a row at a time; what became of each, by key id.

    Whoever has all the keys can read every row at every moment.
    """
    with database.reading() as connection:
        key_ids = connection.execute(select(Row.key_id).order_by(Row.key_id)).scalars().all()
    return {key_id: _encrypt_anew(database, encryption, key_id, actor) for key_id in key_ids}


def _encrypt_anew(database: Database, encryption: Sequence[Fernet], key_id: str, actor: str) -> Outcome:
    every, first = MultiFernet(encryption), MultiFernet(encryption[:1])
    while True:
        with database.reading() as connection:
            sealed = connection.execute(select(Row.encrypted_secret).where(Row.key_id == key_id)).scalar()
        if sealed is None:
            return "removed meanwhile"
        if _unsealed(first, key_id, sealed) is not None:
            return "already"
        secret = _unsealed(every, key_id, sealed)
        if secret is None:
            return "unreadable"
        # Only what was read is replaced: the key may have been removed meanwhile, and added again with another secret.
        unchanged = (Row.key_id == key_id, Row.encrypted_secret == sealed)
        change = update(Row).where(*unchanged).values(encrypted_secret=_sealed(first, key_id, secret))
        with database.transaction() as connection:
            changed = connection.execute(change).rowcount
            if changed:
                journal.write(connection, "key", key_id, before=None, after=None, why="encrypted anew", actor=actor)
        if changed:
            return "encrypted anew"


def list_keys(database: Database) -> list[dict[str, Any]]:
    """Every row without its secret, and its ``state``: active, retired (verifies until its time) or expired."""
    with database.reading() as connection:
        rows = connection.execute(select(*SHOWN, now().label("at")).order_by(Row.key_id)).mappings().all()
    keys = []
    for row in rows:
        shown = dict(row)
        at = shown.pop("at")
        keys.append({**shown, "state": state_of(shown["retired_at"], shown["not_after"], at)})
    return keys


def _refuse_unless_same(database: Database, fernet: MultiFernet, key_id: str, key: WebhookKey) -> None:
    query = select(Row.encrypted_secret, Row.not_after, Row.merchant_id).where(Row.key_id == key_id)
    with database.reading() as connection:
        row = connection.execute(query).first()
    if row is None:
        raise KeyRefused(f"{key_id} was there a moment ago and is gone; try again")
    secret = _unsealed(fernet, key_id, row.encrypted_secret)
    if secret is None:
        raise KeyRefused(f"{key_id} is there already, under an encryption key that was not given; remove it first")
    same = hmac.compare_digest(secret.encode(), key.secret.get_secret_value().encode())
    if not same or (row.not_after, row.merchant_id) != (key.not_after, key.merchant_id):
        raise KeyRefused(f"{key_id} is there already, with another secret or other limits; remove it first")


def _sealed(fernet: MultiFernet, key_id: str, secret: str) -> bytes:
    # Fernet has no associated data, so the id goes inside: a row's ciphertext copied to another row is refused.
    return fernet.encrypt(json.dumps({"key_id": key_id, "secret": secret}).encode())


def _unsealed(fernet: MultiFernet, key_id: str, sealed: bytes) -> str | None:
    try:
        content = json.loads(fernet.decrypt(sealed))
    except (InvalidToken, ValueError):
        return None
    if not isinstance(content, dict) or content.get("key_id") != key_id:
        return None
    secret = content.get("secret")
    return secret if isinstance(secret, str) and secret else None
