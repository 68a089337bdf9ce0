"""Keys in the table: encrypted, bound to their id, every change in the journal."""

import base64
import logging
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr
from sqlalchemy import select, update

from ingress.key_stores import DatabaseKeyStore, KeyRefused, KeyStoreUnavailable, WebhookKey, database
from ingress.key_stores.database import add_key, list_keys, remove_key, retire_key, rotate_encryption
from worker.database import WrongRevision
from worker.models import Base, JournalEntry
from worker.models import WebhookKey as Row

END = datetime(2099, 1, 31, 12, tzinfo=UTC)


def key(secret: str = "a secret of some length, say", **limits: Any) -> WebhookKey:
    return WebhookKey(SecretStr(secret), **limits)


def change(table: Any, key_id: str, **values: Any) -> None:
    with table.database.transaction() as connection:
        connection.execute(update(Row).where(Row.key_id == key_id).values(**values))


def row(table: Any, key_id: str) -> Any:
    with table.database.reading() as connection:
        return connection.execute(select(Row).where(Row.key_id == key_id)).one()


def forms_of(secret: str) -> list[bytes]:
    """How a secret may stand in a dump: as it is, in hexadecimal, in base64 at each of its three positions."""
    plain = secret.encode()
    encoded = [base64.b64encode(b"x" * shift + plain)[4:-4] for shift in range(3)]
    return [plain, plain.hex().encode(), *encoded, plain[::-1]]


def dump_of(table: Any) -> bytes:
    """The bytes of SQLite's files; every table as PostgreSQL copies it out, and what it logs of statements."""
    if table.database.is_sqlite:
        folder = Path(table.database.engine.url.database).parent
        return b"".join(path.read_bytes() for path in folder.iterdir())
    url = table.database.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    copied = b""
    with psycopg.connect(url) as connection:
        for name in Base.metadata.tables:
            with connection.cursor().copy(f"COPY {name} TO STDOUT") as copy:
                copied += b"".join(copy)
    return copied


def journal(table: Any) -> Any:
    with table.database.reading() as connection:
        return connection.execute(select(JournalEntry).order_by(JournalEntry.journal_key)).all()


def test_no_secret_is_in_a_dump_of_the_database(either_table: Any) -> None:
    """Nor anywhere after it was encrypted anew, retired and removed; in no form that is easily undone."""
    secret = "canary-of-some-length-here"
    table = either_table
    table.put("a", key(secret, not_after=END))
    table.put("b", key(secret))
    dumps = [dump_of(table)]
    rotate_encryption(table.database, [Fernet(Fernet.generate_key()), *table.encryption], actor="test")
    retire_key(table.database, "a", timedelta(0), actor="test")
    remove_key(table.database, "b", actor="test")
    dumps.append(dump_of(table))

    assert all(b"retired" in dump or number == 0 for number, dump in enumerate(dumps))
    assert [form for dump in dumps for form in forms_of(secret) if form in dump] == []


@pytest.mark.parametrize("disguise", [bytes, bytes.hex, base64.b64encode], ids=["plain", "hexadecimal", "base64"])
def test_a_secret_in_a_dump_would_be_seen(either_table: Any, disguise: Any) -> None:
    """The search above finds what it is for."""
    either_table.put("a", key())
    hidden = disguise(b"{" + b"canary-of-some-length-here" + b"}")
    change(either_table, "a", encrypted_secret=hidden if isinstance(hidden, bytes) else hidden.encode())

    dump = dump_of(either_table)
    found = [form for form in forms_of("canary-of-some-length-here") if form in dump or form.hex().encode() in dump]

    assert found


def test_a_ciphertext_moved_to_another_row_is_refused(table: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Who can write to the table but has no encryption key cannot pass one key off as another."""
    table.put("mine", key("one"))
    table.put("theirs", key("two"))
    table.put("other", key("three"))

    change(table, "mine", encrypted_secret=row(table, "theirs").encrypted_secret)

    assert set(table.store.load()) == {"theirs", "other"}
    assert "payhook keys remove mine" in caplog.text


def test_a_row_that_cannot_be_decrypted_is_told_once(table: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The others keep working; the line names the row and what to do, and comes again only after a change."""
    table.put("good", key())
    add_key(table.database, [Fernet(Fernet.generate_key())], "sealed", key(), actor="test")
    table.put("bad", key())
    change(table, "bad", encrypted_secret=b"\x00not a token")

    for _ in range(3):
        assert set(table.store.load()) == {"good"}

    assert [(record.levelno, record.args[0]) for record in caplog.records if record.args] == [
        (logging.ERROR, "bad"),
        (logging.ERROR, "sealed"),
    ]


def test_the_first_key_encrypts_and_all_decrypt(table: Any) -> None:
    """A new encryption key goes in front; what the old one sealed stays readable as long as it is given."""
    table.put("old", key("one"))
    encryption = [Fernet(Fernet.generate_key()), *table.encryption]

    add_key(table.database, encryption, "new", key("two"), actor="test")

    assert set(DatabaseKeyStore(table.database, encryption).load()) == {"old", "new"}
    assert set(DatabaseKeyStore(table.database, encryption[:1]).load()) == {"new"}


def test_a_key_is_added_once(table: Any) -> None:
    """The same key again changes nothing, in the journal neither; another one of that id is refused."""
    add = {"database": table.database, "encryption": table.encryption, "key_id": "a", "actor": "cli:me"}
    assert add_key(**add, key=key(not_after=END, merchant_id="shop"))

    assert not add_key(**add, key=key(not_after=END, merchant_id="shop"))
    for other in (key("another", not_after=END, merchant_id="shop"), key(merchant_id="shop"), key(not_after=END)):
        with pytest.raises(KeyRefused, match="a is there already"):
            add_key(**add, key=other)
    with pytest.raises(KeyRefused, match="encryption key"):
        add_key(**add | {"encryption": [Fernet(Fernet.generate_key())]}, key=key())

    with table.database.reading() as connection:
        assert len(connection.execute(select(JournalEntry)).all()) == 1


def test_of_two_commands_at_once_one_adds(table: Any) -> None:
    """The constraint decides, and the loser learns that the key is there."""
    with ThreadPoolExecutor(2) as pool:
        adding = [pool.submit(add_key, table.database, table.encryption, "a", key(), actor="test") for _ in range(2)]
        assert sorted(future.result() for future in adding) == [False, True]


def test_every_change_is_in_the_journal(table: Any) -> None:
    """Who added and removed which key and when, in the transaction of the change."""
    before = datetime.now(UTC) - timedelta(seconds=1)
    add_key(table.database, table.encryption, "a", key(not_after=datetime(2001, 1, 1, tzinfo=UTC)), actor="cli:me")

    assert remove_key(table.database, "a", actor="cli:you")
    assert not remove_key(table.database, "a", actor="cli:you")

    lines = journal(table)
    assert [
        (line.actor, line.subject, line.subject_id, line.from_state, line.to_state, line.why) for line in lines
    ] == [
        ("cli:me", "key", "a", None, "active", "added"),
        ("cli:you", "key", "a", "expired", None, "removed"),
    ]
    assert all(before < line.at < datetime.now(UTC) + timedelta(seconds=1) for line in lines)


def test_the_list_shows_the_columns_and_the_state_but_no_secret(table: Any) -> None:
    """Keys are sorted by their id; an expired one is expired, retired or not."""
    table.put("b", key(merchant_id="shop"))
    table.put("a", key(not_after=END))
    table.put("c", key(not_after=datetime(2001, 1, 1, tzinfo=UTC)))
    change(table, "a", retired_at=datetime(2020, 1, 1, tzinfo=UTC))

    rows = list_keys(table.database)

    assert [(key["key_id"], key["state"]) for key in rows] == [("a", "retired"), ("b", "active"), ("c", "expired")]
    assert set(rows[0]) == set(Row.__table__.columns.keys()) - {"encrypted_secret"} | {"state"}
    assert (rows[0]["not_after"], rows[1]["merchant_id"], rows[1]["last_used_at"]) == (END, "shop", None)


def test_the_latest_use_is_kept(table: Any) -> None:
    """Of the uses several processes tell of, the newest stays; a key that is gone is passed over."""
    table.put("a", key())
    table.store.note_use({"a": END, "gone": END})

    table.store.note_use({"a": END - timedelta(days=1)})

    assert row(table, "a").last_used_at == END


def test_a_row_with_an_odd_id_harms_no_other(table: Any) -> None:
    """What was put into the table by hand, under an id that no webhook can name, is left alone."""
    table.put("a", key())
    add_key(table.database, table.encryption, "white space", key(), actor="test")

    assert "a" in table.store.load()


def test_an_unreachable_database_is_an_unavailable_store(table: Any) -> None:
    """The cause is kept for whoever looks: a wrong revision is told from a database that is away."""
    with sqlite3.connect(table.database.engine.url.database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'other'")
    table.database.close()
    table.database._revision = "0001"

    with pytest.raises(KeyStoreUnavailable) as failure:
        table.store.load()

    assert isinstance(failure.value.__cause__, WrongRevision)


def test_a_retired_key_ends_after_its_time(either_table: Any) -> None:
    """It verifies on until then, and both the row and the journal say so."""
    table = either_table
    table.put("a", key(merchant_id="shop"))
    begin = datetime.now(UTC)

    end = retire_key(table.database, "a", timedelta(hours=36), actor="cli:me")

    assert end is not None
    assert abs(end - begin - timedelta(hours=36)) < timedelta(minutes=1)
    assert abs(row(table, "a").retired_at - begin) < timedelta(minutes=1)
    assert table.store.load() == {"a": key(merchant_id="shop", not_after=end)}
    assert [listed["state"] for listed in list_keys(table.database)] == ["retired"]
    line = journal(table)[-1]
    assert (line.from_state, line.to_state, line.actor) == ("active", "retired", "cli:me")
    assert line.why == f"retired; verifies until {end.isoformat(timespec='seconds')}"


def test_an_earlier_end_is_never_moved_later(either_table: Any) -> None:
    """Neither the one it was added with, nor that of an earlier retirement; a sooner one counts."""
    table = either_table
    soon = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    table.put("a", key(not_after=soon))

    def retire(**after: float) -> datetime | None:
        return retire_key(table.database, "a", timedelta(**after), actor="test")

    assert retire(hours=36) == soon
    assert retire(days=9) == soon
    lines = len(journal(table))
    sooner = retire(minutes=5)
    assert sooner is not None
    assert sooner < soon
    assert row(table, "a").not_after == sooner
    assert (lines, len(journal(table))) == (2, 3)  # added, retired; retired sooner


def test_a_key_that_is_retired_at_once_is_expired(either_table: Any) -> None:
    """No time left is none; who is not there cannot be retired."""
    either_table.put("a", key())

    retire_key(either_table.database, "a", timedelta(0), actor="test")

    assert [listed["state"] for listed in list_keys(either_table.database)] == ["expired"]
    assert journal(either_table)[-1].to_state == "expired"
    assert retire_key(either_table.database, "nobody", timedelta(0), actor="test") is None


def test_every_secret_is_encrypted_anew_once(either_table: Any) -> None:
    """With the first key alone all can be read then; the second time there is nothing to do."""
    table, new = either_table, Fernet(Fernet.generate_key())
    table.put("a", key("one", not_after=END, merchant_id="shop"))
    table.put("b", key("two"))
    before = table.store.load()

    first = rotate_encryption(table.database, [new, *table.encryption], actor="cli:me")
    sealed = row(table, "a").encrypted_secret
    second = rotate_encryption(table.database, [new, *table.encryption], actor="cli:me")

    assert first == {"a": "encrypted anew", "b": "encrypted anew"}
    assert second == {"a": "already", "b": "already"}
    assert row(table, "a").encrypted_secret == sealed
    assert DatabaseKeyStore(table.database, [new]).load() == before
    lines = [(line.subject_id, line.actor) for line in journal(table) if line.why == "encrypted anew"]
    assert lines == [("a", "cli:me"), ("b", "cli:me")]


def test_what_no_key_decrypts_is_left_as_it_is(table: Any) -> None:
    """A row of a lost key, and one that was copied from another row; the others are done."""
    for key_id in ("copied", "good", "lost"):
        table.put(key_id, key(key_id))
    change(table, "lost", encrypted_secret=Fernet(Fernet.generate_key()).encrypt(b"{}"))
    change(table, "copied", encrypted_secret=row(table, "good").encrypted_secret)
    before = {key_id: row(table, key_id).encrypted_secret for key_id in ("copied", "lost")}

    outcomes = rotate_encryption(table.database, [Fernet(Fernet.generate_key()), *table.encryption], actor="test")

    assert outcomes == {"copied": "unreadable", "good": "encrypted anew", "lost": "unreadable"}
    assert {key_id: row(table, key_id).encrypted_secret for key_id in before} == before


@pytest.mark.parametrize("meanwhile", ["replaced", "removed", "encrypted anew"])
def test_a_change_made_meanwhile_is_not_overwritten(
    either_table: Any, meanwhile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the reading of a row and its writing another command may be quicker."""
    table, new = either_table, Fernet(Fernet.generate_key())
    table.put("a", key("old"))
    both, sealed = [new, *table.encryption], database._sealed

    def quicker(fernet: Any, key_id: str, secret: str) -> bytes:
        monkeypatch.setattr(database, "_sealed", sealed)
        if meanwhile == "encrypted anew":
            rotate_encryption(table.database, both, actor="another")
        else:
            remove_key(table.database, "a", actor="another")
        if meanwhile == "replaced":
            add_key(table.database, table.encryption, "a", key("newer"), actor="another")
        return sealed(fernet, key_id, secret)

    monkeypatch.setattr(database, "_sealed", quicker)
    outcomes = rotate_encryption(table.database, both, actor="test")

    told = {"replaced": "encrypted anew", "removed": "removed meanwhile", "encrypted anew": "already"}
    assert outcomes == {"a": told[meanwhile]}
    left = {"replaced": {"a": key("newer")}, "removed": {}, "encrypted anew": {"a": key("old")}}
    assert DatabaseKeyStore(table.database, [new]).load() == left[meanwhile]


def test_every_key_can_be_read_at_every_moment_of_a_rotation(either_table: Any) -> None:
    """Processes that have both encryption keys go on verifying, and uses are noted meanwhile."""
    table = either_table
    ids = [f"key-{number}" for number in range(20)]
    for key_id in ids:
        table.put(key_id, key(key_id))
    new = Fernet(Fernet.generate_key())
    reader = DatabaseKeyStore(table.database, [new, *table.encryption])
    seen, done = [], threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.append(reader.load() == {key_id: key(key_id) for key_id in ids})
            reader.note_use({"key-7": END})

    thread = threading.Thread(target=read)
    thread.start()
    outcomes = rotate_encryption(table.database, [new, *table.encryption], actor="test")
    done.set()
    thread.join()

    assert set(outcomes.values()) == {"encrypted anew"}
    assert len(seen) > 1
    assert all(seen)
    assert row(table, "key-7").last_used_at == END
