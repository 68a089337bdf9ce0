"""The load generator keeps to its schedule and reports what it saw, whatever the server does."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.end_to_end.load import Child, Plan, Report, run
from tests.end_to_end.processes import free_port

SECRET = "s3cret"

Reply = Callable[[bytes, bytes], bytes]
NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy"


class TrivialServer:
    """Answers each request with what `reply(head, body)` gives; one that is empty closes the connection instead."""

    def __init__(self) -> None:
        self.reply: Reply = lambda _head, _body: NO_CONTENT
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/webhooks"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        while not self._accepts():
            time.sleep(0.01)

    def stall(self, seconds: float) -> None:
        """Do nothing at all for so long."""
        self._loop.call_soon_threadsafe(time.sleep, seconds)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._answer, "127.0.0.1", self.port))
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0.01))
        self._loop.close()

    def _accepts(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"Content-Length: (\d+)", head)
                assert length is not None
                reply = self.reply(head, await reader.readexactly(int(length[1])))
                if not reply:
                    break
                writer.write(reply)
        writer.close()


@pytest.fixture
def server() -> Iterator[TrivialServer]:
    """A server that answers 204 until told otherwise."""
    server = TrivialServer()
    yield server
    server.close()


def send(server: TrivialServer, rate: float, seconds: float, **options: object) -> Report:
    """Numbered bodies at this rate."""
    bodies = (b'{"n": %d}' % number for number in range(10_000))
    return run(server.url, bodies, rate, seconds, "key", SECRET, **options)  # type: ignore[arg-type]


def test_everything_answered_is_reported(server: TrivialServer) -> None:
    """Each arrival is sent once, in its own time, and its 204 counted."""
    begin = time.monotonic()
    report = send(server, rate=100, seconds=0.5)

    assert report.arrivals == 50
    assert report.acknowledged == list(range(50))
    assert report.by_status == {"204": 50}
    assert 0.48 < time.monotonic() - begin < 5


def test_each_body_is_signed_as_the_platform_signs(server: TrivialServer) -> None:
    """The headers carry the key's id and the base64 of the HMAC-SHA256 over the bytes sent."""
    seen: list[tuple[bytes, bytes]] = []

    def keep(head: bytes, body: bytes) -> bytes:
        seen.append((head, body))
        return NO_CONTENT

    server.reply = keep

    send(server, rate=100, seconds=0.01)

    head, body = seen[0]
    signature = base64.b64encode(hmac.digest(SECRET.encode(), b'{"n": 0}', hashlib.sha256))
    assert body == b'{"n": 0}'
    assert b"X-GCS-KeyId: key\r\n" in head
    assert b"X-GCS-Signature: " + signature + b"\r\n" in head


def test_a_stall_is_counted_from_the_schedule(server: TrivialServer) -> None:
    """While the server stands still for 0.6 s, arrivals go on and each waits for what is left of the stall."""
    threading.Timer(0.2, server.stall, [0.6]).start()

    report = send(server, rate=100, seconds=1.0, senders=2)

    # A generator that waited for its 2 senders would have seen 2 slow answers and the schedule slip.
    slow = [answer for answer in report.answers if answer.seconds > 0.1]
    assert len(slow) >= 40
    assert 0.5 < report.max < 3
    assert report.arrivals == 100


def test_failures_are_reported_and_not_sent_again(server: TrivialServer) -> None:
    """A 503 and a closed connection are answers like others; nothing of it counts as acknowledged."""
    replies = iter([UNAVAILABLE, b"", NO_CONTENT])
    server.reply = lambda _head, _body: next(replies)

    report = send(server, rate=20, seconds=0.15)

    assert report.by_status == {"503": 1, "IncompleteReadError": 1, "204": 1}
    assert report.acknowledged == [2]


def test_with_retry_every_body_is_sent_until_acknowledged(server: TrivialServer) -> None:
    """A body answered 503 comes again until its 204, and its latency counts from its first arrival."""
    seen: set[bytes] = set()

    def refuse_the_first_time(_head: bytes, body: bytes) -> bytes:
        if body in seen:
            return NO_CONTENT
        seen.add(body)
        return UNAVAILABLE

    server.reply = refuse_the_first_time

    report = send(server, rate=100, seconds=0.2, retry=True)

    assert report.acknowledged == list(range(20))
    assert report.by_status == {"503": 20, "204": 20}
    assert report.p50 > 0.2


def test_a_server_that_is_not_there_is_a_failure() -> None:
    """A refused connection is reported under its name."""
    report = run(f"http://127.0.0.1:{free_port()}/webhooks", [b"{}"], 10, 0.1, "key", SECRET)

    assert report.by_status == {"ConnectionRefusedError": 1}
    assert report.acknowledged == []


def test_random_arrivals_repeat_with_their_seed() -> None:
    """The same seed gives the same arrivals, at the asked rate on the whole."""
    plan = Plan("http://127.0.0.1/", 100, 50, "key", SECRET, poisson_seed=7)

    assert list(plan.arrivals()) == list(plan.arrivals())
    assert len(list(plan.arrivals())) == pytest.approx(5000, rel=0.1)


def test_a_child_process_reports_the_same(server: TrivialServer, tmp_path: Path) -> None:
    """The load runs in a process of its own, can be told to stop, and hands its report back."""
    plan = Plan(server.url, rate=100, seconds=60, key_id="key", secret=SECRET)
    child = Child(tmp_path, plan, [b'{"name": "\xc3\xa9"}'] * 6000)
    time.sleep(1.0)
    child.stop()

    report = child.report(seconds=10)

    assert 0 < report.arrivals < 1000
    assert report.by_status == {"204": report.arrivals}


def test_the_generator_is_cheap_enough_to_share_the_machine(server: TrivialServer) -> None:
    """A hundred a second cost less than a fifth of a core, also of one that is shared."""
    report = send(server, rate=100, seconds=2)

    assert report.generator_cpu_seconds < 0.4
