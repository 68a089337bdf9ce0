"""Sends events to the configured addresses: signed, repeated until taken, and as unruly as the settings say."""

import hashlib
import hmac
import threading
from base64 import b64encode
from collections import deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any

import requests

from sandbox.due_queue import DueQueue
from sandbox.events import Event
from sandbox.payments import now
from sandbox.settings import Dials, Settings, WebhookSettings

SENDERS = 8  # threads; the platform, too, sends several at a time
SHUFFLE_SECONDS = 0.5  # events this close in time may overtake one another
TIMEOUT_SECONDS = (3.0, 10.0)  # to connect, to be answered
LOG_SIZE = 200_000  # deliveries remembered; older ones are forgotten first


@dataclass(frozen=True, slots=True)
class Delivery:
    event: Event
    url: str
    copy: int
    attempt: int = 0
    signed_with: tuple[str, str] | None = None  # key id and secret of the first attempt


@dataclass(frozen=True, slots=True)
class Waiting:
    """A delivery that is still to be made, and in how many seconds."""

    delivery: Delivery
    seconds: float


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the log. Without a status there was no answer, and ``problem`` says why."""

    event_id: str
    type: str
    merchant_id: str
    payment_id: str
    url: str | None
    copy: int
    attempt: int
    status: int | None
    problem: str | None
    at: str


class Deliveries:
    def __init__(self, dials: Dials):
        self._dials = dials
        self._queue: DueQueue[Delivery] = DueQueue()
        self._log: deque[Entry] = deque(maxlen=LOG_SIZE)
        self._given_up = 0
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._send_forever, name=f"sandbox-sender-{number}", daemon=True)
            for number in range(SENDERS)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._queue.close()

    def settings_changed(self) -> None:
        self._queue.hold(self._dials.now.webhooks.paused)

    def publish(self, event: Event) -> None:
        """Draw what the event shall suffer and queue its copies; returns at once."""
        settings = self._dials.now
        webhooks = settings.webhooks
        fate = event.draw(settings.seed)
        if fate.random() < webhooks.drop_share:
            self._note(event, None, 0, 0, None, "dropped")
            return
        for url in event.urls or webhooks.urls:
            for copy in range(webhooks.copies):
                late = fate.random() * webhooks.delay_seconds
                overtaken = fate.random() * SHUFFLE_SECONDS if webhooks.shuffle else 0.0
                self._queue.put(Delivery(event, url, copy), late + overtaken)

    def report(self, last: int | None = None) -> dict[str, Any]:
        """What is left to send, and the log or its newest lines."""
        with self._lock:
            given_up = self._given_up
            entries = list(self._log if last is None else islice(self._log, max(0, len(self._log) - last), None))
        return {
            "queued": self._queue.unfinished,
            "given_up": given_up,
            "deliveries": [asdict(entry) for entry in entries],
        }

    def waiting(self) -> list[Waiting]:
        return [Waiting(delivery, seconds) for seconds, delivery in self._queue.waiting()]

    def restore(self, waiting: Iterable[Waiting]) -> None:
        """These and no others are still to be made; the log starts anew."""
        self._queue.clear()
        self.clear_log()
        for each in waiting:
            self._queue.put(each.delivery, each.seconds)
        self.settings_changed()

    def clear_log(self) -> None:
        with self._lock:
            self._log.clear()
            self._given_up = 0

    def _send_forever(self) -> None:
        with requests.Session() as session:
            session.trust_env = False  # a proxy of the surroundings has no part in this
            while (delivery := self._queue.take()) is not None:
                try:
                    self._send(session, delivery)
                finally:
                    self._queue.done()

    def _send(self, session: requests.Session, delivery: Delivery) -> None:
        event, settings = delivery.event, self._dials.now
        signer = signer_of(delivery, settings.webhooks)
        headers = signed_headers(event.body, *signer) | {"retry-count": str(delivery.attempt)}
        status, problem = None, None
        try:
            with session.post(
                delivery.url, data=event.body, headers=headers, timeout=TIMEOUT_SECONDS, allow_redirects=False
            ) as response:
                status = response.status_code
        except (requests.RequestException, ValueError) as error:  # ValueError: an address that is none
            problem = type(error).__name__
        self._note(event, delivery.url, delivery.copy, delivery.attempt, status, problem)
        if status is None or not 200 <= status < 300:
            self._again(replace(delivery, signed_with=signer), settings)

    def _again(self, delivery: Delivery, settings: Settings) -> None:
        if delivery.attempt < len(settings.retry_seconds):
            event = delivery.event.in_new_envelope() if settings.webhooks.new_ids_on_retry else delivery.event
            later = replace(delivery, event=event, attempt=delivery.attempt + 1)
            self._queue.put(later, settings.retry_seconds[delivery.attempt])
            return
        with self._lock:
            self._given_up += 1

    def _note(
        self, event: Event, url: str | None, copy: int, attempt: int, status: int | None, problem: str | None
    ) -> None:
        at = now().isoformat(timespec="milliseconds")
        entry = Entry(
            event.id, event.type, event.merchant_id, event.payment_id, url, copy, attempt, status, problem, at
        )
        with self._lock:
            self._log.append(entry)


def signer_of(delivery: Delivery, webhooks: WebhookSettings) -> tuple[str, str]:
    """Key id and secret: those of the moment, unless a retry is to be signed as its first attempt was."""
    if delivery.signed_with is not None and not webhooks.resign_retries:
        return delivery.signed_with
    return webhooks.key_id, webhooks.secret


def signed_headers(body: bytes, key_id: str, secret: str) -> dict[str, str]:
    signature = b64encode(hmac.digest(secret.encode(), body, hashlib.sha256)).decode()
    return {"Content-Type": "application/json", "X-GCS-KeyId": key_id, "X-GCS-Signature": signature}
