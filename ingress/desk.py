"""What one process of the ingress works with, opened once: database, keys, doorbell."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ingress.key_stores import KeyRing, open_key_store
from ingress.refusals import Refusals
from ingress.signatures import Genuine, Signatures
from worker import inbox
from worker.celery_app import make_app
from worker.database import Database, open_database
from worker.doorbell import Doorbell
from worker.settings import Settings

#: Threads of one process that answer requests; all processes' together bound what a frozen database can hold.
ANSWERING_THREADS = 16

#: How long an answer waits for the keys to be read; with the wait for the database it stays within the 3 s promised.
KEY_SECONDS = 0.7


@dataclass(frozen=True)
class Desk:
    """The parts of the ingress."""

    settings: Settings
    database: Database
    ring: KeyRing
    signatures: Signatures
    doorbell: Doorbell
    merchant_ids: frozenset[str] | None
    refusals: Refusals = field(default_factory=Refusals)

    def keep(self, body: bytes, signed: Genuine) -> inbox.Kept:
        """Store what a genuine body says.

        Raises:
            DatabaseUnavailable: it is not known to be stored.
        """
        return inbox.keep(
            self.database,
            body,
            signed.key_id,
            key_merchant_id=signed.merchant_id,
            merchant_ids=self.merchant_ids,
            ring_seconds=self.settings.ring_seconds,
        )

    def keys_readable(self) -> Mapping[str, Any]:
        """How the webhook keys are, for readiness; until when known ones verify, should none be read any more."""
        state = self.ring.state()
        until = state.known_until and state.known_until.isoformat(timespec="seconds")
        return {
            "ok": state.error is None and state.loaded_at is not None,
            "keys": state.keys,
            "known_keys_verify_until": until,
            "told": state.error,
        }


def open_desk(settings: Settings, doorbell: Doorbell | None = None) -> Desk:
    """Open the parts; nothing is asked of the database or the broker yet.

    Args:
        settings: what to build them from.
        doorbell: the one to ring, when the process has one already.

    Raises:
        SettingsError: something is missing or wrong.
    """
    database = open_database(settings, threads=ANSWERING_THREADS + 2, seconds=settings.answer_seconds)
    os.register_at_fork(after_in_child=database.forget)  # a server may open all this once and fork afterwards
    store = open_key_store(settings, database)
    ring = KeyRing(store, settings.key_refresh_seconds, wait_seconds=KEY_SECONDS)
    return Desk(
        settings=settings,
        database=database,
        ring=ring,
        signatures=Signatures(ring),
        doorbell=doorbell or Doorbell(make_app(settings)),
        merchant_ids=frozenset(settings.merchants) if settings.names_merchants else None,
    )
