"""The right to send an operation once, and what leaves under it."""

import time
import uuid
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row

from worker.gateways.gateway import Gateway, Order
from worker.lifecycle import MovementKind
from worker.operations.ledger import Ledger
from worker.settings import Settings


@dataclass(frozen=True)
class Claim:
    """The right to send an operation once, and to write what came of it."""

    operation: Row[Any]  # as it was before it was claimed
    payment_key: int
    attempt_key: int
    token: str
    order: Order
    started: float  # monotonic, taken before the lease began

    def seconds_left(self, settings: Settings) -> float:
        """What is left of the time everything under this claim may take."""
        return settings.claim_seconds - (time.monotonic() - self.started)


def order_of(gateway: Gateway, ledger: Ledger, operation: Row[Any]) -> Order:
    """What leaves: composed once and stored, for the platform answers a key's later requests as it did the first."""
    terms = operation.terms or {}
    kind = MovementKind(operation.kind)
    body = operation.request_body or gateway.compose(
        kind,
        operation.amount,
        operation.currency,
        is_final=operation.is_final,
        reference=operation.operation_uuid,
        group_reference=terms.get("reference"),
        reason=terms.get("reason"),
    )
    return Order(
        kind=kind,
        payment_id=ledger.payment.payment_id,
        amount=operation.amount,
        currency=operation.currency,
        reference=operation.operation_uuid,
        idempotence_key=operation.idempotence_key or idempotence_key(operation.operation_uuid, operation.generation),
        body=body,
    )


def idempotence_key(operation_uuid: str, generation: int) -> str:
    """The key of an operation's requests: the same for each of a generation, at most 40 ASCII characters."""
    return f"ph-{uuid.UUID(operation_uuid).hex}-{generation}"
