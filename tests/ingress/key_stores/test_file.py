"""Keys in a JSON file: what is read, what is refused, what is written."""

import errno
import json
import os
import signal
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from ingress.key_stores import FileKeyStore, KeyRefused, KeyRing, KeyStoreUnavailable, WebhookKey
from ingress.key_stores.file import add_key, list_keys, remove_key, retire_key
from tests.servers.process_tree import wait_for

END = datetime(2099, 1, 31, 12, tzinfo=UTC)


def key(secret: str = "a secret of some length, say", **limits: Any) -> WebhookKey:
    return WebhookKey(SecretStr(secret), **limits)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a JSON file would be."""
    return tmp_path / "keys.json"


def write(path: Path, content: str | bytes, mode: int = 0o600) -> None:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)


def test_both_forms_of_an_entry_are_read(path: Path) -> None:
    """A text is a secret; an object may give it an end, in any zone, and a merchant."""
    entry = {"secret": "two", "not_after": "2099-01-31T13:00:00+01:00", "merchant_id": "shop"}
    write(path, json.dumps({"a": "one", "b": entry, "c": {"secret": "three"}}))

    assert FileKeyStore(path).load() == {
        "a": key("one"),
        "b": key("two", not_after=END, merchant_id="shop"),
        "c": key("three"),
    }


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "is not JSON of the form"),
        ("canary", "is not JSON of the form"),
        ('["canary"]', "is not JSON of the form"),
        ('{"a": "canary"', "is not JSON of the form"),
        ('{"a": "canary", "a": "canary2"}', "each id once"),
        ('{"a": {"secret": "canary", "secret": "canary"}}', "each id once"),
        ("[" * 60_000, "is not JSON of the form"),
        (b'{"a": "canary\xff"}', "is not JSON of the form"),
        ('{"a": ""}', "key 1: its secret is blank"),
        ('{"a": "x", "b": ["canary"]}', "key 2: its secret is blank or no text"),
        ('{"a": {"not_after": "2099-01-01T00:00:00Z"}}', "its secret is blank"),
        ('{"a": "canary\\n"}', "white space"),
        ('{"a": "can\\ud800ary"}', "unprintable"),
        ('{"can ary": "x"}', "its id is not"),
        ('{"a": {"secret": "canary", "canary": "x"}}', "a field other than secret"),
        ('{"a": {"secret": "canary", "not_after": "2099-01-01T00:00:00"}}', "has no zone"),
        ('{"a": {"secret": "canary", "not_after": "canary"}}', "is not a time"),
        ('{"a": {"secret": "canary", "not_after": 4070908800}}', "is not a time"),
        ('{"a": {"secret": "canary", "retired_at": "canary"}}', "its retired_at is not a time"),
        ('{"a": {"secret": "canary", "retired_at": "2030-01-01T00:00:00"}}', "its retired_at has no zone"),
        ('{"a": {"secret": "canary", "merchant_id": 7}}', "merchant_id is not a text"),
        ('{"a": "' + "x" * 65_536 + '"}', "is over 64 KiB"),
    ],
)
def test_a_wrong_file_is_unreadable(path: Path, content: str | bytes, told: str) -> None:
    """No key of a file that is wrong anywhere is used; the message says where and shows nothing of it."""
    write(path, content)

    with pytest.raises(KeyStoreUnavailable, match=told) as failure:
        FileKeyStore(path).load()

    assert str(path) in str(failure.value)
    assert "canary" not in str(failure.value) + repr(failure.value)


def test_what_is_no_file_is_refused_at_once(path: Path) -> None:
    """A missing file, and a pipe, which would keep the reader waiting for ever."""
    with pytest.raises(KeyStoreUnavailable, match="FileNotFoundError"):
        FileKeyStore(path).load()

    os.mkfifo(path, 0o600)

    with pytest.raises(KeyStoreUnavailable, match="not a regular file"):
        FileKeyStore(path).load()


def test_a_written_file_is_read_again(path: Path) -> None:
    """Adding makes the file, for its owner only, and leaves nothing else behind."""
    assert add_key(path, "a", key())
    assert add_key(path, "b", key("other", not_after=END, merchant_id="shop"))

    assert FileKeyStore(path).load() == {"a": key(), "b": key("other", not_after=END, merchant_id="shop")}
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(path.parent) == [path.name]


def test_a_key_is_added_once(path: Path) -> None:
    """The same key again changes nothing; another one of that id is refused."""
    add_key(path, "a", key())
    before = path.stat()

    assert not add_key(path, "a", key())
    for other in (key("another"), key(merchant_id="shop"), key(not_after=END)):
        with pytest.raises(KeyRefused, match="a is in"):
            add_key(path, "a", other)

    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_removed_key_is_gone(path: Path) -> None:
    """The others stay, and removing it again says that there was none."""
    add_key(path, "a", key())
    add_key(path, "b", key())

    assert remove_key(path, "a")
    assert not remove_key(path, "a")
    assert [row["key_id"] for row in list_keys(path)] == ["b"]


def test_a_retired_key_keeps_its_merchant_and_gets_an_end(path: Path) -> None:
    """The other keys stay as they were written; the list says that it was retired."""
    write(path, json.dumps({"a": {"secret": "x", "merchant_id": "shop"}, "b": "y", "c": {"secret": "z"}}))

    end = retire_key(path, "a", timedelta(hours=1))

    assert end is not None
    assert FileKeyStore(path).load()["a"] == key("x", not_after=end, merchant_id="shop")
    assert [(row["key_id"], row["state"]) for row in list_keys(path)] == [
        ("a", "retired"),
        ("b", "active"),
        ("c", "active"),
    ]
    content = json.loads(path.read_text())
    assert {key_id: content[key_id] for key_id in "bc"} == {"b": "y", "c": {"secret": "z"}}
    assert retire_key(path, "b", timedelta(0)) is not None
    assert [row["state"] for row in list_keys(path)] == ["retired", "expired", "active"]
    assert retire_key(path, "nobody", timedelta(0)) is None


def test_retiring_again_rewrites_nothing(path: Path) -> None:
    """What would move the end later, or leave it, leaves the file."""
    write(path, '{"a": "x"}')
    end = retire_key(path, "a", timedelta(hours=1))
    before = path.stat()

    assert retire_key(path, "a", timedelta(hours=36)) == end

    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_readers_never_see_half_a_change(path: Path) -> None:
    """While commands add, retire and remove, each load gives what was there before or after."""
    add_key(path, "stays", key())
    failures, loads, done = [], [], threading.Event()

    def read() -> None:
        while not done.is_set():
            try:
                loads.append("stays" in FileKeyStore(path).load())
            except KeyStoreUnavailable as error:
                failures.append(str(error))

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(40):
        add_key(path, f"key-{number}", key("s" * 500))
        retire_key(path, f"key-{number}", timedelta(hours=1))
        if number % 2:
            remove_key(path, f"key-{number}")
    done.set()
    for thread in threads:
        thread.join()

    assert failures == []
    assert len(loads) > 10
    assert all(loads)


def test_a_command_that_dies_while_it_writes_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed before the new file got its name, or out of disk space: the old file is whole."""
    add_key(path, "a", key())
    before = path.read_bytes()

    child = os.fork()
    if child == 0:
        monkeypatch.setattr(os, "replace", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        add_key(path, "b", key())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    monkeypatch.setattr(os, "fsync", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "no space")))
    with pytest.raises(KeyStoreUnavailable, match="nothing was changed"):
        add_key(path, "c", key())

    monkeypatch.undo()
    assert path.read_bytes() == before
    assert add_key(path, "d", key())
    assert set(FileKeyStore(path).load()) == {"a", "d"}


def test_a_bad_file_leaves_the_last_good_keys_and_is_told(
    path: Path, key_ring_over: Callable[..., KeyRing], caplog: pytest.LogCaptureFixture
) -> None:
    """Mended, it is read again, without a restart."""
    write(path, '{"a": "x"}')
    ring = key_ring_over(FileKeyStore(path), miss_seconds=0)
    assert ring.find("a") == key("x")

    write(path, '{"a": "canary", "b": ')
    with pytest.raises(KeyStoreUnavailable):
        ring.find("b")
    known, state = ring.find("a"), ring.state()
    write(path, '{"a": "x", "b": "y"}')

    assert (known, state.error) == (key("x"), "KeyStoreUnavailable")
    assert ring.find("b") == key("y")
    assert ring.state().error is None
    assert wait_for(lambda: "can be read again" in caplog.text, 5)
    assert ["cannot be read" in line or "can be read again" in line for line in caplog.messages] == [True, True]
    assert "canary" not in caplog.text


def test_a_wrong_file_is_not_rewritten(path: Path) -> None:
    """What somebody wrote by hand and got wrong is theirs to mend."""
    write(path, '{"a": "x", "b": ""}')

    for change in (lambda: add_key(path, "c", key()), lambda: remove_key(path, "a")):
        with pytest.raises(KeyStoreUnavailable):
            change()

    assert path.read_text() == '{"a": "x", "b": ""}'


def test_a_file_too_large_to_be_read_is_not_written(path: Path) -> None:
    """Adding a key must not make all of them unreadable."""
    add_key(path, "a", key())

    with pytest.raises(KeyRefused, match="over 64 KiB"):
        add_key(path, "b", key("x" * 65_000 + "y" * 600))

    assert FileKeyStore(path).load() == {"a": key()}


def test_commands_at_once_lose_no_key(path: Path) -> None:
    """Eight that read, add and write the same file at once leave eight keys."""
    threads = [threading.Thread(target=add_key, args=(path, f"key-{number}", key())) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(FileKeyStore(path).load()) == 8


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_stays_with_its_owner(path: Path) -> None:
    """Root adding a key does not take the file from the user who serves; a link to it stays a link."""
    add_key(path, "a", key())
    os.chown(path, 12345, 54321)
    link = path.with_name("link.json")
    link.symlink_to(path)

    add_key(link, "b", key())

    assert (path.stat().st_uid, path.stat().st_gid, link.is_symlink()) == (12345, 54321, True)
