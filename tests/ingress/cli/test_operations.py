"""`payhook operations` asks for money to be moved, tells what became of it, and lets people decide."""

import fcntl
import getpass
import json
import os
import pty
import shutil
import sqlite3
import struct
import subprocess
import termios
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import structlog
from click.testing import CliRunner, Result
from sqlalchemy import insert, select, update

from ingress.cli import main
from ingress.cli import operations as commands
from sandbox import SandboxClient
from tests.ingress.conftest import Start, program
from tests.servers.ports import free_port
from tests.servers.process_tree import wait_for
from tests.worker.conftest import MERCHANT, FakePlatform, Paper, moved, settings_of, view_of
from worker.database import Database, DatabaseUnavailable, migrate, now, open_database
from worker.gateways.gateway import OutcomeUnknown
from worker.lifecycle import MovementKind, MovementState
from worker.models import Fact, JournalEntry, Operation
from worker.reconciliation import Reconciler
from worker.sending import Sender
from worker.settings import load_settings

PAYMENT = "3254564310"
CAPTURED = view_of(PAYMENT, moved(f"{PAYMENT}_1", MovementKind.CAPTURE, 1000), code=9, acquired=1000)
WHO = f"cli:{getpass.getuser()}"

#: What needs more than one kind of database to be believed.
everywhere = pytest.mark.parametrize(
    "url", ["sqlite", pytest.param("postgresql", marks=pytest.mark.servers)], indirect=True
)


@dataclass
class House:
    """The command over a database, and a worker that does what it is told to."""

    url: str
    database: Database
    platform: FakePlatform

    def run(self, *words: str) -> Result:
        """A command, which must end without a traceback."""
        result = CliRunner().invoke(main, ["operations", *words], prog_name="payhook")
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    def asked(self, *words: str) -> dict[str, Any]:
        """A command that is accepted; what it prints."""
        result = self.run(*words, "--json")
        assert result.exit_code == 0, result.stderr
        told: dict[str, Any] = json.loads(result.stdout)
        return told

    def listed(self, *words: str) -> list[int]:
        told: Any = self.asked("list", *words)
        return [row["operation_key"] for row in told]

    def work(self, operation_key: int, **settings: Any) -> str:
        """The next thing that a worker does for an operation, and the look it asks for; its state then."""
        chosen = settings_of(**settings)
        gateways = {MERCHANT: self.platform}
        sender, reconciler = Sender(self.database, gateways, chosen), Reconciler(self.database, gateways, chosen)
        follow = sender.operation(operation_key)
        if follow.payment is not None:
            Paper(self.database).pass_time()
            reconciler.payment(follow.payment[0])
        return str(self.row(operation_key).state)

    def row(self, operation_key: int) -> Any:
        chosen = select(Operation.__table__).where(Operation.operation_key == operation_key)
        with self.database.reading() as connection:
            return connection.execute(chosen).one()

    def change(self, operation_key: int, **values: Any) -> None:
        """As if something else had come about."""
        with self.database.transaction() as connection:
            connection.execute(update(Operation).where(Operation.operation_key == operation_key).values(**values))

    def journal(self, operation_key: int) -> list[tuple[str, str, str]]:
        lines = select(JournalEntry.actor, JournalEntry.to_state, JournalEntry.why).where(
            JournalEntry.subject == "operation", JournalEntry.subject_id == str(operation_key)
        )
        with self.database.reading() as connection:
            return [tuple(line) for line in connection.execute(lines.order_by(JournalEntry.journal_key))]

    def count(self) -> int:
        with self.database.reading() as connection:
            return len(connection.execute(select(Operation.operation_key)).all())

    def confirm(self) -> None:
        """The platform has done what it had accepted."""
        view = self.platform.truth[PAYMENT]
        done = (replace(one, state=MovementState.DONE, status_code=9) for one in view.movements)
        self.platform.truth[PAYMENT] = replace(view, movements=tuple(done))

    def in_review(self) -> int:
        """A refund of which nobody knows whether it was made."""
        self.platform.truth[PAYMENT] = CAPTURED
        key: int = self.asked("refund", PAYMENT, "--amount", "300", "--request-id", "return-1")["operation_key"]
        self.platform.refusals.append(OutcomeUnknown("no answer within 15 s"))
        assert [self.work(key), self.work(key)] == ["planned", "unknown"]
        spent = {"key_seconds": 0.001, "settling_seconds": 0.001}
        assert [self.work(key, **spent), self.work(key, **spent)] == ["unknown", "review"]
        return key


@pytest.fixture
def url(request: pytest.FixtureRequest, migrated_sqlite_file: Path, tmp_path: Path) -> str:
    """A migrated database: SQLite, unless the test asks for more."""
    if getattr(request, "param", "sqlite") == "sqlite":
        shutil.copy(migrated_sqlite_file, tmp_path / "payhook.db")
        return f"sqlite:///{tmp_path / 'payhook.db'}"
    postgres_url: str = request.getfixturevalue("postgres_url")
    migrate(postgres_url)
    return postgres_url


@pytest.fixture
def house(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logs_as_they_were: None) -> Iterator[House]:
    """The settings of one merchant in the environment, and nothing else of ours."""
    structlog.reset_defaults()  # whatever ran before in this process
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())  # a worker's logs are no part of a command's
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("PAYHOOK_")]:
        monkeypatch.delenv(name)
    given = {"DATABASE_URL": url, "MERCHANT_ID": MERCHANT, "API_KEY_ID": "key", "API_SECRET": "secret"}
    for name, value in given.items():
        monkeypatch.setenv(f"PAYHOOK_{name}", value)
    database = open_database(load_settings(), threads=4, seconds=5)
    yield House(url, database, FakePlatform())
    database.close()


@everywhere
@pytest.mark.parametrize("kind", ["capture", "refund", "cancel"])
def test_what_is_asked_for_is_a_row_and_is_printed(house: House, kind: str) -> None:
    """With every column of the schema; the journal says who asked."""
    told = house.asked(kind, f"{PAYMENT}_0", "--amount", "300", "--currency", "EUR", "--request-id", "order-7")

    row = house.row(told["operation_key"])
    assert set(told) == {column.name for column in Operation.__table__.columns}
    assert (row.kind, row.amount, row.currency, row.state) == (kind, 300, "EUR", "requested")
    assert (row.source, row.request_id, row.merchant_id) == ("cli", "order-7", MERCHANT)
    assert house.journal(row.operation_key) == [(WHO, "requested", "asked for by cli as order-7")]


@pytest.mark.parametrize(
    ("words", "columns"),
    [
        (("capture", PAYMENT, "--final"), {"is_final": True, "amount": None}),
        (("capture", PAYMENT, "--reference", "box 7"), {"terms": {"reference": "box 7"}}),
        (("refund", PAYMENT, "--reason", "returned"), {"terms": {"reason": "returned"}}),
        (("cancel", PAYMENT, "--on-captured", "refund"), {"terms": {"on_captured": "refund"}}),
        (("cancel", PAYMENT, "--source", "desk", "--merchant", MERCHANT), {"source": "desk", "terms": None}),
    ],
)
def test_every_option_is_in_the_row(house: House, words: tuple[str, ...], columns: dict[str, Any]) -> None:
    """What is not given is left to be found out."""
    row = house.row(house.asked(*words)["operation_key"])

    assert {name: getattr(row, name) for name in columns} == columns
    assert row.state == "requested"


def test_people_are_shown_what_has_a_value(house: House) -> None:
    """A line a column, aligned; nothing of what is empty."""
    result = house.run("capture", PAYMENT, "--amount", "300", "--request-id", "order-7", "--reference", "box 7")

    lines = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    assert (lines["state"], lines["amount"], lines["request_id"]) == ("requested", "300", "order-7")
    assert lines["terms"] == "reference: box 7"
    assert "reason" not in lines
    assert len({line.index(value) for line, value in zip(result.stdout.splitlines(), lines.values(), strict=True)}) == 1


@everywhere
def test_the_same_request_twice_is_one_operation(house: House) -> None:
    """Under the same id and with the same words; other words under it are refused, and without an id it is another."""
    first, again = (house.asked("capture", PAYMENT, "--amount", "300", "--request-id", "order-7") for _ in range(2))

    other = house.run("capture", PAYMENT, "--amount", "400", "--request-id", "order-7")
    unnamed = house.asked("capture", PAYMENT, "--amount", "300")

    assert first["operation_key"] == again["operation_key"] != unnamed["operation_key"]
    assert other.exit_code == 1
    assert f"used for another request, operation {first['operation_key']}; nothing has changed" in other.stderr
    assert house.row(first["operation_key"]).amount == 300


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("capture", "order-7"), "payment_id is not a payment's id"),
        (("capture", PAYMENT, "--currency", "euro"), "currency is not three capital letters"),
        (("capture", PAYMENT, "--merchant", "other"), "merchant_id is not one of ours"),
        (("capture", PAYMENT, "--source", "policy:mine"), "only payhook's own policies may"),
        (("refund", PAYMENT, "--reason", "x" * 257), "reason is not text of 1 to 256"),
        (("capture", PAYMENT, "--amount", str(2**63)), "amount is not a whole number"),
    ],
)
def test_what_cannot_be_accepted_is_exit_code_one(house: House, words: tuple[str, ...], told: str) -> None:
    """With the reason, on one line of standard error."""
    result = house.run(*words)

    assert result.exit_code == 1
    assert told in result.stderr
    assert len(result.stderr.splitlines()) == 1


@everywhere
def test_waiting_ends_with_the_operation(house: House) -> None:
    """Each of its states is told on standard error; the operation as it is at its end goes to standard output."""

    def carry_out() -> None:
        wait_for(lambda: house.count() == 1, 20)
        house.work(1)
        house.work(1)
        house.confirm()
        house.work(1)

    worker = threading.Thread(target=carry_out)
    worker.start()
    result = house.run("capture", PAYMENT, "--wait", "--json")
    worker.join()

    assert (result.exit_code, json.loads(result.stdout)["state"]) == (0, "succeeded")
    assert result.stderr.splitlines()[0] == "operation 1 is requested"
    assert result.stderr.splitlines()[-1] == "operation 1 is succeeded"


def test_waiting_outlasts_a_database_that_is_away(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    """What was asked for is stored: an end that nobody waits for would look like a refusal."""
    key = house.asked("capture", PAYMENT)["operation_key"]
    house.change(key, state="refused", reason="nothing left")

    class AwayOnce:
        times = 0

        def reading(self) -> Any:
            self.times += 1
            if self.times == 1:
                raise DatabaseUnavailable("the database does not answer")
            return house.database.reading()

    shown = commands._ended(AwayOnce(), key)  # type: ignore[arg-type]

    assert shown["state"] == "refused"
    assert "the database does not answer; waiting for it" in capsys.readouterr().err


def test_what_is_refused_while_waiting_is_exit_code_one(house: House) -> None:
    """The operation is printed all the same: it is kept, with its reason."""
    house.asked("capture", PAYMENT, "--amount", "1001", "--request-id", "order-7")
    house.work(1)

    result = house.run("capture", PAYMENT, "--amount", "1001", "--request-id", "order-7", "--wait")

    assert result.exit_code == 1
    assert "1001 EUR asked for, and 1000 of the payment is authorised" in result.stderr
    assert "operation_key" in result.stdout


def test_a_request_that_may_be_stored_says_how_to_ask_again(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """An id that the command has made up is told, for without it the same command again is another operation."""
    monkeypatch.setattr("ingress.cli.DATABASE_SECONDS", 0.3)
    with sqlite3.connect(house.url.removeprefix("sqlite:///")) as writer:
        writer.execute("BEGIN IMMEDIATE")
        result = house.run("capture", PAYMENT)

    (request_id,) = [word.rstrip(",") for word in result.stderr.split() if word.count("-") == 4]
    assert result.exit_code == 1
    assert f"ask again with --request-id {request_id}, and it is one operation" in result.stderr
    assert (
        house.asked("capture", PAYMENT, "--request-id", request_id.rstrip(","))["operation_key"] == house.count() == 1
    )


def test_a_broker_that_is_away_costs_a_ring(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The row is due, so that the sweep finds it; standard output is the operation and nothing else."""
    monkeypatch.setenv("PAYHOOK_BROKER_URL", f"amqp://127.0.0.1:{free_port()}//")
    structlog.reset_defaults()  # as in a process of its own

    result = house.run("capture", PAYMENT, "--json")

    assert result.exit_code == 0
    assert json.loads(result.stdout)["state"] == "requested"
    assert "Traceback" not in result.stderr


@everywhere
def test_the_list_is_the_newest_first_as_far_as_it_is_asked_for(house: House) -> None:
    """Every filter, alone and with others; a request that was refused unread is one of its payment too."""
    first = house.asked("capture", PAYMENT, "--amount", "300", "--request-id", "a")["operation_key"]
    second = house.asked("refund", "4254564310_0", "--request-id", "b", "--source", "shop")["operation_key"]
    house.run("cancel", f"{PAYMENT}_0", "--merchant", "other", "--request-id", "c")
    third = second + 1
    with house.database.reading() as connection:
        at = connection.execute(select(now())).scalar_one().isoformat()

    assert house.listed() == [third, second, first]
    assert house.listed("--payment", f"{PAYMENT}_1") == [third, first]
    assert house.listed("--state", "refused") == [third]
    assert house.listed("--state", "refused", "--state", "requested", "--source", "shop") == [second]
    assert house.listed("--request-id", "a") == [first]
    assert house.listed("--merchant", MERCHANT) == [second, first]
    assert house.listed("--limit", "1") == [third]
    assert house.listed("--since", "5m") == [third, second, first]
    assert house.listed("--since", at) == []
    assert house.listed("--anomalies") == []


def test_the_list_of_anomalies_says_what_contradicts_what(house: House) -> None:
    """Only those whose end the platform contradicts."""
    house.asked("capture", PAYMENT, "--amount", "100")
    odd = house.asked("capture", PAYMENT, "--amount", "200")["operation_key"]
    house.change(odd, state="refused", anomaly="it is refused here, and the platform lists 1_1 of 200 EUR as done (9)")

    result = house.run("list", "--anomalies")

    assert house.listed("--anomalies") == [odd]
    (line,) = result.stdout.splitlines()[1:]
    assert line.split()[:6] == [str(odd), PAYMENT, "capture", "200", "refused", "0m"]
    assert line.rstrip().endswith("it is refused here, and the platform lists 1_1 of 200 EUR as done (9)")


@everywhere
def test_show_tells_the_whole_story(house: House) -> None:
    """Request, attempts, answers, movements, journal: as one JSON object, with the columns of the schema as keys."""
    key = house.asked("capture", PAYMENT, "--amount", "300", "--request-id", "order-7")["operation_key"]
    house.platform.refusals.append(OutcomeUnknown("no answer within 15 s"))
    assert [house.work(key) for _ in range(3)] == ["planned", "unknown", "accepted"]
    house.confirm()
    assert house.work(key) == "succeeded"

    told = house.asked("show", str(key))

    assert [attempt["outcome"] for attempt in told["attempts"]] == ["unclear", "done"]
    assert {attempt["idempotence_key"] for attempt in told["attempts"]} == {told["idempotence_key"]}
    (movement,) = told["movements"]
    assert (movement["amount"], movement["state"], movement["operation_key"]) == (300, "done", key)
    assert movement["reference"] == told["operation_uuid"]
    assert (told["state"], told["request_id"], told["amount"]) == ("succeeded", "order-7", 300)
    states = ["requested", "planned", "sending", "unknown", "sending", "accepted", "succeeded"]
    assert [line["to_state"] for line in told["journal"]] == states


def test_a_review_is_a_question_with_its_evidence(house: House) -> None:
    """What was sent and answered, what was looked for and what could be it; and how to answer."""
    key = house.in_review()

    said = " ".join(house.run("show", str(key)).stdout.split())

    assert "Has this refund been made? It may have been sent once, at 20" in said
    assert "last answers: unclear" in said
    assert "Movements without a reference that could be it: 0." in said
    assert f"{PAYMENT}_1 capture 1000 EUR done 9 foreign" in said
    assert f"reference {house.row(key).operation_uuid}" in said
    assert "Look for the reference in the merchant's portal, then answer with" in said
    assert f"payhook operations resolve {key} --as succeeded|refused|resend --reason" in said


def test_nothing_from_outside_commands_the_terminal(house: House) -> None:
    """A reason that holds escape sequences is shown as text."""
    key = house.asked("capture", PAYMENT)["operation_key"]
    house.change(key, state="refused", reason="no \x1b[31mway\r\nback [bold]")

    shown = house.run("show", str(key)).stdout + house.run("list").stdout

    assert "\x1b" not in shown
    assert shown.count("no ?[31mway??back [bold]") == 2


def on_a_terminal(folder: Path, *words: str) -> list[str]:
    """What a command writes to a terminal of 80 columns."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [program("payhook"), "operations", *words]
    process = subprocess.Popen(command, cwd=folder, env={**os.environ, "TERM": "dumb"}, stdout=its, stderr=its)
    os.close(its)
    said = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # how Linux tells that the other end is closed
            break
        if not part:
            break
        said += part
    os.close(ours)
    assert process.wait() == 0, said
    return said.decode().splitlines()


def test_all_of_it_can_be_read_at_eighty_columns(house: House, tmp_path: Path) -> None:
    """Words are not cut in a story; in the list a line is a row, and its keys and states are whole."""
    key = house.in_review()

    story = on_a_terminal(tmp_path, "show", str(key))
    rows = on_a_terminal(tmp_path, "list")

    assert max(map(len, story + rows)) <= 80
    words = " ".join(" ".join(story).split())
    assert "no answer within 15 s" in words
    assert "Movements without a reference that could be it: 0." in words
    assert len(rows) == 2
    assert rows[1].split()[:7] == [str(key), PAYMENT, "refund", "300", "EUR", "review", "0m"]
    assert rows[1].endswith("…")


def said_of(result: Result) -> dict[str, Any]:
    """What the log says of a person's decision: one line that concerns security."""
    (line,) = [json.loads(line) for line in result.stderr.splitlines() if line.startswith("{")]
    assert line.pop("security") is True
    return {name: value for name, value in line.items() if name not in ("level", "logger", "timestamp")}


@everywhere
def test_what_was_never_sent_can_be_withdrawn(house: House) -> None:
    """The journal says who and why; nothing of it is sent any more."""
    key = house.asked("capture", PAYMENT)["operation_key"]
    assert house.work(key) == "planned"

    result = house.run("withdraw", str(key), "--reason", "sold twice", "--json")
    told = json.loads(result.stdout)

    assert said_of(result) == {"event": "operation.withdrawn", "operation_key": key, "actor": WHO, "why": "sold twice"}
    assert (told["state"], told["reason"], told["due_at"]) == ("withdrawn", "withdrawn: sold twice", None)
    assert house.journal(key)[-1] == (WHO, "withdrawn", "withdrawn: sold twice")
    assert house.work(key) == "withdrawn"


@everywhere
def test_who_waited_for_what_a_person_decides_waits_no_longer(house: House) -> None:
    """The next of the payment is due in the same transaction."""
    first = house.in_review()
    second = house.asked("refund", PAYMENT, "--amount", "100")["operation_key"]
    assert house.work(second) == "planned"
    assert house.work(second) == "planned"
    assert Paper(house.database).due_in(house.row(second)) > 30

    told = house.asked("resolve", str(first), "--as", "refused", "--reason", "not in the portal")

    assert (told["state"], told["reason"]) == ("refused", "resolved as refused: not in the portal")
    assert house.journal(first)[-1] == (WHO, "refused", "resolved as refused: not in the portal")
    assert Paper(house.database).due_in(house.row(second)) <= 0
    assert house.work(second) == "accepted"


def test_what_is_to_be_sent_again_has_a_new_key(house: House) -> None:
    """The platform must not take it for the request that it may have answered before."""
    key = house.in_review()
    before = house.row(key).idempotence_key

    result = house.run("resolve", str(key), "--as", "resend", "--reason", "the portal shows nothing", "--json")
    told = json.loads(result.stdout)

    assert said_of(result) == {
        "event": "operation.resolved",
        "operation_key": key,
        "actor": WHO,
        "why": "the portal shows nothing",
        "verdict": "resend",
    }
    assert (told["state"], told["generation"], told["idempotence_key"]) == ("planned", 1, None)
    assert house.journal(key)[-1] == (WHO, "planned", "to be sent again: the portal shows nothing")
    assert wait_for(lambda: house.work(key) == "accepted", 20)  # it is due some seconds after the last attempt
    assert before != house.row(key).idempotence_key is not None


@pytest.mark.parametrize(
    ("state", "words", "told"),
    [
        ("accepted", ("withdraw", "1"), "operation 1 is accepted and may have been sent"),
        ("unknown", ("withdraw", "1"), "operation 1 is unknown and may have been sent"),
        ("planned", ("resolve", "1", "--as", "refused"), "operation 1 is planned: only what is in review can be"),
        ("succeeded", ("resolve", "1", "--as", "refused"), "operation 1 is succeeded: only what is in review can be"),
        ("requested", ("withdraw", "2"), "there is no operation 2"),
        ("requested", ("resolve", "2", "--as", "resend"), "there is no operation 2"),
        ("requested", ("show", "2"), "there is no operation 2"),
    ],
)
def test_what_cannot_be_decided_is_refused(house: House, state: str, words: tuple[str, ...], told: str) -> None:
    """With a sentence that says where the operation is; nothing changes."""
    house.asked("capture", PAYMENT, "--amount", "300", "--currency", "EUR")
    house.change(1, state=state)
    reason = () if words[0] == "show" else ("--reason", "x")

    result = house.run(*words, *reason)

    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {told}")
    assert (house.row(1).state, len(house.journal(1))) == (state, 1)


def test_a_database_is_adopted_by_the_settings(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that moves another platform's money moves none of ours before, and ours after; the journal says who."""
    other = {"hosts": {MERCHANT: "platform.elsewhere"}}
    with house.database.transaction() as connection:
        connection.execute(insert(Fact).values(name="fingerprint", value=other))
    key = house.asked("capture", PAYMENT)["operation_key"]
    assert [house.work(key), house.work(key)] == ["planned", "planned"]
    monkeypatch.setenv("PAYHOOK_API_ENDPOINT", f"https://{house.platform.host}")

    result = house.run("adopt", "--reason", "the platform has moved")

    assert "payhook operations adopt" in house.row(key).reason
    assert result.stdout == f"This database belongs to {MERCHANT} at {house.platform.host} now.\n"
    assert said_of(result) == {
        "event": "database.adopted",
        "actor": WHO,
        "why": "the platform has moved",
        "hosts": {MERCHANT: house.platform.host},
    }
    with house.database.reading() as connection:
        line = connection.execute(select(JournalEntry.actor, JournalEntry.why).order_by(JournalEntry.at.desc())).first()
    assert line == (WHO, f"the platform has moved: {MERCHANT} at {house.platform.host}")
    assert house.work(key) == "accepted"


@pytest.mark.parametrize(
    "words",
    [
        ("capture",),
        ("capture", PAYMENT, "--amount", "0"),
        ("capture", PAYMENT, "--amount", "12.50"),
        ("capture", PAYMENT, "--reason", "a refund has one"),
        ("cancel", PAYMENT, "--on-captured", "ignore"),
        ("list", "--state", "paid"),
        ("list", "--payment", "order-7"),
        ("list", "--since", "yesterday"),
        ("list", "--since", "2030-01-31T12:00:00"),
        ("list", "--since", "0001-01-01T00:00:00+14:00"),
        ("list", "--since", ""),
        ("list", "--limit", "0"),
        ("show", "order-7"),
        ("show", str(2**63)),
        ("withdraw", "1"),
        ("withdraw", "1", "--reason", " "),
        ("withdraw", "1", "--reason", "two\nlines"),
        ("resolve", "1", "--as", "refused"),
        ("resolve", "1", "--as", "sent", "--reason", "x"),
        ("resolve", "1", "--as", "refused", "--reason", "x" * 501),
        ("adopt",),
    ],
)
def test_wrong_usage_is_exit_code_two(house: House, words: tuple[str, ...]) -> None:
    """Whatever is in the database."""
    assert house.run(*words).exit_code == 2


@pytest.mark.parametrize(
    "words",
    [
        ("capture", PAYMENT),
        ("list", "--json"),
        ("show", "1"),
        ("withdraw", "1", "--reason", "x"),
        ("resolve", "1", "--as", "refused", "--reason", "x"),
        ("adopt", "--reason", "x"),
    ],
)
def test_a_database_that_is_away_is_a_sentence(
    house: House, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On standard error, with exit code 1."""
    monkeypatch.setenv("PAYHOOK_DATABASE_URL", f"postgresql+psycopg://payhook@127.0.0.1:{free_port()}/payhook")

    result = house.run(*words)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: ")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.timeout(120)
def test_a_capture_is_asked_for_and_waited_for_beside_payhook_up(start: Start, tmp_path: Path) -> None:
    """As processes, against the sandbox: exit code 0 when the platform has confirmed it, and it was made once."""
    port = free_port()
    start(program("payhook"), "sandbox", "--port", str(port)).wait_until("sandbox at ")
    settings = {
        "DATABASE_URL": f"sqlite:///{tmp_path / 'payhook.db'}",
        "KEY_STORE": "memory:",
        "WEBHOOK_KEYS": "a=b",
        "MERCHANT_ID": "sandbox",
        "API_KEY_ID": "sandbox-key",
        "API_SECRET": "sandbox-secret",
        "API_ENDPOINT": f"http://127.0.0.1:{port}",
    }
    start(program("payhook"), "up", "--port", "0", **settings).wait_until('"up"')

    with SandboxClient(f"http://127.0.0.1:{port}") as sandbox:
        (payment_id,) = sandbox.create_payments(1, webhooks=False)
        words = ("operations", "capture", payment_id, "--amount", "300", "--wait", "--json")
        command = start(program("payhook"), *words, **settings)
        code = command.wait_until_ended(90)
        truth = sandbox.truth_of(payment_id)

    assert code == 0, command.tail()
    assert (truth["amount_captured"], truth["amount_capture_pending"]) == (300, 0)
    assert '"state": "succeeded"' in command.log.read_text()
