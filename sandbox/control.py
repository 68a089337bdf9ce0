"""The control surface under ``/sandbox``: set up, look inside, play the merchant in the portal."""

import secrets
from collections.abc import Callable
from dataclasses import asdict
from typing import Any
from urllib.parse import parse_qs

from sandbox import consumer, settings, state
from sandbox.authentication import DEFAULT_MERCHANT, Merchant
from sandbox.bodies import Form, parsed
from sandbox.payments import AUTHORISATIONS, AUTHORISED, MOVES, Kind, Order, Outcome, Wish
from sandbox.refusals import Refused, invalid_value
from sandbox.state import Parts
from sandbox.wire import Answer, Request

Body = dict[str, Any]
Reply = tuple[int, object]
Handler = Callable[["Control", str, Body], Reply]

MAX_OUTAGE_SECONDS = 3600
MAX_COUNT = 100_000  # payments or events made by one request
ORDER_NAMES = {"merchant_id", "amount", "currency", "merchant_reference", "sale", "count", "webhooks", "status_code"}
OUTCOMES: dict[str, Outcome] = {"done": "done", "refused": "refused", "uncertain": "uncertain"}


class Control:
    """``refuse`` makes the server refuse connections for so many seconds."""

    def __init__(self, parts: Parts, refuse: Callable[[float], None]):
        self._parts = parts
        self._ledger = parts.ledger
        self._merchants = parts.merchants
        self._deliveries = parts.deliveries
        self._dials = parts.dials
        self._refuse = refuse

    def answer(self, request: Request) -> Answer:
        try:
            handler, payment_id = _route(request)
            body = _query(request) if request.method in ("GET", "DELETE") else parsed(request.body, "INVALID_VALUE")
            status, content = handler(self, payment_id, body)
        except Refused as refusal:
            status, content = refusal.status, {"error": refusal.message, "id": refusal.error_id}
        return Answer.json(status, content)

    def about(self, _payment_id: str, _body: Body) -> Reply:
        return 200, {
            "what": "the payment platform in miniature; everything is in memory and gone when it ends",
            "merchants": [asdict(merchant) for merchant in self._merchants.all()],
            "settings": settings.as_json(self._dials.now),
            "routes": [f"{method} {path}" for method, path in ROUTES],
        }

    def settings(self, _payment_id: str, _body: Body) -> Reply:
        return 200, settings.as_json(self._dials.now)

    def change_settings(self, _payment_id: str, body: Body) -> Reply:
        changed = self._dials.change(body)
        self._deliveries.settings_changed()
        return 200, settings.as_json(changed)

    def regenerate_webhook_key(self, _payment_id: str, body: Body) -> Reply:
        """As the portal does: the new pair counts from now on, the old one is void at once."""
        _only(body, {"key_id", "secret"})
        pair = {
            "key_id": _text(body, "key_id", f"sandbox-{secrets.token_hex(8)}"),
            "secret": _text(body, "secret", secrets.token_urlsafe(24)),
        }
        self._dials.change({"webhooks": pair})
        return 201, pair

    def add_fault(self, _payment_id: str, body: Body) -> Reply:
        return 201, self._parts.faults.add(body).as_json()

    def faults(self, _payment_id: str, _body: Body) -> Reply:
        return 200, {"faults": self._parts.faults.report()}

    def remove_faults(self, _payment_id: str, _body: Body) -> Reply:
        self._parts.faults.remove_all()
        return 200, {}

    def outage(self, _payment_id: str, body: Body) -> Reply:
        _only(body, {"seconds"})
        seconds = body.get("seconds", 1.0)
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds <= MAX_OUTAGE_SECONDS:
            raise invalid_value("seconds", f"a number up to {MAX_OUTAGE_SECONDS} is expected")
        self._refuse(seconds)
        return 202, {}

    def save(self, _payment_id: str, _body: Body) -> Reply:
        return 200, state.save(self._parts)

    def load(self, _payment_id: str, body: Body) -> Reply:
        return 200, state.load(self._parts, body)

    def add_merchant(self, _payment_id: str, body: Body) -> Reply:
        _only(body, {"id", "api_key_id", "api_secret"})
        merchant = Merchant(_text(body, "id"), _text(body, "api_key_id"), _text(body, "api_secret"))
        self._merchants.add(merchant)
        return 201, asdict(merchant)

    def create_payments(self, _payment_id: str, body: Body) -> Reply:
        _only(body, ORDER_NAMES)
        merchant_id = _text(body, "merchant_id", DEFAULT_MERCHANT.id)
        if not self._merchants.knows(merchant_id):
            raise Refused(404, "UNKNOWN_MERCHANT", "9007", f"no merchant {merchant_id}")
        order = Order(
            merchant_id=merchant_id,
            amount=_number(body, "amount", 1000),
            currency=_text(body, "currency", "EUR"),
            sale=_flag(body, "sale", False),
            merchant_reference=_text(body, "merchant_reference") if "merchant_reference" in body else None,
        )
        code = _number(body, "status_code", AUTHORISED)
        if code not in AUTHORISATIONS:
            raise invalid_value("status_code", f"one of {AUTHORISATIONS} is expected")
        webhooks = _flag(body, "webhooks", True)
        ids = self._ledger.create_many(order, _number(body, "count", 1), webhooks=webhooks, authorisation=code)
        return 201, {"payment_ids": ids}

    def capture(self, payment_id: str, body: Body) -> Reply:
        return self._click(payment_id, "capture", body)

    def refund(self, payment_id: str, body: Body) -> Reply:
        return self._click(payment_id, "refund", body)

    def cancel(self, payment_id: str, body: Body) -> Reply:
        return self._click(payment_id, "cancel", body)

    def _click(self, payment_id: str, kind: Kind, body: Body) -> Reply:
        _only(body, {"amount"})
        amount = _number(body, "amount", 1) if "amount" in body else None
        with self._ledger.lock:
            payment = self._ledger.find(payment_id)
            operation = self._ledger.begin(payment, Wish(kind, amount))
            return 201, {"operation_id": payment.id_of(operation), "status_code": operation.code}

    def settle(self, operation_id: str, body: Body) -> Reply:
        """The acquirer's word on an operation that is pending or uncertain, now."""
        form = Form(body)
        form.only(["outcome"])
        outcome = form.choice("outcome", tuple(OUTCOMES))
        form.check()
        with self._ledger.lock:
            payment, operation = self._ledger.find_operation(operation_id)
            if operation.code not in MOVES[operation.kind].open:
                message = f"{operation_id} has its outcome: {operation.code}"
                raise Refused(400, "ACTION_NOT_ALLOWED_ON_TRANSACTION", "50001127", message)
            self._ledger.settle(payment, operation, OUTCOMES[outcome])
            return 200, {"status_code": operation.code}

    def emit(self, payment_id: str, body: Body) -> Reply:
        _only(body, {"type", "count"})
        name = _text(body, "type") if "type" in body else None
        with self._ledger.lock:
            payment = self._ledger.find(payment_id)
            return 202, {"event_ids": self._ledger.emit(payment, name, _number(body, "count", 1))}

    def ledger(self, _payment_id: str, body: Body) -> Reply:
        _only(body, {"merchant_id", "payment_id"})
        return 200, {"payments": self._ledger.truth(body.get("merchant_id"), body.get("payment_id"))}

    def calls(self, _payment_id: str, _body: Body) -> Reply:
        return 200, self._ledger.calls()

    def forget_calls(self, _payment_id: str, _body: Body) -> Reply:
        self._ledger.forget_calls()
        return 200, {}

    def deliveries(self, _payment_id: str, body: Body) -> Reply:
        _only(body, {"last"})
        last = body.get("last")
        if last is not None and not last.isdecimal():
            raise invalid_value("last", "a whole number is expected")
        # Settling first: what settles in between is then seen in the queue, and never in neither.
        settling = self._ledger.settling
        return 200, {"settling": settling, **self._deliveries.report(None if last is None else int(last))}

    def forget_deliveries(self, _payment_id: str, _body: Body) -> Reply:
        self._deliveries.clear_log()
        return 200, {}


def _by_consumer(act: consumer.Act) -> Handler:
    def handler(control: Control, resource_id: str, body: Body) -> Reply:
        with control._ledger.lock:
            return 200, act(control._ledger, resource_id, Form(body))

    return handler


ROUTES: dict[tuple[str, str], Handler] = {
    ("GET", "/sandbox"): Control.about,
    ("GET", "/sandbox/settings"): Control.settings,
    ("PATCH", "/sandbox/settings"): Control.change_settings,
    ("POST", "/sandbox/webhook-key"): Control.regenerate_webhook_key,
    ("POST", "/sandbox/faults"): Control.add_fault,
    ("GET", "/sandbox/faults"): Control.faults,
    ("DELETE", "/sandbox/faults"): Control.remove_faults,
    ("POST", "/sandbox/outage"): Control.outage,
    ("GET", "/sandbox/state"): Control.save,
    ("PUT", "/sandbox/state"): Control.load,
    ("POST", "/sandbox/merchants"): Control.add_merchant,
    ("POST", "/sandbox/payments"): Control.create_payments,
    ("POST", "/sandbox/payments/{id}/capture"): Control.capture,
    ("POST", "/sandbox/payments/{id}/refund"): Control.refund,
    ("POST", "/sandbox/payments/{id}/cancel"): Control.cancel,
    ("POST", "/sandbox/payments/{id}/settle"): Control.settle,
    ("POST", "/sandbox/payments/{id}/events"): Control.emit,
    **{route: _by_consumer(act) for route, act in consumer.ROUTES.items()},
    ("GET", "/sandbox/ledger"): Control.ledger,
    ("GET", "/sandbox/calls"): Control.calls,
    ("DELETE", "/sandbox/calls"): Control.forget_calls,
    ("GET", "/sandbox/deliveries"): Control.deliveries,
    ("DELETE", "/sandbox/deliveries"): Control.forget_deliveries,
}


def _route(request: Request) -> tuple[Handler, str]:
    segments = request.path.rstrip("/").split("/")
    handler, resource_id = ROUTES.get((request.method, "/".join(segments))), ""
    if handler is None and len(segments) > 3:
        resource_id, segments[3] = segments[3], "{id}"
        handler = ROUTES.get((request.method, "/".join(segments)))
    if handler is None:
        known = ", ".join(f"{method} {path}" for method, path in ROUTES)
        raise Refused(404, "UNKNOWN_RESOURCE", "50001130", f"no {request.method} {request.path}; there are {known}")
    return handler, resource_id


def _query(request: Request) -> Body:
    return {name: values[-1] for name, values in parse_qs(request.target.partition("?")[2]).items()}


def _only(body: Body, known: set[str]) -> None:
    unknown = sorted(body.keys() - known)
    if unknown:
        raise invalid_value(", ".join(unknown), f"unknown; known are {', '.join(sorted(known))}")


def _text(body: Body, name: str, default: str = "") -> str:
    value = body.get(name, default)
    if not isinstance(value, str) or not value:
        raise invalid_value(name, "text is expected")
    return value


def _number(body: Body, name: str, default: int) -> int:
    value = body.get(name, default)
    highest = MAX_COUNT if name == "count" else 10**15
    if type(value) is not int or not 1 <= value <= highest:
        raise invalid_value(name, f"a whole number from 1 to {highest} is expected")
    return value


def _flag(body: Body, name: str, default: bool) -> bool:
    value = body.get(name, default)
    if not isinstance(value, bool):
        raise invalid_value(name, "true or false is expected")
    return value
