"""The whole house for a test: sandbox, database, broker, ingress and workers, each a process that can be killed."""

import json
import signal
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, text

from sandbox import SandboxClient
from tests.end_to_end.conftest import Start
from tests.end_to_end.processes import Process, free_port
from tests.proof.money import ENDS
from tests.servers.process_tree import tree, wait_for
from worker.database import migrate

KEY_ID, SECRET = "sandbox-webhook-key", "sandbox-webhook-secret-for-trying-out"
API_SECRET = "sandbox-secret"

#: What the platform takes for a call where delays are compared: less than a real one.
LATENCY_SECONDS = 0.1

#: In the body of every event; wherever else they turn up, something was let out.
CARD_NUMBER, EMAIL = "4000000000000127", "canary@payhook.invalid"
CANARIES = (SECRET, API_SECRET, CARD_NUMBER, EMAIL)

#: A lease of seconds, so that what a SIGKILL orphaned is taken up again while the test waits.
SHORT = {
    "PAYHOOK_LEASE_SECONDS": "6",
    "PAYHOOK_CLAIM_SECONDS": "5",
    "PAYHOOK_CALL_SECONDS": "4",
    "PAYHOOK_SWEEP_SECONDS": "1",
    "PAYHOOK_LOG_FORMAT": "json",
}

#: The lease and the sweep as they are without any setting.
PRODUCTION = {
    "PAYHOOK_LEASE_SECONDS": "60",
    "PAYHOOK_CLAIM_SECONDS": "40",
    "PAYHOOK_CALL_SECONDS": "15",
    "PAYHOOK_SWEEP_SECONDS": "5",
}

#: Polls of seconds, so that what no event tells is found while the test waits.
POLLS = {
    "PAYHOOK_POLL_MOVING_SECONDS": "[1, 2]",
    "PAYHOOK_POLL_AUTHORISED_SECONDS": "3",
    "PAYHOOK_POLL_CAPTURED_SECONDS": "3",
}

AMOUNTS = ("authorised", "captured", "capture_pending", "refunded", "refund_pending", "cancelled")


@dataclass
class House:
    """What runs, and what it holds."""

    start: Start
    database_url: str
    broker_url: str
    more: Mapping[str, str] = field(default_factory=dict)
    sandbox_port: int = field(default_factory=free_port)
    port: int = field(default_factory=free_port)
    processes: dict[str, Process] = field(default_factory=dict)

    def __post_init__(self) -> None:
        migrate(self.database_url)
        self.engine = create_engine(self.database_url, pool_pre_ping=True)
        self._run("sandbox", "payhook", "sandbox", "--port", str(self.sandbox_port)).wait_until("sandbox at ")
        self.sandbox = SandboxClient(f"http://127.0.0.1:{self.sandbox_port}")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def webhook_url(self) -> str:
        return f"{self.url}/webhooks"

    @property
    def env(self) -> dict[str, str]:
        return {
            "PAYHOOK_DATABASE_URL": self.database_url,
            "PAYHOOK_BROKER_URL": self.broker_url,
            "PAYHOOK_KEY_STORE": "memory:",
            "PAYHOOK_WEBHOOK_KEYS": f"{KEY_ID}={SECRET}",
            "PAYHOOK_MERCHANT_ID": "sandbox",
            "PAYHOOK_API_KEY_ID": "sandbox-key",
            "PAYHOOK_API_SECRET": API_SECRET,
            "PAYHOOK_API_ENDPOINT": f"http://127.0.0.1:{self.sandbox_port}",
            **SHORT,
            **self.more,
        }

    def serve(self) -> Process:
        """Start the ingress, and wait until it answers."""
        ingress = self._run("serve", "payhook", "serve", "--port", str(self.port))
        ingress.wait_until(f"{self.url}/health/live")
        return ingress

    def work(self, name: str = "work", *, concurrency: int = 2) -> Process:
        """Start a worker, and wait until it consumes."""
        worker = self._run(name, "payhook", "work", "--concurrency", str(concurrency))
        worker.wait_until(r"payhook-\d+@.* ready")
        return worker

    def run(self, name: str, *command: str, env: Mapping[str, str] | None = None) -> Process:
        """Start any other command in the house's environment."""
        return self._run(name, *command, env=env)

    def scalar(self, query: str, **values: Any) -> Any:
        """The one value of a query."""
        with self.engine.connect() as connection:
            return connection.execute(text(query), values).scalar_one()

    def open_events(self) -> int:
        """Events received and not done."""
        return int(self.scalar("SELECT count(*) FROM webhook_events WHERE done_at IS NULL"))

    def settled(self, seconds: float) -> bool:
        """Whether every event was done and every hint answered, within so many seconds."""
        busy = "SELECT count(*) FROM payments WHERE wanted > applied OR claim_token IS NOT NULL"
        return wait_for(lambda: self.open_events() == 0 and self.scalar(busy) == 0, seconds)

    def digests(self, **columns: str) -> set[str]:
        """The SHA-256 of every body we store, or of those whose columns have these values."""
        query = " AND ".join(["position = 0", *(f"{name} = :{name}" for name in columns)])
        with self.engine.connect() as connection:
            found = connection.execute(text(f"SELECT body_sha256 FROM webhook_events WHERE {query}"), columns).scalars()
            return {bytes(digest).hex() for digest in found}

    def seconds_to_done(self, where: str = "true") -> list[float]:
        """For every event that is done, the seconds from its receipt to that."""
        took = "SELECT extract(epoch FROM done_at - received_at) FROM webhook_events WHERE done_at IS NOT NULL AND "
        with self.engine.connect() as connection:
            return [float(seconds) for seconds in connection.execute(text(took + where)).scalars()]

    def notes(self) -> str:
        """All that we wrote in our own words, beside the bodies as they came."""
        with self.engine.connect() as connection:
            rows = [
                *connection.exec_driver_sql("SELECT snapshot, problem FROM payments"),
                *connection.exec_driver_sql("SELECT * FROM journal"),
                *connection.exec_driver_sql("SELECT event_id, type, problem FROM webhook_events"),
            ]
        return "\n".join(map(str, rows))

    def leave(self) -> list[int]:
        """End payhook's processes in good order; those of their processes that live on all the same."""
        ours = [process for name, process in self.processes.items() if name != "sandbox" and process.is_running]
        pids = [pid for process in ours for pid in process.pids()]
        for process in ours:
            process.signal(signal.SIGTERM)
        wait_for(lambda: not any(process.is_running for process in ours), 45)
        return [pid for pid in pids if tree(pid)]

    def logs(self) -> list[Path]:
        """What payhook's processes have written; the sandbox may name the secrets it was made with."""
        return [process.log for name, process in self.processes.items() if name != "sandbox"]

    def records(self) -> dict[str, dict[str, Any]]:
        """Our record of every payment, by its id."""
        with self.engine.connect() as connection:
            rows = connection.execute(text("SELECT * FROM payments")).mappings()
            return {row["payment_id"]: dict(row) for row in rows}

    def operations(self, where: str = "true") -> list[dict[str, Any]]:
        """Our operations, the oldest first."""
        with self.engine.connect() as connection:
            rows = connection.execute(text(f"SELECT * FROM operations WHERE {where} ORDER BY operation_key")).mappings()
            return [dict(row) for row in rows]

    def ended(self) -> dict[str, tuple[str, str]]:
        """State and reason of every operation that nothing follows without a person, by its request's id."""
        return {one["request_id"]: (one["state"], one["reason"]) for one in self.operations() if one["state"] in ENDS}

    def differences(self) -> list[str]:
        """Where our records differ from the platform's ledger, for the payments we know."""
        records, found = self.records(), []
        for truth in self.sandbox.ledger():
            record = records.get(truth["payment_id"])
            if record is None:
                continue
            wrong = {
                name: (record[f"amount_{name}"], truth[f"amount_{name}"])
                for name in AMOUNTS
                if record[f"amount_{name}"] != truth[f"amount_{name}"]
            }
            if record["status_code"] != truth["status_code"]:
                wrong["status_code"] = (record["status_code"], truth["status_code"])
            if wrong:
                found.append(f"{truth['payment_id']}: {wrong}")
        return found

    def _run(self, name: str, *command: str, env: Mapping[str, str] | None = None) -> Process:
        root, program = Path(__file__).parents[2], Path(sys.executable).parent / command[0]  # not from the PATH
        process = self.start(name, program, *command[1:], env={**self.env, **(env or {})}, cwd=root)
        self.processes[name] = process
        return process


def event(payment_id: str, kind: str = "payment.pending_capture", **more: Any) -> bytes:
    """The body of an event about a payment, in the platform's shape, like no other before it."""
    return json.dumps(
        {
            "apiVersion": "v1",
            "created": time.strftime("%Y-%m-%dT%H:%M:%S.0000000+00:00", time.gmtime()),
            "id": str(uuid.uuid4()),
            "merchantId": "sandbox",
            "payment": {
                "id": payment_id,
                "paymentOutput": {
                    "amountOfMoney": {"amount": 1000, "currencyCode": "EUR"},
                    "references": {"merchantReference": "order-1"},
                    "paymentMethod": "card",
                    "cardPaymentMethodSpecificOutput": {"card": {"cardNumber": CARD_NUMBER}},
                    "customer": {"device": {"emailAddress": EMAIL}},
                },
                "status": "PENDING_CAPTURE",
                "statusOutput": {"statusCode": 5, "statusCategory": "PENDING_MERCHANT"},
            },
            "type": kind,
            **more,
        },
        separators=(",", ":"),
    ).encode()


def rounds(payment_ids: list[str], count: int) -> Iterator[bytes]:
    """So many events, over all the payments in turn."""
    for number in range(count):
        yield event(payment_ids[number % len(payment_ids)])
