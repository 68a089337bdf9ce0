"""docker-compose.yml run for real without containers: nginx, two ingresses, two workers and the three servers."""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery

from tests.deployment.installation import INGRESSES, WORKERS, Installation
from tests.end_to_end import load
from tests.end_to_end.conftest import Start
from tests.end_to_end.house import KEY_ID, SECRET, rounds
from tests.servers.process_tree import wait_for

ROOT = Path(__file__).parents[2]
NEXT_VERSION = Path(__file__).parent / "next_version"
RATE = 50
REFUSAL = "the database is at revision 9001, this version of payhook needs "
WRITABLE = ("/dev/", "/proc/", "pipe:", "socket:", "anon_inode:", "/memfd:", "/tmp/pymp-")


@pytest.fixture
def installation(
    start: Start, postgres_url: str, rabbitmq_url: str, redis_url: str, tmp_path: Path
) -> Iterator[Installation]:
    """Set up and running."""
    installation = Installation(start, postgres_url, rabbitmq_url, result_backend=redis_url, folder=tmp_path)
    with installation.running():
        yield installation


@pytest.mark.timeout(180)
def test_the_installation_does_the_main_job(installation: Installation, tmp_path: Path) -> None:
    """Webhooks come in through nginx, all records become true, a result reaches its caller, every check is healthy.

    Nothing is written to the file system, which is read-only in the containers.
    """
    payment_ids = installation.sandbox.create_payments(100, webhooks=False)
    (asked_for,) = installation.sandbox.create_payments(1, sale=True, webhooks=False)
    bodies = list(rounds(payment_ids, RATE * 4))

    plan = load.Plan(installation.webhook_url, RATE, 4, KEY_ID, SECRET)
    report = load.Child(tmp_path, plan, bodies).report(60)
    shop = Celery("shop", broker=installation.broker_url, backend=installation.result_backend)
    asked = shop.send_task("payhook.reconcile", kwargs={"payment_id": asked_for}, queue="payhook.events")
    told = asked.get(timeout=20)
    settled = installation.settled(30)

    assert report.by_status == {"204": len(bodies)}
    assert told["state"] == "accepted"
    assert settled
    assert wait_for(lambda: len(installation.records()) == 101, 10)
    assert installation.differences() == []
    assert [name for name in ("nginx", *INGRESSES, *WORKERS) if not installation.is_healthy(name)] == []
    assert written_by(installation) == []

    installation.processes["ingress-a"].kill()

    assert not installation.is_healthy("ingress-a")
    assert installation.is_healthy("nginx")  # through the other one


@pytest.mark.timeout(240)
def test_an_upgrade_under_load_loses_nothing(installation: Installation, tmp_path: Path) -> None:
    """The next version's migration expands the schema, then process after process is replaced: all is acknowledged.

    What is not answered 204 at once is a 503 and sent again, as the platform does; each webhook is stored once.
    Until its turn comes each process of the old version goes on, and so does one that takes the place of a killed
    child; an old process that is started anew refuses, and says which version is wanted.
    """
    payment_ids = installation.sandbox.create_payments(200, webhooks=False)
    bodies = list(rounds(payment_ids, RATE * 60))
    old_workers = {name: installation.processes[name] for name in WORKERS}
    next_version = {"PYTHONPATH": str(expanded(tmp_path))}

    sender = load.Child(tmp_path, load.Plan(installation.webhook_url, RATE, 60, KEY_ID, SECRET, retry=True), bodies)
    time.sleep(1)
    migrated = installation.service("migrate", next_version).wait_until_ended()
    for name in (*WORKERS, *INGRESSES):
        installation.processes[name].kill_one_child()
    old = installation.start(
        "old", *installation.command("ingress-a"), env=installation.env_of("ingress-a"), cwd=installation.cwd
    )
    refused = old.wait_until_ended()  # meanwhile the new children have had work to do
    refused_to_go_on = [name for name, worker in old_workers.items() if REFUSAL in worker.output()]
    for name in (*INGRESSES, *WORKERS):
        installation.replace(name, next_version)
    time.sleep(1)
    sender.stop()
    report = sender.report(60)
    settled = installation.settled(60)

    print(f"\nupgrade under load: {report}")
    assert migrated == 0
    assert refused == 1
    assert REFUSAL in old.output()
    assert refused_to_go_on == []
    assert set(report.by_status) <= {"204", "503"}
    assert len(report.acknowledged) == report.arrivals
    assert installation.scalar("SELECT count(*) FROM webhook_events") == report.arrivals
    assert settled
    assert installation.differences() == []
    assert installation.scalar("SELECT version_num FROM alembic_version") == "9001"
    assert installation.scalar("SELECT count(*) FROM webhook_events WHERE note IS NULL") == report.arrivals


def expanded(folder: Path) -> Path:
    """The next version: this one's migrations and one more, in front of this version's on the search path."""
    versions = folder / "next" / "migrations"
    shutil.copytree(ROOT / "migrations", versions, ignore=shutil.ignore_patterns("__pycache__"))
    script = (NEXT_VERSION / "9001_expand.py").read_text()
    newest = sorted((versions / "versions").glob("[0-9]*.py"))[-1].stem.split("_")[0]
    (versions / "versions" / "9001_expand.py").write_text(script.replace("THE_ONE_BEFORE", newest))
    return versions.parent


def written_by(installation: Installation) -> list[str]:
    """Files that a process of ours has open for writing, outside of memory; and what lies where it was started."""
    found = [str(path) for path in installation.cwd.iterdir()]
    for name in (*INGRESSES, *WORKERS):
        log = str(installation.processes[name].log)
        for pid in installation.processes[name].pids():
            for fd in Path(f"/proc/{pid}/fd").iterdir():
                target, flags = os.readlink(fd), (Path(f"/proc/{pid}/fdinfo") / fd.name).read_text()
                writing = int(flags.split("flags:")[1].split()[0], 8) & os.O_ACCMODE != os.O_RDONLY
                if writing and target != log and not target.startswith(WRITABLE):
                    found.append(f"{name}: {target}")
    return found
