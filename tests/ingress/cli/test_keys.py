"""`payhook keys` changes keys where they are kept, refuses where it cannot, and never prints a secret."""

import getpass
import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import pytest
from alembic import command
from alembic.config import Config
from click.testing import CliRunner, Result
from cryptography.fernet import Fernet
from pydantic import SecretStr
from sqlalchemy import update

from ingress.cli.keys import keys
from ingress.key_stores import WebhookKey, open_key_store
from worker.database import migrations_folder, open_database
from worker.models import WebhookKey as Row
from worker.settings import load_settings

SECRET = "canary-of-some-length-here"

#: Every command that needs the place where keys are.
COMMANDS = (("add", "my-key"), ("list",), ("retire", "my-key"), ("remove", "my-key"))


@pytest.fixture(autouse=True)
def never_shown() -> Iterator[list[Result]]:
    """Whatever a test runs, no secret comes out of it."""
    results: list[Result] = []
    yield results
    for result in results:
        assert SECRET not in result.output + repr(result.exception)


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A SQLite file in the settings, not migrated yet; nothing else is set."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("PAYHOOK_")]:
        monkeypatch.delenv(name)
    url = f"sqlite:///{tmp_path / 'payhook.db'}"
    monkeypatch.setenv("PAYHOOK_DATABASE_URL", url)
    return url


@pytest.fixture
def run(url: str, never_shown: list[Result]) -> Callable[..., Result]:
    """Runs `payhook keys` over whatever the settings say."""

    def run_one(*words: str, stdin: str | bytes | None = SECRET + "\n") -> Result:
        never_shown.append(CliRunner().invoke(keys, words, input=stdin))
        return never_shown[-1]

    return run_one


@pytest.fixture
def migrated(url: str) -> None:
    """The schema is there."""
    config = Config()
    config.set_main_option("script_location", str(migrations_folder()))
    config.attributes["url"] = url
    command.upgrade(config, "head")


@pytest.fixture(params=["database", "file"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str) -> str:
    """Each place that commands can change; what they call it."""
    if request.param == "file":
        monkeypatch.setenv("PAYHOOK_KEY_STORE", f"file:{tmp_path}/keys.json")
        return str(tmp_path / "keys.json")
    request.getfixturevalue("migrated")
    return "the database"


def stored() -> dict[str, WebhookKey]:
    settings = load_settings()
    database = open_database(settings, threads=1, seconds=2)
    try:
        return dict(open_key_store(settings, database).load())
    finally:
        database.close()


def listed(run: Callable[..., Result]) -> Any:
    result = run("list", "--json")
    assert result.exit_code == 0
    return json.loads(result.stdout)


def test_an_added_key_can_be_used(place: str, run: Callable[..., Result]) -> None:
    """The secret comes from standard input, without its line end."""
    result = run("add", "my-key")

    assert (result.exit_code, result.stdout) == (0, f"my-key added to {place}.\n")
    assert told_of(result) == [("key.added", "my-key")]
    assert stored() == {"my-key": WebhookKey(SecretStr(SECRET))}


def test_a_key_can_have_a_file_an_end_and_a_merchant(place: str, run: Callable[..., Result], tmp_path: Path) -> None:
    """An end in any zone is shown in UTC."""
    (tmp_path / "secret.txt").write_text(SECRET + "\r\n")
    limits = ("--not-after", "2099-01-31T13:00:00+01:00", "--merchant", "MyShop")

    result = run("add", "my-key", "--secret-file", str(tmp_path / "secret.txt"), *limits, stdin=None)

    assert result.exit_code == 0
    assert stored()["my-key"].secret.get_secret_value() == SECRET
    assert listed(run)[0] | {"webhook_key": 1, "created_at": "-"} == {
        "webhook_key": 1,
        "key_id": "my-key",
        "merchant_id": "MyShop",
        "created_at": "-",
        "retired_at": None,
        "not_after": "2099-01-31T12:00:00+00:00",
        "last_used_at": None,
        "state": "active",
    }


def test_adding_a_key_again_changes_nothing(place: str, run: Callable[..., Result]) -> None:
    """The identical key is no error, so that a deployment can repeat it; another one is refused."""
    run("add", "my-key")

    again = run("add", "my-key")
    other = run("add", "my-key", stdin="another secret of some length")
    limits = run("add", "my-key", "--merchant", "MyShop")

    assert (again.exit_code, again.stdout) == (0, f"my-key is in {place} already; unchanged.\n")
    assert (other.exit_code, limits.exit_code) == (1, 1)
    assert "remove it first" in other.stderr
    assert stored() == {"my-key": WebhookKey(SecretStr(SECRET))}


def test_a_removed_key_is_gone(place: str, run: Callable[..., Result]) -> None:
    """Removing what is not there is refused."""
    run("add", "a")
    run("add", "b")

    result = run("remove", "a")

    assert (result.exit_code, result.stdout) == (0, f"a removed from {place}.\n")
    assert told_of(result) == [("key.removed", "a")]
    assert [key["key_id"] for key in listed(run)] == ["b"]
    assert run("remove", "a").exit_code == 1
    assert f"there is no key a in {place}" in run("remove", "a").stderr


def test_the_list_is_a_table_for_people(place: str, run: Callable[..., Result]) -> None:
    """One line a key, in columns; without keys the headings."""
    run("add", "zebra")
    run("add", "ant", "--merchant", "MyShop", "--not-after", "2099-01-31T12:00:00Z")

    lines = [line.split() for line in run("list").stdout.splitlines()]

    age = "0m" if place == "the database" else "-"
    assert lines == [
        ["key_id", "state", "merchant_id", "age", "not_after", "last_used_at"],
        ["ant", "active", "MyShop", age, "2099-01-31T12:00:00+00:00", "-"],
        ["zebra", "active", "-", age, "-", "-"],
    ]


def test_a_weak_secret_is_warned_of(place: str, run: Callable[..., Result]) -> None:
    """The key is added all the same: what the platform gave is what it is."""
    result = run("add", "my-key", stdin="short")

    assert result.exit_code == 0
    assert "fewer than 24 bytes" in result.stderr
    assert "fewer" not in result.stdout


@pytest.mark.parametrize("stdin", ["", "\n", "  \n", f" {SECRET}", f"{SECRET}\n{SECRET}", b"\xff", "x" * 65_537])
def test_what_cannot_be_a_secret_is_refused(place: str, run: Callable[..., Result], stdin: str | bytes) -> None:
    """Nothing is stored, and the reason shows nothing of it."""
    result = run("add", "my-key", stdin=stdin)

    assert result.exit_code == 1
    assert "secret" in result.stderr
    assert len(result.stderr) < 200
    assert place == "the database" or not Path(place).exists()


@pytest.mark.parametrize(
    "words",
    [
        ("add",),
        ("add", "my key"),
        ("add", "k" * 129),
        ("add", "my-key", "--not-after", "tomorrow"),
        ("add", "my-key", "--not-after", "2099-01-31T12:00:00"),
        ("add", "my-key", "--not-after", "2001-01-31T12:00:00Z"),
        ("add", "my-key", "--merchant", "no merchant"),
        ("add", "my-key", "--secret-file", "missing.txt"),
        ("add", "my-key", "a-secret-as-argument"),
        ("remove", ""),
        ("retire",),
        ("retire", "my key"),
        ("retire", "my-key", "--after", "36"),
        ("retire", "my-key", "--after", "-1h"),
        ("retire", "my-key", "--after", "soon"),
        ("rotate-encryption", "my-key"),
        ("list", "my-key"),
    ],
)
def test_wrong_usage_is_exit_code_two(run: Callable[..., Result], migrated: None, words: tuple[str, ...]) -> None:
    """A secret as an argument is wrong usage too: others on the machine can see arguments."""
    assert run(*words).exit_code == 2


def test_a_terminal_is_asked_without_showing(
    run: Callable[..., Result], migrated: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The prompt hides what is typed."""
    asked = []
    monkeypatch.setattr("ingress.cli.keys._is_terminal", lambda: True)
    monkeypatch.setattr(click, "prompt", lambda text, **options: asked.append(options) or SECRET)

    assert run("add", "my-key", stdin=None).exit_code == 0

    assert asked == [{"hide_input": True}]
    assert stored()["my-key"].secret.get_secret_value() == SECRET


def test_without_a_schema_the_command_that_helps_is_named(run: Callable[..., Result], tmp_path: Path) -> None:
    """Nothing is made for a database that is not there, no encryption key either."""
    for words in (*COMMANDS, ("rotate-encryption",)):
        result = run(*words)
        assert result.exit_code == 1
        assert "run `payhook migrate`" in result.stderr

    assert not (tmp_path / "payhook.key").exists()


def test_the_first_key_makes_the_encryption_key(run: Callable[..., Result], migrated: None, tmp_path: Path) -> None:
    """Beside the SQLite file, for its owner only; listing needs none."""
    assert listed(run) == []
    assert not (tmp_path / "payhook.key").exists()

    run("add", "my-key")

    assert (tmp_path / "payhook.key").stat().st_mode & 0o777 == 0o600
    (tmp_path / "payhook.key").unlink()
    assert [key["key_id"] for key in listed(run)] == ["my-key"]


def test_who_changed_a_key_is_in_the_journal(
    run: Callable[..., Result], migrated: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The login user, or the number of one without a name."""
    run("add", "my-key")
    monkeypatch.setattr(getpass, "getuser", lambda: (_ for _ in ()).throw(KeyError()))
    run("remove", "my-key")

    database = open_database(load_settings(), threads=1, seconds=2)
    with database.reading() as connection:
        actors = connection.exec_driver_sql("SELECT actor FROM journal ORDER BY journal_key").scalars().all()
    database.close()
    monkeypatch.undo()
    assert actors == [f"cli:{getpass.getuser()}", f"cli:{os.getuid()}"]


@pytest.mark.parametrize(
    ("store", "told"),
    [
        ("memory:", "PAYHOOK_WEBHOOK_KEYS"),
        ("file:.", "a file for each, named by its id"),
        ("my.module:factory", "kept by my.module:factory"),
        ("nonsense", "memory:, file:PATH, database:"),
    ],
)
def test_where_commands_cannot_change_keys_they_say_where_they_are(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, store: str, told: str
) -> None:
    """Refused with a sentence."""
    monkeypatch.setenv("PAYHOOK_KEY_STORE", store)

    for words in COMMANDS:
        result = run(*words)
        assert result.exit_code == 1
        assert told in result.stderr


def test_a_file_that_is_wrong_is_told(run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence has the command that mends it."""
    Path("keys.json").write_text(f'{{"a": "{SECRET}"}}')
    Path("keys.json").chmod(0o644)
    monkeypatch.setenv("PAYHOOK_KEY_STORE", "file:keys.json")

    for words in COMMANDS:
        result = run(*words)
        assert result.exit_code == 1
        assert "chmod 600" in result.stderr


def told_of(result: Result) -> list[tuple[str, str | None]]:
    """What a command told of security: which event, of which key; each by whom."""
    lines = [json.loads(line) for line in result.stderr.splitlines() if line.startswith("{")]
    assert [line for line in lines if not line["security"] or line["actor"] != f"cli:{getpass.getuser()}"] == []
    return [(line["event"], line.get("key_id")) for line in lines]


def times(hours: float) -> datetime:
    return datetime.now(UTC) + timedelta(hours=hours)


def end_told(result: Result) -> datetime:
    return datetime.fromisoformat(result.stdout.rstrip(".\n").split()[-1])


def test_a_retired_key_says_until_when_it_verifies(place: str, run: Callable[..., Result]) -> None:
    """36 hours unless told otherwise: longer than the platform sends a webhook again."""
    run("add", "old")
    run("add", "new")

    result = run("retire", "old")

    assert (result.exit_code, told_of(result)) == (0, [("key.retired", "old")])
    assert result.stdout.startswith(f"old retired in {place}; it verifies until ")
    assert abs(end_told(result) - times(hours=36)) < timedelta(minutes=1)
    (new, old) = listed(run)
    assert (new["state"], new["not_after"], new["retired_at"]) == ("active", None, None)
    assert old["state"] == "retired"
    assert abs(datetime.fromisoformat(old["not_after"]) - end_told(result)) < timedelta(seconds=1)
    assert abs(datetime.fromisoformat(old["retired_at"]) - times(hours=0)) < timedelta(minutes=1)
    assert not stored()["old"].expired()


def test_an_earlier_end_stays_whatever_is_asked(place: str, run: Callable[..., Result]) -> None:
    """That of `add --not-after`, and that of an earlier `retire`."""
    run("add", "new")
    run("add", "old", "--not-after", times(hours=48).isoformat())

    first, later, sooner = (run("retire", "old", "--after", after) for after in ("36h", "60d", "37h"))

    assert end_told(first) == end_told(later) == end_told(sooner) < times(hours=37)


@pytest.mark.parametrize(
    ("after", "warned"), [("0m", True), ("35h", True), ("2109m", True), ("2110m", False), ("2d", False)]
)
def test_an_end_before_the_last_retry_is_warned_of(
    place: str, run: Callable[..., Result], after: str, warned: bool
) -> None:
    """It is done all the same; the warning says what can be lost."""
    run("add", "old")
    run("add", "new")

    result = run("retire", "old", "--after", after)

    assert result.exit_code == 0
    assert ("35 h 10 min" in result.stderr, "lost" in result.stderr) == (warned, warned)
    assert ("verifies nothing since" in result.stdout) == (after == "0m")
    assert stored()["old"].expired() == (after == "0m")


def test_retiring_the_last_key_is_warned_of(place: str, run: Callable[..., Result]) -> None:
    """Whoever forgot to add the next one learns it now, not when webhooks are refused."""
    run("add", "old")
    run("add", "older")

    assert "no other key" not in run("retire", "older").stderr
    assert "no other key is active; add the next one" in run("retire", "old").stderr


def test_who_is_not_there_cannot_be_retired(place: str, run: Callable[..., Result]) -> None:
    """A misspelt id must not look like a rotation that was begun."""
    run("add", "old")

    result = run("retire", "odl")

    assert (result.exit_code, result.stdout) == (1, "")
    assert f"there is no key odl in {place}" in result.stderr
    assert listed(run)[0]["state"] == "active"


def test_a_key_is_taken_back_by_removing_and_adding(place: str, run: Callable[..., Result]) -> None:
    """To add it once more is refused as long as the retired one is there: its limits differ."""
    run("add", "old")
    run("retire", "old")

    assert run("add", "old").exit_code == 1
    assert (run("remove", "old").exit_code, run("add", "old").exit_code) == (0, 0)
    assert stored() == {"old": WebhookKey(SecretStr(SECRET))}
    assert listed(run)[0]["state"] == "active"


def test_the_age_of_a_key_is_shown(run: Callable[..., Result], migrated: None) -> None:
    """In minutes, hours or days: whether it is due for a change is seen at once."""
    for key_id in ("days", "hours", "minutes"):
        run("add", key_id)
    database = open_database(load_settings(), threads=1, seconds=2)
    with database.transaction() as connection:
        for key_id, hours in (("days", 50), ("hours", 47), ("minutes", 1.9)):
            at = times(hours=-hours)
            connection.execute(update(Row).where(Row.key_id == key_id).values(created_at=at, last_used_at=at))
    database.close()

    lines = [line.split() for line in run("list").stdout.splitlines()[1:]]

    assert [(line[0], line[3]) for line in lines] == [("days", "2d"), ("hours", "47h"), ("minutes", "114m")]
    assert datetime.fromisoformat(lines[0][5]) < times(hours=-49)


def encryption_key() -> str:
    return Fernet.generate_key().decode()


def test_secrets_are_encrypted_anew(
    run: Callable[..., Result], migrated: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How many were, and how many need not be; afterwards the old encryption key is not needed."""
    old, new = encryption_key(), encryption_key()
    monkeypatch.setenv("PAYHOOK_ENCRYPTION_KEYS", old)
    run("add", "a")
    run("add", "b")
    monkeypatch.setenv("PAYHOOK_ENCRYPTION_KEYS", f"{new},{old}")
    run("add", "c")

    first, second = run("rotate-encryption"), run("rotate-encryption")

    assert (first.exit_code, first.stdout) == (0, "2 encrypted anew, 1 were already.\n")
    assert told_of(first) == [("keys.rotated", None)]
    assert (second.exit_code, second.stdout) == (0, "0 encrypted anew, 3 were already.\n")
    monkeypatch.setenv("PAYHOOK_ENCRYPTION_KEYS", new)
    assert set(stored()) == {"a", "b", "c"}


def test_secrets_that_cannot_be_decrypted_are_named(
    run: Callable[..., Result], migrated: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 1, so that nobody takes the old encryption key away; the others are done."""
    lost, old, new = encryption_key(), encryption_key(), encryption_key()
    for key_id, encryption in (("b-lost", lost), ("a-lost", lost), ("good", old)):
        monkeypatch.setenv("PAYHOOK_ENCRYPTION_KEYS", encryption)
        run("add", key_id)
    monkeypatch.setenv("PAYHOOK_ENCRYPTION_KEYS", f"{new},{old}")

    result = run("rotate-encryption")

    assert (result.exit_code, result.stdout) == (1, "1 encrypted anew, 0 were already.\n")
    assert "decrypts them: a-lost, b-lost. Give" in result.stderr


@pytest.mark.parametrize("store", ["memory:", "file:keys.json", "my.module:factory"])
def test_only_the_database_is_encrypted_anew(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, store: str
) -> None:
    """Elsewhere there is nothing to do, which is no success."""
    monkeypatch.setenv("PAYHOOK_KEY_STORE", store)

    result = run("rotate-encryption")

    assert result.exit_code == 1
    assert "only database: is" in result.stderr


def test_nothing_is_encrypted_with_a_key_made_just_now(
    run: Callable[..., Result], migrated: None, tmp_path: Path
) -> None:
    """When the file of the encryption key is missing it is to be brought back, not made anew."""
    run("add", "a")
    (tmp_path / "payhook.key").unlink()

    result = run("rotate-encryption")

    assert result.exit_code == 1
    assert "bring back the file" in result.stderr
    assert not (tmp_path / "payhook.key").exists()
