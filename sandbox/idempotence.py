"""Idempotence keys: the same key again gets the outcome of the first request, whatever it asks for now."""

import time
from dataclasses import dataclass, replace

from sandbox.refusals import Refused, invalid_value
from sandbox.settings import Dials
from sandbox.wire import Answer

HEADER = "x-gcs-idempotence-key"
TIMESTAMP_HEADER = "X-GCS-Idempotence-Request-Timestamp"
MAX_LENGTH = 40


@dataclass(slots=True)
class Entry:
    """One key of a merchant. Without an answer its first request is still in progress."""

    merchant_id: str
    key: str
    request: str  # method and path: the keys of all operations are one space
    first_at: float  # epoch seconds
    answer: Answer | None = None
    ready_at: float = 0.0  # epoch seconds: the first caller has its answer only then


class IdempotenceKeys:
    """Not locked by itself: used under the ledger's lock, so that looking and doing are one step."""

    def __init__(self, dials: Dials):
        self._dials = dials
        self._entries: dict[tuple[str, str], Entry] = {}

    def earlier(self, merchant_id: str, key: str, request: str) -> Answer | None:
        """What the key's first request was answered, marked as a replay; None for a new key.

        Raises:
            Refused: 409, the first is still in progress, or the key was used for something else; 400, it is no key.
        """
        if not key.isascii() or not 0 < len(key) <= MAX_LENGTH:
            raise invalid_value("X-GCS-Idempotence-Key", f"1 to {MAX_LENGTH} ASCII characters are expected")
        entry = self._entries.get((merchant_id, key))
        if entry is None or entry.first_at + self._dials.now.idempotence_seconds < time.time():
            return None
        if entry.request != request:
            raise Refused(409, "DUPLICATE_REQUEST", "50001409", f"this key was used for {entry.request}")
        if entry.answer is None or entry.ready_at > time.time():
            raise Refused(409, "DUPLICATE_REQUEST_IN_PROGRESS", "30001002", "the first request is still in progress")
        stamp = str(int(entry.first_at * 1000))
        return replace(entry.answer, headers={**entry.answer.headers, TIMESTAMP_HEADER: stamp})

    def begin(self, merchant_id: str, key: str, request: str) -> Entry:
        """Note the first request of a key."""
        entry = self._entries[merchant_id, key] = Entry(merchant_id, key, request, time.time())
        return entry

    def forget(self, entry: Entry) -> None:
        """As if it had never been used."""
        if self._entries.get((entry.merchant_id, entry.key)) is entry:
            del self._entries[entry.merchant_id, entry.key]

    def saved(self) -> list[Entry]:
        """Those whose request is over."""
        return [entry for entry in self._entries.values() if entry.answer is not None]

    def restore(self, entries: list[Entry]) -> None:
        self._entries = {(entry.merchant_id, entry.key): entry for entry in entries}
