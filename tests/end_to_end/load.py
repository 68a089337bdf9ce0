"""An open-loop load of signed webhooks: they arrive when the schedule says, however slowly they are answered."""

import argparse
import asyncio
import base64
import contextlib
import hashlib
import hmac
import itertools
import json
import math
import random
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.proof.checks import WEBHOOK
from tests.proof.history import History, Type

ANSWER_SECONDS = 10.0
RETRY_SECONDS = 0.2
# With retry: how long after the last arrival we go on sending what is not yet acknowledged.
GIVE_UP_SECONDS = 60.0
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of sending a body once: a status, or the problem that took its place."""

    index: int
    status: int | None
    problem: str | None
    seconds: float  # from the scheduled arrival, not from the sending
    at: float  # wall clock, seconds since 1970


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a load."""

    arrivals: int
    answers: list[Answer]
    # How much later than planned the generator itself got round to an arrival: if this is large, trust no latency.
    generator_lag_seconds: float
    generator_cpu_seconds: float

    @property
    def acknowledged(self) -> list[int]:
        """The bodies answered 2xx, each once."""
        return sorted({answer.index for answer in self.answers if _is_success(answer)})

    @property
    def by_status(self) -> dict[str, int]:
        """How many answers of each status, and failures by the name of their exception."""
        return dict(Counter(str(answer.status or answer.problem) for answer in self.answers))

    @property
    def p50(self) -> float:
        """Seconds from the scheduled arrival to the 2xx, for half of those acknowledged."""
        return self.percentile(50)

    @property
    def p99(self) -> float:
        """The same for 99 of 100."""
        return self.percentile(99)

    @property
    def max(self) -> float:
        """The same for the slowest."""
        return self.percentile(100)

    def percentile(self, share: float) -> float:
        """The latency that this share (of 100) of those acknowledged did not exceed; NaN if there is none."""
        latencies = sorted(answer.seconds for answer in self.answers if _is_success(answer))
        return latencies[max(0, math.ceil(len(latencies) * share / 100) - 1)] if latencies else math.nan

    def __str__(self) -> str:
        return (
            f"{self.arrivals} arrivals, {len(self.acknowledged)} acknowledged, answers {self.by_status}, "
            f"p50 {self.p50 * 1000:.1f} ms, p99 {self.p99 * 1000:.1f} ms, max {self.max * 1000:.1f} ms"
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """What is sent where, and when."""

    url: str
    rate: float
    seconds: float
    key_id: str
    secret: str
    senders: int = 64
    retry: bool = False
    poisson_seed: int | None = None
    history: str | None = None  # a file that every sending, and what came of it, is noted in

    def arrivals(self) -> Iterator[float]:
        """When each body arrives, in seconds from the start."""
        chance = random.Random(self.poisson_seed)
        at = 0.0
        for number in itertools.count():
            # Not added up: 0.01 s a thousand times over is not 10 s.
            at = number / self.rate if self.poisson_seed is None else at + chance.expovariate(self.rate)
            if at >= self.seconds:
                return
            yield at

    def request(self, body: bytes) -> bytes:
        """The whole request, signed as the platform signs."""
        where = urlsplit(self.url)
        signature = base64.b64encode(hmac.digest(self.secret.encode(), body, hashlib.sha256)).decode()
        head = (
            f"POST {where.path or '/'} HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Type: application/json\r\n"
            f"X-GCS-KeyId: {self.key_id}\r\nX-GCS-Signature: {signature}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


def run(
    url: str,
    bodies: Iterable[bytes],
    rate: float,
    seconds: float,
    key_id: str,
    secret: str,
    senders: int = 64,
    *,
    retry: bool = False,
    poisson_seed: int | None = None,
    stop: threading.Event | None = None,
) -> Report:
    """Send the bodies at this rate for so long, until they run out or `stop` is set; returns when all is answered."""
    plan = Plan(url, rate, seconds, key_id, secret, senders, retry, poisson_seed)
    return asyncio.run(_Load(plan, bodies, stop or threading.Event()).run())


class Child:
    """The same load from a process of its own, so that it and the test do not share one interpreter's lock."""

    def __init__(self, folder: Path, plan: Plan, bodies: Iterable[bytes]) -> None:
        self._order = folder / "load-order.json"
        self._report = folder / "load-report.json"
        self._order.write_text(
            json.dumps({"plan": asdict(plan), "bodies": [body.decode("latin-1") for body in bodies]})
        )
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.end_to_end.load", self._order, self._report], cwd=ROOT
        )

    def stop(self) -> None:
        """Let nothing more arrive; what is under way is finished."""
        self._process.send_signal(signal.SIGTERM)

    def report(self, seconds: float | None = None) -> Report:
        """Wait for the end, at most so long."""
        try:
            code = self._process.wait(seconds)
        finally:
            self._process.kill()
        if code != 0:
            raise RuntimeError(f"the load generator ended with {code}")
        return read_report(self._report)


def read_report(path: Path) -> Report:
    """The report that a child process has written."""
    content = json.loads(path.read_text())
    return Report(**content | {"answers": [Answer(*answer) for answer in content["answers"]]})


class _Load:
    def __init__(self, plan: Plan, bodies: Iterable[bytes], stop: threading.Event) -> None:
        self.plan = plan
        self.bodies = bodies
        self.stop = stop
        self.answers: list[Answer] = []
        self.arrivals = 0
        self.open = 0
        self.lag = 0.0
        self.give_up_at = math.inf
        self.waiting: asyncio.Queue[tuple[int, float, bytes, str]] = asyncio.Queue()
        self.history = History(Path(plan.history)) if plan.history else None

    async def run(self) -> Report:
        cpu = time.thread_time()
        senders = [asyncio.create_task(self._send()) for _ in range(self.plan.senders)]
        await self._let_arrive()
        self.give_up_at = time.monotonic() + GIVE_UP_SECONDS
        while self.open:
            await asyncio.sleep(0.01)
        for sender in senders:
            sender.cancel()
        await asyncio.gather(*senders, return_exceptions=True)
        return Report(self.arrivals, self.answers, self.lag, time.thread_time() - cpu)

    async def _let_arrive(self) -> None:
        begin = time.monotonic()
        for (index, body), at in zip(enumerate(self.bodies), self.plan.arrivals(), strict=False):
            # In short steps, so that `stop` is heard at low rates too.
            while (wait := begin + at - time.monotonic()) > 0 and not self.stop.is_set():
                await asyncio.sleep(min(wait, 0.1))
            if self.stop.is_set():
                return
            self.lag = max(self.lag, time.monotonic() - begin - at)
            self.arrivals += 1
            self.open += 1
            digest = hashlib.sha256(body).hexdigest()
            self.waiting.put_nowait((index, begin + at, self.plan.request(body), digest))
            if wait < -1:
                # Far behind and never sleeping, we would starve the senders.
                await asyncio.sleep(0)

    async def _send(self) -> None:
        line = _Line(self.plan.url)
        try:
            while True:
                arrival = await self.waiting.get()
                self._note("invoke", arrival[3])
                status, problem = await line.ask(arrival[2])
                self._note(_outcome(status, problem), arrival[3], status or problem)
                now = time.monotonic()
                answer = Answer(arrival[0], status, problem, now - arrival[1], time.time())
                self.answers.append(answer)
                if self.plan.retry and not _is_success(answer) and now < self.give_up_at:
                    # The sender does not wait with it: it is as free for others as before.
                    asyncio.get_running_loop().call_later(RETRY_SECONDS, self.waiting.put_nowait, arrival)
                else:
                    self.open -= 1
        finally:
            line.close()

    def _note(self, type: Type, digest: str, told: int | str | None = None) -> None:
        if self.history is not None:
            self.history.note("platform", type, WEBHOOK, digest, told)


class _Line:
    """One connection, kept open between requests and opened anew after a failure."""

    def __init__(self, url: str) -> None:
        where = urlsplit(url)
        self.host, self.port = where.hostname or "127.0.0.1", where.port or 80
        # The servers of the tests have certificates of their own, which nobody has signed.
        self.tls = ssl._create_unverified_context() if where.scheme == "https" else None
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def ask(self, request: bytes) -> tuple[int | None, str | None]:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self._ask(request), None
        except (OSError, EOFError, ValueError, TimeoutError) as failure:
            self.close()
            return None, type(failure).__name__
        except asyncio.CancelledError:
            self.close()
            raise

    async def _ask(self, request: bytes) -> int:
        # The server may have closed the idle connection meanwhile.
        if self.reader is None or self.reader.at_eof():
            self.close()
            self.reader, self.writer = await asyncio.open_connection(self.host, self.port, ssl=self.tls)
        assert self.writer is not None
        self.writer.write(request)
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        status = int(head.split(None, 2)[1])
        headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        if "content-length" in headers:
            await self.reader.readexactly(int(headers["content-length"]))
        elif status != 204:
            # Its end is not told: read what there is and begin anew.
            headers["connection"] = "close"
        if headers.get("connection") == "close":
            self.close()
        return status

    def close(self) -> None:
        if self.writer is not None:
            with contextlib.suppress(OSError, RuntimeError):
                self.writer.close()
        self.reader = self.writer = None


def _outcome(status: int | None, problem: str | None) -> Type:
    """What is known of a body's fate: a refusal stores nothing, but behind a 503 or a lost answer it may be stored."""
    if status is None:
        return "fail" if problem == ConnectionRefusedError.__name__ else "info"
    return "ok" if 200 <= status < 300 else "fail" if 400 <= status < 500 else "info"


def _is_success(answer: Answer) -> bool:
    return answer.status is not None and 200 <= answer.status < 300


def _main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument(
        "order", type=Path, help='JSON: {"plan": {"url": …, "rate": …, …}, "bodies": [one text each]}'
    )
    arguments.add_argument("report", type=Path, help="where the report is written, as JSON")
    given = arguments.parse_args()
    order = json.loads(given.order.read_text())
    plan, stop = Plan(**order["plan"]), threading.Event()

    signal.signal(signal.SIGTERM, lambda *_: stop.set())

    report = asyncio.run(_Load(plan, [body.encode("latin-1") for body in order["bodies"]], stop).run())

    answers = [[answer.index, answer.status, answer.problem, answer.seconds, answer.at] for answer in report.answers]
    content = {name: getattr(report, name) for name in ("arrivals", "generator_lag_seconds", "generator_cpu_seconds")}
    given.report.write_text(json.dumps(content | {"answers": answers}))
    print(report)


if __name__ == "__main__":
    _main()
