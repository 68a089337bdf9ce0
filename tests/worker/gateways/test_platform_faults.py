"""Orders sent to the sandbox, which misbehaves in every way it can: the name of each ending, and what it moved."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import pytest

from sandbox import Sandbox, SandboxClient
from sandbox.faults import NAMED
from tests.worker.gateways.platform_stub import REFERENCE, order_to
from worker.gateways.gateway import (
    GatewayError,
    InProgress,
    Movement,
    NotAllowed,
    Order,
    OutcomeUnknown,
    PaymentUnknown,
    Refused,
    SlowDown,
)
from worker.gateways.worldline import WorldlineGateway
from worker.lifecycle import MovementKind, MovementState, canonical_payment_id
from worker.settings import Merchant, Settings

K = MovementKind

#: Longer than any test: what is accepted stays pending.
NEVER = 600


@pytest.fixture
def box() -> Iterator[Sandbox]:
    with Sandbox(settle_seconds=NEVER, amount_triggers=False) as box:
        yield box


@pytest.fixture
def control(box: Sandbox) -> Iterator[SandboxClient]:
    with box.client() as client:
        yield client


def gateway_at(url: str) -> WorldlineGateway:
    merchant = Merchant(id="sandbox", api_key_id="sandbox-key", api_secret="sandbox-secret", api_endpoint=url)
    return WorldlineGateway(merchant, Settings())


@pytest.fixture
def new_gateway(box: Sandbox) -> Iterator[Callable[[], WorldlineGateway]]:
    """Another process, as far as the platform can tell."""
    made: list[WorldlineGateway] = []

    def new() -> WorldlineGateway:
        made.append(gateway_at(box.url))
        return made[-1]

    yield new
    for gateway in made:
        gateway.close()


@pytest.fixture
def sandbox_gateway(new_gateway: Callable[[], WorldlineGateway]) -> WorldlineGateway:
    return new_gateway()


def new_order(control: SandboxClient, gateway: WorldlineGateway, kind: MovementKind, **order: Any) -> Order:
    """An order for the whole of a new payment, which stands where the order is possible."""
    currency = order.get("currency", "EUR")
    (payment_id,) = control.create_payments(amount=1000, currency=currency, sale=kind is K.REFUND, webhooks=False)
    return order_to(gateway, kind, canonical_payment_id(payment_id) or "", **{"amount": 1000, **order})


def effects(control: SandboxClient, order: Order) -> list[str]:
    """The ids of what came of an order."""
    return [
        one["id"]
        for one in control.truth_of(order.payment_id)["operations"]
        if one["reference"] == order.reference and one["status_code"] not in (63, 83, 93)
    ]


def ending(gateway: WorldlineGateway, order: Order, seconds: float = 30) -> tuple[type, bool]:
    """How sending ends, and whether the platform had kept that answer."""
    try:
        return type(gateway.send(order, seconds=seconds)), False
    except GatewayError as failure:
        return type(failure), failure.replayed


#: For each fault that one order suffers: how it ends, how the same bytes under the same key end when they are sent
#: again by a new process (None: the sandbox is away for a while), whether that answer was kept, and what has moved.
FAULTS: dict[str, tuple[type, type | None, bool, int]] = {
    "refused": (OutcomeUnknown, None, False, 0),
    "hang": (OutcomeUnknown, Movement, False, 1),
    "hang_before_effect": (OutcomeUnknown, Movement, False, 1),
    "reset": (OutcomeUnknown, Movement, False, 1),
    "reset_before_effect": (OutcomeUnknown, Movement, False, 1),
    "truncated": (OutcomeUnknown, Movement, False, 1),
    "drip": (OutcomeUnknown, Movement, False, 1),
    "error": (OutcomeUnknown, Movement, False, 1),
    "error_stored": (OutcomeUnknown, OutcomeUnknown, True, 0),
    "error_with_effect": (OutcomeUnknown, Movement, False, 1),
    "error_with_effect_forgotten": (OutcomeUnknown, NotAllowed, False, 1),  # nothing is left: it was done already
    "error_with_effect_stored": (OutcomeUnknown, OutcomeUnknown, True, 1),
    "gateway_timeout": (OutcomeUnknown, Movement, False, 1),
    "late_effect": (OutcomeUnknown, InProgress, False, 0),
    "too_many_requests": (SlowDown, Movement, False, 1),
    "payment_required": (Refused, Refused, True, 0),
    "in_progress": (InProgress, Movement, False, 1),
    "redirect": (OutcomeUnknown, Movement, False, 1),
    "html": (OutcomeUnknown, Movement, False, 1),
    "empty": (OutcomeUnknown, Movement, False, 1),
    "empty_object": (OutcomeUnknown, Movement, False, 1),
    "malformed_timestamp": (OutcomeUnknown, Movement, False, 1),
    "list_lag": (Movement, Movement, False, 1),  # only lists lag
}
KILLS = ("kill_before_effect", "kill_after_effect", "kill_mid_answer")
#: Those that end with our time, not with an answer.
SLOW = ("hang", "hang_before_effect", "drip")


def test_every_fault_of_the_sandbox_is_met_here() -> None:
    """One that is added fails here, so that somebody says what it does to an order."""
    assert sorted([*FAULTS, *KILLS]) == sorted(NAMED)


@pytest.mark.parametrize("kind", MovementKind)
@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_has_an_ending_and_moves_money_once(
    control: SandboxClient, new_gateway: Callable[[], WorldlineGateway], fault: str, kind: MovementKind
) -> None:
    """What may have moved money says so, what has not says that, and the same key moves nothing twice."""
    first, second = new_gateway(), new_gateway()
    order = new_order(control, first, kind)
    parts = {"effect_after_seconds": float(NEVER)} if fault == "late_effect" else {}
    control.fail(like=fault, times=1, **({} if fault == "list_lag" else {"call": f"{kind.value}_payment"}), **parts)

    once = ending(first, order, seconds=0.5 if fault in SLOW else 30)
    again = None if fault == "refused" else ending(second, order)

    expected, expected_again, kept, moved = FAULTS[fault]
    assert once == (expected, False)
    assert again == (expected_again and (expected_again, kept))
    if fault != "refused":
        assert len(effects(control, order)) == moved


SENDER = """
import json
import sys
from worker.gateways.gateway import Order
from worker.gateways.worldline import WorldlineGateway
from worker.lifecycle import MovementKind
from worker.settings import Merchant, Settings

url, given = sys.argv[1], json.loads(sys.argv[2])
order = Order(**{**given, "kind": MovementKind(given["kind"]), "body": given["body"].encode()})
merchant = Merchant(id="sandbox", api_key_id="sandbox-key", api_secret="sandbox-secret", api_endpoint=url)
WorldlineGateway(merchant, Settings()).send(order, seconds=60)
"""


@pytest.mark.parametrize(
    ("fault", "kind"),  # not all of both: a process takes seconds to start
    [("kill_before_effect", K.CAPTURE), ("kill_after_effect", K.REFUND), ("kill_mid_answer", K.CANCEL)],
)
def test_a_sender_killed_in_the_midst_is_taken_over(
    control: SandboxClient, sandbox_gateway: WorldlineGateway, fault: str, kind: MovementKind
) -> None:
    """Nobody heard an answer; whoever sends the stored bytes again gets it, and money has moved once."""
    order = new_order(control, sandbox_gateway, kind)
    control.fail(like=fault, times=1)
    given = json.dumps({**asdict(order), "body": order.body.decode()})
    killed = subprocess.run([sys.executable, "-c", SENDER, control.url, given], timeout=100)

    movement = sandbox_gateway.send(order, seconds=30)

    assert killed.returncode == -9
    assert [movement.platform_operation_id] == effects(control, order)


@pytest.mark.parametrize("long_ids", [False, True])
@pytest.mark.parametrize("kind", MovementKind)
def test_what_an_order_returns_is_what_a_look_lists(
    control: SandboxClient, sandbox_gateway: WorldlineGateway, kind: MovementKind, long_ids: bool
) -> None:
    """The same id, amount, state and reference, so that the one is recognised as the other; in both formats of ids."""
    control.settings(long_ids=long_ids)
    order = new_order(control, sandbox_gateway, kind, amount=400)

    sent = sandbox_gateway.send(order, seconds=30)

    view = sandbox_gateway.look(order.payment_id, seconds=30)
    assert [one for one in view.movements if one.reference == REFERENCE] == [sent]
    assert (sent.state, sent.amount, sent.kind) == (MovementState.PENDING, 400, kind)


@pytest.mark.parametrize(("currency", "kind"), [("JPY", K.CAPTURE), ("KWD", K.CAPTURE), ("JPY", K.REFUND)])
def test_currencies_without_cents_are_moved_whole(
    control: SandboxClient, sandbox_gateway: WorldlineGateway, currency: str, kind: MovementKind
) -> None:
    """A capture that leaves its amount out captures what was promised: all of it."""
    order = new_order(control, sandbox_gateway, kind, currency=currency)

    movement = sandbox_gateway.send(order, seconds=30)

    assert (movement.amount, movement.currency) == (1000, currency)
    (listed,) = [one for one in control.truth_of(order.payment_id)["operations"] if one["reference"] == REFERENCE]
    assert listed["amount"] == 1000


def test_a_declined_refund_is_refused_and_kept(control: SandboxClient, sandbox_gateway: WorldlineGateway) -> None:
    """The issuer's no is final for this order: the same key gets it again, as a kept answer."""
    order = new_order(control, sandbox_gateway, K.REFUND)
    control.settings(decline_next={"refund": 1})

    endings = [ending(sandbox_gateway, order), ending(sandbox_gateway, order)]

    assert endings == [(Refused, False), (Refused, True)]
    assert effects(control, order) == []


@pytest.mark.parametrize("kind", MovementKind)
def test_more_than_there_is_is_not_allowed(
    control: SandboxClient, sandbox_gateway: WorldlineGateway, kind: MovementKind
) -> None:
    """Where the payment stands is the platform's to say: somebody may have been quicker."""
    order = new_order(control, sandbox_gateway, kind, amount=1001)

    assert ending(sandbox_gateway, order) == (NotAllowed, False)


@pytest.mark.parametrize("kind", MovementKind)
def test_a_payment_of_nobody_is_unknown(sandbox_gateway: WorldlineGateway, kind: MovementKind) -> None:
    """No order is taken for it."""
    assert ending(sandbox_gateway, order_to(sandbox_gateway, kind, "1234567890")) == (PaymentUnknown, False)


def test_a_key_used_for_something_else_moves_nothing(control: SandboxClient, sandbox_gateway: WorldlineGateway) -> None:
    """All orders' keys are one space, and the platform says no to the second use."""
    sandbox_gateway.send(new_order(control, sandbox_gateway, K.CAPTURE), seconds=30)
    other = new_order(control, sandbox_gateway, K.CANCEL)

    assert ending(sandbox_gateway, other) == (NotAllowed, False)
    assert effects(control, other) == []
