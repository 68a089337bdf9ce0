"""The platform's API: read and authenticate a call, decide it, render the answer."""

from dataclasses import replace

from sandbox.authentication import Merchants
from sandbox.bodies import parsed
from sandbox.calls import Call, Endpoint, Reply
from sandbox.faults import Faults
from sandbox.idempotence import HEADER, IdempotenceKeys
from sandbox.ledger import Ledger, number_of
from sandbox.platform_api import (
    checks,
    hosted_checkouts,
    hosted_tokenizations,
    payments,
    payouts,
    products,
    tokens,
    webhooks,
)
from sandbox.processing import Processing
from sandbox.refusals import Refused
from sandbox.settings import Dials
from sandbox.wire import Answer, Request

__all__ = ["ROUTES", "Call", "PlatformApi"]

# What stands after /v2/{merchantId}/ → its endpoint, called as in the SDK. "*" is the id of a payment, a token, ….
ROUTES: dict[tuple[str, ...], Endpoint] = {
    ("POST", "payments"): payments.create_payment,
    ("GET", "payments", "*"): payments.get_payment,
    ("GET", "payments", "*", "details"): payments.get_payment_details,
    ("GET", "payments", "*", "captures"): payments.get_captures,
    ("GET", "payments", "*", "refunds"): payments.get_refunds,
    ("POST", "payments", "*", "capture"): payments.capture_payment,
    ("POST", "payments", "*", "refund"): payments.refund_payment,
    ("POST", "payments", "*", "cancel"): payments.cancel_payment,
    ("POST", "hostedcheckouts"): hosted_checkouts.create_hosted_checkout,
    ("GET", "hostedcheckouts", "*"): hosted_checkouts.get_hosted_checkout,
    ("POST", "hostedtokenizations"): hosted_tokenizations.create_hosted_tokenization,
    ("GET", "hostedtokenizations", "*"): hosted_tokenizations.get_hosted_tokenization,
    ("POST", "tokens"): tokens.create_token,
    ("GET", "tokens", "*"): tokens.get_token,
    ("DELETE", "tokens", "*"): tokens.delete_token,
    ("POST", "payouts"): payouts.create_payout,
    ("GET", "payouts", "*"): payouts.get_payout,
    ("GET", "products"): products.get_payment_products,
    ("GET", "products", "*"): products.get_payment_product,
    ("GET", "products", "*", "networks"): products.get_payment_product_networks,
    ("GET", "productgroups"): products.get_product_groups,
    ("GET", "productgroups", "*"): products.get_product_group,
    ("GET", "services", "testconnection"): checks.test_connection,
    ("POST", "services", "getIINdetails"): checks.get_iin_details,
    ("POST", "webhooks", "validateCredentials"): webhooks.validate_webhook_credentials,
    ("POST", "webhooks", "sendtest"): webhooks.send_test_webhook,
}
ENDPOINTS: dict[str, Endpoint] = {endpoint.__name__: endpoint for endpoint in ROUTES.values()}


IDEMPOTENT = {"create_payment", "capture_payment", "refund_payment", "cancel_payment", "create_payout"}  # heed a key


class PlatformApi:
    def __init__(self, ledger: Ledger, merchants: Merchants, keys: IdempotenceKeys, faults: Faults, dials: Dials):
        self._ledger = ledger
        self._merchants = merchants
        self._dials = dials
        self._processing = Processing(ledger, keys, faults, dials, self.decide)

    def answer(self, request: Request) -> Answer:
        try:
            answer = self._processing.answer(self.read(request))
        except Refused as refusal:
            answer = Answer.json(refusal.status, refusal.as_platform())
        # The wait comes after the decision: what the caller reads may already be out of date, as in life.
        latency = self._dials.now.latency_seconds
        return replace(answer, after_seconds=latency) if latency else answer

    def read(self, request: Request) -> Call:
        _, _, merchant_id, *segments = request.path.split("/")  # "/v2/…", or it would not have come here
        self._merchants.authenticate(request, merchant_id)
        name, resource_id = _route(request.method, segments)
        self._ledger.count_call(name, number_of(resource_id) if segments[0] == "payments" else "")
        return Call(
            merchant_id=merchant_id,
            name=name,
            family=segments[0],
            resource_id=resource_id,
            body=parsed(request.body) if request.method == "POST" else {},
            request=request,
            idempotence_key=request.headers.get(HEADER) if name in IDEMPOTENT else None,
        )

    def decide(self, call: Call) -> Reply:
        """Change the state and say what it is now, as one step."""
        with self._ledger.lock:
            return ENDPOINTS[call.name](self._ledger, call)


def _route(method: str, segments: list[str]) -> tuple[str, str]:
    """The endpoint's name, and the id in the path."""
    endpoint = ROUTES.get((method, *segments))
    if endpoint is not None:
        return endpoint.__name__, ""
    if len(segments) > 1:
        endpoint = ROUTES.get((method, segments[0], "*", *segments[2:]))
    if endpoint is None:
        raise Refused(404, "UNKNOWN_RESOURCE", "50001130", f"no {method} {'/'.join(segments)}")
    return endpoint.__name__, segments[1]
