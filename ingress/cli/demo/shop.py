"""A shop that takes payments through the platform's SDK, and a merchant who captures, refunds and cancels them."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from onlinepayments.sdk.authentication.authorization_type import AuthorizationType
from onlinepayments.sdk.communicator_configuration import CommunicatorConfiguration
from onlinepayments.sdk.domain.create_payment_request import CreatePaymentRequest
from onlinepayments.sdk.factory import Factory

from sandbox import SandboxClient
from worker.gateways.connection import PlatformConnection

CURRENCY = "EUR"
CALL_SECONDS = 10.0

#: Acts between two of one payment: long enough for a capture to be confirmed before it is refunded.
LAG = 6
LOOK_SECONDS = 0.02


class Click(NamedTuple):
    """What the merchant does in the portal; without a share, with all that is left."""

    kind: Literal["capture", "refund", "cancel"]
    percent: int | None = None


@dataclass(frozen=True)
class Course:
    """What becomes of a payment."""

    clicks: tuple[Click, ...] = ()
    sale: bool = False


COURSES = (
    Course(),
    Course((Click("capture"),)),
    Course((Click("capture", 30),)),
    Course((Click("capture", 40), Click("capture"))),
    Course((Click("capture", 50), Click("cancel"))),
    Course((Click("capture"), Click("refund", 25))),
    Course((Click("capture"), Click("refund"))),
    Course((Click("cancel"),)),
    Course(sale=True),
    Course((Click("refund", 60),), sale=True),
)
ORDERS = COURSES * 3
#: An order that the merchant does nothing with: payhook is asked to capture it.
KEPT = 0
ACTS = sum(1 + len(course.clicks) for course in ORDERS)


class Shop:
    """One merchant: its till speaks to the platform's API, its back office clicks in the portal.

    Args:
        sandbox: the portal.
        merchant: id and API key, as the sandbox tells them.
    """

    def __init__(self, sandbox: SandboxClient, merchant: dict[str, str]):
        self._portal = sandbox
        # The SDK's own connection would go through a proxy of the surroundings, even to this machine.
        self._connection = PlatformConnection(
            sandbox.url, call_seconds=CALL_SECONDS, connect_seconds=CALL_SECONDS, pool_size=1
        )
        configuration = CommunicatorConfiguration(
            api_endpoint=sandbox.url,
            api_key_id=merchant["api_key_id"],
            secret_api_key=merchant["api_secret"],
            authorization_type=AuthorizationType.V1HMAC,
            connect_timeout=CALL_SECONDS,
            socket_timeout=CALL_SECONDS,
            max_connections=1,
            integrator="payhook demo",
        )
        client = Factory.create_client_from_configuration(configuration, connection=self._connection)
        self._payments: Any = client.merchant(merchant["id"]).payments()
        self.made: dict[int, str] = {}  # payment ids, by the order's place among all

    def acts(self) -> Iterator[str]:
        """Make the payments and do with each what its course says, mingled; after each act, what it was."""
        longest = max(len(course.clicks) for course in ORDERS)
        for step in range(len(ORDERS) + LAG * longest):
            for number, course in enumerate(ORDERS[: step + 1]):
                turn, between = divmod(step - number, LAG)
                if between:
                    continue
                if turn == 0:
                    yield self._pay(number, course)
                elif turn <= len(course.clicks):
                    yield self._click(number, course.clicks[turn - 1])

    def close(self) -> None:
        self._connection.close()

    def _pay(self, number: int, course: Course) -> str:
        mode = "SALE" if course.sale else "FINAL_AUTHORIZATION"
        request = CreatePaymentRequest().from_dictionary(
            {
                "order": {
                    "amountOfMoney": {"amount": _amount(number), "currencyCode": CURRENCY},
                    "references": {"merchantReference": f"order-{number + 1}"},
                },
                "cardPaymentMethodSpecificInput": {
                    "authorizationMode": mode,
                    "card": {"cardNumber": "4012000033330026", "expiryDate": "1299", "cvv": "123"},
                },
            }
        )
        self.made[number] = self._payments.create_payment(request).payment.id
        return f"order-{number + 1}: {'sale' if course.sale else 'authorisation'} of {_money(_amount(number))}"

    def _click(self, number: int, click: Click) -> str:
        payment_id = self.made[number]
        # As in the portal: only what is confirmed can be refunded.
        while click.kind == "refund" and self._portal.truth_of(payment_id)["amount_capture_pending"]:
            time.sleep(LOOK_SECONDS)
        amount = None if click.percent is None else _amount(number) * click.percent // 100
        {"capture": self._portal.capture, "refund": self._portal.refund, "cancel": self._portal.cancel}[click.kind](
            payment_id, amount
        )
        return f"order-{number + 1}: {click.kind} of {'all that is left' if amount is None else _money(amount)}"


def _amount(number: int) -> int:
    return 1000 + 379 * number


def _money(amount: int) -> str:
    return f"{amount // 100}.{amount % 100:02d} {CURRENCY}"
