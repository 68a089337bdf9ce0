"""`payhook drift` compares our records with the sandbox's ledger, payment by payment, and brings them in line."""

import fcntl
import getpass
import json
import os
import pty
import shutil
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog
from click.testing import CliRunner, Result
from sqlalchemy import delete, select, update

from ingress.cli import main
from ingress.cli.drift import fixing
from sandbox import Sandbox, SandboxClient
from tests.ingress.conftest import program
from worker import reconciliation, rescue
from worker.database import Database, migrate, open_database
from worker.drift import comparing
from worker.gateways import open_gateways
from worker.gateways.gateway import Gateway
from worker.models import Fact, JournalEntry, Movement, Payment
from worker.reconciliation import Reconciler
from worker.settings import load_settings

#: What needs more than one kind of database to be believed.
everywhere = pytest.mark.parametrize(
    "url", ["sqlite", pytest.param("postgresql", marks=pytest.mark.servers)], indirect=True
)


@dataclass
class House:
    """The command beside a worker, and the platform in miniature."""

    database: Database
    gateways: Mapping[str, Gateway]
    sandbox: SandboxClient

    def run(self, *words: str) -> Result:
        """A command, which must end without a traceback."""
        result = CliRunner().invoke(main, ["drift", *words], prog_name="payhook")
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    def told(self, *words: str, exit_code: int = 0) -> dict[str, Any]:
        result = self.run(*words, "--json")
        assert result.exit_code == exit_code, result.output
        told: dict[str, Any] = json.loads(result.stdout)
        return told

    def know(self, *payment_ids: str) -> list[str]:
        """Payments as the worker knows them; their canonical ids."""
        reconciler = Reconciler(self.database, self.gateways, load_settings())
        known = []
        for payment_id in payment_ids:
            key = reconciliation.request(
                self.database, frozenset(["sandbox"]), gap_seconds=0.1, payment_id=payment_id, merchant_id=None
            )
            reconciler.payment(key)
            known.append(self.payment(key).payment_id)
            assert self.payment(key).refreshed_at is not None
        return known

    def payment(self, key: int) -> Any:
        with self.database.reading() as connection:
            return connection.execute(select(Payment.__table__).where(Payment.payment_key == key)).one()

    def change(self, payment_id: str, **values: Any) -> None:
        with self.database.transaction() as connection:
            connection.execute(update(Payment).where(Payment.payment_id == payment_id).values(**values))

    def journal(self) -> list[tuple[str, str]]:
        lines = select(JournalEntry.actor, JournalEntry.why).order_by(JournalEntry.journal_key)
        with self.database.reading() as connection:
            return [tuple(line) for line in connection.execute(lines)]


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
    """The settings of the sandbox's merchant in the environment, and replicas that are quick."""
    structlog.reset_defaults()  # whatever ran before in this process
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    monkeypatch.setattr(comparing, "LAG_SECONDS", 0.05)
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("PAYHOOK_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    with Sandbox(settle_seconds=0.02) as box, box.client() as client:
        given = {
            "DATABASE_URL": url,
            "MERCHANT_ID": "sandbox",
            "API_KEY_ID": "sandbox-key",
            "API_SECRET": "sandbox-secret",
            "API_ENDPOINT": box.url,
            "GAP_SECONDS": "0.1",
        }
        for name, value in given.items():
            monkeypatch.setenv(f"PAYHOOK_{name}", value)
        database = open_database(load_settings(), threads=6, seconds=5)
        gateways = open_gateways(load_settings())
        yield House(database, gateways, client)
        for gateway in gateways.values():
            gateway.close()
        database.close()


@pytest.fixture
def worker(house: House) -> Iterator[None]:
    """A worker that sweeps all the time."""
    leaving = threading.Event()
    settings = load_settings(sweep_seconds=0.05)
    reconciler = Reconciler(house.database, house.gateways, settings)

    def work() -> None:
        while not leaving.wait(0.05):
            for key in rescue.sweep(house.database, 100).payment_keys:
                reconciler.payment(key)

    thread = threading.Thread(target=work)
    thread.start()
    yield
    leaving.set()
    thread.join()


def every_fate(sandbox: SandboxClient) -> list[str]:
    """A payment for each way that one can go."""
    for_each = (5, 1, 2, 46, 50, 51, 52)
    ids = [sandbox.create_payments(1, status_code=code, webhooks=False)[0] for code in for_each]
    fates: list[tuple[str, int | None, str]] = [
        ("capture", None, "done"),
        ("capture", 400, "done"),
        ("capture", 400, "refused"),
        ("capture", 400, "uncertain"),
        ("cancel", None, "done"),
        ("cancel", 300, "done"),
        ("cancel", None, "refused"),
    ]
    for kind, amount, outcome in fates:
        (payment_id,) = sandbox.create_payments(1, webhooks=False)
        ids.append(payment_id)
        operation_id = getattr(sandbox, kind)(payment_id, amount)
        sandbox.wait_until_delivered() if outcome == "done" else sandbox.settle(operation_id, outcome)
    for amount, outcome in ((None, "done"), (300, "done"), (300, "refused"), (300, "uncertain")):
        (payment_id,) = sandbox.create_payments(1, sale=True, webhooks=False)
        ids.append(payment_id)
        operation_id = sandbox.refund(payment_id, amount)
        sandbox.wait_until_delivered() if outcome == "done" else sandbox.settle(operation_id, outcome)
    return [*ids, *sandbox.create_payments(1, sale=True, webhooks=False)]


@everywhere
def test_nothing_differs_after_a_look(house: House) -> None:
    """Whatever became of the payments: authorised, captured, refunded, cancelled, in part, refused, uncertain."""
    known = house.know(*every_fate(house.sandbox))
    states = {row["status_code"] for row in house.sandbox.ledger()}

    result = house.run()

    first, last = result.stdout.splitlines()
    assert len(known) == 19
    assert len(states) >= 10
    assert result.exit_code == 0
    assert first.startswith("comparing all 19 payments, the one whose last look is longest ago first: ")
    assert last == "19 compared: 0 different, 0 in motion, 0 failed"


@everywhere
def test_what_was_done_in_the_portal_is_found(house: House) -> None:
    """Each difference on a line, with both sides, and exit code 1; nothing of ours has changed."""
    captured, other = house.know(*house.sandbox.create_payments(2, webhooks=False, merchant_reference="order"))
    operation_id = house.sandbox.capture(captured)
    house.sandbox.wait_until_delivered()
    journal = house.journal()

    result = house.run()

    assert result.exit_code == 1
    assert result.stdout.splitlines()[1:] == [
        f"sandbox/{captured}: state: authorised here, captured at the platform",
        f"sandbox/{captured}: status_code: 5 here, 9 at the platform",
        f"sandbox/{captured}: amount_captured: 0 here, 1000 at the platform",
        f"sandbox/{captured}: movement {operation_id}: nothing here, capture of 1000 EUR, done at the platform",
        "2 compared: 1 different, 0 in motion, 0 failed",
    ]
    assert house.journal() == journal
    assert house.told("--payment", f"{other}_0")["different"] == 0


def test_as_json_it_is_one_object(house: House) -> None:
    """With the columns of the schema as names."""
    (payment_id,) = house.know(*house.sandbox.create_payments(1, webhooks=False))
    house.change(payment_id, currency="USD")

    assert house.told(exit_code=1) == {
        "compared": 1,
        "different": 1,
        "in_motion": 0,
        "failed": 0,
        "differences": [
            {"merchant_id": "sandbox", "payment_id": payment_id, "what": "currency", "ours": "USD", "theirs": "EUR"}
        ],
        "failures": [],
    }


def test_what_is_compared_can_be_chosen(house: House) -> None:
    """By payment, by when it changed, by merchant, or by lot."""
    ids = house.know(*house.sandbox.create_payments(4, webhooks=False))
    with house.database.reading() as connection:
        changed_at = connection.execute(select(Payment.changed_at).where(Payment.payment_id == ids[2])).scalar_one()

    assert house.told()["compared"] == 4
    assert house.told("--sample", "3", "--merchant", "sandbox")["compared"] == 3
    assert house.told("--since", changed_at.isoformat())["compared"] == 2
    assert house.told("--since", "2d", "--payment", ids[0])["compared"] == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--payment", "4711"), "there is no payment 4711 here; the task payhook.reconcile makes one known"),
        (("--merchant", "acme"), "acme is not one of our merchants: sandbox"),
    ],
)
def test_what_is_not_there_is_refused(house: House, words: tuple[str, ...], told: str) -> None:
    """With a sentence."""
    result = house.run(*words)

    assert (result.exit_code, result.stderr) == (1, f"Error: {told}\n")


@pytest.mark.parametrize("words", [("--payment", "x"), ("--since", "yesterday"), ("--sample", "0"), ("--threads", "0")])
def test_wrong_usage_is_exit_code_two(house: House, words: tuple[str, ...]) -> None:
    """Before anything is asked of anybody."""
    assert house.run(*words).exit_code == 2


def test_a_payment_that_cannot_be_asked_for_is_a_failure(house: House) -> None:
    """It is told with its reason, and the exit code is 1: nobody knows whether it differs."""
    known = house.know(*house.sandbox.create_payments(2, webhooks=False))
    house.sandbox.fail(payment_id=known[0], status=400)

    told = house.told(exit_code=1)

    assert (told["compared"], told["failed"]) == (1, 1)
    assert told["failures"][0]["payment_id"] == known[0]
    assert "HTTP 400" in told["failures"][0]["why"]


def test_credentials_that_are_refused_end_it(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line for the merchant; the platform is not asked for the others in vain."""
    house.know(*house.sandbox.create_payments(30, webhooks=False))
    house.sandbox.fail(status=403)
    house.sandbox.forget_calls()

    result = house.run("--threads", "1")

    assert result.exit_code == 1
    assert house.sandbox.calls()["total"] == 2
    assert result.stdout.count("the platform is not asked for now, so no more was compared: ") == 1
    assert result.stdout.splitlines()[-1] == "0 compared: 0 different, 0 in motion, 30 failed"


def test_the_budget_is_kept(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted by the platform: what the looks' share allows in the time it took, and a burst of two seconds' worth."""
    house.know(*house.sandbox.create_payments(16, webhooks=False))
    monkeypatch.setenv("PAYHOOK_BUDGET_PER_SECOND", "20")
    with house.database.transaction() as connection:
        connection.execute(delete(Fact))
    house.sandbox.forget_calls()
    began = time.monotonic()

    told = house.told()

    took = time.monotonic() - began
    calls = house.sandbox.calls()["total"]
    assert told["compared"] == 16
    assert calls == 16 * 3
    assert calls <= 20 * 0.8 * (took + 2) + 3


@everywhere
def test_what_differs_is_brought_in_line_by_a_worker(house: House, worker: None) -> None:
    """By a hint, as when a person asks; the journal says who, and the exit code is 0 when all are in line."""
    ids = house.know(*house.sandbox.create_payments(3, webhooks=False))
    for payment_id in ids[:2]:
        house.sandbox.capture(payment_id)
    house.sandbox.wait_until_delivered()

    result = house.run("--fix")

    assert result.exit_code == 0, result.output
    for payment_id in ids[:2]:
        assert f"sandbox/{payment_id}: in line now" in result.stdout.splitlines()
    assert result.stdout.splitlines()[-1] == "3 compared: 2 different, 2 of them in line now, 0 in motion, 0 failed"
    (actor, why) = next(line for line in house.journal() if line[1].startswith("drift: "))
    assert actor == f"cli:{getpass.getuser()}"
    assert why.startswith("drift: state was authorised here, captured there; status_code was 5 here, 9 there; ")
    assert house.told()["different"] == 0


def test_without_a_worker_what_differs_is_due(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is said after a while, and the exit code is 1."""
    monkeypatch.setattr(fixing, "PATIENCE_SECONDS", 0.3)
    (payment_id,) = house.know(*house.sandbox.create_payments(1, webhooks=False))
    house.change(payment_id, status_code=9)

    result = house.run("--fix")

    assert result.exit_code == 1
    assert f"sandbox/{payment_id}: due; no worker has looked at it yet (does one run?)" in result.stdout
    assert house.payment(1).wanted == house.payment(1).applied + 1


def test_what_a_look_does_not_mend_differs_still(house: House, worker: None) -> None:
    """A movement that the platform does not list is never deleted here: a person must know of it."""
    (payment_id,) = house.sandbox.create_payments(1, webhooks=False)
    house.sandbox.capture(payment_id)
    house.sandbox.wait_until_delivered()
    (payment_id,) = house.know(payment_id)
    with house.database.transaction() as connection:
        connection.execute(update(Movement).values(platform_operation_id=f"{payment_id}_9"))

    result = house.run("--fix")

    assert result.exit_code == 1
    assert f"differs still: movement {payment_id}_9: capture of 1000 EUR, done here, nothing at the" in result.stdout
    assert result.stdout.splitlines()[-1].startswith("1 compared: 1 different, 0 of them in line now")


def test_there_may_be_nothing_to_compare(house: House) -> None:
    """That is no difference."""
    result = house.run()

    assert (result.exit_code, result.stdout.splitlines()[0]) == (0, "there is no such payment")


def interrupted(folder: Path, once: str) -> tuple[int, str]:
    """What the command writes to a terminal of 80 columns, given Ctrl-C once it has written this; its exit code."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    # Whoever starts the tests in the background has them, and so the command, ignore the signal of Ctrl-C.
    command = ["env", "--default-signal=INT", program("payhook"), "drift", "--threads", "1"]
    process = subprocess.Popen(command, cwd=folder, env={**os.environ, "TERM": "xterm"}, stdout=its, stderr=its)
    os.close(its)
    said, is_sent = "", False
    while True:
        try:
            said += os.read(ours, 65536).decode(errors="replace")
        except OSError:  # how Linux tells that the other end is closed
            break
        if once in said and not is_sent:
            is_sent = True
            process.send_signal(signal.SIGINT)
    os.close(ours)
    return process.wait(), said


def test_on_a_terminal_a_bar_shows_how_far_it_is_and_ctrl_c_ends_it(house: House, tmp_path: Path) -> None:
    """What was found so far is told, with exit code 1 for what differs; no other look begins."""
    ids = house.know(*house.sandbox.create_payments(25, status_code=2, webhooks=False))
    house.change(ids[0], status_code=9)
    house.sandbox.settings(latency_seconds=0.2)
    house.sandbox.forget_calls()
    line = f"sandbox/{ids[0]}: status_code: 9 here, 2 at the platform"

    code, said = interrupted(tmp_path, line)

    assert code == 1, said
    assert "/25" in said
    assert "ended early; what follows is what was found so far" in said
    assert " compared: 1 different, 0 in motion, 0 failed" in said
    assert house.sandbox.calls()["total"] < 25
