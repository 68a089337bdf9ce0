"""The keys of a store in memory: what every store gets from payhook, whoever wrote it."""

import logging
import os
import threading
import time
import weakref
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ingress.key_stores.key_store import KEY_ID, KeyStore, KeyStoreUnavailable, WebhookKey

log = logging.getLogger("payhook.keys")

#: How long known keys outlive an unreachable store, in seconds: a night and a day to mend it, not for ever.
KEEP_SECONDS = 24 * 3600.0

#: A use is told to the store again after this: a row written per webhook would cost more than it tells.
NOTE_EVERY = timedelta(minutes=1)

#: Keys are read again after this share of the time within which a removal takes effect: the load needs some of it.
EARLY = 0.8


@dataclass(frozen=True)
class KeyRingState:
    """What a readiness check wants to know of a ring."""

    loaded_at: datetime | None  # None: never
    error: str | None  # a class name; None when the last load was good
    keys: int
    known_until: datetime | None  # known keys verify until then if no load succeeds; None: never loaded


class KeyRing:
    """The keys of a store in memory: all read at once every few seconds, and soon when an unknown one is asked for.

    When the store fails, known keys keep verifying for a day. Only the ring's own thread reads the store, so that
    any number of callers wait for one load, and none of them longer than ``wait_seconds``.

    Args:
        store: where the keys are kept.
        refresh_seconds: a removed key stops verifying within this; they are read a little more often.
        miss_seconds: an unknown key id has them read again at most this often.
        wait_seconds: the longest that a caller waits for a load.
        keep_seconds: how long known keys outlive an unreachable store.
    """

    def __init__(
        self,
        store: KeyStore,
        refresh_seconds: float,
        *,
        miss_seconds: float = 1.0,
        wait_seconds: float = 1.5,
        keep_seconds: float = KEEP_SECONDS,
    ):
        self._store = store
        self._refresh_seconds = refresh_seconds
        self._miss_seconds = miss_seconds
        self._wait_seconds = wait_seconds
        self._keep_seconds = keep_seconds
        self._keys: Mapping[str, WebhookKey] = {}
        self._loaded: float | None = None
        self._loaded_at: datetime | None = None
        self._error: str | None = None
        self._used: dict[str, datetime] = {}
        self._noted: dict[str, datetime] = {}
        self._note_error: str | None = None
        self._closed = False
        self._begin()
        _rings.add(self)

    def find(self, key_id: str) -> WebhookKey | None:
        """The key of that id that may verify now; None when there is none or it has expired.

        Raises:
            KeyStoreUnavailable: it is not among the known keys, and the store cannot say.
        """
        if not KEY_ID.fullmatch(key_id):
            return None
        # Overdue: the first time in this process (a fork takes no threads along), after a long suspension, or when
        # the thread died. A key removed meanwhile must not verify, so these wait for a load too.
        told = self._read_again() if key_id not in self._keys or self._overdue() else True
        if self._loaded is None:
            raise KeyStoreUnavailable("the webhook keys could not be read yet")
        if _age(self._loaded) > self._keep_seconds:
            raise KeyStoreUnavailable("the webhook keys were last read too long ago")
        key = self._keys.get(key_id)
        if key is None and (self._error is not None or not told):
            raise KeyStoreUnavailable("the webhook keys cannot be read, and this one is not among those known")
        return None if key is None or key.expired() else key

    def knows_expired(self, key_id: str) -> bool:
        """Whether the store still has that key, past its time: for the log, where ``find`` says None."""
        key = self._keys.get(key_id)
        return key is not None and key.expired()

    def used(self, key_id: str) -> None:
        """A webhook was verified with that key. Not for keys merely named: anybody can name one."""
        self._used[key_id] = datetime.now(UTC)

    def state(self) -> KeyRingState:
        """How the ring is, for readiness; the first to ask has the keys read."""
        with self._changed:
            self._start()
            since = self._began if self._loading else self._wanted
            unanswered = since is not None and _age(since) > self._wait_seconds
            error = "NoAnswer" if unanswered else self._error
            return KeyRingState(self._loaded_at, error, len(self._keys), self._known_until())

    def close(self) -> None:
        """Read no more. Known keys keep verifying."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _begin(self) -> None:
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._began: float | None = None  # the load under way, or else the latest
        self._loading = False
        self._loads = 0
        self._wanted: float | None = None  # since when somebody waits for a load that has not begun

    def _known_until(self) -> datetime | None:
        # Of the clock that `find` goes by: were this one set meanwhile, the times shown would move, the end would not.
        if self._loaded is None:
            return None
        return datetime.now(UTC) + timedelta(seconds=self._keep_seconds - _age(self._loaded))

    def _overdue(self) -> bool:
        return self._began is None or _age(self._began) > self._refresh_seconds + self._wait_seconds

    def _start(self) -> None:
        if not self._closed and (self._thread is None or not self._thread.is_alive()):
            self._loading, self._began = False, None  # whoever waits, waits for its first load
            thread = threading.Thread(target=self._run, name="key-ring", daemon=True)
            with suppress(RuntimeError):  # no room for a thread: known keys verify, and the next caller tries again
                thread.start()
                self._thread = thread

    def _read_again(self) -> bool:
        """Have the keys read, unless they just were, and wait for it; False when there was no answer in time."""
        with self._changed:
            if self._closed:
                return False
            self._start()
            if self._loading and self._began is not None:
                since = self._began  # that load will do: a flood of unknown ids must not make a queue of loads
            elif self._began is not None and _age(self._began) < self._miss_seconds:
                return True
            else:
                since = self._wanted = self._wanted or time.monotonic()
                self._changed.notify_all()
            # From the first who waited, not from us: what hangs is waited for once, not by every webhook again.
            loads, patience = self._loads, self._wait_seconds - _age(since)
            return self._changed.wait_for(lambda: self._loads > loads, max(0.0, patience))

    def _run(self) -> None:
        while not self._closed:
            self._load()
            with self._changed:
                pause = (self._began or 0.0) + EARLY * self._refresh_seconds - time.monotonic()
                self._changed.wait_for(lambda: self._wanted is not None or self._closed, max(0.0, pause))

    def _load(self) -> None:
        with self._changed:
            self._began, self._loading, self._wanted = time.monotonic(), True, None
        keys, error = None, None
        try:
            keys = _typed(self._store.load())
        except Exception as failure:  # a store may be anybody's code
            error = _name_of(failure)
        with self._changed:
            before, self._error = self._error, error
            if keys is not None:
                self._keys, self._loaded, self._loaded_at = keys, self._began, datetime.now(UTC)
            self._loading = False
            self._loads += 1
            self._changed.notify_all()
        _tell_change(before, error)
        if keys is not None:
            self._note_uses(keys)

    def _note_uses(self, keys: Mapping[str, WebhookKey]) -> None:
        used = self._used.copy()  # others write to it meanwhile
        for key_id in used.keys() - keys.keys():
            self._used.pop(key_id, None)
            self._noted.pop(key_id, None)
        news = {
            key_id: at
            for key_id, at in used.items()
            if key_id in keys and (key_id not in self._noted or at - self._noted[key_id] > NOTE_EVERY)
        }
        if not news:
            return
        try:
            self._store.note_use(news)
        except Exception as failure:
            if self._note_error != _name_of(failure):
                self._note_error = _name_of(failure)
                log.warning("when webhook keys were last used could not be noted (%s)", self._note_error)
        else:
            self._note_error = None
            self._noted.update(news)


def _age(moment: float) -> float:
    return time.monotonic() - moment  # a set clock must neither end the known keys nor keep them


def _typed(keys: Mapping[str, WebhookKey]) -> Mapping[str, WebhookKey]:
    """A copy: a store may hand out what it goes on changing."""
    copy = dict(keys)
    if not all(isinstance(key, WebhookKey) for key in copy.values()):
        raise TypeError("load() must give WebhookKey objects by key id")
    return copy


def _name_of(error: BaseException) -> str:
    """The class of an error and of its cause. Never its text: it may quote what was read, and that is secrets."""
    cause = error.__cause__
    return type(error).__name__ + (f" from {type(cause).__name__}" if cause else "")


def _tell_change(before: str | None, error: str | None) -> None:
    if error is not None and error != before:
        log.error("webhook keys cannot be read (%s); known ones keep verifying for a day, others get a 503", error)
    elif error is None and before is not None:
        log.warning("webhook keys can be read again")


_rings: weakref.WeakSet[KeyRing] = weakref.WeakSet()


def _after_fork() -> None:
    for ring in _rings:
        ring._begin()  # threads do not survive a fork, and locks stay as they were in the middle of it


os.register_at_fork(after_in_child=_after_fork)
