"""The ring asks its store little, waits for it briefly, and outlives its failures."""

import logging
import os
import secrets
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from ingress.key_stores import KeyRing, KeyStore, KeyStoreUnavailable, WebhookKey
from ingress.key_stores import key_ring as ring_module
from tests.servers.process_tree import wait_for

KEY = WebhookKey(SecretStr("a secret"))


class Fake(KeyStore):
    """A store that fails and hangs when told."""

    def __init__(self, *key_ids: str):
        self.keys: Any = dict.fromkeys(key_ids, KEY)
        self.failure: BaseException | None = None
        self.note_failure: Exception | None = None
        self.open = threading.Event()
        self.open.set()
        self.may_note = threading.Event()
        self.may_note.set()
        self.loads = 0
        self.notes: list[Mapping[str, datetime]] = []

    def load(self) -> Mapping[str, WebhookKey]:
        self.loads += 1
        self.open.wait(20)
        if self.failure is not None:
            raise self.failure
        return self.keys  # type: ignore[no-any-return]

    def note_use(self, used: Mapping[str, datetime]) -> None:
        self.notes.append(used)
        self.may_note.wait(20)
        if self.note_failure is not None:
            raise self.note_failure


@pytest.fixture
def store() -> Fake:
    """A store that knows one key."""
    return Fake("known")


def eventually(holds: Callable[[], bool]) -> bool:
    return wait_for(holds, 10)


def test_making_a_ring_reads_nothing(store: Fake, key_ring_over: Callable[..., KeyRing]) -> None:
    """No thread and no load before the first question, so that a ring may be made before a fork."""
    threads = threading.active_count()

    key_ring_over(store)

    assert (store.loads, threading.active_count()) == (0, threads)


def test_asking_for_the_state_has_the_keys_read(store: Fake, key_ring_over: Callable[..., KeyRing]) -> None:
    """A process that gets no webhook becomes ready all the same."""
    ring = key_ring_over(store)

    assert ring.state().loaded_at is None or store.loads == 1
    assert eventually(lambda: ring.state().loaded_at is not None)
    assert (ring.state().keys, ring.state().error) == (1, None)


def test_a_hung_store_is_waited_for_once_and_briefly(store: Fake, key_ring_over: Callable[..., KeyRing]) -> None:
    """The load under way counts for everybody: later callers do not wait the full time again."""
    store.open.clear()
    ring = key_ring_over(store, wait_seconds=0.3)
    started = time.monotonic()

    for _ in range(20):
        with pytest.raises(KeyStoreUnavailable):
            ring.find("unknown")

    assert 0.25 < time.monotonic() - started < 4
    assert ring.state().error == "NoAnswer"
    assert store.loads == 1
    store.open.set()


def test_known_keys_do_not_wait_for_a_hung_store(store: Fake, key_ring_over: Callable[..., KeyRing]) -> None:
    """While a load hangs, a known key is found at once."""
    ring = key_ring_over(store, refresh_seconds=0.05, wait_seconds=0.2)
    assert ring.find("known") == KEY
    store.open.clear()
    time.sleep(0.6)  # overdue by now

    started = time.monotonic()
    found = [ring.find("known") for _ in range(100)]

    assert found == [KEY] * 100
    assert time.monotonic() - started < 5
    store.open.set()


def test_a_store_that_hangs_noting_uses_is_waited_for_once(store: Fake, key_ring_over: Callable[..., KeyRing]) -> None:
    """The thread that reads is the one that notes: known keys must not all pay for it."""
    store.may_note.clear()
    ring = key_ring_over(store, refresh_seconds=0.05, wait_seconds=0.2, miss_seconds=0.05)
    ring.find("known")
    ring.used("known")
    assert eventually(lambda: len(store.notes) == 1)
    time.sleep(0.4)

    started = time.monotonic()
    found = [ring.find("known") for _ in range(20)]

    assert found == [KEY] * 20
    assert time.monotonic() - started < 3
    assert ring.state().error == "NoAnswer"
    store.may_note.set()
    assert eventually(lambda: ring.state().error is None)


def test_waiting_callers_share_one_load(store: Fake, key_ring_over: Callable[..., KeyRing]) -> None:
    """Sixteen misses at once cost one load, and all learn its outcome."""
    store.open.clear()
    ring = key_ring_over(store, wait_seconds=5)
    found: list[WebhookKey | None] = []
    threads = [threading.Thread(target=lambda: found.append(ring.find("known"))) for _ in range(16)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)

    store.open.set()
    for thread in threads:
        thread.join()

    assert found == [KEY] * 16
    assert store.loads == 1


def test_known_keys_end_when_the_store_stays_away(store: Fake, key_ring_over: Callable[..., KeyRing]) -> None:
    """Last-known-good has an end: a store nobody mends must not verify for ever."""
    ring = key_ring_over(store, refresh_seconds=0.05, keep_seconds=1.0)
    assert ring.find("known") == KEY

    store.failure = OSError("away")
    assert ring.find("known") == KEY
    time.sleep(1.2)

    with pytest.raises(KeyStoreUnavailable):
        ring.find("known")
    store.failure = None
    assert eventually(lambda: ring.state().error is None)
    assert ring.find("known") == KEY


def test_a_failure_is_logged_once_by_its_class(
    store: Fake, key_ring_over: Callable[..., KeyRing], caplog: pytest.LogCaptureFixture
) -> None:
    """Each change is one line; the text of the error, which may quote secrets, is not in it."""
    caplog.set_level(logging.INFO)
    ring = key_ring_over(store, refresh_seconds=0.02)
    ring.find("known")

    store.failure = OSError("canary")
    loads = store.loads
    assert eventually(lambda: store.loads > loads + 5)
    store.failure = None
    assert eventually(lambda: ring.state().error is None)

    lines = [record.getMessage() for record in caplog.records]
    assert [("OSError" in line, "again" in line) for line in lines] == [(True, False), (False, True)]
    assert "canary" not in caplog.text


def test_a_store_that_returns_other_things_fails(store: Fake, key_ring_over: Callable[..., KeyRing]) -> None:
    """Plain texts in place of keys are noticed when they are loaded, not when a webhook comes."""
    store.keys = {"known": "a secret"}

    ring = key_ring_over(store)

    with pytest.raises(KeyStoreUnavailable):
        ring.find("known")
    assert ring.state().error == "TypeError"


def test_a_store_may_go_on_changing_what_it_returned(store: Fake, key_ring_over: Callable[..., KeyRing]) -> None:
    """The ring works on a copy."""
    ring = key_ring_over(store)
    assert ring.find("known") == KEY

    store.keys.clear()

    assert ring.find("known") == KEY


def test_a_thread_that_died_is_replaced(
    store: Fake, key_ring_over: Callable[..., KeyRing], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A removed key cannot verify for ever because the refreshing ended."""
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    ring = key_ring_over(store, refresh_seconds=0.05, wait_seconds=0.2)
    store.failure = SystemExit()
    with pytest.raises(KeyStoreUnavailable):
        ring.find("known")
    store.failure = None
    time.sleep(0.4)

    assert ring.find("known") == KEY
    assert eventually(lambda: store.loads > 3)


def test_a_forked_process_reads_for_itself(store: Fake, key_ring_over: Callable[..., KeyRing]) -> None:
    """After a fork the child has a thread of its own, and does not trust keys read before it was born."""
    ring = key_ring_over(store)
    assert ring.find("known") == KEY
    store.keys.clear()

    child = os.fork()
    if child == 0:
        found = ring.find("known")
        os._exit(0 if found is None and store.loads == 2 else 1)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert ring.find("known") == KEY


def test_a_fork_in_the_middle_of_a_load_leaves_no_lock_behind(
    store: Fake, key_ring_over: Callable[..., KeyRing]
) -> None:
    """A lock that another thread held when the process forked would be held in the child for ever."""
    ring = key_ring_over(store)
    assert ring.find("known") == KEY

    with ring._changed:
        child = os.fork()
        if child == 0:
            os._exit(0 if ring.find("known") == KEY else 1)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_uses_are_told_seldom(
    store: Fake, key_ring_over: Callable[..., KeyRing], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often a key verifies, its store hears of it once a minute, and never of keys it does not have."""
    ring = key_ring_over(store, refresh_seconds=0.02)
    ring.find("known")
    for _ in range(100):
        ring.used("known")
        ring.used("never")
        time.sleep(0.002)

    assert eventually(lambda: len(store.notes) > 0)
    assert [list(note) for note in store.notes] == [["known"]]
    assert eventually(lambda: "never" not in ring._used)
    monkeypatch.setattr(ring_module, "NOTE_EVERY", ring_module.NOTE_EVERY * 0)
    ring.used("known")
    assert eventually(lambda: len(store.notes) == 2)


def test_a_use_that_cannot_be_noted_harms_nothing(
    store: Fake, key_ring_over: Callable[..., KeyRing], caplog: pytest.LogCaptureFixture
) -> None:
    """The failure is one log line, and the use is told again later."""
    store.note_failure = OSError("read-only")
    ring = key_ring_over(store, refresh_seconds=0.02)
    ring.find("known")
    ring.used("known")
    assert eventually(lambda: len(store.notes) >= 3)

    store.note_failure = None

    assert eventually(lambda: "known" in ring._noted)
    assert [record.getMessage().count("noted") for record in caplog.records] == [1]
    assert ring.find("known") == KEY


@pytest.mark.parametrize("failing", [False, True], ids=["the store is well", "the store fails"])
def test_a_flood_of_unknown_ids_costs_a_load_a_second_and_no_memory(
    store: Fake, key_ring_over: Callable[..., KeyRing], failing: bool
) -> None:
    """100,000 random ids from 8 threads, as fast as they are answered: None, or that it cannot be said."""
    ring = key_ring_over(store)
    assert ring.find("known") == KEY
    store.failure = OSError("away") if failing else None
    time.sleep(1.1)  # the next miss has the keys read
    answers: Counter[str] = Counter()

    def ask(times: int) -> None:
        for _ in range(times):
            try:
                answers[str(ring.find(secrets.token_urlsafe(16)))] += 1
            except KeyStoreUnavailable:
                answers["unavailable"] += 1

    ask(100)
    tracemalloc.start()
    store.loads, before, began = 0, tracemalloc.get_traced_memory()[0], time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, [12_500] * 8))
    grown, took = tracemalloc.get_traced_memory()[0] - before, time.monotonic() - began
    tracemalloc.stop()

    assert set(answers) == {"unavailable" if failing else "None"}
    assert store.loads <= 1 + took
    assert grown < 1_000_000  # ten bytes for each would be more
    assert ring.find("known") == KEY


def test_readiness_can_tell_until_when_known_keys_verify(store: Fake, key_ring_over: Callable[..., KeyRing]) -> None:
    """A day from the last good load; that does not move while the store fails, and is nothing before the first."""
    store.failure = OSError("away")
    ring = key_ring_over(store, refresh_seconds=0.05)
    assert ring.state().known_until is None
    store.failure = None
    assert eventually(lambda: ring.state().loaded_at is not None)
    store.failure = OSError("away again")
    assert eventually(lambda: ring.state().error is not None)

    first = ring.state().known_until
    time.sleep(0.3)
    second = ring.state().known_until

    assert first is not None
    assert second is not None
    assert abs(second - first) < timedelta(seconds=0.1)
    assert abs(first - datetime.now(UTC) - timedelta(hours=24)) < timedelta(seconds=5)


def test_what_could_not_be_read_is_not_remembered(store: Fake, key_ring_over: Callable[..., KeyRing]) -> None:
    """A key that was asked for while the store was away is found with the first load after it is back."""
    ring = key_ring_over(store, miss_seconds=0)
    ring.find("known")
    store.failure = OSError("away")
    with pytest.raises(KeyStoreUnavailable):
        ring.find("late")

    store.failure, store.keys = None, {"late": KEY}

    assert ring.find("late") == KEY
    assert ring.find("known") is None


def test_keys_are_read_early_enough_for_a_removal_to_be_in_time(
    store: Fake, key_ring_over: Callable[..., KeyRing]
) -> None:
    """The load that sees a removal has ended within the time promised, though it began after a pause."""
    ring = key_ring_over(store, refresh_seconds=2.0)
    load = store.load
    store.load = lambda: (load(), time.sleep(0.2))[0]  # type: ignore[method-assign,func-returns-value]
    ring.find("known")
    loads = store.loads
    assert eventually(lambda: store.loads > loads)

    store.keys = {}  # the load under way has read them before
    began = time.monotonic()
    assert eventually(lambda: ring.find("known") is None)

    assert time.monotonic() - began <= 2.0


def test_unknown_ids_leave_nothing_in_memory(store: Fake, key_ring_over: Callable[..., KeyRing]) -> None:
    """What anybody may send is not remembered."""
    ring = key_ring_over(store)

    for number in range(1000):
        ring.find(f"stranger-{number}")

    assert list(ring._keys) == ["known"]
    assert (ring._used, ring._noted) == ({}, {})


def test_a_closed_ring_reads_no_more(store: Fake, key_ring_over: Callable[..., KeyRing]) -> None:
    """Its thread ends; known keys verify on, and of unknown ones nothing is said."""
    ring = key_ring_over(store, refresh_seconds=0.02)
    ring.find("known")
    thread = ring._thread
    assert thread is not None

    ring.close()
    thread.join(2)

    assert not thread.is_alive()
    assert ring.find("known") == KEY
    with pytest.raises(KeyStoreUnavailable):
        ring.find("unknown")
