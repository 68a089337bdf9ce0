"""Several real processes tell one truth: what was done, whoever of them dies, from no more files than needed."""

import json
import os
import re
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.end_to_end import load
from tests.end_to_end.conftest import Start
from tests.end_to_end.house import KEY_ID, SECRET, House, event
from tests.end_to_end.processes import Process, free_port
from tests.servers.process_tree import wait_for

pytestmark = [pytest.mark.servers, pytest.mark.timeout(120)]

Samples = dict[tuple[str, ...], float]


def scrape(port: int) -> Samples:
    """Every value that is shown, by its name and the values of its labels in the order of their names."""
    without_proxy = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with without_proxy.open(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    return {(one.name, *one.labels.values()): one.value for family in families for one in family.samples}


def total(seen: Samples, name: str, *labels: str) -> float:
    """Of a metric, what those have counted together that have these labels."""
    return sum(value for key, value in seen.items() if key[0] == name and set(labels) <= set(key))


def folder_of(process: Process) -> Path:
    """Where a command's processes count: what they have mapped into their memory."""
    mapped = (Path("/proc") / str(process.pid) / "maps").read_text()
    (folder,) = set(re.findall(r"(/\S*payhook-metrics-[^/]+)/", mapped))
    return Path(folder)


def files_of(process: Process) -> int:
    return sum(1 for _ in folder_of(process).glob("*.db"))


def kill_a_child(process: Process) -> None:
    """SIGKILL for one that counts; another is there in its place when this returns."""
    before = set(process.children())
    killed = process.kill_one_child(-1)
    assert wait_for(lambda: killed not in process.children() and len(process.children()) >= len(before), 20)


#: Of a main process and its two children, one for counters and one for histograms each, however many have died.
MOST_FILES = 6


def test_what_several_processes_count_is_what_was_done(start: Start, postgres_url: str, rabbitmq_url: str) -> None:
    """Webhooks, looks, calls and captures through two ingress processes and two children of a worker; each loses one
    by SIGKILL in between."""
    port = free_port()
    worker_says = {"PAYHOOK_METRICS_PORT": str(port), "PAYHOOK_POLICY": "capture-when-authorised"}
    house = House(start, postgres_url, rabbitmq_url, more=worker_says)
    serve, work = house.serve(), house.work()
    payment_ids = house.sandbox.create_payments(20, webhooks=False)

    posted, files, seen = 0, [], []
    for half in (payment_ids[:10], payment_ids[10:]):
        bodies = [event(payment_id) for payment_id in half for _ in range(3)]
        report = load.run(house.webhook_url, bodies + bodies[:5], 200, 0.2, KEY_ID, SECRET)
        posted += len(report.acknowledged)
        assert house.settled(20)
        assert wait_for(lambda: len(house.operations()) == len(house.records()) and not pending(house), 20)
        seen.append((scrape(house.port), scrape(port)))
        files.append((files_of(serve), files_of(work)))
        kill_a_child(serve)
        kill_a_child(work)
    (first_ingress, first_worker), (ingress, worker) = seen

    asked = house.sandbox.calls()["by_call"]
    assert posted == 70
    assert total(ingress, "payhook_webhook_answers_total", "stored", "204") == 70
    assert total(ingress, "payhook_webhook_answer_seconds_count") == 70
    assert total(ingress, "payhook_webhook_events_total", "first") == 60
    assert total(ingress, "payhook_webhook_events_total", "again") == 10
    assert total(worker, "payhook_event_delay_seconds_count") == 60
    assert total(worker, "payhook_attempts_total", "capture", "done") == 20
    assert total(worker, "payhook_operations_total", "capture", "planned") == 20
    assert total(worker, "payhook_platform_calls_total", "capture_payment", "answered") == 20
    assert total(worker, "payhook_platform_calls_total", "get_payment") <= asked["get_payment"]
    assert total(worker, "payhook_sweeps_total", "done") > 0
    assert total(ingress, "payhook_operations_open", "planned") == 0

    again = scrape(house.port), scrape(port)
    for earlier, later in ((first_ingress, ingress), (first_worker, worker), (ingress, again[0]), (worker, again[1])):
        counted = [key for key in earlier if key[0].endswith(("_total", "_count", "_bucket"))]
        assert [key for key in counted if later[key] < earlier[key]] == []
    assert all(count <= MOST_FILES for of_both in (*files, (files_of(serve), files_of(work))) for count in of_both)
    assert not [word for word in (SECRET, KEY_ID, payment_ids[0]) if word in json.dumps([str(key) for key in worker])]
    folders = folder_of(serve), folder_of(work)
    house.leave()
    assert not any(os.path.exists(folder) for folder in folders)


def pending(house: House) -> bool:
    """Whether a capture is still to be answered."""
    return any(one["state"] in ("requested", "planned", "sending", "unknown") for one in house.operations())


def test_a_port_in_use_stops_the_start(start: Start, postgres_url: str, rabbitmq_url: str) -> None:
    """With a sentence that says which settings to change."""
    house = House(start, postgres_url, rabbitmq_url)
    taken = {"PAYHOOK_METRICS_PORT": str(house.sandbox_port)}

    work = house.run("work", "payhook", "work", "--concurrency", "1", env=taken)

    assert work.wait_until_ended() == 1
    assert f"cannot show metrics on 127.0.0.1:{house.sandbox_port} (Address already in use)" in work.tail()
    assert "PAYHOOK_METRICS_PORT" in work.tail()
    assert "Traceback" not in work.tail()
