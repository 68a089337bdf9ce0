"""The control surface from Python, for tests and demonstrations; speaks HTTP only."""

import time
from types import TracebackType
from typing import Any, Self

import requests

Json = dict[str, Any]

LOOK_SECONDS = 0.02  # between two looks while waiting
TIMEOUT_SECONDS = 30.0  # of one request; making many payments takes a while


class SandboxRefused(Exception):
    """The sandbox would not do it; the message says why."""


class SandboxClient:
    def __init__(self, url: str):
        self.url = url.rstrip("/")
        self._session = requests.Session()
        self._session.trust_env = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._session.close()

    def about(self) -> Json:
        return self._call("GET", "")

    def settings(self, **changes: Any) -> Json:
        """Change the named settings, or none; the answer is all of them as they are then."""
        return self._call("PATCH" if changes else "GET", "/settings", changes or None)

    def fail(self, like: str | None = None, **parts: Any) -> Json:
        """Put a fault in force: one of the named ones, its parts changed as wanted. The rule as it was understood."""
        return self._call("POST", "/faults", parts if like is None else {"like": like, **parts})

    def faults(self) -> list[Json]:
        """The rules in force, with how many calls each one ``matched`` and was ``applied`` to."""
        rules: list[Json] = self._call("GET", "/faults")["faults"]
        return rules

    def mend(self) -> None:
        """Take every fault back."""
        self._call("DELETE", "/faults")

    def outage(self, seconds: float) -> None:
        """Refuse every connection for so long, to the control surface too."""
        self._call("POST", "/outage", {"seconds": seconds})

    def regenerate_webhook_key(self, **pair: str) -> Json:
        """The new ``key_id`` and ``secret``, one's own if given; the old pair is void at once."""
        return self._call("POST", "/webhook-key", pair)

    def save(self) -> Json:
        """Everything the sandbox knows, to be given to ``load``."""
        return self._call("GET", "/state")

    def load(self, state: Json) -> Json:
        return self._call("PUT", "/state", state)

    def add_merchant(self, id: str, api_key_id: str, api_secret: str) -> Json:
        return self._call("POST", "/merchants", {"id": id, "api_key_id": api_key_id, "api_secret": api_secret})

    def create_payments(
        self,
        count: int = 1,
        *,
        amount: int = 1000,
        currency: str = "EUR",
        sale: bool = False,
        merchant_reference: str | None = None,
        merchant_id: str = "sandbox",
        webhooks: bool = True,
        status_code: int = 5,
    ) -> list[str]:
        """The ids of the new payments, with their ``_0``."""
        order: Json = {
            "merchant_id": merchant_id,
            "amount": amount,
            "currency": currency,
            "sale": sale,
            "count": count,
            "webhooks": webhooks,
            "status_code": status_code,
        }
        if merchant_reference is not None:
            order["merchant_reference"] = merchant_reference
        ids: list[str] = self._call("POST", "/payments", order)["payment_ids"]
        return ids

    def capture(self, payment_id: str, amount: int | None = None) -> str:
        """The operation's id; likewise for the other two."""
        return self._click(payment_id, "capture", amount)

    def refund(self, payment_id: str, amount: int | None = None) -> str:
        return self._click(payment_id, "refund", amount)

    def cancel(self, payment_id: str, amount: int | None = None) -> str:
        return self._click(payment_id, "cancel", amount)

    def _click(self, payment_id: str, kind: str, amount: int | None) -> str:
        body = {} if amount is None else {"amount": amount}
        operation_id: str = self._call("POST", f"/payments/{payment_id}/{kind}", body)["operation_id"]
        return operation_id

    def settle(self, operation_id: str, outcome: str = "done") -> None:
        """End what is pending or uncertain: ``done`` or ``refused``; or make it ``uncertain``."""
        self._call("POST", f"/payments/{operation_id}/settle", {"outcome": outcome})

    def authorise(self, payment_id: str, status_code: int = 5) -> Json:
        """Bring an undecided authorisation further; where the consumer goes next."""
        return self._call("POST", f"/payments/{payment_id}/authorisation", {"status_code": status_code})

    def pay_checkout(self, hosted_checkout_id: str, card: Json | None = None) -> Json:
        """As the consumer in the platform's page; likewise for the other two."""
        return self._call("POST", f"/hostedcheckouts/{hosted_checkout_id}/pay", {"card": card} if card else {})

    def leave_checkout(self, hosted_checkout_id: str) -> Json:
        return self._call("POST", f"/hostedcheckouts/{hosted_checkout_id}/leave")

    def give_card(self, hosted_tokenization_id: str, card: Json | None = None) -> str:
        """The token of the card."""
        path = f"/hostedtokenizations/{hosted_tokenization_id}/card"
        token: str = self._call("POST", path, {"card": card} if card else {})["token"]
        return token

    def emit(self, payment_id: str, type: str | None = None, count: int = 1) -> list[str]:
        """Have the payment's present state told once more; the ids of the events."""
        body: Json = {"count": count} if type is None else {"count": count, "type": type}
        ids: list[str] = self._call("POST", f"/payments/{payment_id}/events", body)["event_ids"]
        return ids

    def ledger(self, merchant_id: str | None = None) -> list[Json]:
        query = "" if merchant_id is None else f"?merchant_id={merchant_id}"
        payments: list[Json] = self._call("GET", f"/ledger{query}")["payments"]
        return payments

    def truth_of(self, payment_id: str) -> Json:
        """The ledger's row of one payment, by any of its ids."""
        truth: Json = self._call("GET", f"/ledger?payment_id={payment_id}")["payments"][0]
        return truth

    def calls(self) -> Json:
        return self._call("GET", "/calls")

    def forget_calls(self) -> None:
        self._call("DELETE", "/calls")

    def deliveries(self, last: int | None = None) -> Json:
        """What is left to send, and the log, or only its newest lines."""
        return self._call("GET", "/deliveries" if last is None else f"/deliveries?last={last}")

    def forget_deliveries(self) -> None:
        self._call("DELETE", "/deliveries")

    def wait_until_delivered(self, timeout: float = 10.0) -> Json:
        """Wait until nothing settles and no event is left to send; the deliveries as they are then."""
        deadline = time.monotonic() + timeout
        while True:
            report = self.deliveries(last=0)  # without the log: it may be long, and we look often
            if not report["settling"] and not report["queued"]:
                return self.deliveries()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{report['settling']} settling, {report['queued']} to be sent after {timeout} s")
            time.sleep(LOOK_SECONDS)

    def _call(self, method: str, path: str, body: Json | None = None) -> Json:
        with self._session.request(method, f"{self.url}/sandbox{path}", json=body, timeout=TIMEOUT_SECONDS) as response:
            content: Json = response.json()
        if not response.ok:
            raise SandboxRefused(content.get("error", f"status {response.status_code}"))
        return content
