"""Does the time of a 401 tell which key ids exist? Refusals for an unknown id and a wrong signature, side by side.

    python -m benchmarks.refusals

Both kinds, and one that is refused before any key is looked for, are sent in random order over one connection to
`payhook serve`, whose keys are encrypted in its database. The share of pairs in which the one took longer than the
other is what a stranger has to go by: 0.5 is a coin.
"""

import base64
import bisect
import http.client
import math
import os
import random
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PAYHOOK = Path(sys.executable).parent / "payhook"
PORT = 28431
KEY_ID = "known-key"
BODY = os.urandom(500).hex().encode()

#: Each kind of refusal so often, as fast as they are answered, and again so slowly that each finds the keys to be old.
FAST, SLOW, SLOW_SECONDS = 10_000, 60, 1.05

#: A stranger who guesses right in so much more than half of the cases could tell them apart.
TELLABLE = 0.02

UNKNOWN, WRONG, MALFORMED = "unknown key id", "wrong signature", "malformed header"
QUANTILES = (0.01, 0.1, 0.5, 0.9, 0.99)


@contextmanager
def served() -> Iterator[None]:
    """`payhook serve` with one key, in a folder of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        env = {key: value for key, value in os.environ.items() if not key.startswith("PAYHOOK_")}
        env |= {
            "PAYHOOK_DATABASE_URL": f"sqlite:///{folder / 'payhook.db'}",
            "PAYHOOK_BROKER_URL": "amqp://127.0.0.1:1//",
        }
        secret = folder / "secret"
        secret.write_text("a secret of the benchmark\n")
        for command in (["migrate"], ["keys", "add", KEY_ID, "--secret-file", str(secret)]):
            subprocess.run([PAYHOOK, *command], env=env, cwd=folder, check=True, capture_output=True)
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [PAYHOOK, "serve", "--port", str(PORT)], env=env, cwd=folder, stdout=log, stderr=log
            )
        try:
            _wait_until_ready()
            yield
        finally:
            server.terminate()
            server.wait()


def _wait_until_ready() -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for _ in range(300):
        try:
            opener.open(f"http://127.0.0.1:{PORT}/health/live", timeout=2)
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    sys.exit("payhook serve did not start")


def headers_of(kind: str) -> dict[str, str]:
    """Of a forgery like no other of its kind."""
    signature = base64.b64encode(os.urandom(32)).decode()
    if kind == MALFORMED:
        signature = "-" + signature[1:]
    # As long as the known one.
    key_id = KEY_ID if kind != UNKNOWN else os.urandom(8).hex()[: len(KEY_ID)]
    return {"X-GCS-KeyId": key_id, "X-GCS-Signature": signature, "Content-Type": "application/json"}


def measured(kinds: tuple[str, ...], count: int, pause: float) -> dict[str, list[float]]:
    """Seconds that each refusal took, sorted."""
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=10)
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    order = [kind for kind in kinds for _ in range(count)]
    random.shuffle(order)
    for kind in order:
        time.sleep(pause)
        headers = headers_of(kind)
        begin = time.perf_counter()
        connection.request("POST", "/webhooks", BODY, headers)
        answer = connection.getresponse()
        answer.read()
        seconds[kind].append(time.perf_counter() - begin)
        if answer.status != 401:
            sys.exit(f"{kind} was answered {answer.status}")
    connection.close()
    return {kind: sorted(values) for kind, values in seconds.items()}


def longer(one: list[float], other: list[float]) -> float:
    """The share of pairs in which the one took longer than the other (Mann-Whitney's U over the number of pairs)."""
    wins = sum(bisect.bisect_left(other, value) + bisect.bisect_right(other, value) for value in one) / 2
    return wins / (len(one) * len(other))


def printed(title: str, seconds: dict[str, list[float]]) -> float:
    """A table of the distributions; how far from a coin the two that must not be told apart are."""
    print(f"\n{title}\n")
    print(
        "| refusal | "
        + " | ".join(f"p{quantile * 100:g}" for quantile in QUANTILES)
        + " | took longer than a wrong signature |"
    )
    print("| --- |" + " ---: |" * (len(QUANTILES) + 1))
    for kind, values in seconds.items():
        cells = [f"{values[int(quantile * len(values))] * 1e6:.0f} µs" for quantile in QUANTILES]
        error = math.sqrt((2 * len(values) + 1) / 12) / len(values)
        share = "" if kind == WRONG else f"{longer(values, seconds[WRONG]):.3f} ± {error:.3f}"
        print(f"| {kind} | " + " | ".join(cells) + f" | {share} |")
    return abs(longer(seconds[UNKNOWN], seconds[WRONG]) - 0.5)


def main() -> None:
    with served():
        measured((UNKNOWN, WRONG), 300, 0)
        fast = measured((UNKNOWN, WRONG, MALFORMED), FAST, 0)
        slow = measured((UNKNOWN, WRONG), SLOW, SLOW_SECONDS)
    apart = printed(f"As fast as they are answered, {FAST:,} of each", fast)
    printed(f"One in {SLOW_SECONDS} s, when the keys are read again, {SLOW} of each", slow)
    print(
        f"\nA stranger who goes by one time guesses right in {0.5 + apart:.3f} of cases; {0.5 + TELLABLE} would tell."
    )
    sys.exit(apart > TELLABLE)


if __name__ == "__main__":
    main()
