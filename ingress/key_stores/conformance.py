"""What every key store must do, as a pytest plugin: classes of tests to inherit from."""

import logging
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from ingress.key_stores import KeyRing, KeyStore, KeyStoreUnavailable, WebhookKey

#: Gives a store that holds these keys, by their ids, and no others.
StoreWith = Callable[[Mapping[str, WebhookKey]], KeyStore]

CANARY = "canary-7f3a-never-to-be-seen-anywhere"

#: What one who may not change keys writes in the place of a secret.
FORGED = "forged-by-one-who-may-not-change-it"


def key(text: str = "a secret of some length, say", **limits: Any) -> WebhookKey:
    """A key for a test."""
    return WebhookKey(SecretStr(text), **limits)


@pytest.fixture
def key_ring_over() -> Iterator[Callable[..., KeyRing]]:
    """Makes key rings over stores; they are closed when the test ends."""
    rings = []

    def make(store: KeyStore, refresh_seconds: float = 60, **given: float) -> KeyRing:
        given.setdefault("wait_seconds", 10)  # a busy machine is no slow store
        rings.append(KeyRing(store, refresh_seconds, **given))
        return rings[-1]

    yield make
    for ring in rings:
        ring.close()


class KeyStoreConformance:
    """What holds of every store."""

    @pytest.fixture
    def store_with(self) -> StoreWith:
        raise NotImplementedError("a function that takes keys by id, and gives a store that holds these and no others")

    def test_every_key_is_found_by_its_id(self, store_with: StoreWith, key_ring_over: Callable[..., KeyRing]) -> None:
        """Several keys are active at once, each with its own secret, whatever is in it."""
        keys = {"old": key("the=old,one"), "New.2-b_c": key('die "neue", \\größer'), "7": key("'7' {%s} $HOME #")}

        ring = key_ring_over(store_with(keys))

        assert {key_id: ring.find(key_id) for key_id in keys} == keys
        assert ring.state().keys == len(keys)

    def test_an_unknown_id_is_none(self, store_with: StoreWith, key_ring_over: Callable[..., KeyRing]) -> None:
        """An id that no key has is no error, nor is one in other letters."""
        ring = key_ring_over(store_with({"a": key()}))

        assert (ring.find("nobody"), ring.find("A")) == (None, None)

    def test_a_store_without_keys_knows_none(
        self, store_with: StoreWith, key_ring_over: Callable[..., KeyRing]
    ) -> None:
        """Not an error either: the first key is added while it runs."""
        assert key_ring_over(store_with({})).find("a") is None

    def test_stores_share_no_keys(self, store_with: StoreWith, key_ring_over: Callable[..., KeyRing]) -> None:
        """Nothing of one store is found in another."""
        earlier = key_ring_over(store_with({"mine": key("mine")}))
        assert earlier.find("mine") is not None

        ring = key_ring_over(store_with({"theirs": key("theirs")}))

        assert (ring.find("theirs"), ring.find("mine")) == (key("theirs"), None)

    def test_no_text_of_a_store_shows_a_secret(
        self, store_with: StoreWith, key_ring_over: Callable[..., KeyRing], caplog: pytest.LogCaptureFixture
    ) -> None:
        """Neither what is printed of keys, store and ring, nor what is logged."""
        caplog.set_level(logging.DEBUG)
        store = store_with({"a": key(CANARY)})
        ring = key_ring_over(store)

        texts = [repr(part) + str(part) for part in (ring.find("a"), ring, ring.state(), store, store.load())]

        assert CANARY not in "".join(texts) + caplog.text


class KeyLimitsConformance:
    """What holds of a store whose keys can have an end and a merchant."""

    def test_a_key_has_its_end_and_its_merchant(
        self, store_with: StoreWith, key_ring_over: Callable[..., KeyRing]
    ) -> None:
        """Both are as they were given, and only on the key they were given to."""
        keys = {"a": key(not_after=datetime(2099, 1, 31, 12, tzinfo=UTC), merchant_id="shop"), "b": key()}

        ring = key_ring_over(store_with(keys))

        assert {key_id: ring.find(key_id) for key_id in keys} == keys

    def test_an_expired_key_is_refused(
        self, store_with: StoreWith, key_ring_over: Callable[..., KeyRing], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """From its end on a key is not found; that it was one is still known, for the log."""
        begin = datetime.now(UTC).replace(microsecond=0)
        past, soon = key(not_after=begin - timedelta(seconds=2)), key(not_after=begin + timedelta(minutes=5))
        ring = key_ring_over(store_with({"past": past, "soon": soon}))

        assert ring.find("past") is None
        assert ring.find("soon") == soon
        later = time.time() + 301
        monkeypatch.setattr(time, "time", lambda: later)
        assert ring.find("soon") is None
        assert (ring.knows_expired("soon"), ring.knows_expired("nobody")) == (True, False)


class ChangingKeysConformance:
    """What holds of a store whose keys change, or that fails, while it is used."""

    @pytest.fixture
    def change(self, store_with: StoreWith) -> Callable[[Mapping[str, WebhookKey]], None]:
        raise NotImplementedError("a function after which the store made last holds these keys and no others")

    @pytest.fixture
    def fail(self, store_with: StoreWith) -> Callable[[], None]:
        raise NotImplementedError("a function after which no load of the store made last succeeds")

    def test_a_removed_key_stops_verifying(
        self,
        store_with: StoreWith,
        change: Callable[[Mapping[str, WebhookKey]], None],
        key_ring_over: Callable[..., KeyRing],
    ) -> None:
        """Nothing but time is needed, and the others go on."""
        ring = key_ring_over(store_with({"a": key(), "b": key()}), refresh_seconds=0.1)
        assert ring.find("a") is not None

        change({"b": key()})
        deadline = time.monotonic() + 5
        while ring.find("a") is not None and time.monotonic() < deadline:
            time.sleep(0.02)

        assert (ring.find("a"), ring.find("b")) == (None, key())

    def test_a_new_key_is_found_when_it_is_first_used(
        self,
        store_with: StoreWith,
        change: Callable[[Mapping[str, WebhookKey]], None],
        key_ring_over: Callable[..., KeyRing],
    ) -> None:
        """A key added since the last load does not wait for the next."""
        ring = key_ring_over(store_with({"a": key()}), miss_seconds=0.05)
        assert ring.find("late") is None

        change({"a": key(), "late": key("new")})
        time.sleep(0.1)

        assert (ring.find("late"), ring.find("a")) == (key("new"), key())

    def test_a_store_that_fails_keeps_its_known_keys(
        self, store_with: StoreWith, fail: Callable[[], None], key_ring_over: Callable[..., KeyRing]
    ) -> None:
        """They verify on; of an unknown one nothing can be said, so that its sender tries again."""
        ring = key_ring_over(store_with({"known": key()}), miss_seconds=0)
        assert ring.find("known") is not None

        fail()

        with pytest.raises(KeyStoreUnavailable):
            ring.find("unknown")
        assert ring.find("known") == key()
        assert ring.state().error is not None

    def test_a_store_that_never_answered_knows_nothing(
        self, store_with: StoreWith, fail: Callable[[], None], key_ring_over: Callable[..., KeyRing]
    ) -> None:
        """To fail is not to be empty: before the first good load no key can be called unknown."""
        store = store_with({"known": key()})
        fail()

        with pytest.raises(KeyStoreUnavailable):
            key_ring_over(store).find("known")

    def test_no_text_of_a_failure_shows_a_secret(
        self,
        store_with: StoreWith,
        fail: Callable[[], None],
        key_ring_over: Callable[..., KeyRing],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """Neither its traceback nor what is logged of it."""
        caplog.set_level(logging.DEBUG)
        store = store_with({"a": key(CANARY)})
        ring = key_ring_over(store, miss_seconds=0)
        assert ring.find("a") is not None

        fail()
        with pytest.raises(Exception) as failure:  # noqa: PT011 - a store may raise what it likes
            store.load()
        with pytest.raises(KeyStoreUnavailable) as told:
            ring.find("b")

        texts = [text for error in (failure.value, told.value) for text in traceback.format_exception(error)]
        assert CANARY not in "".join(texts) + repr(failure.value) + caplog.text


class GuardedKeysConformance:
    """What holds of a store that can tell when one who may not change its keys could have done so."""

    @pytest.fixture
    def tamper(self, store_with: StoreWith) -> Callable[[], None]:
        raise NotImplementedError(f"a function that puts {FORGED!r} in the place of the secret of the key 'mine'")

    def test_a_forged_key_verifies_nothing(
        self, store_with: StoreWith, tamper: Callable[[], None], key_ring_over: Callable[..., KeyRing]
    ) -> None:
        """Neither where the genuine one was known before, nor where it was not."""
        store = store_with({"mine": key("genuine"), "theirs": key(FORGED)})
        knowing = key_ring_over(store, miss_seconds=0)
        assert knowing.find("mine") == key("genuine")

        tamper()
        found = [_found(ring, "mine") for ring in (knowing, key_ring_over(store))]
        _found(knowing, "unknown")  # has the keys read again

        assert key(FORGED) not in [*found, _found(knowing, "mine")]


def _found(ring: KeyRing, key_id: str) -> WebhookKey | None:
    try:
        return ring.find(key_id)
    except KeyStoreUnavailable:
        return None
