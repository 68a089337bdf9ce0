"""A hundred times what is usual: answered 503, or done later; never a 2xx without a commit, never ever more memory."""

from collections import Counter
from pathlib import Path

import pytest

from tests.end_to_end import load
from tests.end_to_end.conftest import Start
from tests.end_to_end.house import KEY_ID, SECRET, House, rounds
from tests.end_to_end.processes import Process
from tests.proof import checks
from tests.proof.fixtures import Proof
from tests.servers.process_tree import wait_for

USUAL = 10
BURST = 100 * USUAL
MOST_GROWTH = 64


@pytest.mark.timeout(900)
@pytest.mark.proof("G9")
def test_a_burst_costs_time_and_no_event(
    start: Start, postgres_url: str, rabbitmq_url: str, tmp_path: Path, proof: Proof
) -> None:
    """Ten events a second, then a thousand: every 204 is stored, memory grows by less than 64 MiB, all is done."""
    calm, burst, payments = proof.size((1, 1, 200), (20, 50, 5000))
    house = House(start, postgres_url, rabbitmq_url)
    serve, work = house.serve(), house.work()
    payment_ids = house.sandbox.create_payments(payments, webhooks=False)

    def send(rate: int, seconds: int) -> load.Report:
        order = load.Plan(
            house.webhook_url, rate, seconds, KEY_ID, SECRET, senders=256, history=str(proof.history.path)
        )
        return load.Child(tmp_path, order, rounds(payment_ids, rate * seconds)).report()

    send(USUAL * 5, calm)  # warm, as a process is that has run for a while
    send(USUAL, calm)
    before = {process: memory_of(process) for process in (serve, work)}
    report = send(BURST, burst)
    peaks = {process: peak_of(process) for process in (serve, work)}
    drained = wait_for(lambda: house.open_events() == 0, 300)
    peaks = {process: peaks[process] | peak_of(process) for process in peaks}

    lines = proof.history.lines()
    proof.injected("events sent in the burst", report.arrivals, BURST * burst)
    proof.injected(
        "events a second that arrived, of a hundred times the usual", round(arrived_per_second(report)), BURST // 4
    )
    answers = Counter(str(line.told) for line in lines if line.type != "invoke")
    proof.figure("answers", dict(answers), "204 or 503 only")
    proof.figure("2xx without a commit", len(checks.lost(lines, house.digests())), 0)
    for process, name in ((serve, "ingress"), (work, "worker")):
        growth = sum(peaks[process][pid] - before[process].get(pid, 0) for pid in peaks[process]) / 1024
        proof.figure(f"growth of memory, all processes of the {name}, MiB", f"{growth:.1f}", f"< {MOST_GROWTH}")
        assert growth < MOST_GROWTH
    latencies = house.seconds_to_done()
    proof.figure(
        "seconds from receipt to reconciled, p50 / longest",
        f"{checks.quantile(latencies, 50):.1f} / {max(latencies):.1f}",
    )
    assert set(answers) <= {"204", "503"}
    assert checks.lost(lines, house.digests()) == []
    assert checks.stored_though_refused(lines, house.digests()) == []
    assert drained
    assert house.differences() == []


def arrived_per_second(report: load.Report) -> float:
    """How many were answered a second, over the whole burst."""
    times = [answer.at for answer in report.answers]
    return len(times) / (max(times) - min(times))


def memory_of(process: Process) -> dict[int, int]:
    """The resident memory of each of its processes, in KiB."""
    return {pid: _status(pid, "VmRSS") for pid in process.pids()}


def peak_of(process: Process) -> dict[int, int]:
    """The most each of its processes ever had, in KiB: no sample can miss it."""
    return {pid: _status(pid, "VmHWM") for pid in process.pids()}


def _status(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
