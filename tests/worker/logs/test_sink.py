"""Whoever does not read what a process says does not stop it; what it said last is written all the same."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.ingress.conftest import KEY_ID, SECRET, event_body, signed
from tests.servers.ports import free_port
from tests.servers.process_tree import wait_for
from tests.worker.logs.test_logs import PROGRAM, THIS_TREE, records_of
from worker.database import migrate


def full_pipe() -> tuple[int, int]:
    """A pipe that takes no byte more."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writing, True)
    return reading, writing


def read_all(reading: int) -> bytes:
    content = b""
    while piece := os.read(reading, 65536):
        content += piece
    return content


def test_webhooks_are_answered_while_nobody_reads_the_log(tmp_path: Path) -> None:
    """`payhook up` on a standard error that takes nothing: genuine webhooks are stored, forged ones refused, and it
    ends in time."""
    import requests

    url, port = f"sqlite:///{tmp_path / 'payhook.db'}", free_port()
    migrate(url)
    reading, writing = full_pipe()
    given = {
        "PAYHOOK_DATABASE_URL": url,
        "PAYHOOK_KEY_STORE": "memory:",
        "PAYHOOK_WEBHOOK_KEYS": f"{KEY_ID}={SECRET}",
        "PAYHOOK_MERCHANT_ID": "acme",
        "PAYHOOK_API_KEY_ID": "key",
        "PAYHOOK_API_SECRET": "api-secret-of-a-blocked-process",
        "PAYHOOK_API_ENDPOINT": "http://127.0.0.1:9",
        "PAYHOOK_LOG_LEVEL": "debug",
        "PAYHOOK_ANSWER_SECONDS": "10",  # a slow machine is no blocked log
    }
    program = "from ingress.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "up", "--port", str(port)],
        env={**os.environ, **given},
        cwd=tmp_path,
        stderr=writing,
        stdout=subprocess.DEVNULL,
    )
    os.close(writing)
    try:
        door, statuses = f"http://127.0.0.1:{port}/webhooks", []

        def post(body: bytes, headers: dict[str, str]) -> int | None:
            try:
                return requests.post(door, data=body, headers=headers, timeout=5).status_code
            except requests.ConnectionError:
                return None

        assert wait_for(lambda: post(b"{}", signed(b"{}", secret="x")) == 401, 20)
        for _ in range(20):
            body = event_body()
            statuses += [post(body, signed(body)), post(body, signed(body, secret="x"))]
        process.terminate()
        assert process.wait(40) == 0
    finally:
        process.kill()
        os.close(reading)

    assert statuses == [204, 401] * 20


def test_what_found_no_room_is_counted_and_told(tmp_path: Path) -> None:
    """Lines are kept up to a number and in order; of the rest the count is told once it flows again."""
    reading, writing = full_pipe()
    program = (
        "from worker.logs.sink import MOST_WAITING\nfor n in range(MOST_WAITING + 500): log.info('n', n=n)\ninput()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM + program + "\nlogs.flush()"],
        cwd=tmp_path,
        env=THIS_TREE,
        stderr=writing,
        stdin=subprocess.PIPE,
    )
    os.close(writing)
    content: list[bytes] = []
    time.sleep(4)  # until it has said all of it
    reader = threading.Thread(target=lambda: content.append(read_all(reading)))
    reader.start()
    time.sleep(1)
    process.communicate(b"\n", 20)
    reader.join(20)
    os.close(reading)

    said: list[dict[str, Any]] = [json.loads(line) for line in content[0].lstrip(b"x").splitlines()]
    numbers = [line["n"] for line in said if line["event"] == "n"]
    dropped = [line["count"] for line in said if line["event"] == "lines.dropped"]
    assert numbers == sorted(numbers)
    assert len(numbers) >= 10_000
    assert len(numbers) + sum(dropped) == 10_500
    assert dropped


@pytest.mark.parametrize("end", ["logs.flush(); os._exit(0)", "sys.exit(0)", "pass"])
def test_the_last_line_is_written(tmp_path: Path, end: str) -> None:
    """Before the end of an interpreter, and before an end that waits for nothing if it is asked for."""
    records = records_of(f"import os\nfor n in range(50): log.info('n', n=n)\n{end}", tmp_path)

    assert [record["n"] for record in records] == list(range(50))


def test_an_error_is_written_before_anything_else_is_done(tmp_path: Path) -> None:
    """It may be what the process dies of: nobody has to ask for it."""
    records = records_of("import os\nlog.info('before')\nlog.error('dies')\nos._exit(0)", tmp_path)

    assert [record["event"] for record in records] == ["before", "dies"]


def test_a_forked_child_says_its_own_lines_once(tmp_path: Path) -> None:
    """Its thread is made anew, and what waited in its parent is the parent's."""
    records = records_of(
        """
import os
for n in range(200): log.info('parent', n=n)
child = os.fork()
if child == 0:
    for n in range(200): log.info('child', n=n)
    logs.flush()
    os._exit(0)
os.waitpid(child, 0)
log.info('end')
""",
        tmp_path,
    )

    for who in ("parent", "child"):
        assert [record["n"] for record in records if record["event"] == who] == list(range(200))
    assert records[-1]["event"] == "end"


def test_without_room_for_a_thread_whoever_logs_writes(tmp_path: Path) -> None:
    """Nothing is lost, and nothing fails."""
    records = records_of(
        """
import threading
def no_room(_thread):
    raise RuntimeError("can't start new thread")
threading.Thread.start = no_room
log.info('one')
log.info('two')
""",
        tmp_path,
    )

    assert [record["event"] for record in records] == ["one", "two"]
