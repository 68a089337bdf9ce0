"""`python -m tests.end_to_end.story` (or `make story`): one payment's story from its webhook to its capture, as its id
alone finds it in the log, in what a command shows and in the metrics, written into docs/operating.md."""

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import requests

from sandbox import SandboxClient
from tests.end_to_end.processes import Process, free_port
from tests.servers.process_tree import wait_for

PAGE = Path(__file__).parents[2] / "docs" / "operating.md"

#: What stands under this on the page, to its end, is written by this script.
HEADING = "## One payment's story\n"

KEY_ID, SECRET = "sandbox-webhook-key", "sandbox-webhook-secret-for-trying-out"

#: Payments made at the same time: the id alone finds the lines of the one among theirs.
OTHERS = 4

#: What every line has, and what is told once for all.
SAID_ONCE = frozenset({"event", "level", "logger", "timestamp", "received_at", "payment_id", "merchant_id"})


@dataclass(frozen=True)
class Story:
    """What was said of one payment."""

    payment_id: str  # canonical
    lines: list[dict[str, Any]]  # of the log: those with its id in them
    shown: str  # by `payhook payments show`
    grown: list[str]  # metrics, with what was added to them by all the payments


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        told = live_through(Path(folder))
    page = PAGE.read_text(encoding="utf-8").partition(HEADING)[0]
    PAGE.write_text(f"{page}{HEADING}\n{written(told)}", encoding="utf-8")
    print(f"written: {PAGE.name}, {len(told.lines)} lines about payment {told.payment_id}")
    return 0


def live_through(folder: Path) -> Story:
    """Have payhook capture some payments as they are authorised, and keep what it said of one of them."""
    sandbox_url, url = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    env = {
        "PAYHOOK_KEY_STORE": "memory:",
        "PAYHOOK_WEBHOOK_KEYS": f"{KEY_ID}={SECRET}",
        "PAYHOOK_MERCHANT_ID": "sandbox",
        "PAYHOOK_API_KEY_ID": "sandbox-key",
        "PAYHOOK_API_SECRET": "sandbox-secret",
        "PAYHOOK_API_ENDPOINT": sandbox_url,
        "PAYHOOK_POLICY": "capture-when-authorised",
        "PAYHOOK_POLL_MOVING_SECONDS": "[1, 2]",
        "PAYHOOK_LOG_FORMAT": "json",
        "PAYHOOK_LOG_LEVEL": "debug",
    }
    with running(folder, "sandbox", sandbox_url, {}), running(folder, "up", url, env) as up:
        with SandboxClient(sandbox_url) as sandbox:
            before = counts(url)
            # Without an address the platform would send its webhooks nowhere.
            sandbox.settings(webhooks={"urls": [f"{url}/webhooks"]})
            told = sandbox.create_payments(1 + OTHERS)[OTHERS // 2]
            payment_id = told.partition("_")[0]
            up.wait_until(lambda: ends_well(lines_about(up, payment_id)))
            sandbox.wait_until_delivered()
            wait_for(lambda: False, 3.0)  # webhooks of the capture, and the look that they ask for
        grown = [f"{name} {value - before.get(name, 0.0):g}" for name, value in counts(url).items()]
        show = ["payhook", "payments", "show", payment_id]
        shown = subprocess.run(show, env=up.env, cwd=folder, capture_output=True, text=True, check=True).stdout
    return Story(payment_id, lines_about(up, payment_id), shown, [line for line in grown if not line.endswith(" 0")])


@contextmanager
def running(folder: Path, name: str, url: str, env: Mapping[str, str]) -> Iterator[Process]:
    """One of payhook's servers, until it is needed no more."""
    process = Process(name, ["payhook", name, "--port", url.rpartition(":")[2]], folder=folder, env=env, cwd=folder)
    process.start()
    try:
        process.wait_until(re.compile(re.escape(url)))  # it says where it listens
        yield process
    finally:
        process.kill()


def lines_about(up: Process, payment_id: str) -> list[dict[str, Any]]:
    """What `grep PAYMENT_ID` finds in the log."""
    return [json.loads(line) for line in up.log.read_text().splitlines() if payment_id in line and line[0] == "{"]


def ends_well(lines: list[dict[str, Any]]) -> bool:
    """Whether the capture has succeeded and the payment is known to be captured."""
    return {("operation.settled", "succeeded"), ("payment.reconciled", "captured")} <= {
        (line["event"], line.get("state")) for line in lines
    }


def counts(url: str) -> dict[str, float]:
    """Every count of the metrics that payhook has made, by its series."""
    text = requests.get(f"{url}/metrics", timeout=10).text
    series = re.findall(r"^(payhook_\w+_total(?:\{[^}]*\})?) (\S+)$", text, re.MULTILINE)
    return {name: float(value) for name, value in series}


def written(told: Story) -> str:
    """The story as the page has it."""
    started = datetime.fromisoformat(told.lines[0]["timestamp"])
    log = "\n".join(_line(line, started) for line in told.lines)
    return f"""What follows is written by a script (`make story`): `payhook up` against the sandbox with the policy
`capture-when-authorised` and `PAYHOOK_LOG_LEVEL=debug`, {1 + OTHERS} payments at the same time, and what is found of
one of them by its id.

`grep {told.payment_id}` in the log, the seconds since the first line before each. At the usual level, `info`, the lines
`webhook.stored`, `payment.claimed`, `platform.called` and `operation.claimed` are not there:

```
{log}
```

`payhook payments show {told.payment_id}`:

```
{told.shown.rstrip()}
```

And what the {1 + OTHERS} payments have added to the counts of `GET /metrics`:

```
{chr(10).join(told.grown)}
```
"""


def _line(line: dict[str, Any], started: datetime) -> str:
    """A line as people read it: what happened, then what is said of it."""
    seconds = (datetime.fromisoformat(line["timestamp"]) - started).total_seconds()
    told = {name: value for name, value in line.items() if name not in SAID_ONCE and value is not None}
    said = " ".join(f"{name}={_plain(value)}" for name, value in told.items())
    return f"{seconds:6.3f} {line['event']:<20} {said}"


def _plain(value: Any) -> str:
    return json.dumps(value) if isinstance(value, (list, dict, bool)) else str(value)


if __name__ == "__main__":
    began = time.monotonic()
    code = main()
    print(f"{time.monotonic() - began:.0f} s")
    sys.exit(code)
