"""Every process starts with what it needs, refuses with one sentence, leaves when told, and outlives its servers."""

import shutil
import sqlite3
import subprocess
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from sqlalchemy import select, text

from tests.end_to_end.processes import Process
from tests.ingress.conftest import KEY_ID, SECRET, Start, event_body, program, signed
from tests.servers.ports import free_port
from tests.servers.postgres_server import PostgresServer
from tests.servers.process_tree import kill_tree, tree
from worker.database import Database, migrate
from worker.models import WebhookEvent

REPOSITORY = Path(__file__).parents[3]
LEAVES_WITHIN_SECONDS = 10.0

KEYS = {"KEY_STORE": "memory:", "WEBHOOK_KEYS": f"{KEY_ID}={SECRET}"}
MERCHANT = {"MERCHANT_ID": "acme", "API_KEY_ID": "key", "API_SECRET": "secret"}
FAR_BROKER = {"BROKER_URL": f"amqp://127.0.0.1:{free_port()}//"}

#: Commands, and the settings without which none of them can do its work.
COMMANDS: dict[str, tuple[list[str | Path], dict[str, str]]] = {
    "payhook migrate": ([program("payhook"), "migrate"], {}),
    "payhook up": ([program("payhook"), "up", "--port", "0"], {**KEYS, **MERCHANT}),
    "payhook serve": ([program("payhook"), "serve", "--port", str(free_port())], {**KEYS, **FAR_BROKER}),
    "payhook work": ([program("payhook"), "work"], {**KEYS, **MERCHANT, **FAR_BROKER}),
    "flask": ([program("flask"), "--app", "ingress", "run", "--port", "0"], KEYS),
    "gunicorn": (
        [program("gunicorn"), "--no-control-socket", "--bind", "127.0.0.1:0", "ingress:create_app()"],
        KEYS,
    ),
    "alembic": ([program("alembic"), "-c", REPOSITORY / "alembic.ini", "upgrade", "head"], {}),
    "celery": ([program("celery"), "-A", "worker", "worker"], {**MERCHANT, **FAR_BROKER}),
}

UNKNOWN_NAME = "PAYHOOK_POLICYY is not a setting; did you mean PAYHOOK_POLICY?"
WRONG_VALUE = "PAYHOOK_DATABASE_URL: a database of another kind; use sqlite:///FILE or postgresql+psycopg://…"
NO_MERCHANT = (
    "no merchant is set: give PAYHOOK_MERCHANT_ID, PAYHOOK_API_KEY_ID and PAYHOOK_API_SECRET, "
    "or PAYHOOK_MERCHANTS_FILE for several"
)
WRONG_REVISION = "the database is at revision zzzz, this version of payhook needs"
NO_SCHEMA = "the database is at revision none, this version of payhook needs"

REFUSALS = [
    *[(name, UNKNOWN_NAME) for name in COMMANDS],
    *[(name, WRONG_VALUE) for name in ("payhook serve", "flask")],
    *[(name, NO_MERCHANT) for name in ("payhook up", "payhook work", "celery")],
    *[(name, WRONG_REVISION) for name in ("payhook serve", "payhook work", "flask", "gunicorn", "celery")],
    *[(name, NO_SCHEMA) for name in ("payhook serve", "celery")],
]

#: Where the application refuses by itself, with the code after which gunicorn does not start another process.
GIVES_UP = {"gunicorn": 3, "flask": 3}

#: The longest that a refusal may take on a busy machine.
REFUSES_WITHIN_SECONDS = 30.0


def refuse(name: str, told: str, folder: Path, migrated: Path) -> tuple[int | None, str]:
    """The exit code of a command in the situation it should refuse, and what it said; None when it had to be ended."""
    folder.mkdir()
    command, needed = COMMANDS[name]
    settings = {"DATABASE_URL": f"sqlite:///{folder / 'payhook.db'}", **needed}
    if told == UNKNOWN_NAME:
        settings["POLICYY"] = "x"
    elif told == WRONG_VALUE:
        settings["DATABASE_URL"] = "mysql://user:canary-2f@host/name"
    elif told == NO_MERCHANT:
        shutil.copy(migrated, folder / "payhook.db")
        settings = {key: value for key, value in settings.items() if key not in MERCHANT}
    elif told == WRONG_REVISION:
        shutil.copy(migrated, folder / "payhook.db")
        with sqlite3.connect(folder / "payhook.db") as connection:
            connection.execute("UPDATE alembic_version SET version_num = 'zzzz'")
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(
            [str(word) for word in command],
            env={f"PAYHOOK_{key}": value for key, value in settings.items()},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    try:
        code: int | None = process.wait(REFUSES_WITHIN_SECONDS)
    except subprocess.TimeoutExpired:
        code = None
    kill_tree(process.pid)
    process.wait()
    return code, (folder / "said").read_text()


@pytest.fixture(scope="module")
def refusals(
    tmp_path_factory: pytest.TempPathFactory, migrated_sqlite_file: Path
) -> dict[tuple[str, str], tuple[int | None, str]]:
    """How every command refused in every situation; two at a time, since each takes a second to start."""
    folder = tmp_path_factory.mktemp("refusals")

    def refuse_one(number: int) -> tuple[int | None, str]:
        return refuse(*REFUSALS[number], folder / str(number), migrated_sqlite_file)

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(REFUSALS, pool.map(refuse_one, range(len(REFUSALS))), strict=True))


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("name", "told"), REFUSALS)
def test_a_process_that_cannot_do_its_work_refuses_with_a_sentence(
    refusals: dict[tuple[str, str], tuple[int | None, str]], name: str, told: str
) -> None:
    """One line, exit code 1 or the application's own 3, no traceback, no secret: for whatever is wrong or missing."""
    code, said = refusals[name, told]

    lines = [line.removeprefix("Error: ") for line in said.splitlines() if line.strip()]
    sentences = [line for line in lines if told[:30] in line]
    assert code == GIVES_UP.get(name, 1), said
    assert len(sentences) == 1
    assert sentences[0].startswith(told)
    assert sentences == lines[-1:] or name == "gunicorn"  # which tells of its own coming and going
    assert "Traceback" not in said
    assert "canary" not in said


@pytest.mark.parametrize("name", ["serve", "work"])
def test_several_processes_cannot_meet_in_the_embedded_broker(start: Start, name: str) -> None:
    """They say which command is one process, and what else to set."""
    process = start(program("payhook"), name, **KEYS, **MERCHANT)

    assert process.wait_until_ended() == 1
    assert "PAYHOOK_BROKER_URL is memory://, which never leaves one process: run `payhook up`" in process.output()


def test_one_process_has_its_own_broker(start: Start) -> None:
    """`up` with another one would be half of something."""
    process = start(program("payhook"), "up", **KEYS, **MERCHANT, **FAR_BROKER)

    assert process.wait_until_ended() == 1
    assert "`up` is one process with its own broker" in process.output()


# What runs


def post(port: int, body: bytes) -> int:
    """The status that a genuine event is answered with, 0 when nobody answers."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/webhooks", body, signed(body), method="POST")
    without_proxy = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with without_proxy.open(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        return refused.code
    except OSError:
        return 0


def shown(port: int) -> set[str]:
    """What one process that is ingress and worker has counted."""
    without_proxy = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with without_proxy.open(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    signs = {
        "stored": 'payhook_webhook_answers_total{reason="stored",status="204"} 2.0',
        "sweep": 'payhook_sweeps_total{outcome="done"} ',
        "call": 'payhook_platform_calls_total{call="get_payment",merchant="acme",outcome="not_sent"} ',
    }
    return {name for name, sign in signs.items() if sign in text}


def leaves(process: Process) -> None:
    """SIGTERM ends it in good order, and every child with it; none of them would have left a core dump."""
    pids = process.pids()
    cores = {psutil.Process(pid).rlimit(psutil.RLIMIT_CORE) for pid in pids}
    begin = time.monotonic()

    code = process.terminate(LEAVES_WITHIN_SECONDS + 5)

    assert cores == {(0, 0)} or not process.command[0].endswith("payhook")  # nothing in memory ends on a disk
    assert code == 0, process.tail()
    assert time.monotonic() - begin < LEAVES_WITHIN_SECONDS
    assert [pid for pid in pids if tree(pid)] == []


def outcomes(url: str) -> list[str | None]:
    database = Database(url, connections=1, seconds=5, revision=None)
    with database.reading() as connection:
        found = list(connection.execute(select(WebhookEvent.outcome).order_by(WebhookEvent.event_key)).scalars())
    database.close()
    return found


def test_up_does_everything_with_a_merchant_and_a_key(start: Start, tmp_path: Path) -> None:
    """On a database of its own making, from an empty folder; what it stored is there after it has left.

    Its metrics are the ingress's and the worker's.
    """
    port = free_port()
    up = start(
        program("payhook"),
        "up",
        "--port",
        str(port),
        **KEYS,
        **MERCHANT,
        API_ENDPOINT=f"http://127.0.0.1:{free_port()}",
    )
    up.wait_until(f"http://127.0.0.1:{port}/health/ready")

    assert post(port, event_body()) == 204
    assert post(port, event_body(merchantId="stranger")) == 204
    up.wait_until(lambda: {"stored", "sweep", "call"} <= shown(port), 10)
    leaves(up)

    assert outcomes(f"sqlite:///{tmp_path / 'payhook.db'}") == [None, "quarantined"]


def test_up_makes_the_key_that_secrets_are_encrypted_with(start: Start, tmp_path: Path) -> None:
    """For its owner only; with no webhook key yet, everything is refused and nothing is lost."""
    port = free_port()
    up = start(program("payhook"), "up", "--port", str(port), **MERCHANT)
    up.wait_until(f"http://127.0.0.1:{port}/health/live")

    assert post(port, event_body()) == 401
    assert (tmp_path / "payhook.key").stat().st_mode & 0o777 == 0o600
    leaves(up)


def test_flask_runs_the_application(start: Start, tmp_path: Path) -> None:
    """`flask --app ingress run`, with what `serve` needs."""
    migrate(f"sqlite:///{tmp_path / 'payhook.db'}")
    port = free_port()
    flask = start(program("flask"), "--app", "ingress", "run", "--port", str(port), **KEYS)
    flask.wait_until(f"http://127.0.0.1:{port}/health/live")

    assert post(port, event_body()) == 204


def test_gunicorn_runs_the_application(start: Start, tmp_path: Path) -> None:
    """`gunicorn 'ingress:create_app()'`, for who has flags of their own."""
    migrate(f"sqlite:///{tmp_path / 'payhook.db'}")
    port = free_port()
    bind = f"127.0.0.1:{port}"
    gunicorn = start(program("gunicorn"), "--no-control-socket", "--bind", bind, "ingress:create_app()", **KEYS)
    gunicorn.wait_until(f"http://127.0.0.1:{port}/health/live")

    assert post(port, event_body()) == 204
    leaves(gunicorn)


def test_alembic_runs_the_migrations(start: Start, tmp_path: Path) -> None:
    """`alembic upgrade head` reads the same settings as `payhook migrate`, from any folder."""
    url = f"sqlite:///{tmp_path / 'elsewhere.db'}"
    alembic = start(program("alembic"), "-c", REPOSITORY / "alembic.ini", "upgrade", "head", DATABASE_URL=url)

    assert alembic.wait_until_ended() == 0, alembic.tail()
    assert outcomes(url) == []


@pytest.fixture
def settings(postgres_url: str, rabbitmq_url: str) -> dict[str, str]:
    """Of a production: PostgreSQL, RabbitMQ, keys and a merchant."""
    migrate(postgres_url)
    nobody = f"http://127.0.0.1:{free_port()}"
    return {"DATABASE_URL": postgres_url, "BROKER_URL": rabbitmq_url, **KEYS, **MERCHANT, "API_ENDPOINT": nobody}


def test_serve_and_work_do_together_what_up_does(start: Start, settings: dict[str, str]) -> None:
    """One receives, the other is rung for it and looks at the platform; each leaves when told."""
    port = free_port()
    serve = start(program("payhook"), "serve", "--port", str(port), **settings)
    work = start(program("payhook"), "work", "--concurrency", "1", **settings)
    serve.wait_until(f"http://127.0.0.1:{port}/health/live")
    work.wait_until(r"\bready\b")

    assert post(port, event_body()) == 204
    database = Database(settings["DATABASE_URL"], connections=1, seconds=5, revision=None)

    def looked_at() -> bool:
        with database.reading() as connection:
            return bool(connection.execute(text("SELECT count(*) FROM payments WHERE failures > 0")).scalar())

    work.wait_until(looked_at, 15)
    database.close()
    leaves(serve)
    leaves(work)


def test_celery_runs_the_worker(start: Start, settings: dict[str, str]) -> None:
    """`celery -A worker worker`, which needs no webhook key."""
    given = {name: value for name, value in settings.items() if name not in KEYS}
    celery = start(program("celery"), "-A", "worker", "worker", "--concurrency", "1", **given)
    celery.wait_until(r"\bready\b")

    leaves(celery)


def test_serve_starts_without_its_database_and_is_well_when_it_comes(
    start: Start, postgres_url: str, postgres_server: PostgresServer
) -> None:
    """503 until then, 204 afterwards, by the same process."""
    migrate(postgres_url)
    postgres_server.kill()
    port = free_port()
    serve = start(program("payhook"), "serve", "--port", str(port), DATABASE_URL=postgres_url, **KEYS, **FAR_BROKER)
    serve.wait_until(f"http://127.0.0.1:{port}/health/live")
    first = serve.pid

    assert post(port, event_body()) == 503
    postgres_server.start()
    body = event_body()
    serve.wait_until(lambda: post(port, body) == 204, 10)

    assert serve.pid == first
    assert post(port, event_body()) == 204
    leaves(serve)


def test_serve_checks_the_revision_at_its_first_connection(
    start: Start, postgres_url: str, postgres_server: PostgresServer
) -> None:
    """A database that comes up with another schema gets no event, and readiness says which command helps."""
    postgres_server.kill()
    port = free_port()
    serve = start(program("payhook"), "serve", "--port", str(port), DATABASE_URL=postgres_url, **KEYS, **FAR_BROKER)
    serve.wait_until(f"http://127.0.0.1:{port}/health/live")

    postgres_server.start()
    refused = post(port, event_body())
    migrate(postgres_url)
    serve.wait_until(lambda: post(port, event_body()) == 204, 10)

    assert refused == 503


def test_a_command_without_a_name_says_what_there_is() -> None:
    """And what each is for."""
    ended = subprocess.run([program("payhook"), "--help"], capture_output=True, text=True, timeout=30, env={})

    assert ended.returncode == 0
    for name in ("up", "serve", "work", "migrate", "keys", "sandbox"):
        assert f"  {name} " in ended.stdout
