"""`payhook doctor`: each line turns with its fault, names the cause, and its hint, followed, mends it."""

import json
import os
import re
import shlex
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from click.testing import CliRunner, Result
from cryptography.fernet import Fernet
from rich.console import Console
from sqlalchemy import select, update
from werkzeug.serving import make_server

from ingress import create_app
from ingress.cli import main
from ingress.cli.doctor import print_check
from ingress.doctor import GROUPS, Check, Finding, State
from sandbox import Sandbox
from tests.ingress.conftest import Start, program
from tests.servers.ports import free_port
from tests.servers.postgres_server import PostgresServer
from tests.servers.process_tree import wait_for
from tests.servers.redis_server import RedisServer
from tests.worker.conftest import MERCHANT, FakePlatform, deliver_to, moved, settings_of, view_of
from tests.worker.till import PAYMENT, Till
from worker import rescue, upkeep
from worker.database import Database, migrate, now, open_database, seconds_from_now
from worker.gateways.gateway import CredentialsRefused, OutcomeUnknown, SlowDown
from worker.lifecycle import MovementKind
from worker.models import JOB_FACT, SWEEP_FACT, Fact, Payment, WebhookEvent
from worker.operations.moves import note_anomaly
from worker.settings import load_settings
from worker.traffic import Traffic

CAPTURE = MovementKind.CAPTURE
API_SECRET = "api-secret-that-is-never-shown"
WEBHOOK_KEY, WEBHOOK_SECRET = "portal-key", "webhook-secret-that-is-never-shown"
SECRETS = (API_SECRET, WEBHOOK_SECRET, "password-that-is-never-shown")

LINES = {line for group in GROUPS.values() for line in group}

Told = dict[str, dict[str, Any]]


@dataclass
class Patient:
    """An installation in good health, until a test does something to it."""

    url: str
    box: Sandbox
    folder: Path
    monkeypatch: pytest.MonkeyPatch
    said: list[Result] = field(default_factory=list)

    @cached_property
    def database(self) -> Database:
        return open_database(load_settings(), threads=4, seconds=5)

    @cached_property
    def till(self) -> Till:
        """The worker, in steps; its platform is a fake one, for the doctor asks the sandbox."""
        return Till(self.database, FakePlatform(), settings_of())

    @cached_property
    def traffic(self) -> Traffic:
        return Traffic(self.database, settings_of())

    def set(self, name: str, value: str) -> None:
        self.monkeypatch.setenv(f"PAYHOOK_{name}", value)

    def run(self, *words: str, stdin: str | None = None) -> Result:
        """A command, which must end without a traceback."""
        self.said.append(CliRunner().invoke(main, words, input=stdin, prog_name="payhook"))
        result = self.said[-1]
        assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
        return result

    def examine(self) -> tuple[int, Told]:
        """The doctor's exit code, and its lines by name."""
        result = self.run("doctor", "--json")
        told = json.loads(result.stdout)
        assert told["ok"] == (result.exit_code == 0) == all(one["state"] == "ok" for one in told["checks"])
        named = {one["name"]: one for one in told["checks"]}
        assert LINES - {name.removesuffix(f" {MERCHANT}") for name in named} <= {"disk", "integrity"}
        return result.exit_code, named

    def follow(self, hint: str, command: str, *, stdin: str | None = None, **instead: str) -> Result:
        """Do what the hint says: its command that begins so, with something in place of each word in capitals."""
        (found,) = [one for one in re.findall(r"`payhook ([^`]+)`", hint) if one.startswith(command)]
        words = [instead.get(word, word.partition("|")[0]) for word in shlex.split(found)]
        result = self.run(*words, stdin=stdin)
        assert result.exit_code == 0, result.output
        return result

    def change(self, table: Any, where: Any, **values: Any) -> None:
        with self.database.transaction() as connection:
            assert connection.execute(update(table).where(where).values(**values)).rowcount > 0

    def sweep(self) -> None:
        rescue.sweep(self.database, 300)


@pytest.fixture
def patient(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logs_as_they_were: None
) -> Iterator[Patient]:
    """Everything there is and well: database, keys, platform, and a worker that has just swept."""
    structlog.reset_defaults()  # whatever ran before in this process
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())  # a worker's logs are no part of a command's
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for name in [name for name in os.environ if name.startswith("PAYHOOK_")]:
        monkeypatch.delenv(name)
    with Sandbox(settle_seconds=0.02, webhooks={"key_id": WEBHOOK_KEY, "secret": WEBHOOK_SECRET}) as box:
        box.client().add_merchant(MERCHANT, "acme-key", API_SECRET)
        patient = Patient(sqlite_url, box, tmp_path, monkeypatch)
        given = {"MERCHANT_ID": MERCHANT, "API_KEY_ID": "acme-key", "API_SECRET": API_SECRET, "API_ENDPOINT": box.url}
        for name, value in {"DATABASE_URL": sqlite_url, **given}.items():
            patient.set(name, value)
        assert patient.run("keys", "add", WEBHOOK_KEY, stdin=WEBHOOK_SECRET).exit_code == 0
        patient.sweep()
        yield patient
        patient.database.close()
    for result in patient.said:
        assert not [secret for secret in SECRETS if secret in result.output + repr(result.exception)]


def test_all_is_well(patient: Patient) -> None:
    """Exit code 0; every line there is says why it is well, and has nothing to do."""
    code, told = patient.examine()

    assert [name for name, one in told.items() if one["state"] != "ok"] == []
    assert code == 0
    assert {name.removesuffix(f" {MERCHANT}") for name in told} == LINES
    assert all(one["why"] and one["what_to_do"] is None for one in told.values())


@dataclass(frozen=True)
class Row:
    """A fault, what its line then says, and what following the hint does."""

    line: str
    fault: Callable[[Patient], object]
    state: str
    why: str
    mend: Callable[[Patient, str], object]


def of(line: str) -> str:
    return f"{line} {MERCHANT}"


# The settings and the machine.


def wrong_setting(patient: Patient) -> None:
    patient.set("BUDGET_PER_SECOND", "fast")


def right_setting(patient: Patient, hint: str) -> None:
    assert "correct PAYHOOK_BUDGET_PER_SECOND;" in hint
    patient.set("BUDGET_PER_SECOND", "100")


def become(user: int) -> Callable[[Patient], None]:
    return lambda patient: patient.monkeypatch.setattr(os, "geteuid", lambda: user)


def another_user(patient: Patient, hint: str) -> None:
    assert re.search(r"`sudo -u \w+ payhook doctor`", hint)
    become(1000)(patient)


def room(mebibytes: int) -> Callable[[Patient], None]:
    usage = SimpleNamespace(total=2**30, free=mebibytes * 2**20)
    return lambda patient: patient.monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)


def make_room(patient: Patient, hint: str) -> None:
    assert f"make room in {patient.folder}: 500 MiB" in hint
    room(500)(patient)


# The database.


def lose_the_file(patient: Patient) -> None:
    patient.database.close()
    for path in patient.folder.glob("payhook.db*"):
        path.unlink()


def of_an_older_version(patient: Patient) -> None:
    lose_the_file(patient)
    migrate(patient.url, "0002")


def damage(patient: Patient) -> None:
    """A bad block in the middle of a table; there is a backup."""
    patient.database.close()
    path = patient.folder / "payhook.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'movements'").fetchone()
    connection.close()
    shutil.copy(path, patient.folder / "backup")
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * 100)


def restore(patient: Patient, hint: str) -> None:
    path = patient.folder / "payhook.db"
    assert f"put the newest backup in the place of {path}" in hint
    for beside in patient.folder.glob("payhook.db-*"):
        beside.unlink()
    shutil.copy(patient.folder / "backup", path)


# The workers. That the command starts one, the processes below show; here the worker does what it does then.


def no_sweep(patient: Patient) -> None:
    long_ago = datetime.now(UTC) - timedelta(minutes=5)
    patient.change(Fact, Fact.name == SWEEP_FACT, value={"at": long_ago.isoformat()})


def by_a_sweep(patient: Patient, hint: str) -> None:
    assert "`payhook up`" in hint
    patient.sweep()


# The platform.


def wrong_secret(patient: Patient) -> None:
    patient.set("API_SECRET", "of-another-merchant")


def right_secret(patient: Patient, hint: str) -> None:
    assert "set PAYHOOK_API_KEY_ID and PAYHOOK_API_SECRET" in hint
    patient.set("API_SECRET", API_SECRET)


def nobody_there(patient: Patient) -> None:
    patient.set("API_ENDPOINT", f"http://127.0.0.1:{free_port()}")


def right_endpoint(patient: Patient, hint: str) -> None:
    assert "correct PAYHOOK_API_ENDPOINT" in hint
    patient.set("API_ENDPOINT", patient.box.url)


def other_time(seconds: float, **more: Any) -> Callable[[Patient], None]:
    def fault(patient: Patient) -> None:
        date = formatdate(datetime.now(UTC).timestamp() + seconds, usegmt=True)
        patient.box.client().fail(call="test_connection", headers={"Date": date}, **more)

    return fault


def set_the_clock(patient: Patient, hint: str) -> None:
    assert "`timedatectl set-ntp true`" in hint
    patient.box.client().mend()


def refused_twice(patient: Patient) -> None:
    wrong_secret(patient)
    for payment_key in (1, 2):
        patient.traffic.made(MERCHANT, payment_key, CredentialsRefused("get_payment: HTTP 403 9007"))


def mend_the_credentials(patient: Patient, hint: str) -> None:
    assert f'mend what "credentials {MERCHANT}" says' in hint
    right_secret(patient, patient.examine()[1][of("credentials")]["what_to_do"])
    patient.traffic.made(MERCHANT, 3, None)


def too_many(patient: Patient) -> None:
    patient.traffic.made(MERCHANT, 1, SlowDown("get_payment: HTTP 429", http_status=429))


def a_lower_budget(patient: Patient, hint: str) -> None:
    (lower,) = re.findall(r"set PAYHOOK_BUDGET_PER_SECOND=(\d+)", hint)
    patient.set("BUDGET_PER_SECOND", lower)
    slowed_at = datetime.now(UTC).timestamp() - 61  # no 429 for a minute
    patient.change(Fact, Fact.name == f"budget:{MERCHANT}", value={"factor": 0.5, "slowed_at": slowed_at})


# The webhooks.


def no_keys(patient: Patient) -> None:
    assert patient.run("keys", "remove", WEBHOOK_KEY).exit_code == 0


def add_the_key(patient: Patient, hint: str) -> None:
    patient.follow(hint, "keys add", KEY_ID=WEBHOOK_KEY, stdin=WEBHOOK_SECRET)


def last_days(patient: Patient) -> None:
    assert patient.run("keys", "retire", WEBHOOK_KEY).exit_code == 0


def add_the_next(patient: Patient, hint: str) -> None:
    patient.follow(hint, "keys add", KEY_ID="next-key", stdin=WEBHOOK_SECRET)


def regenerated(patient: Patient) -> None:
    """Somebody has made a new pair in the portal: the old one is void at once."""
    patient.box.client().regenerate_webhook_key(key_id="new-key", secret=WEBHOOK_SECRET[::-1])


def add_the_new(patient: Patient, hint: str) -> None:
    assert "from the platform's portal" in hint
    patient.follow(hint, "keys add", KEY_ID="new-key", stdin=WEBHOOK_SECRET[::-1])


def watch(patient: Patient, jobs: Mapping[str, upkeep.Job] = upkeep.JOBS) -> None:
    """The job that watches for webhooks runs."""
    with patient.database.transaction() as connection:
        upkeep.enrol(connection)
        chosen = select(Fact.fact_key).where(Fact.name == f"{JOB_FACT}webhooks")
        key = connection.execute(chosen).scalar_one()
        connection.execute(update(Fact).where(Fact.fact_key == key).values(due_at=now()))
    tools = upkeep.Tools(patient.database, {}, load_settings(), patient.traffic)
    done = upkeep.Upkeep(tools, jobs).job(key)
    assert (done is not None) is (jobs is upkeep.JOBS)


def silence(patient: Patient) -> None:
    deliver_to(patient.database)(PAYMENT)
    patient.change(WebhookEvent, WebhookEvent.payment_id == PAYMENT, received_at=seconds_from_now(-48 * 3600.0))
    patient.till.look()
    patient.change(WebhookEvent, WebhookEvent.payment_id == PAYMENT, due_at=None, done_at=now(), outcome="reconciled")
    watch(patient)


def right_address(patient: Patient, hint: str) -> None:
    assert "set the webhook URL in the platform's portal to this ingress's" in hint
    server = make_server("127.0.0.1", 0, create_app())
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with patient.box.client() as portal:
        portal.settings(webhooks={"urls": [f"http://127.0.0.1:{server.port}/webhooks"]})
        portal.create_payments(merchant_id=MERCHANT)
        portal.wait_until_delivered()
    server.shutdown()
    watch(patient)


# What waits.


def late_event(patient: Patient) -> None:
    deliver_to(patient.database)(PAYMENT)
    patient.change(WebhookEvent, WebhookEvent.payment_id == PAYMENT, received_at=seconds_from_now(-300.0))


def look_at_the_event(patient: Patient, hint: str) -> None:
    by_a_sweep(patient, hint)
    patient.till.reconciler.event(1)


def overdue_payment(patient: Patient) -> None:
    patient.till.look()
    patient.change(Payment, Payment.payment_id == PAYMENT, due_at=seconds_from_now(-300.0))


def unheard_request(patient: Patient) -> None:
    patient.till.change(patient.till.ask(CAPTURE, 400), created_at=seconds_from_now(-300.0))


def hear_it(patient: Patient, hint: str) -> None:
    by_a_sweep(patient, hint)
    patient.till.look()


def overdue_operation(patient: Patient) -> None:
    key = int(patient.till.asked(CAPTURE, 400).operation_key)
    patient.till.change(key, due_at=seconds_from_now(-300.0))


def overdue_job(patient: Patient) -> None:
    watch(patient)
    patient.change(Fact, Fact.name == f"{JOB_FACT}webhooks", due_at=seconds_from_now(-300.0))


def failing_job(patient: Patient) -> None:
    def broken(*_: object) -> upkeep.Done:
        raise PermissionError("4111111111111111")

    watch(patient, {"webhooks": broken})


def until_it_succeeds(patient: Patient, hint: str) -> None:
    assert "mend that" in hint
    watch(patient)


# What needs a person.


def lost_answer(patient: Patient) -> None:
    key = int(patient.till.asked(CAPTURE, 400).operation_key)
    patient.till.platform.refusals.append(OutcomeUnknown("capture_payment: no answer"))
    patient.till.step(key)
    patient.till.change(key, created_at=seconds_from_now(-300.0))


def look_it_up(patient: Patient, hint: str) -> None:
    by_a_sweep(patient, hint)
    for _ in range(2):  # what the platform does not list is sent again under its key
        patient.till.step(1)
        patient.till.look()
        patient.till.step(1)
    patient.follow(hint, "operations show")


def ask_a_person(patient: Patient) -> None:
    key = int(patient.till.asked(CAPTURE, 400).operation_key)
    patient.till.change(key, state="review", due_at=None, reason="Has this been made?")


def decide(patient: Patient, hint: str) -> None:
    patient.follow(hint, "operations show")
    patient.follow(hint, "operations resolve", WHY="capture 3254564310_1 in the portal")


def contradict(patient: Patient) -> None:
    key = int(patient.till.asked(CAPTURE, 400).operation_key)
    patient.till.change(key, state="refused", due_at=None)
    with patient.database.transaction() as connection:
        note_anomaly(connection, patient.till.row(key), "it is refused here, and the platform lists 3254564310_1")


def acknowledge(patient: Patient, hint: str) -> None:
    patient.follow(hint, "operations acknowledge", WHAT="refunded in the order system")


def last_day(patient: Patient) -> None:
    patient.till.look()
    patient.change(Payment, Payment.payment_id == PAYMENT, expires_at=seconds_from_now(86400.0))


def capture_it(patient: Patient, hint: str) -> None:
    patient.follow(hint, "operations capture")
    patient.till.look()
    patient.till.step(1)
    done = moved(f"{PAYMENT}_1", CAPTURE, 1000)
    patient.till.platform.truth[PAYMENT] = view_of(PAYMENT, done, code=9, acquired=1000)
    patient.till.look()


def give_up(patient: Patient) -> None:
    patient.till.look()
    patient.change(
        Payment, Payment.payment_id == PAYMENT, due_at=None, problem="the platform knows no such payment", failures=3
    )


def look_again(patient: Patient, hint: str) -> None:
    patient.follow(hint, "payments reconcile")
    patient.till.look()


def set_aside(patient: Patient) -> None:
    """As a version did that did not know this kind of event."""
    deliver_to(patient.database)(PAYMENT)
    kept = {"done_at": now(), "due_at": None, "outcome": "quarantined", "problem": "its type is not known"}
    patient.change(WebhookEvent, WebhookEvent.payment_id == PAYMENT, **kept)


def replay(patient: Patient, hint: str) -> None:
    patient.follow(hint, "events replay")
    patient.till.reconciler.event(1)


ROWS = {
    "a wrong setting": Row("settings", wrong_setting, "failed", "PAYHOOK_BUDGET_PER_SECOND: ", right_setting),
    "root": Row("user", become(0), "warning", "root: ", another_user),
    "little room": Row("disk", room(499), "warning", "499 MiB of 1024 are free in ", make_room),
    "no room": Row("disk", room(49), "failed", "49 MiB of 1024 are free in ", make_room),
    "no database": Row(
        "database", lose_the_file, "failed", "there is no file ", lambda one, hint: one.follow(hint, "migrate")
    ),
    "an older schema": Row(
        "revision", of_an_older_version, "failed", "is at revision 0002", lambda one, hint: one.follow(hint, "migrate")
    ),
    "a damaged file": Row("integrity", damage, "failed", r"payhook\.db is damaged", restore),
    "no worker, by its sweep": Row("workers", no_sweep, "failed", "the last was 300 s ago", by_a_sweep),
    "nobody consumes, by the sweep": Row("queues", no_sweep, "failed", "the last was 300 s ago", by_a_sweep),
    "no sweep": Row("sweep", no_sweep, "failed", "the last was 300 s ago", by_a_sweep),
    "wrong credentials": Row(of("credentials"), wrong_secret, "failed", "refuses us: .*HTTP 403", right_secret),
    "no platform": Row(of("credentials"), nobody_there, "failed", "gives no answer: .*never left", right_endpoint),
    "refused for the clock": Row(
        of("credentials"), other_time(400, status=403), "failed", "refuses us: .*HTTP 403", set_the_clock
    ),
    "a clock that is off": Row(of("clock"), other_time(100), "warning", r"(100|99) s behind the pl", set_the_clock),
    "a clock that is wrong": Row(of("clock"), other_time(-400), "failed", r"40\d s ahead of the pl", set_the_clock),
    "an open circuit": Row(
        of("circuit"), refused_twice, "failed", "open since .*, next try .*: .*HTTP 403", mend_the_credentials
    ),
    "too many requests": Row(
        of("budget"), too_many, "warning", r"150 requests a second in place of 300: .* 429", a_lower_budget
    ),
    "no key": Row("key store", no_keys, "failed", "there is none: every webhook is answered 401", add_the_key),
    "the last key ends": Row("key store", last_days, "warning", f"the last key of acme, {WEBHOOK_KEY}, ", add_the_next),
    "another key in the portal": Row(
        of("webhook key"), regenerated, "failed", f"knows none of {WEBHOOK_KEY} ", add_the_new
    ),
    "no webhooks": Row(of("webhooks"), silence, "failed", "missed since .*, and 1 payments have moved", right_address),
    "a late event": Row("events", late_event, "failed", "1 wait, the oldest for 5 min", look_at_the_event),
    "an overdue payment": Row("payments", overdue_payment, "failed", "due for 5 min", by_a_sweep),
    "a request nobody heard": Row("operations", unheard_request, "failed", "asked for 5 min ago", hear_it),
    "an overdue operation": Row("operations", overdue_operation, "failed", "due for 5 min", by_a_sweep),
    "an overdue job": Row("jobs", overdue_job, "failed", "due for 5 min", by_a_sweep),
    "a failing job": Row(
        "jobs", failing_job, "failed", "webhooks has failed since .* PermissionError at", until_it_succeeds
    ),
    "a lost answer": Row("unknown outcome", lost_answer, "warning", "of 1 operations .* 5 min ago", look_it_up),
    "a question": Row("review", ask_a_person, "warning", "1 operations wait for a person", decide),
    "a contradiction": Row("anomalies", contradict, "warning", "the newest 1: it is refused here", acknowledge),
    "an authorisation ends": Row("expiring", last_day, "warning", f"the first {PAYMENT} of acme at ", capture_it),
    "a parked payment": Row("parked", give_up, "warning", f"{PAYMENT} of acme: the platform knows no such", look_again),
    "a quarantined event": Row("quarantined", set_aside, "warning", "the newest 1: its type is not known", replay),
}


@pytest.mark.parametrize("fault", ROWS)
def test_a_fault_turns_its_line_and_the_hint_mends_it(patient: Patient, fault: str) -> None:
    """The line names the cause, the exit code is 1; once the hint has been followed, it is well."""
    row = ROWS[fault]
    row.fault(patient)

    code, told = patient.examine()
    line = told[row.line]
    row.mend(patient, line["what_to_do"])
    after = patient.examine()[1][row.line]

    assert (code, line["state"]) == (1, row.state)
    assert re.search(row.why, line["why"]), line["why"]
    assert (after["state"], after["what_to_do"]) == ("ok", None), after["why"]


def test_every_line_has_a_fault_that_turns_it() -> None:
    """All but the broker, which has servers of its own below."""
    turned = {row.line.removesuffix(f" {MERCHANT}") for row in ROWS.values()}

    assert LINES - turned == {"broker"}


# With servers and processes.


def test_the_command_of_a_hint_starts_what_it_says(patient: Patient, start: Start) -> None:
    """`payhook up` is what all lines of the workers ask for when there is no other broker, and it mends them."""
    no_sweep(patient)
    lines = ("workers", "queues", "sweep")
    told = patient.examine()[1]

    up = start(program("payhook"), "up", "--port", "0", **settings_in_force())
    up.wait_until('"up"')
    well = wait_for(lambda: all(patient.examine()[1][line]["state"] == "ok" for line in lines), 20)

    assert all("`payhook up`" in told[line]["what_to_do"] for line in lines)
    assert well, patient.examine()[1]


def settings_in_force() -> dict[str, str]:
    return {name.removeprefix("PAYHOOK_"): value for name, value in os.environ.items() if name.startswith("PAYHOOK_")}


def test_a_broker_that_refuses_us_and_a_queue_that_nobody_consumes_are_named(
    patient: Patient, start: Start, rabbitmq_url: str
) -> None:
    """A worker of some queues is no worker for the others; with one of ours every line of theirs is well."""
    patient.set("BROKER_URL", rabbitmq_url.replace("guest:guest", "guest:password-that-is-never-shown"))
    refused = patient.examine()[1]["broker"]
    patient.set("BROKER_URL", rabbitmq_url)
    none = patient.examine()[1]
    some = start(
        program("celery"), "-A", "worker", "worker", "-P", "solo", "-Q", "payhook.events,celery", **settings_in_force()
    )
    some.wait_until(" ready")

    left_out = patient.examine()[1]
    start(program("payhook"), "work", "--concurrency", "1", **settings_in_force()).wait_until(" ready")
    code, well = patient.examine()

    assert (refused["state"], "AccessRefused" in refused["why"]) == ("failed", True), refused["why"]
    assert "correct PAYHOOK_BROKER_URL" in refused["what_to_do"]
    assert (none["broker"]["state"], none["workers"]["state"], none["queues"]["state"]) == ("ok", "failed", "failed")
    assert "`payhook work`" in none["workers"]["what_to_do"]
    assert (left_out["workers"]["state"], left_out["queues"]["state"]) == ("ok", "failed")
    assert left_out["queues"]["why"] == "nobody consumes payhook.operations"
    assert "`payhook work`" in left_out["queues"]["what_to_do"]
    assert "2 answered: " in well["workers"]["why"]
    assert code == 0, well


def test_a_broker_that_is_away_is_named_and_is_well_once_it_is_started(
    patient: Patient, start: Start, redis_url: str, redis_server: RedisServer
) -> None:
    """Who listens to it is not known meanwhile, and that is said."""
    patient.set("BROKER_URL", redis_url)
    redis_server.kill()

    code, away = patient.examine()
    redis_server.start()
    start(program("payhook"), "work", "--concurrency", "1", **settings_in_force()).wait_until(" ready")
    back = patient.examine()[1]

    assert (code, away["broker"]["state"]) == (1, "failed")
    assert str(redis_server.port) in away["broker"]["why"]
    assert f"start Redis at redis://127.0.0.1:{redis_server.port}" in away["broker"]["what_to_do"]
    assert [away[line]["state"] for line in ("workers", "queues")] == ["unknown", "unknown"]
    assert [back[line]["state"] for line in ("broker", "workers", "queues")] == ["ok", "ok", "ok"], back


def test_a_database_that_died_is_named_and_is_well_once_it_is_started(
    patient: Patient, postgres_url: str, postgres_server: PostgresServer
) -> None:
    """What is in it is not known meanwhile; whatever is not in it is told as ever."""
    patient.set("DATABASE_URL", postgres_url)
    patient.set("KEY_STORE", "memory:")
    patient.set("WEBHOOK_KEYS", f"{WEBHOOK_KEY}={WEBHOOK_SECRET}")
    assert patient.run("migrate").exit_code == 0
    postgres_server.kill()

    code, away = patient.examine()
    postgres_server.start()
    back = patient.examine()[1]

    of_the_database = ("revision", "sweep", of("circuit"), *GROUPS["waiting"], *GROUPS["for a person"])
    of_others = ("settings", "broker", "key store", of("credentials"), of("clock"), of("webhook key"))
    address = f"postgresql+psycopg://127.0.0.1:{postgres_server.port}/"
    assert (code, away["database"]["state"]) == (1, "failed")
    assert f"start PostgreSQL at {address}" in away["database"]["what_to_do"]
    assert {away[line]["state"] for line in of_the_database} == {"unknown"}
    assert {away[line]["state"] for line in of_others} == {"ok"}
    assert back["database"]["state"] == "ok"
    assert re.match(r"PostgreSQL \d+\.\d+ at ", back["database"]["why"])


def test_with_everything_frozen_every_line_has_its_say_within_ten_seconds(
    patient: Patient, postgres_url: str, postgres_server: PostgresServer, redis_url: str, redis_server: RedisServer
) -> None:
    """Database, broker and platform take connections and never answer, which is worse than being away."""
    patient.set("DATABASE_URL", postgres_url)
    patient.set("BROKER_URL", redis_url)
    patient.set("ENCRYPTION_KEYS", Fernet.generate_key().decode())
    lines = set(patient.examine()[1])
    patient.box.client().fail("hang")
    postgres_server.freeze()
    redis_server.freeze()

    began = time.monotonic()
    code, told = patient.examine()
    took = time.monotonic() - began

    assert took < 10
    assert code == 1
    assert set(told) == lines
    assert [told[line]["state"] for line in ("database", "broker", of("credentials"))] == ["failed"] * 3
    assert {told[line]["state"] for line in ("settings", "user")} == {"ok"}
    assert {one["state"] for one in told.values()} == {"ok", "failed", "unknown"}
    assert all(one["what_to_do"] for one in told.values() if one["state"] != "ok")


# How it is shown.


def test_people_see_each_line_in_its_group_and_what_is_not_well_once_more_at_the_end(patient: Patient) -> None:
    """The state is a word, not only a colour; what to do stands under why."""
    no_keys(patient)

    result = patient.run("doctor")

    lines = result.stdout.splitlines()
    at = next(number for number, line in enumerate(lines) if re.match(r"  failed +key store ", line))
    assert result.exit_code == 1
    assert [line for line in lines if line in GROUPS] == list(GROUPS)
    assert lines[at + 1].strip() == "→ `payhook keys add KEY_ID`"
    assert lines[-2:] == ["not well: key store", f"not known: {of('webhook key')}"]


def test_it_fits_the_terminal(patient: Patient) -> None:
    """What has no room goes on below, under itself; names and states are whole."""
    console = Console(width=80, force_terminal=True, color_system="standard")
    why = "the last was 300 s ago: no worker runs, or none reaches the database, and so it goes on for long"
    check = Check("sweep", None, Finding(State.FAILED, why, "start one: `payhook work`"))

    with console.capture() as drawn:
        print_check(console, check, 20)

    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in drawn.get().splitlines()]
    assert "\x1b[1;31mfailed" in drawn.get()
    assert max(map(len, lines)) <= 80
    assert [line[:32].strip() for line in lines] == ["failed  sweep", *[""] * (len(lines) - 1)]
    assert " ".join(line[32:] for line in lines) == f"{why} → start one: `payhook work`"


def test_what_came_from_outside_is_no_command_of_the_terminal(patient: Patient) -> None:
    """The platform's and other people's words are shown with a mark in place of what does not print."""
    give_up(patient)
    patient.change(Payment, Payment.payment_id == PAYMENT, problem="odd \x1b]0;title\x07 words")

    result = patient.run("doctor")

    assert "odd ?]0;title? words" in result.stdout


def test_settings_are_listed_with_their_origin_and_without_their_secrets(patient: Patient) -> None:
    """Environment, .env, a file, default; what is wrong says so, and the exit code is 1."""
    (patient.folder / ".env").write_text("PAYHOOK_POLICY=manual\nPAYHOOK_LOG_FORMAT=xml\n")
    (patient.folder / "broker-secret").write_text("amqp://me:password-that-is-never-shown@broker.test:5672/shop\n")
    patient.set("BROKER_URL_FILE", str(patient.folder / "broker-secret"))

    result = patient.run("doctor", "--settings", "--json")
    shown = patient.run("doctor", "--settings")

    told = {row["name"]: (row["value"], row["origin"]) for row in json.loads(result.stdout)}
    assert result.exit_code == shown.exit_code == 1
    assert told["PAYHOOK_MERCHANT_ID"] == (MERCHANT, "environment")
    assert told["PAYHOOK_POLICY"] == ("manual", ".env")
    assert told["PAYHOOK_BROKER_URL"] == ("amqp://broker.test:5672/shop", "environment, PAYHOOK_BROKER_URL_FILE")
    assert told["PAYHOOK_API_SECRET"] == ("set", "environment")
    assert told["PAYHOOK_SWEEP_SECONDS"] == ("5.0", "default")
    assert told["PAYHOOK_LOG_FORMAT"] == ("not usable", ".env")
    assert "PAYHOOK_LOG_FORMAT: Input should be 'console' or 'json'" in shown.output


def test_a_wrong_database_setting_is_not_replaced_by_the_default(patient: Patient) -> None:
    """A database that nobody meant tells nothing of this installation; nor is it made."""
    patient.set("DATABASE_URL", "mysql://me:password-that-is-never-shown@db.test/shop")
    patient.database.close()
    before = sorted(patient.folder.iterdir())

    told = patient.examine()[1]

    assert "PAYHOOK_DATABASE_URL: a database of another kind" in told["settings"]["why"]
    assert {told[line]["state"] for line in ("database", "revision", *GROUPS["waiting"])} == {"unknown"}
    assert told["database"]["why"] == "PAYHOOK_DATABASE_URL is wrong"
    assert told[of("credentials")]["state"] == "ok"
    assert sorted(patient.folder.iterdir()) == before
